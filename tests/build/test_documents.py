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


class FirstMalloc(unittest.TestCase):
    """doc/first-malloc.md names functions and the files that they are in."""

    # `name` (`file`), `name` (`file`, `file`), or (`name`, `file`).
    PLACED = re.compile(r"`(\w+)`\s+\(`([\w/.]+\.[ch])`(?:,\s+`([\w/.]+\.[ch])`)?\)|\(`(\w+)`,\s+`([\w/.]+\.[ch])`\)")

    @staticmethod
    def problems(text):
        placed, problems = set(), []
        for name, file, second, inner, inner_file in FirstMalloc.PLACED.findall(text):
            for where in filter(None, (file, second, inner_file)):
                path = ROOT / where
                placed.add(name or inner)
                if not path.is_file():
                    problems.append(f"there is no {where}")
                elif not re.search(rf"\b{name or inner}\b", path.read_text()):
                    problems.append(f"{where} has no {name or inner}")
        for file in re.findall(r"`([\w/]+/[\w.]+\.[ch])`", text):
            if not (ROOT / file).is_file():
                problems.append(f"there is no {file}")
        # Whatever looks like a name of ours has been placed somewhere.
        for name in re.findall(r"`((?:hak|HAK|frontend|backend)_\w+|[a-z]+_[a-z_]+)`", text):
            if name not in placed:
                problems.append(f"{name}: say in which file it is")
        return problems

    def test_every_name_is_where_it_says(self):
        text = (ROOT / "doc/first-malloc.md").read_text()
        self.assertEqual(self.problems(text), [])
        self.assertGreaterEqual(len(self.PLACED.findall(text)), 30)

    def test_what_is_gone_is_found(self):
        self.assertEqual(self.problems("`hak_gone` (`core/heap.c`)"), ["core/heap.c has no hak_gone"])
        self.assertEqual(
            self.problems("`hak_free` (`core/gone.c`)"), ["there is no core/gone.c", "there is no core/gone.c"]
        )
        self.assertEqual(self.problems("then `small_gone` does"), ["small_gone: say in which file it is"])


class Quotes(TreeTest):
    """The code in doc/adding-a-*.md is that of doc/examples, all of it."""

    def quotes(self, *words, status=0):
        return self.tree.command("python3", "-B", "tests/build/quotes.py", *words, status=status)

    def test_code_is_the_examples(self):
        self.assertEqual(self.quotes(), "")

    def test_a_change_is_noticed_and_taken_over(self):
        source = next((self.tree.root / "doc/examples/policies").glob("*/*.h"))
        source.write_text(source.read_text().replace("struct hak_cache {", "struct hak_cache {\n    int more;"))
        self.assertIn("doc/adding-a-policy.md shows code that is no more", self.quotes(status=1))
        self.assertEqual(self.quotes("--fix"), "")
        self.assertIn("int more;", (self.tree.root / "doc/adding-a-policy.md").read_text())
        self.assertEqual(self.quotes(), "")

    def test_what_is_shown_nowhere_is_noticed(self):
        source = next(path for path in (self.tree.root / "doc/examples/backends").glob("*/*.c") if "test" not in path.name)
        source.write_text(source.read_text() + "\nvoid hak_more(void)\n{\n}\n")
        self.assertIn("does not show this of", self.quotes(status=1))

    def test_a_function_that_is_gone_is_noticed(self):
        source = next(path for path in (self.tree.root / "doc/examples/policies").glob("*/*.c") if "test" not in path.name)
        source.write_text(source.read_text().replace("frontend_valid(", "frontend_sound("))
        self.assertIn("defines no frontend_valid", self.quotes(status=1))

    def test_the_examples_are_short(self):
        """What the pages promise: lines of the header and the source, without empty ones and, of the longer, comments."""
        for parent, most, comments in (("policies", 120, True), ("backends", 250, False)):
            lines = []
            for file in (ROOT / "doc/examples" / parent).glob("*/*.[ch]"):
                text = file.read_text() if comments else re.sub(r"/\*.*?\*/", "", file.read_text(), flags=re.DOTALL)
                lines += [line for line in text.splitlines() if line.strip() and not file.name.startswith("test_")]
            self.assertLessEqual(len(lines), most, parent)
