#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Finds code that two plug-ins of a kind have in common. usage: alike.py [FOLDER FOLDER...]

What two back ends have in common belongs to core, and what two spaces have to extents. Six neighbouring lines of one folder must not stand in another, neither
as they are nor with other names. Without folders: each of backends/ against each other, and
each of core/spaces/.

A line is a statement, or the head of a block or of a branch, however it is broken; comments, braces and includes are none.
Names are compared by where they recur: `a->next = b; b = a;` is like `slab->below = top; top = slab;`."""

import itertools
import re
import sys
from pathlib import Path
from typing import Iterator, NamedTuple

ROOT = Path(__file__).resolve().parent.parent.parent
LINES = 6
KINDS = ("backends", "core/spaces")  # of each, a library has one

TOKEN = re.compile(r'"(?:\\.|[^"\\])*"|\'(?:\\.|[^\'\\])*\'|[A-Za-z_]\w*|\d[\w.]*|\S')
COMMENT = re.compile(r'("(?:\\.|[^"\\])*")|/\*.*?\*/|//[^\n]*', re.S)
DIRECTIVE = re.compile(r"^[ \t]*#(?:[^\n]*\\\n)*[^\n]*", re.M)
NAME = re.compile(r"[A-Za-z_]")
# What cannot be given another name.
FIXED = frozenset(
    "bool break case char const continue default do double else enum extern false float for goto if inline int long "
    "return short signed sizeof static struct switch true typedef union unsigned void volatile while "
    "size_t ptrdiff_t uintptr_t intptr_t uint8_t uint16_t uint32_t uint64_t int32_t NULL".split()
)


class Line(NamedTuple):
    number: int  # where it begins
    tokens: "tuple[str, ...]"


def blanked(match: "re.Match[str]") -> str:
    """The line ends of what is taken out, so that numbers stay right; strings stay."""
    return match.group(1) if match.lastindex else "\n" * match.group().count("\n")


def lines_of(text: str) -> "list[Line]":
    """The code of a file."""
    text = DIRECTIVE.sub(blanked, COMMENT.sub(blanked, text))
    lines: "list[Line]" = []
    tokens: "list[str]" = []
    first = depth = 0

    def end() -> None:
        if tokens:
            lines.append(Line(first, tuple(tokens)))
            tokens.clear()

    number = 1
    position = 0
    for match in TOKEN.finditer(text):
        number += text.count("\n", position, match.start())
        position = match.start()
        token = match.group()
        is_value = depth > 0 or (token == "{" and ("=" in tokens or "return" in tokens))
        if token in "{}" and not is_value:
            end()
            continue
        if not tokens:
            first = number
        tokens.append(token)
        depth += (token in ("(", "[", "{")) - (token in (")", "]", "}"))
        is_branch = tokens[0] in ("if", "for", "while", "switch") and token == ")"
        if depth == 0 and (token == ";" or token == "else" or is_branch):
            end()
    end()
    return lines


def shape(window: "list[Line]") -> "tuple[str, ...]":
    """Some lines with each name replaced by the number of its first use; members and tags are named apart from the rest."""
    numbers: "dict[tuple[str, str], int]" = {}
    shaped = []
    for line in window:
        before = ""
        for token in line.tokens:
            if NAME.match(token) and token not in FIXED:
                space = before if before in (".", ">", "struct") else ""
                shaped.append(f"#{numbers.setdefault((space, token), len(numbers))}")
            else:
                shaped.append(token)
            before = token
        shaped.append("\n")
    return tuple(shaped)


def windows(folder: Path) -> "Iterator[tuple[str, tuple[str, ...]]]":
    """All neighbouring lines of a folder's sources: (place, shape)."""
    for file in sorted(folder.glob("*.[ch]")):
        if file.name.startswith("test_"):
            continue
        lines = lines_of(file.read_text(encoding="utf-8"))
        for first in range(len(lines) - LINES + 1):
            window = lines[first : first + LINES]
            yield f"{file.parent.name}/{file.name}:{window[0].number}-{window[-1].number}", shape(window)


def compare(one: Path, other: Path) -> "list[str]":
    """What is alike in two folders."""
    seen: "dict[tuple[str, ...], str]" = {}
    for place, shaped in windows(one):
        seen.setdefault(shaped, place)
    return [f"{place} is like {seen[shaped]}" for place, shaped in windows(other) if shaped in seen]


def main(arguments: "list[str]") -> int:
    kinds = [[Path(word) for word in arguments]] if arguments else [sorted((ROOT / kind).glob("*/")) for kind in KINDS]
    found = [line for folders in kinds for pair in itertools.combinations(folders, 2) for line in compare(*pair)]
    for line in found:
        print(f"{line}: {LINES} lines that belong to core", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
