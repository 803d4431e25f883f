# SPDX-License-Identifier: MIT
"""The library that was built exports what it should, no more and no less."""

import os
import re
import subprocess
import unittest
from pathlib import Path

BUILD = Path(os.environ["HAKMEM_TEST_BUILD"])
HERE = Path(__file__).resolve().parent
FUNCTION = re.compile(r"\b(hak_\w+)\(")
INLINED = re.compile(r"\bhak_inline_heap_[0-9a-f]{12}\b")
COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)


class Exports(unittest.TestCase):
    def test_public_and_libc_names_only(self):
        listed = (HERE / "exports.txt").read_text().splitlines()
        libc = {line for line in listed if not line.startswith("#")}
        public = set()
        for header in (BUILD / "include/hakmem").glob("*.h"):
            text = COMMENT.sub("", header.read_text())
            # Of what stands in inline.h, the library has the one name that it refers to.
            public |= set(INLINED.findall(text) if header.stem == "inline" else FUNCTION.findall(text))
        self.assertIn("hak_malloc", public)

        chosen = (BUILD / "gen/autoconf.h").read_text()
        override = "#define CONFIG_OVERRIDE_LIBC 1\n" in chosen
        if "#define CONFIG_DEEPBIND 1\n" not in chosen:
            libc -= {"dlmopen", "dlopen"}
        command = ["nm", "--dynamic", "--defined-only", "--format=just-symbols", BUILD / "libhakmem.so"]
        found = set(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.split())
        self.assertEqual(sorted(found), sorted(public | libc if override else public))

    def test_no_path_of_this_machine(self):
        for name in ("libhakmem.so", "libhakmem.a"):
            self.assertNotIn(str(HERE.parent.parent).encode() + b"/", (BUILD / name).read_bytes(), name)
