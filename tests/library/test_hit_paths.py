# SPDX-License-Identifier: MIT
"""malloc's and free's machine code has the branches that doc/hit-paths.md says, and no more."""

import os
import platform
import re
import unittest
from pathlib import Path

import configuration
import hit_paths
import machine_code
import pairs

ROOT = Path(__file__).resolve().parent.parent.parent
BUILD = Path(os.environ["HAKMEM_TEST_BUILD"])


class HitPaths(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        if platform.machine() != "x86_64":
            raise unittest.SkipTest("the table holds for x86-64")
        identity = re.search(rb"hakmem \S+ (\w+)/(\w+) revision \S+ config (\w+)", (BUILD / "libhakmem.so").read_bytes())
        frontend, backend, digest = (word.decode() for word in identity.groups())
        plugins = configuration.plugin_root(ROOT, os.environ.get("PLUGINS", ""))
        usual = {pair.name: pair.config for pair in pairs.all_pairs(ROOT, None, "", plugins)}
        if usual[f"{frontend}-{backend}"].digest != digest:
            raise unittest.SkipTest("the table holds for the pairs with default options")
        cls.pair = f"{frontend}/{backend}"
        cls.functions = [machine_code.analyse(BUILD / "libhakmem.so", name) for name in ("hak_malloc", "hak_free")]

    def test_branches_are_those_of_the_table(self):
        counted = []
        for function in self.functions:
            counted += [", ".join(map(str, function.on_hits)), str(function.in_all)]
        known, row = hit_paths.table(), hit_paths.row(self.pair, counted)
        if self.pair not in known:
            self.skipTest(f"doc/hit-paths.md has no row for this pair; it would be: {row}")
        self.assertEqual(known[self.pair], counted, f"doc/hit-paths.md says otherwise than {row}")

    def test_both_are_leaves_without_a_frame(self):
        for function in self.functions:
            self.assertEqual(function.not_leaf, (), function.name)

    def test_new_and_delete_are_as_short(self):
        """What lets a program's own functions be reached costs a hit nothing."""
        like = dict(zip(("_Znwm", "_ZdlPv"), self.functions))
        for name in ("_Znwm", "_Znam", "_ZdlPv", "_ZdlPvm", "_ZdaPv", "_ZdaPvm"):
            function = machine_code.analyse(BUILD / "libhakmem.so", name)
            model = like["_Znwm" if name.startswith("_Zn") else "_ZdlPv"]
            self.assertEqual((function.on_hits, function.not_leaf), (model.on_hits, ()), name)
            self.assertLessEqual(function.longest_hit, model.longest_hit, name)
