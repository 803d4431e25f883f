# SPDX-License-Identifier: MIT
"""Every function that the library calls and that somebody else may define is on the list of doc/calls.md, which says
why no lock is held then. The list has no more than that either."""

import os
import re
import subprocess
import unittest
from pathlib import Path

BUILD = Path(os.environ["HAKMEM_TEST_BUILD"])
ROOT = Path(__file__).resolve().parent.parent.parent
ROW = re.compile(r"\| `([\w.]+)` \| (.+?) \| (.+) \|$")

# What the linker and the compiler's own start files refer to, in no object of ours.
OF_THE_LINKER = {"_GLOBAL_OFFSET_TABLE_", "_ITM_deregisterTMCloneTable", "_ITM_registerTMCloneTable", "__gmon_start__"}
OF_THE_LINKER |= {"__cxa_finalize", "__stack_chk_fail", "__environ"}  # the last: environ by its other name


def nm(*arguments):
    return subprocess.run(["nm", *arguments], stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()


def listed():
    """{(file, function)} of the tables of doc/calls.md."""
    rows = [match for match in map(ROW.match, (ROOT / "doc/calls.md").read_text(encoding="utf-8").splitlines()) if match]
    return {(row[1], name) for row in rows for name in re.findall(r"`(\w+)`", row[2])}


def hidden(archive):
    """Functions and objects of the library that nobody can replace."""
    command = ["readelf", "-sW", archive]
    lines = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()
    fields = [line.split() for line in lines]
    return {field[7] for field in fields if len(field) == 8 and field[5] == "HIDDEN" and field[6] != "UND"}


def called(archive):
    """{(file, function)} of what objects of the archive refer to and others may define."""
    own, file, found = hidden(archive), "", set()
    for line in nm("--undefined-only", archive):
        if line.endswith(".o:"):
            file = line[:-3] + ".c"
        elif line.split() and line.split()[-1] not in own | OF_THE_LINKER:
            found.add((file, line.split()[-1]))
    return found


def is_sanitized():
    return any(name.endswith(("asan_init", "tsan_init")) for name in nm("--undefined-only", BUILD / "libhakmem.a"))


class Calls(unittest.TestCase):
    def setUp(self):
        if is_sanitized():
            self.skipTest("a sanitizer calls functions of its own")

    def test_archive(self):
        """Object by object: a function that one file may call is not for all."""
        found = called(BUILD / "libhakmem.a")
        self.assertTrue({("override.c", "memset"), ("malloc.c", "memset")} & found, "nothing of this kind is seen")
        self.assertEqual(sorted(found - listed()), [], "add it to doc/calls.md, with the reason why no lock is held then")

    def test_shared_library(self):
        """What the linker adds, too."""
        own = {line.split()[-1] for line in nm("--dynamic", "--defined-only", BUILD / "libhakmem.so")}
        found = {line.split()[-1].split("@")[0] for line in nm("--dynamic", "--undefined-only", BUILD / "libhakmem.so")}
        known = {name for _, name in listed()} | OF_THE_LINKER
        self.assertEqual(sorted(found - own - known), [])

    def test_nothing_of_a_plug_in(self):
        """A policy or a back end runs in cold paths only, and so has nothing to call."""
        of_core = {path.name for path in (ROOT / "core").glob("*.c")}
        self.assertEqual(sorted(pair for pair in listed() if pair[0] not in of_core), [])
        self.assertEqual(sorted(pair for pair in called(BUILD / "libhakmem.a") if pair[0] not in of_core), [])

    def test_every_row_is_true(self):
        """Whatever the configuration, the file that a row names has the function's name in it."""
        for file, name in sorted(listed()):
            text = (ROOT / "core" / file).read_text(encoding="utf-8")
            text += "".join((ROOT / part).read_text() for part in re.findall(r'#include "(core/\w+\.[ch])"', text))
            spelled = {"__errno_location": "errno", "__register_atfork": "pthread_atfork"}.get(name, name)
            # The compiler calls these for what is written with other words.
            said = name in ("memset", "memcpy") or re.search(rf"\b{spelled}\b", text)
            self.assertTrue(said, f"core/{file} does not call {name}: leave it out of doc/calls.md")


if __name__ == "__main__":
    unittest.main()
