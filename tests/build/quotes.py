#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Checks that the code in doc/adding-a-*.md is that of the examples. usage: quotes.py [--fix]; --fix takes it from there.

A block of code stands below a mark that says what it is: <!-- FILE --> all of a file, <!-- FILE: NAME, ... --> its parts
in which these are defined or included. A part is what stands between empty lines at the outermost level, a function with its
comment, say; "top" are the parts up to the last #include or #define at the file's beginning."""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
DOCUMENTS = ("doc/adding-a-policy.md", "doc/adding-a-backend.md")
QUOTE = re.compile(r"^<!-- ([\w./-]+)(?:: ([^>]+))? -->\n(`{3,})(\w*)\n(.*?)^\3$", re.MULTILINE | re.DOTALL)


class QuoteError(Exception):
    pass


def parts_of(text: str) -> "list[str]":
    """The parts of a C file."""
    parts, part, depth = [], [], 0
    for line in text.splitlines():
        depth += line.count("{") - line.count("}")
        if line or depth > 0:
            part.append(line)
        elif part:
            parts.append("\n".join(part))
            part = []
    return parts + (["\n".join(part)] if part else [])


def is_of_top(part: str) -> bool:
    return part.startswith("/* SPDX") or part.splitlines()[-1].startswith(("#include", "#define", "#ifndef"))


def top_of(parts: "list[str]") -> int:
    """How many parts the top has."""
    count = 0
    while count < len(parts) and is_of_top(parts[count]):
        count += 1
    return count


def defines(part: str, name: str) -> bool:
    """Whether a function, a struct or an object of this name is defined in a part, or a file of this name included."""
    code = re.sub(r"/\*.*?\*/", "", part, flags=re.DOTALL)
    return bool(re.search(rf"^(?:struct {name} \{{|#define {name}\b|#include \"{name}\"|(?!return|typedef)\w[^;{{}}()=#]*?\b{name}(?:\(|\[|;| =))", code, re.MULTILINE))


def quoted(file: str, names: "str | None", shown: "dict[str, set[int]]") -> str:
    """What a mark asks for; notes which parts of the file that shows."""
    text = (ROOT / file).read_text(encoding="utf-8")
    parts = parts_of(text)
    if names is None:
        shown.setdefault(file, set()).update(range(len(parts)))
        return text
    wanted: "list[int]" = []
    for name in map(str.strip, names.split(",")):
        found = [at for at, part in enumerate(parts) if defines(part, name)] if name != "top" else range(top_of(parts))
        if not found:
            raise QuoteError(f"{file} defines no {name}")
        wanted += [at for at in found if at not in wanted]
    shown.setdefault(file, set()).update(wanted)
    return "\n\n".join(parts[at] for at in sorted(wanted)) + "\n"


def renewed(document: str) -> "tuple[str, list[str]]":
    """A document with the code as it is now, and what it does not show of the example's files."""
    shown: "dict[str, set[int]]" = {}

    def block(match: "re.Match[str]") -> str:
        file, names, fence, language, _ = match.groups()
        mark = f"<!-- {file}{f': {names}' if names else ''} -->"
        return f"{mark}\n{fence}{language}\n{quoted(file, names, shown)}{fence}"

    text = QUOTE.sub(block, (ROOT / document).read_text(encoding="utf-8"))
    folder = next(iter(shown)).rsplit("/", 1)[0]
    missing = []
    for path in sorted((ROOT / folder).iterdir()):
        file = f"{folder}/{path.name}"
        if file not in shown:
            missing.append(f"{document} shows nothing of {file}")
        elif path.suffix in (".c", ".h"):
            for at, part in enumerate(parts_of(path.read_text(encoding="utf-8"))):
                # The comment between two sections, and the end of a header's guard, say nothing.
                if at not in shown[file] and not part.startswith("/* ──") and part != "#endif":
                    missing.append(f"{document} does not show this of {file}: {part.splitlines()[0]}")
    return text, missing


def main(arguments: "list[str]") -> int:
    status = 0
    for document in DOCUMENTS:
        try:
            text, problems = renewed(document)
        except QuoteError as error:
            print(f"{document}: {error}", file=sys.stderr)
            return 1
        old = (ROOT / document).read_text(encoding="utf-8")
        if text != old and arguments != ["--fix"]:
            problems.append(f"{document} shows code that is no more: tests/build/quotes.py --fix")
        elif text != old:
            (ROOT / document).write_text(text, encoding="utf-8")
        for problem in problems:
            print(problem, file=sys.stderr)
        status = 1 if problems else status
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
