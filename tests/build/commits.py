#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Checks the subjects of commits that the main branch does not have: imperative, at most 72 characters.

usage: commits.py [BASE]

BASE is the main branch where it has another name, or a revision. Without git, and in a clone that lacks it, nothing is
checked."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
BASES = ("@{upstream}", "origin/main", "main")  # the first one that there is
LONGEST = 72
# What a subject begins with that says what is, or what was done, and not what to do.
NOT_IMPERATIVE = re.compile(r"(The|An?|All|Some|New|No|Now|One|Two|\d.*|\w+ed|\w+ing|\w+[^su]s)")
IMPERATIVE = {"Bring", "Embed", "Feed", "Need", "Seed", "Shed", "Speed"}


def git(*words: str) -> "str | None":
    """What git prints; None where it fails."""
    try:
        done = subprocess.run(["git", "-C", str(ROOT), *words], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def problem(subject: str) -> str:
    """What is wrong with a subject; nothing if it is as it should be."""
    if len(subject) > LONGEST:
        return f"it has {len(subject)} characters; at most {LONGEST}: what and why stand in the body"
    if subject.endswith("."):
        return "it ends with a full stop"
    first = re.sub(r"^[\w/.]+: ", "", subject).partition(" ")[0]
    if NOT_IMPERATIVE.fullmatch(first) and first not in IMPERATIVE:
        return f'write it in the imperative: "{first}" says no more than what there is'
    return ""


def main(arguments: "list[str]") -> int:
    if len(arguments) > 1 or arguments[:1] == ["--help"]:
        print(__doc__, file=sys.stderr)
        return 2
    base = next((commit for name in arguments or BASES if (commit := git("merge-base", name, "HEAD"))), None)
    if base is None:
        print("commits.py: skipped: this is no git repository, or it does not have the main branch's history")
        return 0
    found = 0
    for line in (git("log", "--no-merges", "--format=%h %s", f"{base}..HEAD") or "").splitlines():
        commit, _, subject = line.partition(" ")
        if wrong := problem(subject):
            print(f"{commit} {subject}: {wrong}", file=sys.stderr)
            found += 1
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
