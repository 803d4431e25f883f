# SPDX-License-Identifier: MIT
"""The laboratory's types hold, as mypy sees them."""

import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

from tree import ROOT


def checked(folder: Path) -> subprocess.CompletedProcess:
    """mypy, of the scripts that stand on the package `lab`, and thereby of that."""
    with tempfile.TemporaryDirectory() as cache:
        command = ["mypy", "--ignore-missing-imports", "--no-error-summary", "--cache-dir", cache]
        return subprocess.run([*command, "ab.py", "defconfigs.py", "selftest.py"], cwd=folder, capture_output=True,
                              text=True, check=False)


@unittest.skipUnless(shutil.which("mypy"), "mypy is not installed (Debian: mypy)")
class Types(unittest.TestCase):
    def test_the_laboratory(self):
        done = checked(ROOT / "bench")
        self.assertEqual((done.stdout, done.returncode), ("", 0), done.stderr)

    def test_a_wrong_type_is_seen(self):
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / "bench"
            shutil.copytree(ROOT / "bench", copy, ignore=shutil.ignore_patterns("traces", "*.c", "__pycache__"))
            file = copy / "lab" / "text.py"
            file.write_text(file.read_text() + "\n\nWRONG: int = letter(0)\n")
            self.assertIn("Incompatible types in assignment", checked(copy).stdout)
