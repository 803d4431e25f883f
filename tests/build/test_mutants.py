# SPDX-License-Identifier: MIT
"""The small bugs of tests/mutants: what can be told of them without building any."""

import importlib.machinery
import importlib.util
import re
import sys
import unittest

from tree import ROOT, Tree


def load():
    loader = importlib.machinery.SourceFileLoader("mutants_run", str(ROOT / "tests/mutants/run"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    sys.modules[loader.name] = module
    loader.exec_module(module)
    return module


class Mutants(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.run_module = load()
        cls.mutants = cls.run_module.all_mutants()

    def test_all_can_be_applied(self):
        tree = Tree()
        self.addCleanup(tree.remove)
        self.assertEqual(self.run_module.check(self.mutants, tree), [])

    def test_each_source_has_one(self):
        self.assertGreaterEqual(len(self.mutants), 80)
        bugged = {file for mutant in self.mutants for file in mutant.files}
        sources = {str(path.relative_to(ROOT)) for folder in ("core", "policies/*", "backends/*")
                   for path in ROOT.glob(f"{folder}/*.c") if not path.name.startswith("test_")}
        self.assertEqual(sorted(sources - bugged), [], "write a bug for each, and a test that notices it")

    def test_each_names_tests_that_there_are(self):
        groups = {"unit": "tests/unit", "contract": "tests/contract", "checked": "tests", "policy": "policies", "backend": "backends",
                  "faults": "tests/faults", "process": "tests/process", "recorder": "bench", "library": "tests/library"}
        for mutant in self.mutants:
            for test in mutant.tests:
                group, _, name = test.partition(":")[0].partition("/")
                self.assertIn(group, groups, mutant.name)
                if group in ("process", "recorder"):
                    name = name.split(".")[-1]
                    where = ROOT.glob(f"{groups[group]}/*.py")
                    self.assertTrue(any(f"def {name}(" in path.read_text() for path in where), f"{mutant.name}: {test}")
                elif group != "library":
                    name = re.sub("_(checked|purging|dense)$", "", name)
                    self.assertTrue(list(ROOT.glob(f"{groups[group]}/**/{name}.c")), f"{mutant.name}: {test}")


class Patches(unittest.TestCase):
    """What is said of a patch that is no good."""

    def test_messages(self):
        module, tree = load(), Tree()
        self.addCleanup(tree.remove)
        sound = "Bug: x\nConfig: default\nTests: unit/test_os\n--- a/core/os.c\n+++ b/core/os.c\n@@ -1 +1 @@\n-{}\n+{}\n"
        for text, message in (
            ("Config: default\n--- a/x\n", "bad.patch: no Bug, Tests;"),
            ("Bug: x\nConfig: default\nTests: unit/test_os\n", "bad.patch: no difference;"),
            ("Bug: x\nConfig: default\nTests: unit/test_os\nEnds: badly\n--- a/x\n", "bad.patch: 'badly' is no line"),
        ):
            file = tree.write("bad.patch", text)
            with self.assertRaisesRegex(module.MutantError, message):
                module.read(file)
        first = (ROOT / "core/os.c").read_text().splitlines()[0]
        gone = module.read(tree.write("gone.patch", sound.format("this line is not there", "x")))
        same = module.read(tree.write("same.patch", sound.format(first, first)))
        wrong = module.check([gone, same], tree)
        self.assertRegex(wrong[0], "^gone.patch cannot be applied: make it anew\n")
        self.assertEqual(wrong[1], "same.patch changes nothing")
        self.assertEqual((tree.root / "core/os.c").read_text(), (ROOT / "core/os.c").read_text())
