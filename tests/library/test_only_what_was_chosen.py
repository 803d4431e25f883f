# SPDX-License-Identifier: MIT
"""A library has nothing of a policy or back end that was not chosen: no symbol and no text.

Debug information is not looked at, as it is not loaded: it has the names of variables and members, which are
plain words."""

import os
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

import plugins

BUILD = Path(os.environ["HAKMEM_TEST_BUILD"])


class OnlyWhatWasChosen(unittest.TestCase):
    def setUp(self):
        self.chosen = plugins.chosen_plugins(BUILD)
        self.others = [folder for folder in plugins.all_plugins() if plugins.shown(folder) not in self.chosen]
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def without_debug(self, name, *options):
        """A copy of a product as it would be installed."""
        copy = self.folder / name
        shutil.copy(BUILD / name, copy)
        subprocess.run(["strip", *options, str(copy)], check=True)
        return copy

    def test_shared_library(self):
        self.assertEqual(plugins.traces(BUILD / "libhakmem.so", self.chosen, self.others), [])

    def test_stripped_library(self):
        library = self.without_debug("libhakmem.so", "--strip-all")
        self.assertEqual(plugins.traces(library, self.chosen, self.others), [])

    def test_archive(self):
        library = self.without_debug("libhakmem.a", "--strip-debug")
        self.assertEqual(plugins.traces(library, self.chosen, self.others), [])

    def test_no_way_for_foreign_pointers(self):
        """Unless they are forwarded or ignored."""
        chosen = "CONFIG_FOREIGN_ABORT 1" not in (BUILD / "gen/autoconf.h").read_text()
        symbols = subprocess.run(["nm", str(BUILD / "libhakmem.so")], check=True, capture_output=True, text=True)
        self.assertEqual("hak_foreign" in symbols.stdout, chosen)

    def test_no_trace_ring(self):
        """Unless it was chosen: neither a symbol nor a word of it."""
        chosen = "CONFIG_TRACE 1" in (BUILD / "gen/autoconf.h").read_text()
        for name in ("libhakmem.so", "libhakmem.a"):
            symbols = subprocess.run(["nm", str(BUILD / name)], check=True, capture_output=True, text=True)
            self.assertEqual("hak_trace" in symbols.stdout, chosen)
            self.assertEqual(b"hakmem: trace" in (BUILD / name).read_bytes(), chosen)

    def test_no_recorder(self):
        """Unless it was chosen: neither a symbol nor a word of it."""
        chosen = "CONFIG_RECORD 1" in (BUILD / "gen/autoconf.h").read_text()
        for name in ("libhakmem.so", "libhakmem.a"):
            symbols = subprocess.run(["nm", str(BUILD / name)], check=True, capture_output=True, text=True)
            self.assertEqual("hak_record" in symbols.stdout, chosen)
            self.assertEqual(b"hakmem: record: " in (BUILD / name).read_bytes(), chosen)

    def test_what_was_chosen_is_seen(self):
        """Else the tests above would find nothing anywhere."""
        for folder in plugins.all_plugins():
            name = plugins.shown(folder)
            if name in self.chosen:
                rest = [other for other in self.chosen if other != name]
                found = plugins.traces(BUILD / "libhakmem.so", rest, [folder])
                self.assertTrue(any("symbol" in line for line in found), f"no symbol of {name}")
                self.assertTrue(any("text" in line for line in found), f"no text of {name}")
                self.assertTrue(plugins.traces(self.without_debug("libhakmem.so", "--strip-all"), rest, [folder]))


class PurgeThread(unittest.TestCase):
    """It is in the library if and only if it was chosen."""

    def test_there_or_not(self):
        chosen = "#define CONFIG_PURGE_THREAD 1\n" in (BUILD / "gen/autoconf.h").read_text()
        for name in ("libhakmem.so", "libhakmem.a"):
            library = BUILD / name
            symbols = subprocess.run(["nm", library], stdout=subprocess.PIPE, text=True, check=True).stdout
            with self.subTest(name):
                self.assertEqual("hak_purger" in symbols, chosen)
                self.assertEqual("pthread_create" in symbols, chosen)
                self.assertEqual(b"hakmem-purge" in library.read_bytes(), chosen)
