#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Checks that all C sources have the form of .clang-format; --fix gives it to them."""

import re
import shutil
import subprocess
import sys
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


def main(arguments: "list[str]") -> int:
    if arguments not in ([], ["--fix"]):
        print("usage: format.py [--fix]", file=sys.stderr)
        return 2
    tool = clang_format()
    if not tool:
        print(f"format.py: needs clang-format {VERSION} (Debian 12: apt-get install clang-format)", file=sys.stderr)
        return 2
    files = sorted(str(path.relative_to(ROOT)) for folder in FOLDERS for path in (ROOT / folder).rglob("*.[ch]"))
    mode = ["-i"] if arguments else ["--dry-run", "-Werror"]
    done = subprocess.run([tool, *mode, *files], cwd=ROOT, stdin=subprocess.DEVNULL)
    if done.returncode:
        print("format.py: tests/build/format.py --fix repairs this", file=sys.stderr)
    return done.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
