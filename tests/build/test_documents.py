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


class Names(unittest.TestCase):
    """Documents that walk through the code name functions, macros and files, which must be there."""

    WALKS = ("doc/first-malloc.md", "doc/hit-paths.md")
    CODE = re.compile(r"`([^`]+)`")
    NOT_OURS = {"malloc", "free", "ret", "hotmag/superslab", "magazine/superslab", "unified/superslab", "hotmag/mmap_only",
                "magazine/mmap_only", "unified/mmap_only"}

    def missing(self, text):
        sources = "\n".join(path.read_text(encoding="utf-8") for folder in ("core", "policies", "backends")
                            for path in sorted((ROOT / folder).rglob("*.[ch]")) if not path.name.startswith("test_"))
        words = set(re.findall(r"\w+", sources))
        found = []
        for name in dict.fromkeys(self.CODE.findall(text)):
            if name in self.NOT_OURS:
                continue
            if re.fullmatch(r"[\w.-]+(/[\w.-]+)+", name) and not (ROOT / name).exists() or (
                    re.fullmatch(r"\w*[a-zA-Z_]\w*", name) and name not in words):
                found.append(name)
        return found

    def test_they_are_there(self):
        for document in self.WALKS:
            with self.subTest(document):
                self.assertEqual(self.missing((ROOT / document).read_text(encoding="utf-8")), [])

    def test_those_that_are_gone_are_seen(self):
        self.assertEqual(self.missing("`hak_malloc` in `core/malloc.c` calls `no_such_function` of `core/nowhere.c`"),
                         ["no_such_function", "core/nowhere.c"])


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
