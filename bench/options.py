#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Measures what options and plug-ins change, each vs default, and writes doc/options.md.

What is measured stands in the Kconfig file of the option, before it is measured, between `config X` and the next one:

    # Measured with y: time of larson 4 threads, peak_rss of python3

`scons ab` builds and runs both sides. Exit status: 0; 2 if something cannot be measured; 130 after Ctrl-C."""

import argparse
import datetime
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

sys.dont_write_bytecode = True

import defconfigs  # noqa: E402
from defconfigs import CannotMeasure, MEASURES, Statement, estimate_of, figure  # noqa: E402
from lab import document, record, text, workloads  # noqa: E402
from lab.estimate import ENOUGH_PAIRS  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
DOCUMENT = ROOT / "doc" / "options.md"
MARK = "bench/options.py"
FILES = ("Kconfig", "policies/*/Kconfig", "backends/*/Kconfig")
MEASURED = re.compile(r"\s*# Measured with (\S+): (.+)")
PART = re.compile(r"(\w+) of (.+)")
ROW_BUDGET = 25  # seconds for each workload


@dataclass(frozen=True)
class Change:
    """An option with a value of its own, and what it is said to change."""
    option: str  # CONFIG_X=y
    statements: tuple[Statement, ...]


def changes_of(path: Path) -> list[Change]:
    """What a Kconfig file wants measured. Raises CannotMeasure."""
    found, option = [], ""
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if match := re.match(r"\s*(?:menu)?config (\w+)", line):
            option = match[1]
        elif match := MEASURED.fullmatch(line):
            statements = tuple(_statement(part.strip(), f"{path.name}:{number}") for part in match[2].split(","))
            found.append(Change(f"CONFIG_{option}={match[1]}", statements))
        elif "# Measured" in line:
            raise CannotMeasure(f"{path.name}:{number}: write `# Measured with VALUE: MEASURE of WORKLOAD, …`")
    return found


def _statement(said: str, place: str) -> Statement:
    match = PART.fullmatch(said)
    if not match or match[1] not in MEASURES:
        raise CannotMeasure(f"{place}: {said!r}: write MEASURE of WORKLOAD, MEASURE being one of {', '.join(MEASURES)}")
    for workload in workloads.WORKLOADS:
        if workload.name == match[2]:
            return Statement(False, match[1], workload)
    raise CannotMeasure(f"{place}: there is no workload {match[2]!r}; bench/ab.py --list shows all")


def changes() -> list[Change]:
    return [change for pattern in FILES for path in sorted(ROOT.glob(pattern)) for change in changes_of(path)]


def measure(change: Change, budget: float) -> record.Record:
    """The record of default vs default with the change; measured again with a larger budget where that was too small.
    Raises CannotMeasure."""
    names = list(dict.fromkeys(statement.workload.name for statement in change.statements))
    data = measured(change, names, budget * len(names))
    if any(row.pairs < ENOUGH_PAIRS for row in data.rows) and data.enough_budget:
        data = measured(change, names, 1.5 * data.enough_budget)
    for row in data.rows:
        if row.skipped or row.pairs < ENOUGH_PAIRS:
            raise CannotMeasure(f"{change.option}: {row.workload}: {row.skipped or f'{row.pairs} pairs only'}")
    return data


def measured(change: Change, names: list[str], budget: float) -> record.Record:
    command = ["scons", "-Q", "ab", "A=default", f"B=default+{change.option}", f"WORKLOADS={','.join(names)}",
               f"BUDGET={budget:.0f}s"]
    done = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    made = re.search(r"^record: (.*)$", done.stdout, re.MULTILINE)
    if done.returncode or not made:
        raise CannotMeasure(f"{' '.join(command)} failed:\n{done.stdout.strip()[-800:]}")
    return record.read(str(ROOT / made[1]))


def lines_of(change: Change, data: record.Record) -> list[str]:
    """The rows of the table. The ratio is default's figure by that with the change: above 1, the change is better."""
    rows = {row.workload: row for row in data.rows}
    lines = []
    for statement in change.statements:
        row = rows[statement.workload.name]
        found, estimate = estimate_of(statement, row)
        ratio, low, high = 1 / estimate.ratio, 1 / estimate.high, 1 / estimate.low
        said = (f"{text.ratio(ratio)} times better" if low > 1 else f"{text.ratio(1 / ratio)} times worse" if high < 1
                else defconfigs.NO_DIFFERENCE)
        lines.append(f"| `{change.option}` | {row.workload} | {MEASURES[statement.measure]} "
                     f"| {figure(found.B, statement.measure, row)} | {figure(found.A, statement.measure, row)} "
                     f"| {ratio:.3f} | {low:.3f} - {high:.3f} | {said} |")
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(prog="options.py", description=__doc__.split("\n\n")[0])
    parser.add_argument("--budget", type=float, default=ROW_BUDGET, metavar="SECONDS", help="for each workload (%(default)s)")
    parser.add_argument("--print", action="store_true", dest="print_only", help="do not write doc/options.md")
    parser.add_argument("options", nargs="*", metavar="CONFIG_X=VALUE", help="just these; without any, all")
    options = parser.parse_args()
    lines = ["| option | workload | measure | with it | default | ratio | 95 % interval | |", "|---|---|---|---|---|---|---|---|"]
    try:
        chosen = [change for change in changes() if not options.options or change.option in options.options]
        if not chosen:
            raise CannotMeasure(f"nothing is to be measured with {' '.join(options.options)}")
        for change in chosen:
            data = measure(change, options.budget)
            lines += lines_of(change, data)
            print("\n".join(lines[-len(change.statements):]), flush=True)
        machine = data.machine
        lines += ["", f"{datetime.date.today()}, on {machine.kernel}, {machine.cpu} with {machine.cpus} CPUs, load "
                  f"{machine.load} at the start of the last one. default is `{data.A.identity}`."]
        if not options.options and not options.print_only:
            document.write(DOCUMENT, MARK, lines)
    except (CannotMeasure, record.RecordError, document.DocumentError) as error:
        print(f"options.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
