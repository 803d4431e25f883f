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
import testing  # noqa: E402

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
        known = performance.Instructions.__new__(performance.Instructions)
        known.locked, known.system_calls = {0x10, 0x14}, {0x20}
        events = performance.events_of(PROFILE.splitlines(), Path("/x/lib.so"), known)
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
            known = performance.Instructions(library)
            self.assertEqual((len(known.locked), len(known.system_calls)), (2, 1))

    def test_each_workload_says_how_long_it_is(self):
        for load in performance.LOADS:
            for threads in (2, 64):
                short, long = (load.operations(threads, length) for length in load.lengths)
                self.assertGreater(long, short, load.name)
                self.assertEqual(load.arguments(threads, load.lengths[0])[0] in {
                    path.stem for path in Path(performance.__file__).parent.glob("*.c")}, True)


if __name__ == "__main__":
    sys.exit(testing.run(__name__, sys.argv[1:]))
