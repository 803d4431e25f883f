# SPDX-License-Identifier: MIT
"""The manual pages: clean, and complete."""

import re
import subprocess
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted((ROOT / "doc/man").glob("hakmem.[37]"))


def formatted(page):
    """(text, what groff has to say against it)"""
    done = subprocess.run(
        ["groff", "-man", "-ww", "-Tutf8", "-P-cbou", "-rLL=200n", page], capture_output=True, text=True, check=True
    )
    return re.sub(r"\s+", " ", done.stdout), done.stderr


class Man(unittest.TestCase):
    def test_pages_are_clean(self):
        self.assertEqual([page.name for page in PAGES], ["hakmem.3", "hakmem.7"])
        for page in PAGES:
            self.assertEqual(formatted(page)[1], "", page.name)

    def test_every_public_function_is_described(self):
        text = formatted(PAGES[0])[0]
        synopsis, described = text.split("DESCRIPTION")
        for header in (ROOT / "core/include/hakmem").glob("*.h"):
            for name in re.findall(r"^\w[\w *]*?\b(hak_\w+)\(", header.read_text(), re.MULTILINE):
                self.assertIn(name + "(", synopsis)
                self.assertIn(name, described)

    def test_every_variable_is_described(self):
        text = formatted(PAGES[1])[0]
        known = re.findall(r'\{"(HAKMEM_\w+)=', (ROOT / "core/environment.c").read_text())
        self.assertTrue(known)
        for name in known:
            self.assertIn(name + "=", text)

    def test_messages_are_as_in_the_code(self):
        text = formatted(PAGES[1])[0]
        code = "".join(file.read_text() for file in (ROOT / "backends").glob("*/*.[ch]"))
        for reason in re.findall(r'(?:hak_fatal_pointer\([^;]*?, |_LINK |\[\] = )"([a-z][^"]*)"\)?', code):
            self.assertIn(reason, text)


if __name__ == "__main__":
    unittest.main()
