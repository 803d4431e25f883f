# SPDX-License-Identifier: MIT
"""The small bugs of tests/mutants: what can be told of them without building any."""

import importlib.machinery
import importlib.util
import os
import re
import signal
import sys
import time
import unittest
from pathlib import Path

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
        sources = {str(path.relative_to(ROOT)) for folder in ("core", "core/spaces/*", "policies/*", "backends/*")
                   for path in ROOT.glob(f"{folder}/*.c") if not path.name.startswith("test_") and "{" in path.read_text()}
        self.assertEqual(sorted(sources - bugged), [], "write a bug for each, and a test that notices it")

    def test_each_names_tests_that_there_are(self):
        groups = {"unit": "tests/unit", "contract": "tests/contract", "checked": "tests", "policy": "policies",
                  "backend": "backends tests/spaces",
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
                    name = re.sub("_(checked|purging|dense|over_plain)$", "", name)
                    self.assertTrue(any(list(ROOT.glob(f"{folder}/**/{name}.c")) for folder in groups[group].split()),
                                    f"{mutant.name}: {test}")


def has_ended(pid):
    for _ in range(100):
        try:
            if ") Z " in Path(f"/proc/{pid}/stat").read_text():
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.1)
    return False


class Endings(unittest.TestCase):
    """How the end of a test is understood."""

    def setUp(self):
        self.shop = load().Workshop()
        self.addCleanup(self.shop.tree.remove)

    def notices(self, script, seconds=60):
        return self.shop.notices(["bash", "-c", script], seconds)

    def test_failures_are_named(self):
        self.assertEqual(self.notices("echo fine"), "")
        self.assertEqual(self.notices("echo; echo '[FAIL] os::maps: (0.00s)'; exit 1"), "failed: os::maps")
        self.assertEqual(self.notices("exit 3"), "failed: status 3")

    def test_a_hang_is_ended_with_all_it_started(self):
        started = self.shop.tree.root / "started"
        ended = self.notices(f"setsid sleep 1000 & echo $! >{started}; wait", 1)
        self.assertEqual(ended, "a hang, ended after 1 s")
        self.assertTrue(has_ended(int(started.read_text())), "it still runs")

    def test_what_is_left_behind_holds_nobody_up(self):
        started = self.shop.tree.root / "started"
        self.assertEqual(self.notices(f"setsid sleep 1000 & echo $! >{started}"), "")
        os.kill(int(started.read_text()), signal.SIGKILL)


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
