# SPDX-License-Identifier: MIT
"""What the documents tell a reader to type."""

import os
import re
import subprocess
import unittest

from tree import ROOT, TreeTest

DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("doc/**/*.md"), *ROOT.glob("doc/man/*"), *ROOT.glob("*/README.md"),
                    *ROOT.glob("*/*/README.md")])
# A command with variables before it, the way a shell takes them for this command alone.
PRELOADED = re.compile(r"^(?:\$ |\.B )?((?:\w+=\S* +)*LD_PRELOAD=\S+ +(?:\w+=\S* +)*)(\S+)", re.MULTILINE)


class Commands(unittest.TestCase):
    def test_what_runs_under_the_library_is_a_program_and_no_builtin_of_the_shell(self):
        found = 0
        for document in DOCUMENTS:
            if "build" in document.relative_to(ROOT).parts[:1]:
                continue
            for _, program in PRELOADED.findall(document.read_text()):
                found += 1
                for shell in ("bash", "sh"):
                    said = subprocess.run([shell, "-c", f"LC_ALL=C type {program}"], capture_output=True, text=True)
                    self.assertNotIn("builtin", said.stdout, f"{document}: {program}")
        self.assertGreaterEqual(found, 4)


class Version(TreeTest):
    def test_the_example_prints_what_the_document_shows(self):
        text = (ROOT / "doc/building.md").read_text()
        command, shown = re.search(r"^\$ (HAKMEM_VERSION=1 .*)\n(hakmem .*)$", text, re.MULTILINE).groups()
        self.tree.scons()
        for shell in ("bash", "sh"):
            done = subprocess.run([shell, "-c", command], cwd=self.tree.root, capture_output=True, text=True,
                                  env={**os.environ, "PWD": str(self.tree.root)})
            form = r"hakmem \S+ \w+/\w+ revision \S+ config \w{12} compiler .+ flags \w{12}"
            self.assertRegex(done.stderr, rf"^{form}\n$")
            self.assertRegex(shown, rf"^{form}$")
