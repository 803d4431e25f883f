# SPDX-License-Identifier: MIT
"""What was asked for is what comes out, or there is an error that says why."""

import tempfile
import unittest
from pathlib import Path

import configuration
import format
import kconfig
import pairs
from tree import ROOT

# Options of every kind, beside two plug-ins of each sort.
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

config FAST
	bool "Fast"

config FASTER
	bool "Faster"
	depends on FAST && !OVERRIDE_LIBC

config NUMBER
	int "Number"
	range 1 10 if FAST
	range 1 100
	default 5

config DERIVED
	int
	default 2 if FAST
	default 1

config NAME
	string "Name"
	default "x"

config HEXADECIMAL
	hex "Hexadecimal"
	default 0x10

config SHOWN_WITH_FAST
	int "Shown with fast" if FAST
	default 3

config SELECTED
	bool "Selected"

config SELECTING
	bool "Selecting"
	select SELECTED
"""

PLUGIN = """
config {symbol}_{upper}
	bool "{name}"
{extra}
if {symbol}_{upper}
config {symbol}
	default "{name}"
config {upper}_OPTION
	int "Option"
	default 1
endif
"""


class Strictness(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name)
        (self.root / "Kconfig").write_text(KCONFIG)
        self.plugin("FRONTEND", "policies", "one")
        self.plugin("FRONTEND", "policies", "two", "\tdepends on FAST\n")
        self.plugin("BACKEND", "backends", "three")

    def plugin(self, symbol, parent, name, extra=""):
        folder = self.root / parent / name
        folder.mkdir(parents=True)
        (folder / "Kconfig").write_text(PLUGIN.format(symbol=symbol, name=name, upper=name.upper(), extra=extra))
        (folder / "SConscript").write_text("")
        (folder / f"{name}.h").write_text("")

    def load(self, text):
        file = self.root / "x_defconfig"
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        return configuration.load(self.root, file, "configs/x_defconfig")

    def refused(self, text, *messages):
        with self.assertRaises(configuration.ConfigurationError) as caught:
            self.load(text)
        self.assertEqual(str(caught.exception).splitlines(), [f"configs/x_defconfig{m}" for m in messages])

    def test_nothing_asked_gives_the_defaults(self):
        config = self.load("")
        self.assertEqual((config.frontend, config.backend), ("one", "three"))
        self.assertIn("OVERRIDE_LIBC", config.enabled)
        self.assertIn("#define CONFIG_NUMBER 5\n", config.autoconf)

    def test_what_is_asked_comes_out(self):
        config = self.load(
            "# a comment\n\nCONFIG_FAST=y\nCONFIG_FRONTEND_TWO=y\nCONFIG_NUMBER=10\n"
            '# CONFIG_OVERRIDE_LIBC is not set\nCONFIG_FASTER=y\nCONFIG_NAME="a \\"b\\" \\\\"\n'
        )
        self.assertEqual(config.frontend, "two")
        self.assertNotIn("OVERRIDE_LIBC", config.enabled)
        for line in ("CONFIG_FASTER 1", "CONFIG_NUMBER 10", "CONFIG_TWO_OPTION 1", 'CONFIG_NAME "a \\"b\\" \\\\"'):
            self.assertIn(f"#define {line}\n", config.autoconf)
        self.assertNotIn("ONE", config.autoconf)

    def test_equal_options_have_an_equal_digest(self):
        self.assertEqual(self.load("").digest, self.load("# x\nCONFIG_NUMBER=5").digest)
        self.assertNotEqual(self.load("").digest, self.load("CONFIG_NUMBER=6").digest)

    def test_unknown_symbol(self):
        self.refused("#\nCONFIG_NUMBR=5\n", ":2: CONFIG_NUMBR is not an option; did you mean CONFIG_NUMBER?")
        self.refused("# CONFIG_QQQ is not set", ":1: CONFIG_QQQ is not an option; `make menuconfig` shows all there are")

    def test_out_of_range(self):
        self.refused("CONFIG_NUMBER=101", ":1: CONFIG_NUMBER=101 was asked for, got 5 because the range is 1..100")
        self.refused(
            "CONFIG_FAST=y\nCONFIG_NUMBER=11",
            ":2: CONFIG_NUMBER=11 was asked for, got 5 because the range is 1..10",
        )

    def test_unmet_dependency(self):
        self.refused(
            "CONFIG_FASTER=y",
            ":1: CONFIG_FASTER=y was asked for, got n because it depends on FAST (=n) and !OVERRIDE_LIBC (=y)",
        )
        self.refused(
            "CONFIG_FAST=y\nCONFIG_FASTER=y",
            ":2: CONFIG_FASTER=y was asked for, got n because it depends on !OVERRIDE_LIBC (=y)",
        )

    def test_unmet_dependency_of_a_plugin(self):
        self.refused(
            "CONFIG_FRONTEND_TWO=y",
            ":1: CONFIG_FRONTEND_TWO=y was asked for, got n because it depends on FAST (=n)",
        )

    def test_option_of_a_plugin_that_is_not_chosen(self):
        self.refused(
            "CONFIG_FAST=y\nCONFIG_TWO_OPTION=7",
            ":2: CONFIG_TWO_OPTION=7 was asked for, got nothing because it depends on FRONTEND_TWO (=n)",
        )

    def test_condition_of_a_prompt(self):
        self.refused(
            "CONFIG_SHOWN_WITH_FAST=4",
            ":1: CONFIG_SHOWN_WITH_FAST=4 was asked for, got 3 because it can be set only if FAST (=n)",
        )

    def test_two_of_a_choice(self):
        self.refused(
            "CONFIG_FAST=y\nCONFIG_FRONTEND_ONE=y\nCONFIG_FRONTEND_TWO=y",
            ':2: CONFIG_FRONTEND_ONE=y was asked for, got n because the choice "Front end" takes exactly one, '
            "CONFIG_FRONTEND_TWO",
        )

    def test_none_of_a_choice(self):
        self.refused(
            "# CONFIG_FRONTEND_ONE is not set",
            ':1: CONFIG_FRONTEND_ONE=n was asked for, got y because the choice "Front end" takes exactly one, '
            "and no other was asked for",
        )

    def test_selected_by_another(self):
        self.refused(
            "CONFIG_SELECTING=y\n# CONFIG_SELECTED is not set",
            ":2: CONFIG_SELECTED=n was asked for, got y because it is selected by SELECTING (=y)",
        )

    def test_what_follows_from_others_cannot_be_set(self):
        self.refused(
            "CONFIG_DERIVED=2",
            ":1: CONFIG_DERIVED=2 was asked for, got 1 because it cannot be set: it follows from CONFIG_FAST",
        )

    def test_what_follows_from_others_may_be_out_of_date(self):
        config = self.load('CONFIG_FAST=y\nCONFIG_FRONTEND_TWO=y\nCONFIG_FRONTEND="one"\nCONFIG_DERIVED=1\n')
        self.assertEqual(config.frontend, "two")

    def test_set_twice(self):
        self.refused("CONFIG_NUMBER=2\nCONFIG_NUMBER=2", ":2: CONFIG_NUMBER is already set above")
        self.refused(
            "CONFIG_FAST=y\n# CONFIG_FAST is not set",
            ":1: CONFIG_FAST=y was asked for, got n because of the other lines",
            ":2: CONFIG_FAST is already set above",
        )

    def test_malformed_lines(self):
        for line in ("CONFIG_FAST", "CONFIG_FAST = y", " CONFIG_FAST=y", "FAST=y", "#  CONFIG_FAST is not set",
                     "# config_FAST is  not set", "CONFIG_=y", "<<<<<<< HEAD"):
            self.refused(
                f"\n{line}\n",
                f":2: malformed line '{line}': write CONFIG_X=value, '# CONFIG_X is not set', "
                "or a comment that starts with #",
            )

    def test_malformed_values(self):
        for line, form in (
            ("CONFIG_FAST=m", "y or n"),
            ("CONFIG_FAST=1", "y or n"),
            ("CONFIG_FAST=", "y or n"),
            ("CONFIG_NUMBER=010", "a whole number without leading zeros"),
            ("CONFIG_NUMBER=0x5", "a whole number without leading zeros"),
            ("CONFIG_NUMBER=5 ms", "a whole number without leading zeros"),
            ("CONFIG_NUMBER=", "a whole number without leading zeros"),
            ("CONFIG_HEXADECIMAL=10", "a hexadecimal number that starts with 0x"),
            ("CONFIG_NAME=x", 'text in double quotes, with \\" and \\\\ inside'),
            ('CONFIG_NAME="x"y"', 'text in double quotes, with \\" and \\\\ inside'),
        ):
            self.refused(line, f":1: {line}: the value must be {form}")

    def test_all_problems_are_reported_at_once(self):
        self.refused(
            "CONFIG_NUMBER=101\nCONFIG_FASTER=y",
            ":1: CONFIG_NUMBER=101 was asked for, got 5 because the range is 1..100",
            ":2: CONFIG_FASTER=y was asked for, got n because it depends on FAST (=n) and !OVERRIDE_LIBC (=y)",
        )

    def test_other_line_ends_and_no_last_one(self):
        self.assertIn("NUMBER 7", self.load("CONFIG_FAST=y\r\nCONFIG_NUMBER=7").autoconf)

    def test_no_text(self):
        self.refused(b"CONFIG_FAST=y\n\xff\xfe", ": is not UTF-8 text (invalid start byte)")

    def test_no_file(self):
        with self.assertRaisesRegex(configuration.ConfigurationError, "^nowhere: No such file or directory$"):
            configuration.load(self.root, self.root / "nowhere", "nowhere")

    def test_broken_kconfig(self):
        (self.root / "Kconfig").write_text(KCONFIG + "\nconfig\n")
        with self.assertRaisesRegex(configuration.ConfigurationError, r"Kconfig:\d+: error: couldn't parse 'config'"):
            self.load("")

    def test_default_out_of_the_range_that_holds(self):
        (self.root / "Kconfig").write_text(KCONFIG + "\nconfig ODD\n\tint\n\trange 5 9 if FAST\n\tdefault 1\n")
        self.load("")
        with self.assertRaisesRegex(configuration.ConfigurationError, "default value 1 on ODD .* clamped to 5"):
            self.load("CONFIG_FAST=y\nCONFIG_ODD=5\n")

    def test_plugin_that_names_no_folder(self):
        (self.root / "policies/one/Kconfig").write_text('config FRONTEND_ONE\n\tbool "one"\n')
        with self.assertRaisesRegex(configuration.ConfigurationError, "does not name its folder"):
            self.load("")

    def test_plugin_without_a_header(self):
        (self.root / "policies/one/one.h").unlink()
        with self.assertRaisesRegex(configuration.ConfigurationError, "^policies/one/one.h is missing"):
            self.load("")


class Options(unittest.TestCase):
    """The project's own options."""

    @classmethod
    def setUpClass(cls):
        cls.options = configuration.load_options(ROOT)

    def test_each_has_a_help_of_substance(self):
        for symbol in self.options.unique_defined_syms:
            text = " ".join(node.help for node in symbol.nodes if node.help)
            words = 20 if any(node.prompt for node in symbol.nodes) else 10
            self.assertGreaterEqual(len(text.split()), words, f"help of {symbol.name}: {text!r}")
        for choice in self.options.unique_choices:
            text = " ".join(node.help for node in choice.nodes if node.help)
            self.assertGreaterEqual(len(text.split()), 10, f"help of {choice.nodes[0].prompt[0]}")

    def test_each_number_has_a_range_that_holds_its_default(self):
        for symbol in self.options.unique_defined_syms:
            if symbol.orig_type == configuration.kconfiglib.INT and any(node.prompt for node in symbol.nodes):
                self.assertTrue(symbol.ranges, f"{symbol.name} has no range")
                low, high, _ = symbol.ranges[0]
                for value, _ in symbol.defaults:
                    self.assertTrue(int(low.str_value) <= int(value.str_value) <= int(high.str_value), symbol.name)

    def test_plugins_are_named_after_their_folders(self):
        for symbol, parent in (("FRONTEND", "policies"), ("BACKEND", "backends")):
            folders = {path.parent.name for path in ROOT.glob(f"{parent}/*/Kconfig")}
            named = {value.str_value for value, _ in self.options.syms[symbol].defaults}
            self.assertEqual(named, folders)


    def test_help_fits_where_it_is_shown(self):
        """menuconfig cuts lines at the edge of the screen and indents help by two: 76 columns are the most."""
        found = 0
        for file in format.kconfig_files():
            options = configuration.kconfiglib.Kconfig(str(file), warn=False)
            for node in options.node_iter():
                for line in (getattr(node, "help", None) or "").split("\n"):
                    found += 1
                    self.assertLessEqual(len(line), 76, f"{file}:{node.linenr}: tests/build/format.py --fix wraps help")
                if node.prompt:
                    self.assertLessEqual(len(node.prompt[0]), 70, f"{file}:{node.linenr}: {node.prompt[0]}")
        self.assertGreater(found, 300)

    def test_lines_of_menuconfigs_information_are_folded_at_the_edge(self):
        """The definition that it shows below the help has the help again, further to the right."""
        shown = "short\n\n\tdepends on A && B\n\thelp\n\t  one two three\n\t  four\n\n\t  five\nlast\n"
        self.assertEqual(
            kconfig.folded(shown, 20),
            "short\n\n        depends on A\n        && B\n        help\n          one two\n          three four\n\n"
            "          five\nlast\n",
        )

    def test_every_plugin_can_be_chosen_from_the_start(self):
        for symbol in ("FRONTEND", "BACKEND"):
            for entry in pairs.entries(self.options, symbol).values():
                self.assertEqual(entry.visibility, 2, f"{entry.name} cannot be seen in menuconfig")

    def test_an_entry_of_a_choice_that_cannot_be_had_says_what_it_needs(self):
        """In every choice there is, for each pair of plug-ins, a line for each entry: itself or a comment."""
        for pair in pairs.all_pairs(ROOT, None, ""):
            with tempfile.NamedTemporaryFile("w") as file:
                file.write(pair.config.text + "# CONFIG_OVERRIDE_LIBC is not set\n")
                file.flush()
                self.options.load_config(file.name)
            for choice in self.options.unique_choices:
                shown = [symbol for symbol in choice.syms if symbol.visibility]
                node, comments = choice.nodes[0].list, 0
                while node:
                    is_comment = node.item is configuration.kconfiglib.COMMENT
                    comments += is_comment and configuration.kconfiglib.expr_value(node.dep) > 0
                    node = node.next
                self.assertEqual(len(shown) + comments, len(choice.syms), f"{pair.name}: {choice.nodes[0].prompt[0]}")


class Renamed(unittest.TestCase):
    """configs/renamed."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name)
        (self.root / "configs").mkdir()

    def table(self, text):
        (self.root / "configs/renamed").write_text(text)
        return configuration.read_renamed(self.root)

    def test_the_projects_own_holds_what_is_no_option_and_leads_to_what_is_one(self):
        options = configuration.load_options(ROOT)
        known = {symbol.name for symbol in options.unique_defined_syms}
        for old, entry in configuration.read_renamed(ROOT).items():
            self.assertNotIn(old, known)
            self.assertTrue(entry.now in known if entry.now else entry.why, old)

    def test_no_table(self):
        self.assertEqual(configuration.read_renamed(self.root), {})

    def test_lines(self):
        table = self.table("# x\n\nCONFIG_A  CONFIG_B\nCONFIG_C - set CONFIG_D instead\n")
        text = configuration.with_new_names("CONFIG_A=5\n# CONFIG_C is not set\nCONFIG_AB=1\n", table)
        self.assertEqual(text, "CONFIG_B=5\n# CONFIG_C is not set\nCONFIG_AB=1\n")
        self.assertEqual(configuration.with_new_names("# CONFIG_A is not set\n", table), "# CONFIG_B is not set\n")

    def test_the_new_name_has_the_say(self):
        table = self.table("CONFIG_A CONFIG_B\n")
        self.assertEqual(configuration.with_new_names("CONFIG_A=5\nCONFIG_B=6\n", table), "#\nCONFIG_B=6\n")

    def test_malformed(self):
        for line in ("A B", "CONFIG_A", "CONFIG_A CONFIG_B CONFIG_C", "CONFIG_A -"):
            with self.assertRaisesRegex(configuration.ConfigurationError, "^configs/renamed:1: write CONFIG_OLD CONFIG_NEW"):
                self.table(line)


class Defconfigs(unittest.TestCase):
    FILES = sorted(ROOT.glob("configs/*_defconfig"))

    def test_all_are_strict(self):
        self.assertTrue(self.FILES)
        for file in self.FILES:
            self.assertRegex(file.name, r"^\w+_defconfig$")
            configuration.load(ROOT, file, file.name)
        self.assertEqual({f.name for f in ROOT.glob("configs/*")} - {f.name for f in self.FILES}, {"renamed"})

    def test_all_are_minimal(self):
        for file in self.FILES:
            options = configuration.load_options(ROOT)
            options.load_config(str(file))
            with tempfile.TemporaryDirectory() as folder:
                options.write_min_config(f"{folder}/minimal", header="")
                minimal = Path(f"{folder}/minimal").read_text()
            lines = [x for x in file.read_text().splitlines(True) if not x.startswith("#") or x.endswith("not set\n")]
            self.assertEqual("".join(lines), minimal, f"{file.name}: make savedefconfig writes the minimal form")

    def test_all_say_for_whom_they_are(self):
        for file in self.FILES:
            self.assertTrue(file.read_text().startswith("# For "), file.name)
