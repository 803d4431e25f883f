# SPDX-License-Identifier: MIT
"""Pairs of front end and back end, and random configurations, from Kconfig's choices alone."""

import tempfile
import unittest
from pathlib import Path

import configuration
import hit_paths
import pairs
from tree import ROOT

# Front ends and back ends that need something, directly and by what they exclude.
KCONFIG = """
mainmenu "test"

choice
	prompt "Front end"
source "policies/*/Kconfig"
endchoice

choice
	prompt "Back end"
source "backends/*/Kconfig"
endchoice

config FRONTEND
	string
config BACKEND
	string

config OVERRIDE_LIBC
	bool "Override"
	default y

config OWNED
	bool

choice
	prompt "Remote"
	default RETURN
config RETURN
	bool "return"
	depends on OWNED
config KEEP
	bool "keep"
endchoice

config FIRST
	bool "First"
	depends on SECOND
config SECOND
	bool "Second"

config NUMBER
	int "Number"
	range 1 100
	default 5
"""

PLUGIN = """
config {symbol}_{upper}
	bool "{name}"
{extra}
if {symbol}_{upper}
config {symbol}
	default "{name}"
endif
"""


class Pairs(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name)
        (self.root / "Kconfig").write_text(KCONFIG)
        self.plugin("FRONTEND", "policies", "plain")
        self.plugin("BACKEND", "backends", "owning", "\tselect OWNED\n")

    def plugin(self, symbol, parent, name, extra=""):
        folder = self.root / parent / name
        folder.mkdir(parents=True)
        (folder / "Kconfig").write_text(PLUGIN.format(symbol=symbol, name=name, upper=name.upper(), extra=extra))
        (folder / "SConscript").write_text("")
        (folder / f"{name}.h").write_text("")

    def pairs(self, base=None):
        if base is not None:
            (self.root / "base").write_text(base)
        found = pairs.all_pairs(self.root, self.root / "base" if base is not None else None, "base")
        return {pair.name: pair for pair in found}

    def test_every_front_end_with_every_back_end(self):
        self.plugin("FRONTEND", "policies", "other")
        self.plugin("BACKEND", "backends", "sharing")
        found = self.pairs()
        self.assertEqual(set(found), {"plain-owning", "plain-sharing", "other-owning", "other-sharing"})
        for name, pair in found.items():
            self.assertEqual(f"{pair.config.frontend}-{pair.config.backend}", name)
            self.assertEqual(pair.note, "")

    def test_a_pair_gets_what_it_depends_on(self):
        self.plugin("FRONTEND", "policies", "needy", "\tdepends on KEEP && FIRST && NUMBER = 7\n")
        pair = self.pairs()["needy-owning"]
        self.assertEqual(pair.config.frontend, "needy")
        for line in ("CONFIG_KEEP=y", "CONFIG_FIRST=y", "CONFIG_SECOND=y", "CONFIG_NUMBER=7"):
            self.assertIn(f"{line}\n", pair.config.text)
        self.assertEqual(pair.note, "KEEP=y, SECOND=y, FIRST=y, NUMBER=7")

    def test_a_choice_falls_to_what_the_back_end_can_do(self):
        self.plugin("BACKEND", "backends", "sharing")
        found = self.pairs()
        self.assertIn("CONFIG_RETURN=y\n", found["plain-owning"].config.text)
        self.assertIn("CONFIG_KEEP=y\n", found["plain-sharing"].config.text)

    def test_what_a_pair_excludes_is_taken_back(self):
        self.plugin("FRONTEND", "policies", "needy", "\tdepends on !RETURN && !SECOND\n")
        pair = self.pairs("CONFIG_SECOND=y\n")["needy-owning"]
        self.assertIn("CONFIG_KEEP=y\n", pair.config.text)
        self.assertIn("# CONFIG_SECOND is not set\n", pair.config.text)

    def test_one_of_two_is_enough(self):
        self.plugin("FRONTEND", "policies", "needy", "\tdepends on OWNED && KEEP || SECOND\n")
        self.plugin("BACKEND", "backends", "sharing")
        for pair in self.pairs().values():
            self.assertIsNotNone(pair.config, pair.note)

    def test_what_cannot_be_says_why(self):
        self.plugin("FRONTEND", "policies", "needy", "\tdepends on OWNED\n")
        self.plugin("BACKEND", "backends", "sharing")
        found = self.pairs()
        self.assertIsNotNone(found["needy-owning"].config)
        self.assertIsNone(found["needy-sharing"].config)
        self.assertEqual(found["needy-sharing"].note, "FRONTEND_NEEDY: it depends on OWNED (=n)")

    def test_one_half_of_a_pair_does_not_replace_the_other(self):
        self.plugin("FRONTEND", "policies", "needy", "\tdepends on BACKEND_OWNING\n")
        self.plugin("BACKEND", "backends", "sharing")
        found = self.pairs()
        self.assertIsNotNone(found["needy-owning"].config)
        self.assertEqual(found["needy-sharing"].note, "FRONTEND_NEEDY: it depends on BACKEND_OWNING (=n)")
        self.assertIsNotNone(found["plain-sharing"].config)

    def test_nor_the_other_way_round(self):
        self.plugin("FRONTEND", "policies", "other")
        self.plugin("BACKEND", "backends", "picky", "\tdepends on !FRONTEND_PLAIN\n")
        found = self.pairs()
        self.assertIsNotNone(found["other-picky"].config)
        self.assertEqual(found["plain-picky"].note, "BACKEND_PICKY: it depends on !FRONTEND_PLAIN (=y)")

    def test_all_else_is_as_in_the_base(self):
        self.plugin("FRONTEND", "policies", "other")
        for pair in self.pairs("CONFIG_NUMBER=8\n# CONFIG_OVERRIDE_LIBC is not set\n").values():
            self.assertIn("CONFIG_NUMBER=8\n", pair.config.text)
            self.assertNotIn("OVERRIDE_LIBC", pair.config.enabled)

    def test_the_base_is_loaded_strictly(self):
        with self.assertRaisesRegex(configuration.ConfigurationError, "base:1: CONFIG_NUMBER=101 was asked for"):
            self.pairs("CONFIG_NUMBER=101\n")

    def test_random_ones_are_valid_and_repeat(self):
        self.plugin("FRONTEND", "policies", "needy", "\tdepends on KEEP && SECOND\n")
        self.plugin("BACKEND", "backends", "sharing")
        seen, numbers = set(), set()
        for seed in range(60):
            config = pairs.random_configuration(self.root, seed)
            self.assertEqual(config.text, pairs.random_configuration(self.root, seed).text)
            (self.root / "random").write_text(config.text)
            loaded = configuration.load(self.root, self.root / "random", "random")
            self.assertEqual(loaded.digest, config.digest)
            seen.add((config.frontend, config.backend))
            numbers |= {line for line in config.text.splitlines() if "NUMBER" in line}
        self.assertEqual(len(seen), 4)
        self.assertGreater(len(numbers), 15)


class ThisTree(unittest.TestCase):
    """What is kept for each pair and each configuration of this tree."""

    @classmethod
    def setUpClass(cls):
        cls.pairs = {pair.name: pair for pair in pairs.all_pairs(ROOT, None, "")}

    def test_the_default_is_one_of_them(self):
        default = configuration.load(ROOT, ROOT / "configs/default_defconfig", "default")
        self.assertEqual(self.pairs[f"{default.frontend}-{default.backend}"].config.digest, default.digest)

    def test_there_are_as_many_as_folders_allow(self):
        folders = [len(list(ROOT.glob(f"{parent}/*/Kconfig"))) for parent in configuration.PARENTS]
        self.assertEqual(len(self.pairs), folders[0] * folders[1])

    def test_each_has_a_row_of_its_hit_paths(self):
        built = {name.replace("-", "/") for name, pair in self.pairs.items() if pair.config}
        self.assertEqual(set(hit_paths.table()), built)

    def test_each_has_its_counts(self):
        built = {name for name, pair in self.pairs.items() if pair.config}
        named = {file.name[: -len("_defconfig")] for file in ROOT.glob("configs/*_defconfig")}
        counted = {file.stem for file in ROOT.glob("bench/counts/*")} - {"programs"}  # those are of whole programs
        self.assertEqual(counted, built | named, "scons counts-update")
