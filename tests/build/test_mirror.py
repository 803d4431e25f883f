# SPDX-License-Identifier: MIT
"""tests/unit mirrors core: each file there has a test of its own, or one elsewhere that is named here."""

import unittest

from tree import ROOT

# What only a whole library has, or a program that is linked with it, is tested where there is one.
ELSEWHERE = {
    "assert": "tests/unit/test_fatal.c",
    "backend": "tests/contract/test_backend.c",
    "foreign": "tests/process/foreign.py",
    "fork": "tests/contract/test_fork.c",
    "frontend": "tests/contract/test_frontend.c",
    "large": "tests/contract/test_backend.c",
    "override": "tests/process/api.c",
    "override_cxx": "tests/process/operators.cpp",
    "override_deepbind": "tests/process/deepbind.cpp",
    "override_derived": "tests/process/api.c",
    "override_fork": "tests/process/fork_order.c",
    "override_shared": "tests/process/late_runtime.c",
    "override_stats": "tests/process/statistics.c",
    "purger": "tests/contract/test_decay.c",
    "record": "bench/test_record.py",
    "record_format": "bench/test_record.py",
    "start": "tests/process/fork_order.c",
    "space": "tests/unit/test_extents.c",
    "space_slabs": "tests/contract/test_backend.c",
    "stats": "tests/contract/test_stats.c",
    "stats_text": "tests/contract/test_stats.c",
    "store": "tests/contract/test_frontend.c",
    "syscall": "tests/unit/test_kernel.c",
    "thread": "tests/unit/test_heap.c",
    "upkeep": "tests/contract/test_decay.c",
}
# Names for what C has no word for, without a line that could be wrong in one configuration and right in another.
WORDS = {"atomic", "compiler", "types"}


class Mirror(unittest.TestCase):
    def setUp(self):
        self.files = {path.stem for path in ROOT.glob("core/*.[ch]")}
        self.tests = {path.stem.removeprefix("test_") for path in ROOT.glob("tests/unit/test_*.c")}

    def test_each_file_has_a_test(self):
        missing = sorted(self.files - self.tests - set(ELSEWHERE) - WORDS)
        self.assertEqual(missing, [], "write tests/unit/test_NAME.c, or say in ELSEWHERE where it is tested")

    def test_each_test_has_a_file(self):
        self.assertEqual(sorted(self.tests - self.files), [], "tests/unit/test_NAME.c is about core/NAME")

    def test_elsewhere_is_a_place(self):
        for name, path in ELSEWHERE.items():
            self.assertTrue((ROOT / path).exists(), path)
            self.assertIn(name, self.files)
            self.assertNotIn(name, self.tests, "it has a test of its own by now")
