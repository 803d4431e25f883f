#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Checks the names that one file keeps to itself. usage: statics.py [FOLDER...]

A static function begins with its file's name or a word of it, in the singular if need be: extent_split and extents_trim in
extents.c, cxx_new_own in override_cxx.c. And no two files that one library may be made of have a static function or
object, a struct or an enum constant of one name, so that they can be put together into one file (`scons amalgamation`)."""

import itertools
import re
import sys
from pathlib import Path

# In this order: a quote in a comment begins no string.
TOKEN = re.compile(
    r"""(?P<comment>/\*.*?\*/|//[^\n]*)
      | (?P<text>"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')
      | (?P<directive>^[ \t]*\#(?:[^\n\\/]|\\.|/(?!\*)|/\*.*?\*/)*)
      | (?P<space>\s+)
      | (?P<name>[A-Za-z_]\w*)
      | (?P<other>->|\d[\w.]*|.)""",
    re.VERBOSE | re.DOTALL | re.MULTILINE,
)
TAGGED = ("struct", "union", "enum")
# What a parenthesis may follow beside a function's name: static void (*pointer)(void).
NO_NAMES = {"__attribute__", "_Static_assert", "_Alignas", "void", "bool", "char", "int", "long", "unsigned", "size_t"}

class Names:
    """What a file declares at its outermost level."""

    def __init__(self, text: str) -> None:
        self.functions: "set[str]" = set()  # static ones that it defines
        self.begun = ""  # the name of a function, of which it may be a prototype
        self.others: "set[str]" = set()  # static objects, enum constants, "struct x"
        words = [match.group() for match in TOKEN.finditer(text) if match.lastgroup in ("name", "text", "other")]
        self.depth = 0
        self.static = self.in_enum = self.in_value = self.in_function = False
        for before, word, after in zip(["", *words], words, [*words[1:], ""]):
            self.take(before, word, after)

    def take(self, before: str, word: str, after: str) -> None:
        if word in "([{":
            if self.depth == 0 and word == "{":
                self.in_function = before == ")"
                if self.in_function and self.static and self.begun:
                    self.functions.add(self.begun)
                self.begun = ""
            self.depth += 1
        elif word in ")]}":
            self.depth -= 1
            if self.depth == 0 and word == "}":
                self.in_enum = False
                self.static = self.static and not self.in_function
        elif self.depth == 0 and word == ";":
            self.static = self.in_value = False
            self.begun = ""
        elif self.depth == 0 and word in ("=", ","):
            self.in_value = word == "="
        elif self.depth == 0 and re.match(r"[A-Za-z_]", word):
            self.static = self.static or word == "static"
            if before in TAGGED:
                self.others |= {f"{before} {word}"} if after == "{" else set()
                self.in_enum = before == "enum" and after == "{"
            elif word == "enum":
                self.in_enum = after == "{"
            elif self.static and not self.in_value and word not in NO_NAMES:
                self.begun = self.begun or (word if after == "(" else "")
                self.others |= {word} if after in ("=", ";", ",", "[") else set()
        elif self.depth == 1 and self.in_enum and before in ("{", ",") and re.match(r"[A-Za-z_]", word):
            self.others.add(word)


def prefixes(path: str) -> "list[str]":
    """What a static function of a file may begin with."""
    stem = Path(path).stem
    return [f"{word}_" for given in (stem, *stem.split("_")) for word in (given, given.removesuffix("s"))]


# Folders of which a library has one of each kind.
ALTERNATIVE = re.compile(r"(?:(policies|backends|core/spaces)/([^/]+)/)?")


def may_meet(one: str, other: str) -> bool:
    """Whether one library may have both files: not two policies, nor two back ends, nor two spaces."""
    (parent, folder), (other_parent, other_folder) = ALTERNATIVE.match(one).groups(), ALTERNATIVE.match(other).groups()
    return parent is None or parent != other_parent or folder == other_folder


def check(root: Path) -> "list[str]":
    """All that is wrong below a root."""
    files = sorted(file for folder in ("core", "policies", "backends") for file in (root / folder).rglob("*.[ch]"))
    shown = {str(file.relative_to(root)): file for file in files if not file.name.startswith("test_")}
    names = {path: Names(file.read_text(encoding="utf-8")) for path, file in shown.items()}
    problems = []
    for path, declared in names.items():
        if path.endswith(".c"):
            begins = tuple(prefixes(path))
            for name in sorted(declared.functions):
                if not name.startswith(begins):
                    problems.append(f"{path}: {name}: a static function begins with its file's name: {begins[0]}")
    for (one, mine), (other, theirs) in itertools.combinations(names.items(), 2):
        for name in sorted((mine.functions | mine.others) & (theirs.functions | theirs.others)):
            if may_meet(one, other):
                problems.append(f"{other}: {name}: {one} has one of this name too")
    return problems


def main(arguments: "list[str]") -> int:
    folders = [Path(word) for word in arguments] or [Path(__file__).resolve().parent.parent.parent]
    problems = [problem for folder in folders for problem in check(folder)]
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
