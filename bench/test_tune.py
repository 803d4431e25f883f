#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Tests of the search behind `scons tune`: test_tune.py [unittest's names]

A machine that only computes takes the place of builds and runs, so that each search is the same again."""

import itertools
import math
import random
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path.append(str(ROOT / "site_scons"))  # last: it has a module named as one that optuna imports

from lab.estimate import ENOUGH_PAIRS, estimate  # noqa: E402
from tuning import report, space  # noqa: E402
from tuning.far import Found  # noqa: E402
from tuning.journal import Journal, OtherSearch  # noqa: E402
from tuning.race import Failed, Goal, Race  # noqa: E402
from tuning.search import FAILED_COST, Search, as_asked  # noqa: E402
import testing  # noqa: E402

import configuration  # noqa: E402

try:
    import optuna  # noqa: F401
except ImportError:
    optuna = None

TABLE = "16,32,64,128,256,512,1024"


class Folder(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="hakmem-tune-")
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def journal(self, **settings):
        return Journal(self.folder / "journal.jsonl", {"goal": "time", **settings})


class Space(Folder):
    def setUp(self):
        super().setUp()
        self.composer = space.Composer(ROOT, ROOT / "configs/default_defconfig", tables=(TABLE,))
        self.by_name = {one.name: one for one in self.composer.space}

    def test_options_of_plugins_take_part_with_their_ranges(self):
        one = self.by_name["MAGAZINE_ROUNDS"]
        self.assertEqual((one.low, one.high, one.values), (1, 512, ()))
        self.assertEqual(self.by_name["KEEP_SCATTERED"].values, ("n", "y"))
        self.assertEqual((self.by_name["HOTMAG_MASK"].low, self.by_name["HOTMAG_MASK"].high), (0, 64))
        front = next(one for one in self.composer.space if "FRONTEND_UNIFIED" in one.values)
        self.assertEqual(set(front.values), {"FRONTEND_UNIFIED", "FRONTEND_HOTMAG", "FRONTEND_MAGAZINE"})
        self.assertEqual(self.by_name["CLASS_TABLE"].values, ("", TABLE))

    def test_what_costs_safety_is_not_touched(self):
        names = {name for one in self.composer.space for name in one.name.split("|")}
        for name in ("FOREIGN_IGNORE", "ASSERT_ALWAYS", "OVERRIDE_LIBC", "DEEPBIND", "MIN_BLOCK_8", "RECORD", "TRACE", "TRACE_HITS",
                     "TRACE_LOG2", "PURGE_THREAD", "WINDOW_LOG2", "FRONTEND", "CLASS_STEPS"):
            self.assertNotIn(name, names)

    def test_a_plug_in_from_outside_marks_its_own_and_has_the_rest_tuned(self):
        plugin = self.folder / "policies" / "mine"
        plugin.mkdir(parents=True)
        for name in ("SConscript", "mine.h"):
            (plugin / name).write_text("")
        (plugin / "Kconfig").write_text(
            'config FRONTEND_MINE\n\tbool "mine"\n\nif FRONTEND_MINE\n\nconfig FRONTEND\n\tdefault "mine"\n\n'
            'config MINE_ROOM\n\tint "Room"\n\trange 1 9\n\tdefault 3\n\n'
            'config MINE_CHECKS\n\t# Not tuned: it stops corruption\n\tbool "Checks"\n\tdefault y\n\nendif\n')
        composer = space.Composer(ROOT, ROOT / "configs/default_defconfig", self.folder)
        names = [one.name for one in composer.space]
        self.assertIn("MINE_ROOM", names)
        self.assertNotIn("MINE_CHECKS", names)
        front = next(one for one in composer.space if "FRONTEND_MINE" in one.values)
        text = composer.minimal({front.name: "FRONTEND_MINE", "MINE_ROOM": 7})
        self.assertIn("CONFIG_FRONTEND_MINE=y\n", text)
        self.assertIn("CONFIG_MINE_ROOM=7\n", text)

    def test_every_defconfig_is_a_point_that_gives_it_again(self):
        for file in sorted((ROOT / "configs").glob("*_defconfig")):
            asked = configuration.load(ROOT, file, file.name)
            self.assertEqual(self.composer.digest(self.composer.point(file)), asked.digest, file.name)

    def test_any_point_is_a_configuration_that_the_build_takes(self):
        chance = random.Random(5)
        for _ in range(40):
            point = {one.name: chance.choice(one.values) if one.values else chance.randint(one.low, one.high)
                     for one in self.composer.space}
            options = self.composer.options(point)
            self.assertEqual(configuration.table_problems(options, "", "x"), [])
            file = self.folder / "made_defconfig"
            file.write_text(self.composer.minimal(point))
            self.assertEqual(configuration.load(ROOT, file, "made").digest, self.composer.digest(point))

    def test_a_table_brings_its_end(self):
        self.assertIn("CONFIG_SMALL_MAX_LOG2=10\n", self.composer.minimal({"CLASS_TABLE": TABLE, "SMALL_MAX_LOG2": 16}))


class Journals(Folder):
    def test_what_was_written_is_there_again_but_for_half_a_line(self):
        journal = self.journal()
        journal.add("point", digest="a", point={"X": 1}, name="hot")
        journal.add("run", digest="a", block=3, figures={"time": 2.0})
        journal.add("failed", digest="b", why="it crashes")
        journal.add("spent", seconds=12.5)
        with open(journal.file, "a") as file:
            file.write('{"kind": "run", "digest": "a", "blo')
        again = self.journal()
        self.assertEqual((again.points["a"]["name"], again.runs, again.failed, again.blocks, again.seconds),
                         ("hot", {"a": {3: {"time": 2.0}}}, {"b": "it crashes"}, 4, 12.5))
        again.add("run", digest="a", block=4, figures={"time": 3.0})
        self.assertEqual(len(self.journal().runs["a"]), 2)

    def test_of_another_search_is_refused(self):
        self.journal()
        with self.assertRaisesRegex(OtherSearch, r"other settings \(goal=time\): give another NAME="):
            self.journal(goal="rss")


class Races(Folder):
    def hold(self, costs, **more):
        """Races candidates whose time is known, but for noise that all of a block share and some of each run."""
        chance, blocks = random.Random(1), itertools.count()
        self.runs = {name: 0 for name in costs}

        def run(digest):
            self.runs[digest] += 1
            if costs[digest] is None:
                raise Failed("killed by SIGSEGV")
            return {"time": costs[digest] * math.exp(chance.gauss(0, 0.01)), "rss": 1 / costs[digest]}
        self.race = Race(self.journal(), more.pop("goal", Goal("time")), "base", run)
        return self.race.hold([name for name in costs if name != "base"], **more), blocks

    def test_the_worse_leave_and_the_best_stays(self):
        left, _ = self.hold({"base": 1.0, "worse": 1.3, "best": 0.8, "close": 0.802, "bad": 2.0})
        self.assertIn(left[0], ("best", "close"))
        self.assertEqual(set(left) | {"best", "close"}, {"best", "close"})
        self.assertLess(self.runs["bad"], self.runs["base"])

    def test_a_crash_is_a_result(self):
        left, _ = self.hold({"base": 1.0, "crashes": None, "better": 0.9})
        self.assertNotIn("crashes", left)
        self.assertEqual(self.race.journal.failed, {"crashes": "killed by SIGSEGV"})
        self.assertEqual(self.runs["crashes"], 1)

    def test_the_base_has_to_run(self):
        with self.assertRaisesRegex(Failed, "SIGSEGV"):
            self.hold({"base": None, "x": 1.0})

    def test_what_exceeds_a_limit_is_not_best(self):
        left, _ = self.hold({"base": 1.0, "greedy": 0.5, "fit": 0.97}, goal=Goal("time", (("rss", 1.05),)))
        self.assertEqual(left[0], "fit")
        self.assertGreater(self.race.standing("greedy").exceeds, 0.5)

    def hold_far(self, costs, machines, broken="", fresh=False):
        """The same on several machines, each with its own ratio, which make four blocks each at once."""
        chance = random.Random(1)

        class Elsewhere:
            def blocks(self, base, digests, seed):
                if not machines:
                    raise Failed("no machine answers: a: exit status 255")
                for block in range(4 * len(machines)):
                    name = list(machines)[block // 4]
                    for digest in [base, *digests]:
                        if digest == broken:
                            yield Found(digest, why="killed by SIGSEGV (on a)")
                        else:
                            time = costs[digest] ** machines[name] * math.exp(chance.gauss(0, 0.01))
                            yield Found(digest, block, name, {"time": time, "rss": 1.0})
        self.race = Race(self.journal(), Goal("time"), "base", None, far=Elsewhere())
        if fresh:
            return self.race.blocks(list(costs), fresh=True)
        return self.race.hold([name for name in costs if name != "base"])

    def test_several_machines_are_blocks_of_the_estimate(self):
        left = self.hold_far({"base": 1.0, "worse": 1.3, "best": 0.8}, {"a": 1.0, "b": 3.0}, broken="broken")
        self.assertEqual(left, ["best"])
        self.assertEqual(set(self.race.journal.machines.values()), {"a", "b"})
        found = self.race.ratio("best", "base")
        self.assertLess(found.width, 0.05)
        self.assertGreater(estimate(*[[self.race.journal.runs[name][block]["time"] for block in range(8)]
                                      for name in ("base", "best")]).width, 0.2)
        again = self.journal()
        self.assertEqual((again.machines, again.runs), (self.race.journal.machines, self.race.journal.runs))

    def test_a_crash_elsewhere_is_a_result_and_no_machine_is_an_end(self):
        left = self.hold_far({"base": 1.0, "broken": 1.0, "best": 0.8, "close": 0.801}, {"a": 1.0}, broken="broken")
        self.assertEqual(set(left), {"best", "close"})
        self.assertEqual(self.race.journal.failed, {"broken": "killed by SIGSEGV (on a)"})
        with self.assertRaisesRegex(Failed, "no machine answers: a: exit status 255"):
            self.hold_far({"base": 1.0, "best": 0.8}, {})

    def test_fresh_blocks_from_elsewhere_are_known_as_such(self):
        self.assertEqual(self.hold_far({"base": 1.0, "best": 0.8}, {"a": 1.0, "b": 1.0}, fresh=True), 8)
        self.assertEqual(self.race.journal.fresh, set(range(8)))
        self.assertIsNone(self.race.standing("best"))

    def test_goals(self):
        self.assertEqual(Goal("time*rss").figure({"time": 2.0, "rss": 3.0}), 6.0)
        self.assertEqual(Goal("rss").figure({"time": 2.0, "rss": 3.0}), 3.0)


@unittest.skipUnless(optuna, "python3-optuna is not installed (Debian: python3-optuna)")
class Searches(Folder):
    """Searches on a machine that computes: a run takes a second of its clock."""

    def make(self, cost, budget=500, broken=(), stop_at=None, seed=1):
        composer = space.Composer(ROOT, ROOT / "configs/default_defconfig")
        chance = random.Random(2)
        self.clock, self.built, self.lines = 0.0, [], []
        points = {}

        def build(point):
            digest = composer.digest(point)
            points[digest] = point
            if digest not in self.built:
                self.built.append(digest)
            if any(point.get(name) == value for name, value in broken):
                raise Failed("its build fails: error: no")
            return digest

        def run(digest):
            self.clock += 1
            if stop_at and self.clock >= stop_at:
                raise KeyboardInterrupt
            time, rss = cost(points[digest])
            return {"time": time * math.exp(chance.gauss(0, 0.003)), "rss": rss}
        hand_made = {name: composer.point(ROOT / f"configs/{name}_defconfig") for name in ("default", "hot", "lowmem")}
        return Search(composer, hand_made, self.journal(), Goal("time"), budget, build, run, seed, lambda: self.clock, self.lines.append)

    def both(self, search):
        base, known = search.search()
        return search.finish(base, known)

    @staticmethod
    def large_batches_win(point):
        return 1 - 0.05 * math.log2(point["REFILL_BATCH"] / 8), 1000.0

    def test_finds_what_matters_and_says_so(self):
        search = self.make(self.large_batches_win)
        outcome = self.both(search)
        self.assertTrue(outcome.is_better)
        self.assertGreater(search.journal.points[outcome.winner]["point"]["REFILL_BATCH"], 128)
        self.assertGreaterEqual(len(outcome.fresh), ENOUGH_PAIRS)
        self.assertEqual(report.importance(search)[0][0], "REFILL_BATCH")
        text = report.paragraph(search, outcome, "a test")
        self.assertIn("the best configuration there was.", text)
        made = report.defconfig(search, outcome, "a test", "", "2026-01-01")
        file = self.folder / "made_defconfig"
        file.write_text(made)
        self.assertEqual(configuration.load(ROOT, file, "made").digest, outcome.winner)
        self.assertIn("# Better than default: time, times 0.", made)
        page = report.page(search, outcome, "a <test>", text)
        for word in ("a &lt;test&gt;", "Which options mattered", "REFILL_BATCH", "<circle", "The fresh measurement"):
            self.assertIn(word, page)

    def test_nothing_to_gain_ends_with_take(self):
        best = lambda point: (0.9 if point["HOTMAG_MASK"] == 64 and "FRONTEND_HOTMAG" in point.values() else 1.0, 1000.0)
        search = self.make(lambda point: best({"HOTMAG_MASK": 0, **point}), budget=250)
        search.composer.space = [one for one in search.composer.space if one.name != "HOTMAG_MASK"]
        outcome = self.both(search)
        self.assertFalse(outcome.is_better)
        self.assertRegex(report.paragraph(search, outcome, "a test"), r"take `\w+`(, nothing found is better)?\.$")

    def test_the_fresh_measurement_does_not_use_what_the_search_has_seen(self):
        search = self.make(self.large_batches_win, budget=250)
        base, known = search.search()
        seen = search.journal.blocks
        outcome = search.finish(base, known)
        self.assertEqual(min(outcome.fresh), seen)
        self.assertEqual(search.journal.fresh, set(outcome.fresh))
        again = self.make(self.large_batches_win, budget=250)
        again.names, again.race = search.names, Race(again.journal, Goal("time"), base, again.run)
        self.assertTrue(again.ranking())
        for digest in again.ranking():
            self.assertFalse(set(again.race.common(digest, base)) & set(outcome.fresh))

    def test_what_serves_one_recording_may_not_serve_the_other(self):
        search = self.make(self.large_batches_win, budget=250)
        points = lambda digest: search.journal.points[digest]["point"]
        search._run_fresh = lambda digest: {"time": 2 - self.large_batches_win(points(digest))[0], "rss": 1.0}
        outcome = self.both(search)
        self.assertFalse(outcome.is_better)
        self.assertIn("nothing found is better", report.paragraph(search, outcome, "a test"))

    def test_builds_that_fail_are_results(self):
        search = self.make(self.large_batches_win, budget=250, broken=[("CACHE_ADAPTIVE", "n")])
        outcome = self.both(search)
        self.assertIn("its build fails: error: no", search.journal.failed.values())
        self.assertIsNotNone(outcome.best)
        told = [trial.value for trial in search.study().get_trials(deepcopy=False) if trial.params.get("CACHE_ADAPTIVE") == "n"
                and trial.value is not None]
        self.assertTrue(told)
        self.assertEqual(set(told), {FAILED_COST})

    def test_an_interrupted_search_goes_on_with_all_that_it_had(self):
        search = self.make(self.large_batches_win, stop_at=200)
        with self.assertRaises(KeyboardInterrupt):
            self.both(search)
        search.journal.add("spent", seconds=search.spent())
        before = {digest: dict(runs) for digest, runs in search.journal.runs.items()}
        again = self.make(self.large_batches_win)
        self.assertEqual({digest: dict(runs) for digest, runs in again.journal.runs.items()}, before)
        self.assertGreaterEqual(again.spent(), 199)
        outcome = self.both(again)
        self.assertTrue(outcome.is_better)
        for digest, runs in before.items():
            for block, figures in runs.items():
                self.assertEqual(again.journal.runs[digest][block], figures)

    def test_what_few_blocks_have_seen_ranks_behind_what_is_sure(self):
        search = self.make(self.large_batches_win)
        journal = search.journal
        search.race = Race(journal, Goal("time"), "base", search.run)
        for digest, times in (("base", [1.0] * 12), ("sure", [0.8, 0.81] * 6), ("lucky", [0.6, 0.95])):
            journal.add("point", digest=digest, point={}, name="")
            for block, time in enumerate(times):
                journal.add("run", digest=digest, block=block, figures={"time": time, "rss": 1.0})
        self.assertEqual(search.ranking(), ["sure", "base", "lucky"])

    def test_points_of_defconfigs_are_asked_first(self):
        search = self.make(self.large_batches_win, budget=120)
        search.search()
        first = search.study().get_trials(deepcopy=False)[:3]
        for trial, point in zip(first, search.hand_made.values()):
            asked = as_asked(point, search.composer.space)
            self.assertEqual({name: trial.params[name] for name in asked if name in trial.params}, asked)


class Command(unittest.TestCase):
    def test_each_bad_wish_has_its_message(self):
        for words, message in (
            ([], 'tune for what? scons tune PROGRAM="COMMAND", or TRACE=RECORDING'),
            (["--program", "x", "--trace", "y"], "tune for what?"),
            (["--program", "true", "--against", "x"], "AGAINST= is another recording than TRACE="),
            (["--program", "true", "--limit", "rss<1"], "LIMIT=rss<1: write what it may be at most"),
            (["--program", "true", "--budget", "5"], "BUDGET=5: write a time of a minute or more"),
            (["--program", "true", "--name", "Mine"], "NAME=Mine: small letters"),
            (["--program", "true", "--name", "hot"], "NAME=hot: configs/hot_defconfig is there already"),
            (["--program", "true", "--goal", "metric"], "GOAL=metric: METRIC= says which figure"),
            (["--program", "true", "--goal", "p999"], "GOAL=p999: a replay times its calls, so give TRACE="),
            (["--program", "true; false"], "one program at a time"),
            (["--trace", "/nothing.trace"], "/nothing.trace: No such file"),
            (["--program", "true", "--engine", "nosuch"], "ENGINE=nosuch: an engine is one of local, parallel, slurm"),
        ):
            with tempfile.TemporaryDirectory() as folder:
                done = subprocess.run([sys.executable, HERE / "tune.py", "--output", folder, *words], capture_output=True, text=True)
            if "python3-optuna is not installed" in done.stderr:
                self.skipTest("python3-optuna is not installed (Debian: python3-optuna)")
            self.assertEqual(done.returncode, 2, words)
            self.assertIn(message, done.stderr)


if __name__ == "__main__":
    sys.exit(testing.run(__name__, sys.argv[1:], verbosity=2))
