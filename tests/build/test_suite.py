# SPDX-License-Identifier: MIT
"""What the runner of the tests counts."""

import ast
import contextlib
import io
import os
import tempfile
import time
import unittest
from collections import Counter
from pathlib import Path
from unittest import mock

import suite

SYNTHESIS = "echo '[====] Synthesis: Tested: 5 | Passing: {} | Failing: {} | Crashing: {} '"


class Scripts(unittest.TestCase):
    """A class or a test that is defined again replaces the first one, which then never runs."""

    def test_no_name_is_defined_twice(self):
        root = Path(__file__).resolve().parent.parent.parent
        for path in [path for folder in ("bench", "site_scons", "tests") for path in (root / folder).rglob("*.py")]:
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, (ast.Module, ast.ClassDef)):
                    names = [one.name for one in node.body
                             if isinstance(one, (ast.ClassDef, ast.FunctionDef)) and not one.decorator_list]
                    self.assertEqual([name for name, count in Counter(names).items() if count > 1], [], str(path))


class Runner(unittest.TestCase):
    def setUp(self):
        self.signals, writable = os.pipe()
        self.addCleanup(os.close, self.signals)
        self.addCleanup(os.close, writable)

    def run_script(self, script, seed=1, **more):
        """[tested, passed, failed, crashing] of a shell script as a test, and the notes."""
        tally = suite.Tally()
        test = suite.Test("unit", "name", "build/x", ["/bin/sh", "-c", script], [], **more)
        with contextlib.redirect_stdout(io.StringIO()):
            suite.run(suite.Run(self.signals, seed), test, tally, io.StringIO())
        return [tally.tested, tally.passed, tally.failed, tally.crashing], "".join(tally.notes)

    def test_criterion(self):
        self.assertEqual(self.run_script(SYNTHESIS.format(5, 0, 0)), ([5, 5, 0, 0], ""))
        counts, notes = self.run_script(SYNTHESIS.format(3, 2, 1) + "; exit 1")
        self.assertEqual(counts, [5, 3, 2, 1])
        self.assertIn("build/x: unit/name: exit status 1; to repeat: HAKMEM_TEST_SEED=1 /bin/sh -c ", notes)

    def test_script(self):
        self.assertEqual(self.run_script("echo 7 passed, 0 failed")[0], [7, 7, 0, 0])
        self.assertEqual(self.run_script("echo 7 passed, 1 failed; exit 1")[0], [8, 7, 1, 0])

    def test_a_failure_that_nobody_counts_is_one(self):
        self.assertEqual(self.run_script("echo 7 passed, 0 failed; exit 1")[0], [8, 7, 1, 1])
        self.assertEqual(self.run_script("exit 0")[0], [1, 0, 1, 1])

    def test_what_is_skipped_is_counted_beside(self):
        tally = suite.Tally()
        for script in (f"echo '[SKIP] a::b: no luck'; echo '[SKIP] a::c: none'; {SYNTHESIS.format(5, 0, 0)}",
                       "echo 2 passed, 0 failed, 3 skipped"):
            tally.add(suite.count(suite.Test("unit", "n", "b", [], []), 0, os.popen(script).read().splitlines()))
        self.assertEqual((tally.tested, tally.passed, tally.skipped), (7, 7, 5))
        with contextlib.redirect_stdout(io.StringIO()) as out:
            tally.show()
        self.assertEqual(out.getvalue().splitlines()[-1],
                         "[====] Synthesis: Tested: 7 | Passing: 7 | Failing: 0 | Crashing: 0 | Skipped: 5")

    def test_a_program_without_tests_does_not_pass(self):
        self.assertEqual(self.run_script("echo 0 passed, 0 failed")[0], [1, 0, 1, 1])
        self.assertEqual(self.run_script("echo 0 passed, 0 failed, 1 skipped")[0], [0, 0, 0, 0])

    def test_of_criterions_words_those_for_each_test_are_not_shown(self):
        said = io.StringIO()
        script = "echo '[----] Criterion v2'; echo '[RUN ] a::b'; echo '[PASS] a::b'; echo '[FAIL] a::c'"
        suite.execute(["/bin/sh", "-c", script], 60, self.signals, said, {})
        self.assertEqual(said.getvalue(), "[FAIL] a::c\n")

    def test_a_crash(self):
        counts, notes = self.run_script("kill -SEGV $$")
        self.assertEqual(counts, [1, 0, 1, 1])
        self.assertIn("killed by SIGSEGV", notes)

    def test_a_hang_ends_with_all_that_it_started(self):
        start = time.monotonic()
        with mock.patch("suite.PROGRAM_SECONDS", 1):
            counts, notes = self.run_script("sleep 6000 & sleep 6000")
        self.assertLess(time.monotonic() - start, 3000)
        self.assertEqual(counts, [1, 0, 1, 1])
        self.assertIn("still running after 1 s", notes)

    def test_a_program_that_counts_nothing(self):
        self.assertEqual(self.run_script("echo done", says="done")[0], [1, 1, 0, 0])
        self.assertEqual(self.run_script("echo done; exit 1", says="done")[0], [1, 0, 1, 0])
        self.assertEqual(self.run_script("exit 0", says="done")[0], [1, 0, 1, 0])

    def test_a_twin_must_fail(self):
        self.assertEqual(self.run_script("echo found; exit 1", says="found", fails=True)[0], [1, 1, 0, 0])
        self.assertEqual(self.run_script("echo found", says="found", fails=True)[0], [1, 0, 1, 0])
        self.assertEqual(self.run_script("exit 1", says="found", fails=True)[0], [1, 0, 1, 0])

    def test_all_run_after_a_failure(self):
        tests = [suite.Test("unit", n, "b", ["/bin/sh", "-c", f"echo {n} ran; exit 1"], []) for n in ("one", "two")]
        with contextlib.redirect_stdout(io.StringIO()) as out, mock.patch("atexit.register") as register:
            self.assertEqual(suite.run_all(tests, self.signals), 1)
            register.call_args[0][0]()
        self.assertIn("two ran", out.getvalue())
        last = "[====] Synthesis: Tested: 2 | Passing: 0 | Failing: 2 | Crashing: 2 | Skipped: 0"
        self.assertEqual(out.getvalue().splitlines()[-1], last)

    def test_chance_is_the_seed_alone(self):
        """Two runs of the suite do the same; another seed does something else, and a failure names it."""
        said = SYNTHESIS.format(1, 0, 0).replace("5", "1")
        self.assertEqual(self.run_script(f'[ "$HAKMEM_TEST_SEED" = 1 ] && {said}')[1], "")
        _, notes = self.run_script('[ "$HAKMEM_TEST_SEED" = 1 ]', seed=12)
        self.assertIn("to repeat: HAKMEM_TEST_SEED=12 ", notes)

    def repeat(self, scripts, rounds, jobs=1):
        """(status, what was said, last line of it) of scripts as tests, each some times over."""
        tests = [suite.Test("unit", name, "b", ["/bin/sh", "-c", script], []) for name, script in scripts.items()]
        with contextlib.redirect_stdout(io.StringIO()) as out, mock.patch("atexit.register") as register:
            status = suite.run_all(tests, self.signals, jobs, rounds)
            register.call_args[0][0]()
        return status, out.getvalue(), out.getvalue().splitlines()[-1]

    def test_rounds_that_pass_say_how_many(self):
        with tempfile.TemporaryDirectory() as folder:
            scripts = {n: f"echo $HAKMEM_TEST_SEED >>{folder}/{n}; echo 2 passed, 0 failed" for n in ("one", "two")}
            for jobs in (1, 2):
                status, said, last = self.repeat(scripts, suite.Rounds(3, 5), jobs)
                self.assertEqual(status, 0)
                self.assertNotIn("2 passed, 0 failed", said, "what passes says nothing")
                self.assertRegex(said, r"== round 2 of 3, SEED=6: 4 passed, \d")
                self.assertIn("== REPEAT: 3 of 3 rounds passed\n", said)
                self.assertEqual(last, suite.SUM.format(12, 12, 0, 0, 0))
            for name in scripts:
                with open(f"{folder}/{name}", encoding="ascii") as seeds:
                    self.assertEqual(seeds.read().split(), ["5", "6", "7", "5", "6", "7"])

    def test_rounds_end_with_the_first_failure(self):
        with tempfile.TemporaryDirectory() as folder:
            third = f"echo >>{folder}/lines; [ $(wc -l <{folder}/lines) -lt 3 ] && echo 1 passed, 0 failed || echo alas"
            after = f"touch {folder}/$HAKMEM_TEST_SEED; echo 1 passed, 0 failed"
            status, said, last = self.repeat({"third": third, "after": after}, suite.Rounds(20, 1))
            self.assertEqual(status, 1)
            self.assertIn("\n== b: unit/third\nalas\n", said)
            self.assertNotIn("unit/after", said)
            self.assertIn("== REPEAT: 2 of 20 rounds passed, then round 3 (SEED=3) did not\n", said)
            self.assertRegex(said, "\nNOT PASSED  b: unit/third: exit status 0; to repeat: HAKMEM_TEST_SEED=3 /bin/sh")
            self.assertEqual(last, suite.SUM.format(5, 4, 1, 1, 0))
            self.assertEqual(sorted(os.listdir(folder)), ["1", "2", "lines"])

    def test_what_rounds_are_wanted(self):
        self.assertEqual(suite.wanted_rounds("1", ""), suite.Rounds(1, 1))
        self.assertEqual(suite.wanted_rounds("20", "7"), suite.Rounds(20, 7))
        for repeat, seed, named in (("0", "", "REPEAT=0"), ("often", "", "REPEAT=often"), ("2", "-1", "SEED=-1")):
            with self.assertRaisesRegex(suite.Refusal, f"^{named}: this is a number from 1 on$"):
                suite.wanted_rounds(repeat, seed)

    def test_side_by_side(self):
        """Two wait for each other, a third has the processors for itself."""
        with tempfile.TemporaryDirectory() as folder:
            meet = f"cd {folder} && touch $0 && until [ -e $1 ]; do sleep 0.01; done; echo $0 met $1; echo 1 passed, 0 failed"
            alone = f"cd {folder} && rm one two && sleep 0.2 && ls | wc -l; echo 1 passed, 0 failed"
            tests = [
                suite.Test("unit", "one", "b", ["/bin/sh", "-c", meet, "one", "two"], []),
                suite.Test("contract", "two", "b", ["/bin/sh", "-c", meet, "two", "one"], []),
                suite.Test("process", "three", "b", ["/bin/sh", "-c", alone], []),
            ]
            with contextlib.redirect_stdout(io.StringIO()) as out, mock.patch("atexit.register") as register:
                self.assertEqual(suite.run_all(tests, self.signals, 2), 0)
                register.call_args[0][0]()
        # What each says comes in one piece.
        for name, said in (("unit/one", "one met two"), ("contract/two", "two met one"), ("process/three", "0")):
            self.assertRegex(out.getvalue(), rf"\n== b: {name}\n{said}\n1 passed, 0 failed\n== b: {name}: ")
        self.assertTrue(out.getvalue().rstrip().endswith("Tested: 3 | Passing: 3 | Failing: 0 | Crashing: 0 | Skipped: 0"))


class Selection(unittest.TestCase):
    TESTS = [suite.Test(g, n, "b", [], []) for g, n in (("model", "model"), ("unit", "test_a"), ("unit", "test_b"))]

    def names(self, only):
        return [test.name for test in suite.selected(self.TESTS, only)]

    def test_in_the_order_of_the_groups(self):
        self.assertEqual(self.names(""), ["test_a", "test_b", "model"])

    def test_groups_and_programs(self):
        self.assertEqual(self.names("unit"), ["test_a", "test_b"])
        self.assertEqual(self.names("model,test_b"), ["test_b", "model"])

    def test_unknown(self):
        with self.assertRaisesRegex(suite.Refusal, "^ONLY=test_c: there is no such test. Groups: unit, "):
            self.names("test_a,test_c")
