# SPDX-License-Identifier: MIT
"""What is shown in the terminal: the tables of a record, which fit WIDTH columns, and the progress
line."""

import math
import os
import shutil
import sys
import textwrap
import time

from .estimate import ENOUGH_PAIRS
from .record import MEASURES, TIME

WIDTH = 100
GREEN, RED, YELLOW, BOLD, PLAIN = "\033[32m", "\033[31m", "\033[33m", "\033[1m", "\033[0m"
NONE = "n/a"  # what a run or a machine does not give; never 0


def wants_colour(stream):
    return stream.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"


def _paint(text, colour, on):
    return f"{colour}{text}{PLAIN}" if on and colour else text


def three_digits(value):
    """1.23, 12.3, 123, 12k: as many digits as mean something."""
    if value is None:
        return NONE
    for limit, digits in ((10, 2), (100, 1)):
        if round(value, digits) < limit:
            return f"{value:.{digits}f}"
    for limit, suffix in ((99999, ""), (99.9e6, "k"), (99.9e9, "M")):
        if value < limit:
            return f"{value / {'': 1, 'k': 1e3, 'M': 1e6}[suffix]:.0f}{suffix}"
    return f"{value:.0e}"


def whole(value):
    """A count: as three_digits, but without decimals that it cannot have."""
    if value is not None and value == int(value) and value < 100:
        return str(int(value))
    return three_digits(value)


def duration(nanoseconds):
    """"123 ns", "4.56 us"."""
    if nanoseconds is None:
        return NONE
    for limit, unit, size in ((1e3, "ns", 1), (1e6, "us", 1e3), (1e9, "ms", 1e6)):
        if nanoseconds < limit:
            break
    else:
        unit, size = "s", 1e9
    return f"{three_digits(nanoseconds / size)} {unit}"


def ratio(value):
    """Near 1 every per mille matters, further off it does not."""
    return f"{value:.3f}" if 0.9 < value < 1.1 else three_digits(value)


def interval(estimate):
    if not estimate or estimate["low"] is None:
        return "-"
    return f"{ratio(estimate['low'])} - {ratio(estimate['high'])}"


def verdict(row):
    """What the row says of A, in words, and whether that is "faster", "slower" or neither. A
    question mark stands where the interval names a winner, but not after the correction."""
    measured = row["measures"][TIME]
    if row["failure"]:
        return "failed", None
    if not measured:
        return row["skipped"] or "not measured", None
    estimate = measured["estimate"]
    if row["pairs"] < ENOUGH_PAIRS:
        return "too few pairs", None
    if estimate["faster"] is None:
        return "not told apart", None
    mark = "" if row["claimed"] else "?"
    if estimate["faster"] == "A":
        return f"{ratio(estimate['ratio'])}x faster{mark}", "faster"
    return f"{ratio(1 / estimate['ratio'])}x slower{mark}", "slower"


def headline(data):
    """The one sentence that may be quoted, a list of lines: one for each of the others."""
    rows = data["rows"]
    count = len(rows)
    lines = []
    for other in data["others"]:
        here = [row for row in rows if row["B"]["label"] == other["label"]]
        won = [row["workload"] for row in here if row["claimed"] == "A"]
        lost = [row["workload"] for row in here if row["claimed"] == "B"]
        parts = []
        if won:
            parts.append(f"faster than {other['label']} in {len(won)} of {len(here)} workloads "
                         f"({', '.join(won)})")
        if lost:
            parts.append(f"slower than {other['label']} in {len(lost)} of {len(here)} workloads "
                         f"({', '.join(lost)})")
        claim = f"{data['A']['label']} is {' and '.join(parts)}." if parts else (
            f"{data['A']['label']} and {other['label']} are not told apart by their times on "
            f"{len(here)} workload{'s'[:len(here) > 1]}.")
        lines.append(claim)
    lines.append(f"Corrected for {count} row{'s'[:count > 1]} with Holm's method: the chance that "
                 "chance alone makes any of these claims is at most 5 %.")
    return lines


def _cells(name, pairs, a, b, ratio_, interval_, spread, memory_a, memory_b):
    return (f"{name:<18.18} {pairs:>5} {a:>9.9} {b:>9.9} {ratio_:>5.5} {interval_:^13.13} "
            f"{spread:>6.6} {memory_a:>6.6} {memory_b:>6.6} ")


def value_of(row, name, letter):
    measured = row["measures"][name]
    return measured and measured[letter]


def shown_time(row, letter):
    measured = row["measures"][TIME]
    if not measured:
        return NONE
    return duration(measured[letter] * (1 if measured["unit"] == "ns" else 1e9))


def _row(row, colour):
    name = row["workload"]
    if row["failure"]:
        after = f" (after {row['pairs']} pairs)" if row["pairs"] else ""
        text = f"{name:<18.18} FAILED  {row['failure']}"
        room = WIDTH - len(after)
        if len(text) > room:
            text = text[:room - 1] + "…"
        return _paint(text + after, RED, colour)
    if not row["pairs"]:
        return f"{name:<18.18} {row['skipped'] or 'not measured'}"[:WIDTH]
    estimate = row["measures"][TIME]["estimate"]
    said, direction = verdict(row)
    shade = {"faster": GREEN, "slower": RED, None: None}[direction]
    if row["pairs"] < ENOUGH_PAIRS or (direction and not row["claimed"]):
        shade = YELLOW
    return _cells(name, row["pairs"], shown_time(row, "A"), shown_time(row, "B"),
                  ratio(estimate["ratio"]), interval(estimate), f"{100 * estimate['spread']:.1f} %",
                  three_digits(value_of(row, "peak_rss", "A")),
                  three_digits(value_of(row, "peak_rss", "B"))) + _paint(said, shade, colour)


def _wrapped(text, indent=0):
    return textwrap.wrap(text, WIDTH, subsequent_indent=" " * indent, break_on_hyphens=False)


def _path(path):
    """Relative to where the user is, if that is shorter; only the end of one that is too long."""
    shown = min(os.path.relpath(path), path, key=len)
    return shown if len(shown) <= WIDTH - 3 else f"…{shown[-(WIDTH - 4):]}"


def _library(letter, library):
    lines = _wrapped(f"{letter:<2} {library['label']}: {library['identity']}", 3)
    return lines + ([f"   {_path(library['path'])}"] if library["path"] else [])


def columns(row):
    """What heads the columns of A and B: their names if they fit."""
    labels = row["A"]["label"], row["B"]["label"]
    return labels if max(map(len, labels)) <= 9 else ("A", "B")


def _times(rows, colour):
    a, b = columns(rows[0])
    header = _cells("workload", "pairs", a, b, "B/A", "95 % interval", "spread", "A, MiB",
                    "B, MiB") + f"{a} is"
    return [_paint(header, BOLD, colour), *(_row(row, colour) for row in rows)]


def _beside(rows, measures, show, colour):
    """A table of further measures, medians; nothing where no row has them."""
    rows = [row for row in rows if any(row["measures"][name] for name, _ in measures)]
    if not rows:
        return []
    header = f"{'':<18} " + " ".join(f"{title:>19}" for _, title in measures)
    below = f"{'workload':<18} " + " ".join(f"{a:>9.9} {b:>9.9}"
                                           for a, b in [columns(rows[0])] * len(measures))
    lines = ["", _paint(header, BOLD, colour), _paint(below, BOLD, colour)]
    for row in rows:
        cells = [show[name](value_of(row, name, letter)) for name, _ in measures for letter in "AB"]
        lines.append(f"{row['workload']:<18.18} " + " ".join(f"{cell:>9.9}" for cell in cells))
    return lines


MEMORY = (("peak_rss", "peak MiB"), ("rss_seconds", "MiB x seconds"), ("faults", "page faults"),
          ("switches", "context switches"))
LATENCY = (("p50", "latency: median"), ("p99", "99 %"), ("p999", "99.9 %"), ("max", "worst"))


def _shown(measure):
    """How figures of a measure are written."""
    if measure.unit == "s":
        return lambda value: duration(None if value is None else 1e9 * value)
    return {"ns": duration, "": whole}.get(measure.unit, three_digits)


SHOWN = {measure.name: _shown(measure) for measure in MEASURES}


def _counters(rows, colour):
    rows = [row for row in rows if row["counters"]]
    if not rows:
        return []
    titles = ("cycles", "IPC", "instr.", "branches", "misses", "L1 misses", "of each", "from")
    lines = ["", _paint(f"{'workload':<18} {'':<18} " + " ".join(f"{t:>9}" for t in titles[:6])
                        .rstrip(), BOLD, colour)]
    for row in rows:
        for letter in "AB":
            counted = row["counters"].get(letter)
            values = counted["values"] if counted else {}
            cycles, instructions = values.get("cycles"), values.get("instructions")
            cells = [cycles, instructions / cycles if cycles and instructions else None,
                     instructions, *map(values.get, ("branches", "branch_misses", "l1_misses"))]
            name = row["workload"] if letter == "A" else ""
            of = f" {row[letter]['label']}"
            lines.append(f"{name:<18.18} {of:<18.18} "
                         + " ".join(f"{three_digits(cell):>9}" for cell in cells))
    per = {counted["per"] for row in rows for counted in row["counters"].values()}
    what = "an operation" if per == {"operation"} else (
        "a run" if per == {"run"} else "an operation, or of a run where operations are not known")
    return lines + _wrapped(f"Counts of {what}, start and end of the program taken off.")


def table(data, colour=False):
    """The lines to print."""
    rows, machine, others = data["rows"], data["machine"], data["others"]
    lines = _library("A", data["A"])
    for other in others:
        lines += _library("B", other)
    for other in others:
        here = [row for row in rows if row["B"]["label"] == other["label"]]
        lines.append("")
        if len(others) > 1:
            title = f"{data['A']['label']} (A) beside {other['label']} (B): {other['identity']}"
            lines.append(_paint(textwrap.shorten(title, WIDTH, placeholder=" …"), BOLD, colour))
        lines += _times(here, colour)
        lines += _beside(here, MEMORY, SHOWN, colour)
        lines += _beside(here, LATENCY, SHOWN, colour)
        lines += _counters(here, colour)
    lines.append("")
    for row in rows:
        if row["failure"]:
            lines += _wrapped(f"{row['workload']}: {row['failure']}", 4)
            lines += [f"    to repeat: {row['to_repeat']}"]
    if data["interrupted"]:
        lines += ["Interrupted: these are the pairs that were complete by then."]
    if machine["load"] > machine["cpus"] / 2:
        lines += _wrapped("The machine was busy with something else when this began: expect wide "
                          "intervals.")
    for line in headline(data):
        lines += [_paint(part, BOLD, colour) for part in _wrapped(line)]
    lines += _wrapped(
        "B/A: time of B by time of A, of runs in pairs; above 1, A is faster. Times are medians: ns "
        "of an operation as the workload itself timed it, without its start; else of a whole "
        "program, start and end included. No one is called faster when the interval holds 1; where "
        "it does not, ? marks what the correction for the number of rows leaves open.")
    lines += _wrapped(f"Counters (cycles, instructions, branches, cache misses): "
                      f"{data['counters']}.")
    lines += _wrapped(
        f"{machine['kernel']}; {machine['cpu']}, {machine['cpus']} CPUs; governor "
        f"{machine['governor']}; huge pages {machine['huge_pages']}; layout {machine['layout']}; "
        f"load {machine['load']} at the start; {data['seconds']:.0f} s.")
    return lines


class Progress:
    """One line on a terminal, rewritten; nothing anywhere else."""

    def __init__(self, stream=sys.stderr):
        self.stream = stream
        self.on = stream.isatty()
        self.shown = False
        self.last = 0.0

    def show(self, pair, what, seconds_left):
        """Pair 0 is the warm-up."""
        self.say(f"{what}, pair {pair}" if pair else f"{what}, warm-up", seconds_left)

    def say(self, text, seconds_left=0.0):
        now = time.monotonic()
        if not self.on or (self.shown and now - self.last < 0.1):
            return
        self.last = now
        if seconds_left > 0:
            text = f"{math.ceil(seconds_left):3} s left: {text}"
        width = shutil.get_terminal_size((80, 24)).columns
        self.stream.write(f"\r\033[K{text[:width - 1]}")
        self.stream.flush()
        self.shown = True

    def clear(self):
        if self.shown:
            self.stream.write("\r\033[K")
            self.stream.flush()
            self.shown = False
