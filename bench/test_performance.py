#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Tests of performance.py: what it makes of a profile, and what it counts of a program whose events are known."""

import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

sys.dont_write_bytecode = True

import performance  # noqa: E402
import test_ab  # noqa: E402
import testing  # noqa: E402
from lab import callgrind, record, scaling  # noqa: E402
from lab.matrix import Cell  # noqa: E402

PROFILE = """\
ob=/x/lib.so
fn=push
0x10 1 5
0x14 1 7
cfn=hak_lock
calls=3 0x40
0x14 1 999
cob=/x/other.so
cfn=pthread_mutex_lock
calls=2 0x90
0x10 1 50
0x20 1 2
ob=/x/other.so
fn=push
0x14 1 100
cfn=hak_lock
calls=4 0x40
0x20 1 60
"""


class Profiles(unittest.TestCase):
    def test_what_callees_and_other_files_took_is_left_out(self):
        known = scaling.Instructions.__new__(scaling.Instructions)
        known.locked, known.system_calls = {0x10, 0x14}, {0x20}
        events = scaling.events_of(PROFILE.splitlines(), Path("/x/lib.so"), known)
        self.assertEqual((events.locked, events.locks, events.system_calls), (12, 5, 2))

    @unittest.skipUnless(shutil.which("gcc") and shutil.which("objdump"), "needs gcc and objdump")
    def test_locked_instructions_and_system_calls_are_found(self):
        with tempfile.TemporaryDirectory() as folder:
            source, library = Path(folder) / "x.c", Path(folder) / "x.so"
            source.write_text("""long n;
long add(void) { return __atomic_fetch_add(&n, 1, 5); }
long swap(void) { return __atomic_exchange_n(&n, 1, 5); }
long plain(void) { return n++; }
long registers(long a, long b) { __asm__("xchg %0, %1" : "+r"(a), "+r"(b)); return a; }
void ask(void) { __asm__ volatile("syscall"); }
void kernel_clock(void) { __asm__ volatile("syscall"); }
""")
            subprocess.run(["gcc", "-O1", "-shared", "-fPIC", "-o", library, source], check=True)
            known = scaling.Instructions(library)
            self.assertEqual((len(known.locked), len(known.system_calls)), (2, 1))

    def test_each_workload_says_how_long_it_is(self):
        for load in scaling.LOADS:
            for threads in (2, 64):
                short, long = (load.operations(threads, length) for length in load.lengths)
                self.assertGreater(long, short, load.name)
                self.assertEqual(load.arguments(threads, load.lengths[0])[0] in {
                    path.stem for path in Path(performance.__file__).parent.glob("*.c")}, True)


class Workloads(unittest.TestCase):
    """Sections of a measurement that was not made: the second library is twice as slow, or half."""

    @classmethod
    def setUpClass(cls):
        failed = test_ab.invented_row("broken")
        failed.failure, failed.command = "HAKMEM: a story", "x"
        rows = [test_ab.invented_row("behind", ratio=0.5), test_ab.invented_row("ahead", ratio=2.0), failed]
        cls.data = test_ab.invented(rows, "default", "peer", "other")

    def test_the_best_peer_of_a_row_is_what_default_is_beside(self):
        behind, ahead = performance.beside_the_best(self.data, record.TIME, {"peer"})
        self.assertEqual((behind.workload, behind.peer, ahead.workload), ("behind", "peer", "ahead"))
        self.assertTrue(1.7 < behind.low < behind.ratio < behind.high < 2.3, behind)
        self.assertTrue(0.43 < ahead.low < ahead.ratio < ahead.high < 0.58, ahead)

    def test_the_summary_names_rows_in_which_a_peer_is_ahead(self):
        said = "\n".join(performance.summary(self.data, {"peer"}))
        self.assertRegex(said, r"default takes (1|1\.0\d\d|0\.9\d\d) times the time of the best peer")
        self.assertRegex(said, r"Surely slower than 1\.02 times that peer: behind \d")
        self.assertNotIn("ahead ", said)
        self.assertIn("geometric mean over 2 workloads | default | peer | other |", said)

    def test_rows_that_cannot_be_had_say_so(self):
        lines = performance.table(self.data, record.TIME)
        self.assertEqual([line.split("|")[1].strip() for line in lines[2:]], ["behind", "ahead", "broken"])
        self.assertEqual({len(line.split("|")) for line in lines}, {6})
        self.assertRegex(lines[4], r"\| broken \| failed \| failed \|")
        self.assertEqual(performance.cell(Cell(1.234, 0.95, 1.5)), "~ 1.23 (0.950-1.50)")

    def test_without_a_common_row_there_is_a_message(self):
        data = test_ab.invented([test_ab.invented_row("few", count=3)], "default", "peer")
        with self.assertRaisesRegex(performance.CannotMeasure, "a larger --budget"):
            performance.summary(data, {"peer"})


class Counts(unittest.TestCase):
    def test_what_cannot_be_counted_is_no_end(self):
        def fails():
            raise callgrind.CountFailed("malloc was served by ???")
        self.assertEqual((performance.counted(lambda: 12.34), performance.counted(fails)), ("12.3", "n/a"))


class Documents(unittest.TestCase):
    def test_each_section_has_its_marks(self):
        text = performance.DOCUMENT.read_text(encoding="utf-8")
        for name in performance.SECTIONS:
            self.assertEqual(text.count(f"<!-- bench/performance.py --section {name} writes from here -->"), 1)

    def test_bad_wishes_are_refused(self):
        for words, said in ((["--threads=0", "x"], "numbers from 1 on"), (["--budget=0", "x"], "more than 0"),
                            (["/nowhere/x.so"], "/nowhere/x.so: no such file"), (["--record=/nowhere", "/bin/true"], "/nowhere")):
            done = subprocess.run([performance.ROOT / "bench" / "performance.py", *words], capture_output=True, text=True)
            self.assertEqual(done.returncode, 2, words)
            self.assertIn(said, done.stderr)


if __name__ == "__main__":
    sys.exit(testing.run(__name__, sys.argv[1:]))
