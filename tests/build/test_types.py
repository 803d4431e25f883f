# SPDX-License-Identifier: MIT
"""The laboratory's types hold, as mypy sees them."""

import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

from tree import ROOT


SCRIPTS = ("ab.py", "counts.py", "defconfigs.py", "instructions.py", "options.py", "performance.py", "recorder_cost.py", "selftest.py")


@unittest.skipUnless(shutil.which("mypy"), "mypy is not installed (Debian: mypy)")
class Types(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.cache = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.cache.cleanup)

    def checked(self, folder: Path) -> str:
        """What mypy has to say: of the package `lab`, all of which is annotated, and of the scripts that stand on it."""
        common = ["mypy", "--ignore-missing-imports", "--no-error-summary", "--cache-dir", self.cache.name]
        return "".join(
            subprocess.run([*common, *more], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                           check=False).stdout
            for more in (["--disallow-untyped-defs", "-p", "lab"], SCRIPTS))

    def test_the_laboratory(self):
        self.assertEqual(self.checked(ROOT / "bench"), "")

    def test_a_wrong_type_and_a_missing_one_are_seen(self):
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / "bench"
            shutil.copytree(ROOT / "bench", copy, ignore=shutil.ignore_patterns("traces", "*.c", "__pycache__"))
            file = copy / "lab" / "text.py"
            file.write_text(file.read_text() + "\n\nWRONG: int = letter(0)\n\n\ndef bare(x):\n    return x\n")
            said = self.checked(copy)
            self.assertIn("Incompatible types in assignment", said)
            self.assertIn("Function is missing a type annotation", said)
