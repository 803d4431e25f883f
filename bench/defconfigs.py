#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Measures what each configuration of configs/ promises to do better than default, and what it says that this
costs, and writes doc/defconfigs.md.

A promise stands in the configuration itself, before it is measured:

    # Better than default: peak_rss of larson 4 threads
    # At the price of: time of larson 4 threads

Exit status: 0 if all promises hold, 1 if one does not, 2 if nothing can be measured, 130 after Ctrl-C."""

import argparse
import datetime
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path

sys.dont_write_bytecode = True
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from lab import copies, document, libraries, machine, present, record, runs, text, workloads  # noqa: E402
from lab.comparison import Comparison  # noqa: E402
from lab.estimate import ENOUGH_PAIRS  # noqa: E402
from lab.verdict import NO_DIFFERENCE  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
MARK = "scons defconfigs-report"
BASE = "default"
BETTER, PRICE = "Better than default", "At the price of"
STATED = re.compile(rf"# ({BETTER}|{PRICE}): (\w+) of (.+)")
MEASURES = {record.TIME: "time", **{measure.name: measure.title for measure in record.MEASURES}}
ROW_BUDGET = 30.0  # seconds for each workload of a configuration


class CannotMeasure(Exception):
    """The message says why."""


@dataclass(frozen=True)
class Statement:
    """One line of a configuration: a promise, or a price."""

    promise: bool
    measure: str
    workload: workloads.Workload


def statements(path):
    """What a configuration says of itself. Raises CannotMeasure."""
    found = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        match = STATED.fullmatch(line.strip())
        if not match:
            if line.startswith((f"# {BETTER}", f"# {PRICE}")):
                raise CannotMeasure(f"{path.name}:{number}: write `# {BETTER}: MEASURE of WORKLOAD`")
            continue
        kind, measure, name = match.groups()
        if measure not in MEASURES:
            raise CannotMeasure(f"{path.name}:{number}: {measure} is none of {', '.join(MEASURES)}")
        named = [workload for workload in workloads.WORKLOADS if workload.name == name]
        if not named:
            raise CannotMeasure(f"{path.name}:{number}: there is no workload {name!r}; bench/ab.py --list shows all")
        found.append(Statement(kind == BETTER, measure, named[0]))
    return found


def names():
    return sorted(path.name.removesuffix("_defconfig") for path in (ROOT / "configs").glob("*_defconfig"))


def file_of(name):
    return ROOT / "configs" / f"{name}_defconfig"


def measure(name, options, described, private):
    """{workload's name: row of a record} of one configuration vs default."""
    chosen = list({statement.workload.name: statement.workload for statement in statements(file_of(name))}.values())
    if not chosen:
        raise CannotMeasure(f"configs/{name}_defconfig promises nothing: add `# {BETTER}: MEASURE of WORKLOAD`")
    runner = runs.Runner(options.programs, 60, private)
    missing = runner.missing(chosen)
    if missing:
        raise CannotMeasure(f"{missing[0]} is not there; `scons defconfigs-report` builds it")
    private.take_programs(options.programs, chosen)
    opened = [private.open_library(str(options.builds / folder / "libhakmem.so")) for folder in (name, BASE)]
    a, b = libraries.tell_apart(opened)
    made = Comparison(a, [b], chosen, runner, options.budget * len(chosen), options.seed, present.Progress())
    made.run()
    if made.interrupted:
        raise KeyboardInterrupt
    data = record.as_data(made, described, datetime.datetime.now())
    rows = {row.workload: row for row in data.rows}
    for row in rows.values():
        if row.failure or row.skipped:
            raise CannotMeasure(f"{name}: {row.workload}: {row.failure or row.skipped}")
        if row.pairs < ENOUGH_PAIRS:
            raise CannotMeasure(f"{name}: {row.workload}: {row.pairs} pairs only; the machine is too busy, or "
                                "--budget too small")
    return rows


def estimate_of(statement, row):
    found = row.measure(statement.measure)
    if not found or not found.estimate:
        raise CannotMeasure(f"{row.workload} gives no {statement.measure}")
    return found, found.estimate


def kept(statement, row):
    """Whether a promise holds: the whole interval is on the good side of 1. A price is always kept."""
    return not statement.promise or estimate_of(statement, row)[1].low > 1


def verdict(statement, row):
    _, estimate = estimate_of(statement, row)
    if estimate.low > 1:
        return f"{text.ratio(estimate.ratio)} times better"
    if estimate.high < 1:
        return f"{text.ratio(1 / estimate.ratio)} times worse"
    return NO_DIFFERENCE


def figure(value, measure_name, row):
    if measure_name == record.TIME and row.time.unit == "ns":
        return text.duration(value)
    if measure_name in ("p50", "p99", "p999", "max"):
        return text.duration(value)
    if measure_name == record.TIME:
        return text.duration(value * 1e9)
    units = {measure.name: measure.unit for measure in record.MEASURES}
    return f"{text.three_digits(value)} {units[measure_name]}".strip()


def table_row(name, statement, row):
    found, estimate = estimate_of(statement, row)
    promise = ("kept" if kept(statement, row) else "**missed**") if statement.promise else "the price"
    return (f"| {name} | {statement.workload.name} | {MEASURES[statement.measure]} "
            f"| {figure(found.A, statement.measure, row)} | {figure(found.B, statement.measure, row)} "
            f"| {estimate.ratio:.3f} | {estimate.low:.3f} - {estimate.high:.3f} "
            f"| {verdict(statement, row)} | {promise} |")


def report(results, described, seconds):
    lines = ["| configuration | workload | measure | it | default | ratio | 95 % interval | | |",
             "|---|---|---|---|---|---|---|---|---|"]
    for name, rows in results.items():
        lines += [table_row(name, statement, rows[statement.workload.name])
                  for statement in statements(file_of(name))]
    load = f"load {described.load} at the start" if described.load is not None else ""
    lines += ["", ", ".join(filter(None, [
        f"{datetime.date.today()}", f"{seconds / 60:.0f} minutes", f"on {described.kernel}",
        f"{described.cpu} with {described.cpus} CPUs", f"governor {described.governor}",
        f"huge pages {described.huge_pages}", load])) + ".", ""]
    for name, rows in results.items():
        lines.append(f"- `{next(iter(rows.values())).A.identity}` is {name}.")
    return lines


def arguments():
    parser = argparse.ArgumentParser(prog="defconfigs.py", description=__doc__.split("\n\n")[0])
    parser.add_argument("names", metavar="NAME", nargs="*", help="just these; without a name, all")
    parser.add_argument("--builds", default=ROOT / "build", type=Path, metavar="FOLDER", help="with a folder for each")
    parser.add_argument("--programs", default=ROOT / "build" / "bench", metavar="FOLDER")
    parser.add_argument("--budget", type=float, default=ROW_BUDGET, metavar="SECONDS",
                        help="for each workload of a configuration (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the order of runs (%(default)s)")
    parser.add_argument("--document", type=Path, metavar="FILE", help="write the result there, between its two marks")
    options = parser.parse_args()
    for name in options.names:
        if name not in names() or name == BASE:
            parser.error(f"{name} is none of {', '.join(other for other in names() if other != BASE)}")
    if options.names and options.document:
        parser.error("--document is for all configurations: leave the names out")
    return options


def main():
    options = arguments()
    described = machine.describe()
    started = datetime.datetime.now()
    results = {}
    try:
        for name in options.names or [name for name in names() if name != BASE]:
            with copies.Copies() as private:
                results[name] = measure(name, options, described, private)
                if private.spoiled:
                    raise CannotMeasure(f"changed during the measurement: {', '.join(private.spoiled)}")
        lines = report(results, described, (datetime.datetime.now() - started).total_seconds())
        print("\n".join(lines))
        if options.document:
            document.write(options.document, MARK, lines)
    except (CannotMeasure, libraries.LibraryError, document.DocumentError) as error:
        print(f"defconfigs.py: {error}", file=sys.stderr)
        return 2
    return 0 if all(kept(statement, rows[statement.workload.name])
                    for name, rows in results.items() for statement in statements(file_of(name))) else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
