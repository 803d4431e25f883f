#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Tests of what configurations promise and options cost, and of the pages that have the figures."""

import re
import sys
import tempfile
import unittest
from pathlib import Path
from types import SimpleNamespace

sys.dont_write_bytecode = True

import defconfigs  # noqa: E402
import options  # noqa: E402
from lab import document  # noqa: E402
from lab.estimate import Estimate  # noqa: E402
from lab.record import Measured  # noqa: E402
import testing  # noqa: E402

DOCUMENT = defconfigs.ROOT / "doc" / "defconfigs.md"


def row(low, high, workload="pair 64 B", measure="time"):
    found = Measured(10.0, 11.0, Estimate(12, (low + high) / 2, low, high, 0.1), "ns")
    measures = {"time": found, measure: found}
    return SimpleNamespace(workload=workload, measure=measures.get, time=found)


class Statements(unittest.TestCase):
    def said(self, text):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "x_defconfig"
            path.write_text(text, encoding="utf-8")
            return defconfigs.statements(path)

    def test_promises_and_prices(self):
        promise, price = self.said("# For all.\n# Better than default: peak_rss of larson 4 threads\n"
                                   "# At the price of: time of pair 64 B\nCONFIG_X=y\n")
        self.assertEqual((promise.promise, promise.measure, promise.workload.name),
                         (True, "peak_rss", "larson 4 threads"))
        self.assertEqual((price.promise, price.measure, price.workload.name), (False, "time", "pair 64 B"))

    def test_what_is_ill_formed_is_not_skipped(self):
        for line, expected in (("# Better than default: time", "write `# Better"),
                               ("# Better than default: speed of pair 64 B", "speed is none of time,"),
                               ("# At the price of: time of pair 65 B", "no workload 'pair 65 B'")):
            with self.assertRaisesRegex(defconfigs.CannotMeasure, expected):
                self.said(f"# For all.\n{line}\n")


class Options(unittest.TestCase):
    """What Kconfig files want measured, and where figures stand."""

    # A figure that somebody has measured: figures rot where no command writes them.
    FIGURE = re.compile(r"\d+(?:\.\d+)? ?(?:%|ns\b|[mµu]s\b|MB\b)|\d\.\d+ (?:times|of the time)|\d+(?:\.\d+)? instructions")

    def changes(self, text):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "Kconfig"
            path.write_text(text, encoding="utf-8")
            return options.changes_of(path)

    def test_what_is_measured_stands_with_its_option(self):
        first, second = self.changes("config A\n\t# Measured with y: time of pair 64 B, peak_rss of larson 4 threads\n"
                                     "config B\n\tint\n\t# Measured with 8: time of chase\n")
        self.assertEqual((first.option, second.option), ("CONFIG_A=y", "CONFIG_B=8"))
        self.assertEqual([(one.measure, one.workload.name) for one in first.statements],
                         [("time", "pair 64 B"), ("peak_rss", "larson 4 threads")])

    def test_what_is_ill_formed_is_not_skipped(self):
        for line, expected in (("# Measured: x", "write `# Measured with VALUE"), ("# Measured with y: speed of chase", "write MEASURE of"),
                               ("# Measured with y: time of nothing", "no workload 'nothing'")):
            with self.assertRaisesRegex(defconfigs.CannotMeasure, expected):
                self.changes(f"config A\n\t{line}\n")

    def test_the_page_has_a_row_for_each(self):
        rows = [line for line in options.DOCUMENT.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
        self.assertTrue(options.changes())
        for change in options.changes():
            for said in change.statements:
                begin = f"| `{change.option}` | {said.workload.name} | {defconfigs.MEASURES[said.measure]} |"
                self.assertTrue(any(line.startswith(begin) for line in rows), f"{begin}: bench/options.py")

    def test_no_figure_stands_where_no_command_writes_it(self):
        files = ["README.md", "core/README.md", "Kconfig", *(
            str(path.relative_to(defconfigs.ROOT)) for pattern in ("policies/*/*", "backends/*/*", "doc/examples/*/*/*")
            for path in defconfigs.ROOT.glob(pattern) if path.name in ("Kconfig", "README.md"))]
        found = [f"{file}:{number}: {match[0]}" for file in files
                 for number, line in enumerate((defconfigs.ROOT / file).read_text(encoding="utf-8").splitlines(), 1)
                 for match in [self.FIGURE.search(line.replace("95 % interval", ""))] if match]
        self.assertEqual(found, [])
        self.assertTrue(self.FIGURE.search("larson 6 %") and self.FIGURE.search("takes 1.2 times as long"))


class Verdicts(unittest.TestCase):
    promise = defconfigs.Statement(True, "time", None)
    price = defconfigs.Statement(False, "time", None)

    def test_a_promise_holds_if_the_whole_interval_is_above_1(self):
        self.assertTrue(defconfigs.kept(self.promise, row(1.01, 1.2)))
        self.assertFalse(defconfigs.kept(self.promise, row(0.999, 1.2)))
        self.assertFalse(defconfigs.kept(self.promise, row(0.8, 0.9)))

    def test_a_price_is_no_promise(self):
        self.assertTrue(defconfigs.kept(self.price, row(0.8, 0.9)))

    def test_in_words(self):
        self.assertEqual(defconfigs.verdict(self.promise, row(1.19, 1.21)), "1.20 times better")
        self.assertEqual(defconfigs.verdict(self.promise, row(0.49, 0.51)), "2.00 times worse")
        self.assertEqual(defconfigs.verdict(self.promise, row(0.9, 1.1)), "no significant difference")

    def test_a_measure_that_the_workload_does_not_give(self):
        with self.assertRaisesRegex(defconfigs.CannotMeasure, "gives no p99"):
            defconfigs.kept(defconfigs.Statement(True, "p99", None), row(1, 2))


class ThisTree(unittest.TestCase):
    def test_each_configuration_but_default_promises_something(self):
        for name in defconfigs.names():
            with self.subTest(name):
                promises = [said for said in defconfigs.statements(defconfigs.file_of(name)) if said.promise]
                self.assertEqual(bool(promises), name != defconfigs.BASE)

    def test_the_page_has_a_row_for_each_statement(self):
        rows = [line for line in DOCUMENT.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
        for name in defconfigs.names():
            for said in defconfigs.statements(defconfigs.file_of(name)):
                begin = f"| {name} | {said.workload.name} | {defconfigs.MEASURES[said.measure]} |"
                self.assertTrue(any(line.startswith(begin) for line in rows), f"{begin}: scons defconfigs-report")


class Document(unittest.TestCase):
    def test_what_stands_between_the_marks_is_replaced(self):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "page.md"
            path.write_text("above\n<!-- x writes from here -->\nold\n<!-- to here -->\nbelow\n")
            document.write(path, "x", ["new", "lines"])
            document.write(path, "x", ["newer"])
            self.assertEqual(path.read_text(), "above\n<!-- x writes from here -->\nnewer\n<!-- to here -->\nbelow\n")

    def test_a_page_without_marks_stays_as_it_is(self):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "page.md"
            path.write_text("text\n")
            with self.assertRaisesRegex(document.DocumentError, "two marks"):
                document.write(path, "x", ["new"])
            self.assertEqual(path.read_text(), "text\n")


if __name__ == "__main__":
    sys.exit(testing.run(__name__, sys.argv[1:]))
