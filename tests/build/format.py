#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Checks that all C sources have the form of .clang-format, and that menuconfig shows whole lines of help in a
terminal of 80 columns; --fix gives them that form."""

import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
FOLDERS = ("core", "policies", "backends", "tests", "bench", "doc/examples")
VERSION = 14  # Debian 12's; the versions differ in what they make of one file


def clang_format() -> "str | None":
    """A clang-format of the right version."""
    for name in (f"clang-format-{VERSION}", "clang-format"):
        if shutil.which(name):
            said = subprocess.run([name, "--version"], capture_output=True, text=True).stdout
            if re.search(rf"version {VERSION}\.", said):
                return name
    return None


# ── Help of the options ─────────────────────────────────────────────────────────────────────────────

HELP_COLUMNS = 76  # menuconfig indents by two
HELP = re.compile(r"^\thelp\n((?:\t  .*\n|\n(?=\n*\t  ))+)", re.MULTILINE)


def kconfig_files() -> "list[Path]":
    found = [ROOT / "Kconfig"]
    for parent in ("policies", "backends", "doc/examples/policies", "doc/examples/backends"):
        found += sorted((ROOT / parent).glob("*/Kconfig"))
    return found


def wrapped(text: str) -> str:
    """The text of a Kconfig file in which no line of help is too long. Help whose lines fit stays as it is."""

    def wrap(match: "re.Match[str]") -> str:
        lines = [line.removeprefix("\t  ") for line in match[1].splitlines()]
        if max(map(len, lines)) <= HELP_COLUMNS:
            return match[0]
        paragraphs = "\n".join(lines).split("\n\n")
        filled = "\n\n".join(textwrap.fill(p, HELP_COLUMNS, break_on_hyphens=False, break_long_words=False) for p in paragraphs)
        return "\thelp\n" + "".join(f"\t  {line}\n" if line else "\n" for line in filled.split("\n"))

    return HELP.sub(wrap, text)


def wrap_help(fix: bool) -> bool:
    """Whether all lines of help fit, or have been made to."""
    good = True
    for file in kconfig_files():
        text = file.read_text()
        if (new := wrapped(text)) != text:
            if fix:
                file.write_text(new)
            else:
                print(f"{file.relative_to(ROOT)}: help is wider than {HELP_COLUMNS} columns", file=sys.stderr)
                good = False
    return good


# ── All ─────────────────────────────────────────────────────────────────────────────────────────────


def main(arguments: "list[str]") -> int:
    if arguments not in ([], ["--fix"]):
        print("usage: format.py [--fix]", file=sys.stderr)
        return 2
    good = wrap_help(bool(arguments))
    tool = clang_format()
    if not tool:
        print(f"format.py: needs clang-format {VERSION} (Debian 12: apt-get install clang-format)", file=sys.stderr)
        return 2
    files = sorted(str(path.relative_to(ROOT)) for folder in FOLDERS for path in (ROOT / folder).rglob("*.[ch]"))
    mode = ["-i"] if arguments else ["--dry-run", "-Werror"]
    done = subprocess.run([tool, *mode, *files], cwd=ROOT, stdin=subprocess.DEVNULL)
    if done.returncode or not good:
        print("format.py: tests/build/format.py --fix repairs this", file=sys.stderr)
    return done.returncode or not good


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
