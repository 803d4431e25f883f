#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Tests of measurements over many machines: test_engine.py [unittest's names]

The machines are this one under other names: ssh servers and a Slurm cluster of two nodes on the loopback device, which the
tests start in a folder of their own, on free ports, and end."""

import getpass
import json
import math
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest
from datetime import datetime
from pathlib import Path
from unittest import mock

sys.dont_write_bytecode = True
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from lab import copies, engine, evaluation, libraries, record, runs, spread, workloads  # noqa: E402
from lab.estimate import estimate, estimate_apart  # noqa: E402
from tuning.far import Far  # noqa: E402
from tuning.race import Failed  # noqa: E402
import testing  # noqa: E402

BENCH = Path(__file__).resolve().parent
CC = os.environ.get("CC", "cc").split()
FOLDER = None  # of all that these tests write; set when they begin
SHORT = "random_mixed short"
HANG_SECONDS = 600
NAP = f"0.2{os.getpid()}"  # seconds; tells this test's programs from all others
LIBRARIES = {
    "forward": "void *malloc(size_t size) { return __libc_malloc(size); }",
    "slow": "void *malloc(size_t size) { for (volatile int i = 0; i < 400; i++) ; return __libc_malloc(size); }",
    "crash": "void *malloc(size_t size) { static int calls; if (++calls == 1000) __builtin_trap(); return __libc_malloc(size); }",
}


def setUpModule():
    global FOLDER
    FOLDER = Path(tempfile.mkdtemp(prefix="hakmem-engine-"))
    unittest.addModuleCleanup(shutil.rmtree, FOLDER)
    FOLDER.chmod(0o755)
    (FOLDER / "programs").mkdir()
    for name in ("launch", "random_mixed"):
        subprocess.run([*CC, "-std=gnu17", "-O2", "-fno-builtin-malloc", "-pthread", BENCH / f"{name}.c", "-o",
                        FOLDER / "programs" / name], check=True)
    for name, text in LIBRARIES.items():
        source = f"#include <stddef.h>\nvoid *__libc_malloc(size_t);\n{text}\n"
        subprocess.run([*CC, "-O1", "-fPIC", "-fno-builtin", "-shared", "-x", "c", "-", "-o", FOLDER / f"{name}.so"], input=source,
                       text=True, check=True)
    naps = "".join(f'[{name}]\nprogram = "sleep {NAP}"\n' for name in ("nap", "doze", "rest"))
    (FOLDER / "workloads.toml").write_text(naps, encoding="utf-8")


def workload(name):
    return workloads.select([name])[0]


def opened(private, *names):
    return libraries.tell_apart([private.open_library(str(FOLDER / f"{name}.so") if name in LIBRARIES else name) for name in names])


class Folder(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(dir=FOLDER)
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)


# ── Without other machines ──────────────────────────────────────────────────────────────────────────


class Blocks(unittest.TestCase):
    def test_counts_that_hardly_differ_give_bounds_within_them(self):
        """The errors of such resamples are next to nothing, and distances in multiples of them have no end."""
        for seed in range(60):
            chance = random.Random(seed)
            a, b = ([chance.choice((1, 1, 1, 1, 1, 1, 1, 3)) for _ in range(12)] for _ in "ab")
            for found in (estimate(a, b, 999, ["one"] * 8 + ["two"] * 4), estimate_apart(a, b, 999)):
                self.assertTrue(1 / 3 - 1e-9 <= found.low <= found.ratio <= found.high <= 3 + 1e-9, (seed, found))

    """The estimate, of machines whose ratios differ."""

    def made(self, sizes, centres, noise=0.01, seed=1):
        chance = random.Random(seed)
        machines = [name for name, size in zip("abcdefgh", sizes) for _ in range(size)]
        of = dict(zip("abcdefgh", centres))
        return [math.exp(of[name] + chance.gauss(0, noise)) for name in machines], machines

    def test_what_machines_differ_in_is_no_noise(self):
        ratios, machines = self.made([10, 10], [0.1, 0.3])
        found, mixed = estimate([1.0] * 20, ratios, machines=machines), estimate([1.0] * 20, ratios)
        self.assertLess(found.width, 0.025)
        self.assertGreater(mixed.width, 0.08)
        self.assertLess(found.low, math.exp(0.2))
        self.assertGreater(found.high, math.exp(0.2))
        self.assertLess(found.spread, 0.02)

    def test_a_machine_counts_by_its_pairs(self):
        ratios, machines = self.made([12, 4], [0.0, 0.4], noise=0.001)
        self.assertAlmostEqual(estimate([1.0] * 16, ratios, machines=machines).ratio, math.exp(0.1), delta=0.002)

    def test_the_order_of_the_pairs_plays_no_part(self):
        ratios, machines = self.made([8, 8], [0.1, 0.3])
        both = list(zip(ratios, machines))
        for seed in range(3):
            random.Random(seed).shuffle(both)
            found = estimate([1.0] * 16, [one for one, _ in both], machines=[name for _, name in both])
            self.assertAlmostEqual(found.ratio, estimate([1.0] * 16, ratios, machines=machines).ratio, places=3)

    def test_one_machine_is_as_none(self):
        ratios, machines = self.made([12], [0.1])
        self.assertEqual(estimate([1.0] * 12, ratios, machines=machines), estimate([1.0] * 12, ratios))

    def test_a_machine_with_too_few_pairs_is_left_out(self):
        ratios, machines = self.made([10, 3], [0.1, 2.0])
        self.assertEqual(estimate([1.0] * 13, ratios, machines=machines), estimate([1.0] * 10, ratios[:10]))
        ratios, machines = self.made([3, 3, 3], [0.1, 0.1, 0.1])
        self.assertIsNone(estimate([1.0] * 9, ratios, machines=machines).low)

    def test_the_interval_misses_the_truth_as_rarely_as_it_says(self):
        for sizes in ([4, 4], [12, 4], [4, 4, 4, 4]):
            missed = 0
            for seed in range(120):
                chance = random.Random(seed)
                centres = [chance.gauss(0, 0.05) for _ in sizes]
                ratios, machines = self.made(sizes, centres, 0.03, seed + 1000)
                truth = sum(size * centre for size, centre in zip(sizes, centres)) / sum(sizes)
                found = estimate([1.0] * len(ratios), ratios, 499, machines)
                missed += not found.low <= math.exp(truth) <= found.high
            self.assertLessEqual(missed, 14, sizes)  # more than that comes in 1 of 1000 such tests where 6 is right


class Bundles(Folder):
    """An evaluation, run as an engine runs it."""

    def bundle(self, *names, chosen=(SHORT,)):
        with copies.Copies() as private:
            found = opened(private, *names)
            private.take_programs(FOLDER / "programs", [workload(name) for name in chosen])
            evaluation.write_bundle(self.folder / "a bundle.pyz", private, found, [workload(name) for name in chosen], 20)
        return self.folder / "a bundle.pyz"

    def run_it(self, bundle, **environment):
        (self.folder / "tmp").mkdir(exist_ok=True)
        command = evaluation.Evaluation(7, 0, 5, 4).command(str(bundle))
        done = subprocess.run(["/bin/sh", "-c", command], cwd="/", capture_output=True, text=True, timeout=HANG_SECONDS,
                              env={"TMPDIR": str(self.folder / "tmp"), "SLURMD_NODENAME": "some-node", **environment})
        self.assertEqual(list((self.folder / "tmp").iterdir()), [])
        return done

    def test_a_bundle_in_and_a_line_out(self):
        done = self.run_it(self.bundle("forward", "slow", "system"))
        self.assertEqual((done.returncode, done.stderr, done.stdout.count("\n")), (0, "", 1))
        answer = record.decode(evaluation.Answer, json.loads(done.stdout))
        self.assertEqual((answer.number, answer.machine.name, len(answer.parts)), (7, "some-node", 2))
        self.assertTrue(answer.pinned)
        for part in answer.parts:
            self.assertEqual([pair.round for pair in part.pairs], [0, 1, 2, 3])
            self.assertEqual(sorted(pair.order for pair in part.pairs), ["AB", "AB", "BA", "BA"])
        slow = estimate([pair.A.seconds for pair in answer.parts[0].pairs], [pair.B.seconds for pair in answer.parts[0].pairs])
        self.assertGreater(slow.ratio, 1.5)

    def test_a_crash_is_an_answer_that_names_the_users_files(self):
        done = self.run_it(self.bundle("crash", "system"))
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        part = record.decode(evaluation.Answer, json.loads(done.stdout)).parts[0]
        self.assertIn("killed by SIG", part.failure)
        self.assertIn(f"LD_PRELOAD={FOLDER / 'crash.so'} {FOLDER / 'programs' / 'random_mixed'} ", part.to_repeat)

    def test_what_a_machine_cannot_load_is_no_answer(self):
        bundle = self.bundle("forward", "system")
        with open(FOLDER / "forward.so", "rb") as file, copies.Copies() as private:
            found = opened(private, "forward", "system")
            private.take_programs(FOLDER / "programs", [workload(SHORT)])
            os.chmod(found[0].copy, 0o600)
            Path(found[0].copy).write_bytes(file.read().replace(b"libc.so.6", b"libq.so.6"))
            evaluation.write_bundle(bundle, private, found, [workload(SHORT)], 20)
        done = self.run_it(bundle)
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertIn("some-node: /bin/true: ", done.stderr)
        self.assertIn(f"libq.so.6: cannot open shared object file: No such file or directory; to repeat: LD_PRELOAD={FOLDER}/forward.so ",
                      done.stderr)

    def test_a_connection_that_ends_takes_the_workload_with_it(self):
        own = workloads.Workload("nap", ("/bin/sleep", NAP), (), "", measure=workloads.WALL_TIME, own=workloads.Own("/"))
        with copies.Copies() as private:
            private.take_programs(FOLDER / "programs", [own])
            evaluation.write_bundle(self.folder / "bundle.pyz", private, opened(private, "forward", "system"), [own], 20)
        process = subprocess.Popen(["/usr/bin/python3", self.folder / "bundle.pyz", "0", "0", "1", "1000"], stdout=subprocess.PIPE,
                                   env={"TMPDIR": str(self.folder), "PATH": os.environ["PATH"]})
        wait_for(self, lambda: napping(process.pid))
        for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGHUP):
            process.send_signal(number)
        self.assertEqual(process.communicate(timeout=HANG_SECONDS)[0], b"")
        self.assertEqual((napping(), list(self.folder.glob("hakmem-measured-*"))), ([], []))


class Computing(engine.Engine):
    """Machines that only compute: `times` has what A and B take on each, in turns, or None for one that is dead, or the
    Part of one that answers this."""

    def __init__(self, times):
        super().__init__()
        self.times, self.width, self.waves = times, len(times), []

    def answers(self, bundle, asked):
        self.waves.append(list(asked))
        chance = random.Random(len(self.waves))
        for place, one in enumerate(asked):
            name = list(self.times)[place % self.width]
            if self.times[name] is None:
                self.lost.append(f"{name}: exit status 255")
                continue
            if isinstance(self.times[name], evaluation.Part):
                yield evaluation.Answer(one.number, one.workload, evaluation.Machine(name=name), 1.0, True, False, [self.times[name]])
                continue
            a, b = ([seconds * math.exp(chance.gauss(0, 0.02)) for _ in range(one.rounds)] for seconds in self.times[name])
            pairs = [record.Pair(made_run(a[i]), made_run(b[i]), "AB", i) for i in range(one.rounds)]
            part = evaluation.Part(pairs, [0.1] * one.rounds, None, None, None)
            yield evaluation.Answer(one.number, one.workload, evaluation.Machine(name=name), 1.0, True, False, [part])
            yield None

    def _start(self, bundle, folder, asked): ...
    def _running(self): ...
    def drain(self): ...
    def _stop(self): ...
    def _why(self, folder, missing): ...


def made_run(seconds):
    return runs.Run(seconds, None, None, "", seconds, seconds, 0.0, 1024, None, 10, 0, 0, 0, 1)


class Spreads(Folder):
    def make(self, far, budget=1000.0, width=0.02):
        with copies.Copies() as private:
            private.take_programs(FOLDER / "programs", [workload(SHORT)])
            a, b = opened(private, "forward", "system")
            made = spread.Spread(a, [b], [workload(SHORT)], runs.Runner(FOLDER / "programs", 20, private), budget, 1,
                                 mock.Mock(), width, 0.0, far, private, self.folder)
            made.run()
        return made

    def test_ten_pairs_first_then_more_until_the_interval_is_narrow(self):
        far = Computing({"a": (1.0, 2.0), "b": (1.0, 2.2)})
        row = self.make(far).rows[0]
        self.assertEqual(len(far.waves[0]), 3)
        self.assertGreater(len(far.waves), 1)
        self.assertTrue(row.narrow)
        self.assertLess(row.estimate().width, 0.02)
        self.assertEqual(len({one.number for wave in far.waves for one in wave}), sum(map(len, far.waves)))
        self.assertEqual(set(row.machines), {"a", "b"})
        self.assertEqual(len(row.machines), len(row.pairs))

    def test_each_machine_gets_something_to_do(self):
        far = Computing({name: (1.0, 2.0) for name in "abcdefgh"})
        row = self.make(far, width=1.0).rows[0]
        self.assertEqual((len(far.waves), len(far.waves[0]), len(row.pairs)), (1, 8, 32))

    def test_a_dead_machine_costs_its_pairs_and_nothing_else(self):
        far = Computing({"a": (1.0, 2.0), "dead": None})
        made = self.make(far, width=0.5)
        row = made.rows[0]
        self.assertEqual((set(row.machines), row.failure, row.narrow), ({"a"}, None, True))
        self.assertIn("dead: exit status 255", made.lost)

    def test_what_one_machine_lacks_others_have(self):
        lacks = evaluation.Part([], [], None, None, "needs redis: apt-get install redis")
        far = Computing({"bare": lacks, "a": (1.0, 2.0)})
        made = self.make(far, width=0.5)
        self.assertEqual((set(made.rows[0].machines), made.rows[0].skipped), ({"a"}, None))
        self.assertEqual(made.lost, ["bare: needs redis: apt-get install redis"])
        row = self.make(Computing({"bare": lacks})).rows[0]
        self.assertEqual((row.pairs, row.skipped), ([], "needs redis: apt-get install redis (on bare)"))

    def test_a_failure_names_its_machine_and_ends_the_row(self):
        far = Computing({"a": (1.0, 2.0), "b": evaluation.Part([], [], "forward: killed by SIGSEGV", "run it", None)})
        row = self.make(far).rows[0]
        self.assertEqual((len(far.waves), row.failure, row.command), (1, "forward: killed by SIGSEGV (on b)", "run it"))

    def test_an_engine_that_fails_in_the_middle_leaves_what_there_is(self):
        class Failing(Computing):
            def answers(self, bundle, asked):
                if self.waves:
                    raise engine.EngineError("ENGINE=slurm: no controller")
                return super().answers(bundle, asked)
        made = self.make(Failing({"a": (1.0, 2.0)}))
        self.assertEqual((len(made.rows[0].pairs), made.lost), (12, ["ENGINE=slurm: no controller"]))

    def test_two_records_of_other_machines_say_so(self):
        paths = []
        for machines in ("ab", "ac"):
            made = self.make(Computing({name: (1.0, 2.0) for name in machines}), width=1.0)
            data = record.as_data(made, evaluation.describe(), datetime.now())
            self.assertEqual((data.machine.name, data.rows[0].machine.name), ("a", "a"))
            (self.folder / machines).mkdir()
            paths.append(record.write(data, datetime.now(), self.folder / machines))
        self.assertEqual(record.compare(paths[0], paths[1]).apart.machine, ["how many there were, and which"])

    def test_without_any_machine_it_ends(self):
        far = Computing({"dead": None})
        made = self.make(far)
        self.assertEqual((len(far.waves), made.rows[0].pairs), (1, []))

    def test_there_is_an_end_to_pairs_and_to_the_budget(self):
        far = Computing({"a": (1.0, 2.0)})
        self.assertEqual(len(self.make(far, width=1e-9).rows[0].pairs), 300)
        far = Computing({"a": (1.0, 2.0)})
        self.assertEqual(len(self.make(far, width=1e-9, budget=0.5).rows[0].pairs), 12)


class Refusals(Folder):
    def refused(self, expected, name, hosts="", **environment):
        with mock.patch.dict(os.environ, environment), self.assertRaises(engine.EngineError) as caught:
            engine.check(name, hosts)
        self.assertIn(expected, str(caught.exception))

    def programs(self, **scripts):
        """A PATH with these only."""
        for name, text in scripts.items():
            file = self.folder / name
            file.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
            file.chmod(0o755)
        return {"PATH": str(self.folder)}

    def test_each_bad_wish_has_its_message(self):
        self.refused("ENGINE=nosuch: an engine is one of local, parallel, slurm", "nosuch")
        self.refused("ENGINE=parallel: on which machines? HOSTS=one,user@two names them", "parallel")
        self.refused("on which machines?", "parallel", " , ")
        self.refused("HOSTS=one: it is ENGINE=parallel that takes hosts", "", "one")
        self.refused("HOSTS=one: it is ENGINE=parallel that takes hosts", "slurm", "one")
        for name in ("", "local"):
            self.assertIsNone(engine.make(name, ""))

    def test_each_missing_program_has_its_package(self):
        self.refused("GNU parallel is not installed (Debian: parallel)", "parallel", "one", **self.programs())
        self.refused("GNU parallel is not installed (Debian: parallel)", "parallel", "one", **self.programs(parallel="exit 1"))
        gnu = self.programs(parallel="echo GNU parallel 20221122")
        self.refused("ssh is not installed (Debian: openssh-client)", "parallel", "one", **gnu)
        self.refused("rsync is not installed (Debian: rsync)", "parallel", "one", **self.programs(ssh="exit 255"))
        self.refused("there is no sbatch here: measure from a machine that submits jobs (Debian: slurm-client)", "slurm", **gnu)
        broken = self.programs(**{name: "exit 1" for name in ("sbatch", "squeue", "scancel")},
                               sinfo="echo 'sinfo: error: no controller' >&2; exit 1")
        self.refused("the cluster cannot be asked: sinfo: error: no controller", "slurm", **broken)

    def test_a_cluster_that_answers_no_more_is_not_waited_for_without_end(self):
        scripts = {"sbatch": "echo 7", "sinfo": "echo node", "squeue": "echo 'squeue: error: no controller' >&2; exit 1", "scancel": ""}
        with mock.patch.dict(os.environ, self.programs(**scripts)), mock.patch.object(engine, "UNANSWERED_SECONDS", 0.0):
            (self.folder / "work").mkdir()
            with self.assertRaisesRegex(engine.EngineError, "has not answered for 0 minutes: squeue: error: no controller"):
                list(engine.Slurm().answers(self.folder / "work" / "bundle.pyz", [evaluation.Evaluation(0, 0, 1, 4)]))
        self.assertEqual(list((self.folder / "work").iterdir()), [])

    def test_what_a_host_lacks_is_said_of_that_host(self):
        for said, expected in (
            (f"echo {engine.READY} s390x", "two has another processor: s390x"),
            (f"echo {engine.READY} there is no /usr/bin/python3", "two cannot be used: there is no /usr/bin/python3"),
            ("echo 'ssh: no route' >&2", "two cannot be reached (ssh: no route): `ssh two true` must work without a password"),
        ):
            answers = f'case "$*" in *--version*) echo GNU parallel;; *sshlogin=two*) {said};; *) echo {engine.READY} {os.uname().machine};; esac'
            self.refused(f"HOSTS=one,two: {expected}", "parallel", "one,two", **self.programs(parallel=answers, ssh="", rsync=""))


# ── With other machines ─────────────────────────────────────────────────────────────────────────────


def wait_for(test, condition, said=lambda: "nothing"):
    end = time.monotonic() + HANG_SECONDS
    while not (found := condition()):
        if time.monotonic() > end:
            test.fail(f"{said()} after {HANG_SECONDS} s")
        time.sleep(0.05)
    return found


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def processes():
    """{pid: (parent, command)}"""
    found = {}
    for place in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((place / "stat").read_text().rpartition(")")[2].split()[1])
            found[int(place.name)] = parent, (place / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except (OSError, ValueError, IndexError):
            pass
    return found


def below(top):
    """The process and all its descendants, children first."""
    known = processes()
    found = [top]
    for pid in found:
        found += [one for one, (parent, _) in known.items() if parent == pid]
    return found[::-1]


def napping(top=None):
    """The processes that nap, of those below one."""
    known = processes()
    wanted = set(known if top is None else below(top))
    return [pid for pid, (_, command) in known.items() if pid in wanted and re.fullmatch(rf"(/\S*/)?sleep {re.escape(NAP)} ?", command)]


def kill(pids):
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


class Daemon:
    """A program that ends with this one, and with all that it has started."""

    def __init__(self, words, log, **environment):
        self.log = log
        with open(log, "ab") as out:
            self.process = subprocess.Popen(["setpriv", "--pdeathsig", "TERM", *map(str, words)], stdin=subprocess.DEVNULL, stdout=out,
                                            stderr=subprocess.STDOUT, env={**os.environ, **environment})

    def last_words(self):
        lines = self.log.read_text(errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "it says nothing")

    def die(self):
        """As a machine does: without a word."""
        kill(below(self.process.pid)[::-1])
        self.process.wait()

    def end(self):
        known = below(self.process.pid)
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            pass
        kill(known)
        self.process.wait()


def need(*programs):
    for program, package in programs:
        if not shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin:/sbin"):
            raise unittest.SkipTest(f"{program} is not installed (Debian: {package}; make deps-servers)")


class Measuring(Folder):
    """Measurements with bench/ab.py, and what must hold of each."""

    environment = {}

    def setUp(self):
        super().setUp()
        self.temporary = self.place / "tmp"  # of this machine under all its names
        self.temporary.mkdir(exist_ok=True)
        self.addCleanup(shutil.rmtree, self.temporary)

    def nothing_is_left(self):
        left = lambda: [str(path.relative_to(self.temporary)) for path in sorted(self.temporary.rglob("*"))]
        wait_for(self, lambda: not left(), left)

    def start(self, *words):
        return subprocess.Popen(
            [sys.executable, BENCH / "ab.py", "--programs", FOLDER / "programs", "--output", self.folder, "--workloads",
             FOLDER / "workloads.toml", FOLDER / "forward.so", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env={**os.environ, **self.environment, "TMPDIR": str(self.temporary)})

    def finish(self, process, status=0):
        out, err = process.communicate(timeout=HANG_SECONDS)
        self.assertEqual(process.returncode, status, f"{out}\n{err}")
        self.said = out + err
        self.assertEqual(list(self.folder.glob("bundle-*")), [])
        self.assertEqual(napping(), [])
        latest = self.folder / "latest.json"
        return record.read(str(latest)) if latest.exists() else None

    def measure(self, *words, status=0):
        return self.finish(self.start(*words), status)

    def is_whole(self, row):
        """Each pair has both runs, and names the machine that made both."""
        self.assertGreaterEqual(row.pairs, 10)
        self.assertEqual(len(row.runs), row.pairs)
        self.assertTrue(all(pair.A and pair.B and pair.machine for pair in row.runs))
        self.assertEqual(len({pair.round for pair in row.runs}), row.pairs)
        return {pair.machine for pair in row.runs}

    def shows_both_machines(self, *words):
        made = self.measure(FOLDER / "slow.so", "system", "--only", SHORT, "--only", "nap", "--width", "50", "--budget", "120", *words)
        self.assertEqual(len(made.rows), 4)
        self.assertEqual({machine for row in made.rows for machine in self.is_whole(row)}, {"node-one", "node-two"})
        self.assertEqual(sorted(machine.name for machine in made.machines), ["node-one", "node-two"])
        self.assertEqual(made.lost, [])
        slow = next(row for row in made.rows if row.workload == SHORT and row.B.label == "slow")
        self.assertGreater(slow.time.estimate.low, 1.3)
        self.assertEqual(slow.claimed, "A")
        for text in (self.said, (self.folder / "latest.md").read_text(), (self.folder / "latest.html").read_text(),
                     (self.folder / "latest.runs.csv").read_text()):
            self.assertIn("node-one", text)
            self.assertIn("node-two", text)

    def races(self, far_engine):
        """The blocks that `scons tune` asks for."""
        file = {"forward": FOLDER / "forward.so", "slow": FOLDER / "slow.so", "crash": FOLDER / "crash.so", "none": FOLDER / "none.so"}
        far = Far(far_engine, workload(SHORT), FOLDER / "programs", 20, self.folder, file.__getitem__, lambda run: {"time": run.seconds})
        with mock.patch.dict(os.environ, self.environment, TMPDIR=str(self.temporary)):
            found = list(far.blocks("forward", ["slow", "crash", "none"], 1))
            with self.assertRaisesRegex(Failed, r"crash: killed by SIG\w+.* \(on node-\w+\)"):
                list(far.blocks("crash", ["slow"], 1))
        figures = {(one.digest, one.block): one for one in found if one.figures}
        self.assertEqual(set(figures), {(digest, block) for digest in ("forward", "slow") for block in range(8)})
        for block in range(8):
            self.assertEqual(figures["forward", block].machine, figures["slow", block].machine)
        self.assertEqual({one.machine for one in figures.values()}, {"node-one", "node-two"})
        why = {one.digest: one.why for one in found if not one.figures}
        self.assertEqual(set(why), {"crash", "none"})
        self.assertIn("killed by SIG", why["crash"])
        self.assertEqual(list(self.folder.iterdir()), [])

    def ends_with_its_budget(self, *words):
        """What is begun when the budget ends is finished, and the rest is not begun."""
        naps = [word for name in ("nap", "doze", "rest") for word in ("--only", name)]
        made = self.measure("system", *naps, "--width", "0.0001", "--budget", "2", *words)
        pairs = sum(row.pairs for row in made.rows)
        self.assertEqual(pairs % spread.ROUNDS, 0)
        self.assertIn(pairs // spread.ROUNDS, range(2, 7))  # of nine in the first wave
        self.assertEqual(made.lost, [])

    def one_dies(self, node, status, *words):
        """Lets `node`, a daemon, die while it measures; returns the record."""
        process = self.start("system", "--only", "nap", "--width", "50", "--budget", "120", *words)
        self.addCleanup(process.kill)
        wait_for(self, lambda: napping(node()))
        time.sleep(0.3)
        self.kill_node()
        made = self.finish(process, status)
        self.assertEqual(self.is_whole(made.rows[0]), {"node-one"})
        self.assertIsNone(made.rows[0].failure)
        return made


class OverSsh(Measuring):
    @classmethod
    def setUpClass(cls):
        need(("parallel", "parallel"), ("rsync", "rsync"), ("ssh", "openssh-client"), ("sshd", "openssh-server"), ("setpriv", "util-linux"))
        if os.geteuid() == 0:  # sshd's separated processes are there; it stays, as another run of these tests may need it
            os.makedirs("/run/sshd", 0o755, exist_ok=True)
        cls.place = Path(tempfile.mkdtemp(dir=FOLDER))
        for name in ("host", "user"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", cls.place / name], check=True)
        client = ["Host *\n", f"User {getpass.getuser()}\n", f"IdentityFile {cls.place}/user\n", "IdentitiesOnly yes\n",
                  f"UserKnownHostsFile {cls.place}/known\n", "StrictHostKeyChecking no\n", "LogLevel ERROR\n"]
        cls.nodes = {}
        for name in ("node-one", "node-two"):
            port = free_port()
            (cls.place / name).mkdir()
            (cls.place / f"{name}.conf").write_text(
                f"ListenAddress 127.0.0.1\nPort {port}\nHostKey {cls.place}/host\nAuthorizedKeysFile {cls.place}/user.pub\n"
                f"PidFile {cls.place}/{name}.pid\nStrictModes no\nUsePAM no\nUseDNS no\nPermitRootLogin prohibit-password\n"
                f"ForceCommand cd {cls.place}/{name} && TMPDIR={cls.place}/tmp exec /bin/sh -c \"$SSH_ORIGINAL_COMMAND\"\n", encoding="utf-8")
            client += [f"Host {name}\n", "HostName 127.0.0.1\n", f"Port {port}\n"]
            sshd = shutil.which("sshd", path="/usr/sbin:/sbin:/usr/local/sbin")
            cls.nodes[name] = Daemon([sshd, "-D", "-e", "-f", cls.place / f"{name}.conf"], cls.place / f"{name}.log")
            cls.addClassCleanup(cls.nodes[name].end)
        (cls.place / "client.conf").write_text("".join([*client[7:], *client[:7]]), encoding="utf-8")
        cls.ssh = ["ssh", "-F", str(cls.place / "client.conf"), "-o", "BatchMode=yes", "-o", "ConnectTimeout=10"]
        cls.environment = {"PARALLEL_SSH": " ".join(cls.ssh), "HOME": str(cls.place)}
        for name, node in cls.nodes.items():
            for _ in range(100):
                done = subprocess.run([*cls.ssh, name, "true"], capture_output=True, text=True)
                if not done.returncode:
                    break
                time.sleep(0.3)
            else:
                raise unittest.SkipTest(f"no ssh to this host: {done.stderr.strip()}; sshd: {node.last_words()}")

    def setUp(self):
        super().setUp()
        self.words = ["--engine=parallel", "--hosts=node-one,node-two"]

    def nothing_is_left(self):
        super().nothing_is_left()
        self.assertEqual([list((self.place / name).iterdir()) for name in self.nodes], [[], []])

    def test_1_both_machines_measure_and_are_named(self):
        self.shows_both_machines(*self.words)
        self.nothing_is_left()

    def test_2_a_host_that_cannot_be_reached_is_said_at_once(self):
        self.measure("system", "--engine=parallel", "--hosts=node-one,nowhere.invalid", status=2)
        self.assertIn("ab.py: HOSTS=node-one,nowhere.invalid: nowhere.invalid cannot be reached (", self.said)
        self.assertIn("`ssh nowhere.invalid true` must work without a password", self.said)

    def test_3_an_interrupted_measurement_leaves_nothing_behind(self):
        process = self.start("system", "--only", "nap", "--width", "0.0001", "--budget", "600", *self.words)
        self.addCleanup(process.kill)
        wait_for(self, lambda: napping(self.nodes["node-one"].process.pid))
        process.send_signal(signal.SIGINT)
        self.finish(process, 130)
        self.nothing_is_left()

    def test_4_this_machine_may_be_among_them_without_ssh(self):
        made = self.measure("system", "--only", "nap", "--width", "50", "--budget", "60", "--engine=parallel", "--hosts=:,node-one")
        self.assertEqual(self.is_whole(made.rows[0]), {socket.gethostname(), "node-one"})

    def test_5_a_race_has_each_block_on_one_host(self):
        self.races(engine.Parallel("node-one,node-two"))
        self.nothing_is_left()

    def test_6_no_evaluation_begins_after_the_budget(self):
        self.ends_with_its_budget(*self.words)
        self.nothing_is_left()

    def test_7_a_host_that_dies_costs_its_pairs_and_nothing_else(self):
        self.kill_node = self.nodes["node-two"].die
        made = self.one_dies(lambda: self.nodes["node-two"].process.pid, 0, *self.words)
        self.assertEqual((made.rows[0].pairs, made.lost), (12, []))  # the other host has made what this one was about to


class WithSlurm(Measuring):
    @classmethod
    def setUpClass(cls):
        need(("sbatch", "slurm-client"), ("slurmctld", "slurmctld"), ("slurmd", "slurmd"), ("munged", "munge"), ("setpriv", "util-linux"))
        os.environ["PATH"] += ":/usr/sbin:/sbin"
        cls.place = Path(tempfile.mkdtemp(dir=FOLDER))
        cls.place.chmod(0o755)
        for name in ("munge", "state", "spool"):
            (cls.place / name).mkdir(mode=0o700)
        key = cls.place / "munge" / "key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        ports = {"node-one": free_port(), "node-two": free_port()}
        host, user, cpus = socket.gethostname(), getpass.getuser(), os.cpu_count()
        settings = {
            "ClusterName": "hakmem", "SlurmctldHost": f"{host}(127.0.0.1)", "SlurmctldPort": free_port(), "SlurmUser": user,
            "SlurmdUser": user, "AuthType": "auth/munge", "CredType": "cred/munge", "AuthInfo": f"socket={cls.place}/munge/socket",
            "StateSaveLocation": cls.place / "state", "SlurmdSpoolDir": cls.place / "spool/%n", "SlurmctldPidFile": cls.place / "ctld.pid",
            "SlurmdPidFile": cls.place / "%n.pid", "ProctrackType": "proctrack/linuxproc", "TaskPlugin": "task/none",
            "JobAcctGatherType": "jobacct_gather/none", "AccountingStorageType": "accounting_storage/none", "MpiDefault": "none",
            "SwitchType": "switch/none", "SelectType": "select/linear", "ReturnToService": 0, "SlurmdTimeout": 300, "KillWait": 2,
            "SchedulerParameters": "batch_sched_delay=0,sched_interval=1",
        }
        lines = [f"{name}={value}\n" for name, value in settings.items()]
        lines += [f"NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs={cpus}\n" for name, port in ports.items()]
        conf = cls.place / "slurm.conf"
        conf.write_text("".join([*lines, "PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP\n"]), encoding="utf-8")
        cls.environment = {"SLURM_CONF": str(conf)}
        munge = [f"--{name}={cls.place}/munge/{file}" for name, file in
                 (("key-file", "key"), ("socket", "socket"), ("pid-file", "pid"), ("log-file", "log"), ("seed-file", "seed"))]
        cls.start_daemon("munged", "--force", "--foreground", *munge)
        for _ in range(100):
            if (cls.place / "munge" / "socket").exists():
                break
            time.sleep(0.1)
        cls.start_daemon("slurmctld", "-D", "-i", "-f", conf)
        cls.nodes = {name: cls.start_daemon("slurmd", "-D", "-N", name, "-f", conf, log=name) for name in ports}
        for _ in range(240):
            done = subprocess.run(["sinfo", "--noheader", "--format=%D %T"], capture_output=True, text=True,
                                  env={**os.environ, **cls.environment})
            if done.stdout.strip() == "2 idle":
                return
            time.sleep(0.5)
        words = "; ".join(f"{daemon.log.stem}: {daemon.last_words()}" for daemon in cls.daemons)
        raise unittest.SkipTest(f"no Slurm here: {done.stdout.strip() or done.stderr.strip()}; {words}")

    daemons = []

    @classmethod
    def start_daemon(cls, program, *words, log=""):
        daemon = Daemon([shutil.which(program), *words], cls.place / f"{log or program}.log", **cls.environment)
        cls.daemons = [*cls.daemons, daemon]
        cls.addClassCleanup(daemon.end)
        return daemon

    def nothing_is_left(self):
        super().nothing_is_left()
        queue = ["squeue", "--noheader", "--states=PENDING,RUNNING"]
        wait_for(self, lambda: not subprocess.run(queue, capture_output=True, text=True, env={**os.environ, **self.environment}).stdout)

    def test_1_both_nodes_measure_and_are_named(self):
        self.shows_both_machines("--engine=slurm")
        self.nothing_is_left()

    def test_2_an_interrupted_measurement_leaves_nothing_in_the_queue(self):
        process = self.start("system", "--only", "nap", "--width", "0.0001", "--budget", "600", "--engine=slurm")
        self.addCleanup(process.kill)
        wait_for(self, lambda: napping())
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=HANG_SECONDS)
        self.assertEqual(process.returncode, 130, f"{out}\n{err}")
        self.nothing_is_left()
        wait_for(self, lambda: not napping())

    def test_3_a_race_has_each_block_on_one_node(self):
        with mock.patch.dict(os.environ, self.environment):
            far = engine.Slurm()
        self.assertEqual(far.width, 2)
        self.races(far)

    def test_4_no_evaluation_begins_after_the_budget(self):
        self.ends_with_its_budget("--engine=slurm")
        self.nothing_is_left()

    def test_5_a_node_that_dies_costs_its_pairs_and_nothing_else(self):
        """Slurm's steps are children of no daemon: those of the node name it in their command. That the node is gone Slurm is told: how
        long it waits for an answer is no measure of a death on a busy machine."""
        def steps():
            return [pid for pid, (_, command) in processes().items() if command.startswith("slurmstepd") and self.on_node(pid)]

        def die():
            subprocess.run(["scontrol", "update", "NodeName=node-two", "State=DOWN", "Reason=died"], check=True,
                           env={**os.environ, **self.environment})
            self.nodes["node-two"].die()
            kill([one for step in steps() for one in below(step)])
        self.kill_node = die
        made = self.one_dies(lambda: next(filter(napping, steps()), -1), 0, "--engine=slurm")
        self.assertEqual(len(made.lost), 1)
        self.assertIn("Note: not measured, node-two: node fail", self.said)

    def on_node(self, step):
        """Whether a process below the step knows that it is on node-two, and is this test's: another run of these tests has a node of that name, too."""
        known = {b"SLURMD_NODENAME=node-two", f"TMPDIR={self.temporary}".encode()}
        for pid in below(step):
            try:
                if known <= set(Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")):
                    return True
            except OSError:
                pass
        return False


if __name__ == "__main__":
    sys.exit(testing.run(__name__, sys.argv[1:], verbosity=2))
