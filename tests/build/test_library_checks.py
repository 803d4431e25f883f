# SPDX-License-Identifier: MIT
"""What looks at a built library (tests/library, bench/counts.py) sees what there is to see."""

import contextlib
import io
import platform
import shutil
import subprocess
import tempfile
import unittest
import unittest.mock
from pathlib import Path

import counts
import machine_code
import plugins
from tree import ROOT

SOURCE = """
extern void *miss(unsigned long) __attribute__((cold));
extern long work(long);

struct list { struct list *next; long value; };
struct list *lists[64];

void *straight(unsigned long i) { return lists[i]; }

void *one_test(unsigned long i)
{
    if (__builtin_expect(lists[i] == 0, 0))
        return miss(i);
    return lists[i];
}

void *two_ways_to_hit(unsigned long i)
{
    if (i < 8)
        return lists[i] ? lists[i] : miss(i);
    if (i > 32)
        return miss(i);
    return lists[i] ? lists[i]->next : miss(i);
}

void *loops(struct list *list)
{
    while (list && list->value)
        list = list->next;
    return list;
}

long calls(long i) { return work(i) + i; }
"""


@unittest.skipUnless(platform.machine() == "x86_64" and shutil.which("gcc"), "what gcc makes for x86-64")
class MachineCode(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.library = Path(folder.name) / "lib.so"
        command = ["gcc", "-O2", "-fPIC", "-shared", "-fno-plt", "-x", "c", "-", "-o", str(cls.library)]
        subprocess.run(command, input=SOURCE, text=True, check=True)

    def analyse(self, name):
        return machine_code.analyse(self.library, name)

    def test_no_branch(self):
        self.assertEqual(self.analyse("straight"), machine_code.Function("straight", 0, (0,), 3, ()))

    def test_a_branch_to_a_miss(self):
        self.assertEqual(self.analyse("one_test"), machine_code.Function("one_test", 1, (1,), 5, ()))

    def test_ways_of_different_length(self):
        function = self.analyse("two_ways_to_hit")
        self.assertEqual((function.on_hits, function.in_all), ((2, 3), 4))

    def test_a_loop_has_no_number_of_branches(self):
        with self.assertRaisesRegex(ValueError, "loops has a loop at"):
            self.analyse("loops")

    def test_a_call_and_a_frame(self):
        shown = " ".join(self.analyse("calls").not_leaf)
        self.assertIn("call", shown)
        self.assertRegex(shown, "push|%rsp")

    def test_no_such_function(self):
        with self.assertRaises(LookupError):
            self.analyse("nowhere")


class Traces(unittest.TestCase):
    """A library that has something of a plug-in which it should not have."""

    OTHER = ROOT / "doc/examples/policies/shelf"

    def traces(self, source, other=OTHER):
        with tempfile.TemporaryDirectory() as folder:
            library = Path(folder) / "lib.so"
            command = ["gcc", "-shared", "-fPIC", "-x", "c", "-", "-o", str(library)]
            subprocess.run(command, input=source, text=True, check=True)
            return plugins.traces(library, [], [other])

    def test_nothing(self):
        self.assertEqual(self.traces('const char *text = "bookshelf"; int shelves;'), [])

    def test_a_symbol(self):
        self.assertIn("policies/shelf: symbol shelf_of", self.traces("int shelf_of(void) { return 1; }"))
        self.assertEqual(self.traces("static int shelf_count = 1; int *p = &shelf_count;"),
                         ["policies/shelf: symbol shelf_count"])

    def test_a_function_without_the_name(self):
        other = ROOT / "backends/superslab"
        functions = plugins.functions(other) - plugins.identifiers(ROOT / "core")
        name = min(name for name in functions if not name.startswith(other.name))
        self.assertEqual(self.traces(f"void {name}(void) {{ }}", other), [f"backends/superslab: symbol {name}"])

    def test_a_text(self):
        found = self.traces('const char *text = "policies/shelf/shelf.c";')
        self.assertEqual(found, ["policies/shelf: text 'policies/shelf/shelf.c'"])


class Counts(unittest.TestCase):
    """bench/counts.py, with libraries that cost what the test says."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.file = Path(folder.name) / "x.txt"
        counts.write(self.file, "gcc (Debian 12.2.0-14) 12.2.0", {"pair/64": 36.0, "random": 40.4})

    def check(self, now, compiler="gcc (Debian 12.3.0) 12.3.0"):
        class Library:
            identity = f"hakmem 0 a/b revision c config d compiler {compiler} flags e"

        with unittest.mock.patch("counts.measure", lambda *_: now), contextlib.redirect_stdout(io.StringIO()) as said:
            passed = counts.check(self.file, Library(), None)
        return passed, said.getvalue()

    def test_what_was_written_is_read(self):
        self.assertEqual(counts.read(self.file), ("gcc (Debian 12.2.0-14) 12.2.0", {"pair/64": 36.0, "random": 40.4}))

    def test_equal_or_a_little_more(self):
        self.assertTrue(self.check({"pair/64": 36.0, "random": 40.4})[0])
        self.assertTrue(self.check({"pair/64": 36.7, "random": 40.4})[0])

    def test_more(self):
        passed, said = self.check({"pair/64": 37.0, "random": 40.4})
        self.assertFalse(passed)
        self.assertIn("x: pair/64: 37.00 instructions, 36.00 are recorded: +2.8%\n", said)
        self.assertIn("`scons counts-update` records the new counts", said)

    def test_less(self):
        passed, said = self.check({"pair/64": 30.0, "random": 40.4})
        self.assertTrue(passed)
        self.assertIn("x: `scons counts-update` records the progress", said)

    def test_one_that_was_not_recorded(self):
        self.assertFalse(self.check({"pair/64": 36.0, "random": 40.4, "pair/32": 1.0})[0])

    def test_another_compiler(self):
        for compiler in ("gcc (Debian 13.1.0) 13.1.0", "Debian clang version 14.0.6"):
            passed, said = self.check({"pair/64": 99.0}, compiler)
            self.assertTrue(passed)
            self.assertIn("x: skipped: recorded with gcc 12, built with ", said)

    def test_nothing_recorded(self):
        self.file.unlink()
        passed, said = self.check({})
        self.assertTrue(passed)
        self.assertIn("x: skipped: nothing is recorded for it", said)

    def test_recorded_with_one_compiler(self):
        """So that no file is skipped in silence where the others are compared."""
        compilers = {counts.major(counts.read(file)[0]) for file in counts.FOLDER.glob("*.txt") if file.stem != "programs"}
        self.assertEqual(len(compilers), 1, compilers)
