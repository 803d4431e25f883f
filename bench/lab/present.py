# SPDX-License-Identifier: MIT
"""What is shown in the terminal: the tables of a record, which fit WIDTH columns, and the progress
line."""

from __future__ import annotations

import math
import os
import shutil
import sys
import textwrap
import time
from typing import Sequence, TextIO

from .libraries import Library
from .machine import Machine
from .matrix import FAILED, FEW, Cell, geometric_means, matrix
from .record import Measured, Record, Row
from .text import NONE, SHOWN, count, interval, letters, of_machines, ratio, shown_time, three_digits
from .verdict import NO_DIFFERENCE, failures, headline, verdict, warnings

WIDTH = 80
GREEN, RED, YELLOW, BOLD, PLAIN = "\033[32m", "\033[31m", "\033[33m", "\033[1m", "\033[0m"
SHADES = {"good": GREEN, "bad": RED, "open": YELLOW, "dim": ""}


def wants_colour(stream: TextIO) -> bool:
    return stream.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"


def _paint(text: str, colour: str | None, on: bool) -> str:
    return f"{colour}{text}{PLAIN}" if on and colour else text


def _cells(name: str, pairs: int | str, a: str, b: str, ratio_: str, interval_: str, spread: str) -> str:
    return (f"{name:<18.18} {pairs:>3} {a:>8.8} {b:>8.8} {ratio_:>5.5} {interval_:^13.13} "
            f"{spread:>4.4} ")


def _median(measured: Measured | None, side: str) -> float | None:
    return measured.side(side) if measured else None


def _spread(value: float) -> str:
    return f"{100 * value:.1f}%" if value < 0.0995 else f"{100 * value:.0f}%" if value < 9.995 else ">10x"


def _row(row: Row, colour: bool) -> list[str]:
    name = row.workload
    if row.failure:
        after = f" (after {count(row.pairs, 'pair')})" if row.pairs else ""
        text = f"{name:<18.18} FAILED  {row.failure}"
        room = WIDTH - len(after)
        if len(text) > room:
            text = text[:room - 1] + "…"
        return [_paint(text + after, RED, colour)]
    if not row.pairs:
        return textwrap.wrap(row.skipped or "not measured", WIDTH, initial_indent=f"{name:<18.18} ",
                             subsequent_indent=" " * 19, break_on_hyphens=False)
    estimate = row.time and row.time.estimate
    if not estimate:
        return [f"{name:<18.18} {row.pairs:>3} {NONE}"]
    found = verdict(row)
    said = found.words
    if said == NO_DIFFERENCE:
        said = f"~ (p={estimate.p:.2f})" if estimate.p is not None else "~"
    return [_cells(name, row.pairs, shown_time(row, "A"), shown_time(row, "B"), ratio(estimate.ratio),
                   interval(estimate), _spread(estimate.spread)) + _paint(said, SHADES[found.shade], colour)]


def _wrapped(text: str, indent: int = 0) -> list[str]:
    return textwrap.wrap(text, WIDTH, subsequent_indent=" " * indent, break_on_hyphens=False)


def _path(path: str) -> str:
    """Relative to where the user is, if that is shorter; only the end of one that is too long."""
    shown = min(os.path.relpath(path), path, key=len)
    return shown if len(shown) <= WIDTH - 3 else f"…{shown[-(WIDTH - 4):]}"


def _library(letter_: str, library: Library) -> list[str]:
    lines = _wrapped(f"{letter_:<2} {library.label}: {library.identity}", 3)
    return lines + ([f"   {_path(library.path)}"] if library.path else [])


def columns(row: Row, names: dict[str, str], width: int) -> tuple[str, str]:
    """What heads the columns of A and B: their names if both fit, else their letters."""
    labels = row.A.label, row.B.label
    return labels if max(map(len, labels)) <= width else (names.get(labels[0], "?"), names.get(labels[1], "?"))


def _times(rows: Sequence[Row], names: dict[str, str], colour: bool) -> list[str]:
    a, b = columns(rows[0], names, 8)
    first, second = names[rows[0].A.label], names[rows[0].B.label]
    header = _cells("workload", "n", a, b, f"{second}/{first}", "95 % interval", "±") + f"{a} is"
    return [_paint(header, BOLD, colour), *(line for row in rows for line in _row(row, colour))]


def _further(rows: Sequence[Row], measures: Columns, names: dict[str, str], colour: bool) -> list[str]:
    """A table of further measures, medians; nothing where no row has them."""
    rows = [row for row in rows if any(row.measure(name) for name, _, _ in measures)]
    if not rows:
        return []
    header, below = f"{'':<18}", f"{'workload':<18}"
    for _, title, width in measures:
        a, b = columns(rows[0], names, width)
        header += f" {title:>{2 * width + 1}}"
        below += f" {a:>{width}} {b:>{width}}"
    lines = ["", _paint(header, BOLD, colour), _paint(below, BOLD, colour)]
    for row in rows:
        cells = [f" {SHOWN[name](_median(row.measure(name), side)).replace(' ', ''):>{width}.{width}}"
                 for name, _, width in measures for side in "AB"]
        lines.append(f"{row.workload:<18.18}" + "".join(cells))
    return lines


def _of_machines(rows: Sequence[Row], names: dict[str, str], colour: bool) -> list[str]:
    """What each of several machines has measured; nothing where there is one only."""
    lines = [f"{row.workload:<18.18} {machine:<24.24} {pairs:>3} {ratio_:>7} {interval_:^15}".rstrip()
             for row in rows if not row.failure for machine, pairs, ratio_, interval_ in of_machines(row)]
    first, second = names[rows[0].A.label], names[rows[0].B.label]
    header = f"{'workload':<18} {'machine':<24} {'n':>3} {f'{second}/{first}':>7} {'95 % interval':^15}"
    return ["", _paint(header.rstrip(), BOLD, colour), *lines] if lines else []


def machine_line(machine: Machine) -> str:
    return (f"{machine.name + ': ' if machine.name else ''}{machine.kernel}; {machine.cpu}, {machine.cpus} CPUs; governor "
            f"{machine.governor}; huge pages {machine.huge_pages}; layout {machine.layout}; load {machine.load} at the start")


# Name, title, and the width of each of the two columns.
Columns = Sequence[tuple[str, str, int]]
MEMORY = (("peak_rss", "peak MiB", 6), ("rss_seconds", "MiB x s", 6), ("faults", "page faults", 6),
          ("switches", "context sw.", 6))
LATENCY = (("p50", "latency: median", 7), ("p99", "99 %", 6), ("p999", "99.9 %", 7), ("max", "worst", 6))


def _counters(rows: Sequence[Row], names: dict[str, str], colour: bool) -> list[str]:
    counted_rows = [(row, row.counters) for row in rows if row.counters]
    if not counted_rows:
        return []
    titles = ("cycles", "IPC", "instr.", "branch", "misses", "L1 miss")
    lines = ["", _paint(f"{'workload':<18} {'':<8} " + " ".join(f"{t:>7}" for t in titles), BOLD, colour)]
    for row, counters in counted_rows:
        for side, of in zip("AB", columns(row, names, 8)):
            counted = counters.get(side)
            values = counted.values if counted else {}
            cycles, instructions = values.get("cycles"), values.get("instructions")
            cells = [cycles, instructions / cycles if cycles and instructions else None,
                     instructions, *map(values.get, ("branches", "branch_misses", "l1_misses"))]
            name = row.workload if side == "A" else ""
            lines.append(f"{name:<18.18} {of:<8.8} " + " ".join(f"{three_digits(cell):>7}" for cell in cells))
    per = {counted.per for _, counters in counted_rows for counted in counters.values()}
    what = "an operation" if per == {"operation"} else (
        "a run" if per == {"run"} else "an operation, or of a run where operations are not known")
    return lines + _wrapped(f"Counts of {what}, start and end of the program taken off.")


MATRIX_COLUMNS = 6


def cell_text(cell: Cell) -> str:
    """A cell of the matrix: ~ where it does not differ significantly from A, * where it is best."""
    if cell.why_not:
        return {FEW: "few"}.get(cell.why_not, cell.why_not)
    uncertain = not cell.significant and (cell.low, cell.high) != (1.0, 1.0)
    return f"{'~' if uncertain else ''}{three_digits(cell.ratio)}{'*' if cell.best else ''}"


def _cell_colour(cell: Cell) -> str | None:
    if cell.why_not:
        return RED if cell.why_not == FAILED else None
    if not cell.significant:
        return BOLD if cell.best else None
    return (BOLD if cell.best else "") + (GREEN if cell.ratio < 1 else RED)


def _matrix(data: Record, colour: bool) -> list[str]:
    lines_of_matrix = matrix(data)
    if len(data.others) < 2 or not lines_of_matrix:
        return []
    names = letters(data)
    heads = list(names) if max(map(len, names)) <= 8 else list(names.values())
    means, over = geometric_means(lines_of_matrix)
    lines = []
    for first in range(0, len(heads), MATRIX_COLUMNS):
        part = slice(first, first + MATRIX_COLUMNS)
        lines += ["", _paint(f"{'workload':<18}" + "".join(f" {head:>8}" for head in heads[part]), BOLD, colour)]
        for line in lines_of_matrix:
            lines.append(f"{line.workload:<18.18}" + "".join(
                _paint(f" {cell_text(cell):>8.8}", _cell_colour(cell), colour) for cell in line.cells[part]))
        if over > 1:
            lines.append(f"{f'geomean of {over}':<18}" + "".join(f" {three_digits(mean):>8}" for mean in means[part]))
    return lines + _wrapped(
        f"Time in multiples of that of {data.A.label} (A): below 1 is faster than A. * marks the best of a row, "
        "and what does not differ significantly from it; ~ marks no significant difference from A.")


def table(data: Record, colour: bool = False) -> list[str]:
    """The lines to print."""
    rows, machine, others, names = data.rows, data.machine, data.others, letters(data)
    lines = [_paint(part, YELLOW, colour) for line in warnings(data) for part in _wrapped(line)]
    for library in (data.A, *others):
        lines += _library(names[library.label], library)
    lines += _matrix(data, colour)
    for other in others:
        here = [row for row in rows if row.B.label == other.label]
        if not here:
            continue
        lines.append("")
        if len(others) > 1:
            title = f"{data.A.label} (A) vs {other.label} ({names[other.label]})"
            lines += [_paint(part, BOLD, colour) for part in _wrapped(title)]
        lines += _times(here, names, colour)
        lines += _of_machines(here, names, colour)
        lines += _further(here, MEMORY, names, colour)
        lines += _further(here, LATENCY, names, colour)
        lines += _counters(here, names, colour)
    lines.append("")
    for row in failures(data):
        lines += _wrapped(f"{row.workload}: {row.failure}", 4)
        lines += [f"    to repeat: {row.to_repeat}"]
    if data.interrupted:
        lines += ["Interrupted: these are the pairs that were complete by then."]
    for one in data.machines or [machine]:
        if one.load is not None and one.load > one.cpus / 2:
            lines += _wrapped(f"{one.name or 'The machine'} was busy with something else when this began: expect wide "
                              "intervals.")
    for line in headline(data):
        lines += [_paint(part, BOLD, colour) for part in _wrapped(line)]
    paired = "of independent runs" if data.apart else "of runs in pairs"
    if any(row.time and row.time.higher for row in rows):
        lines += _wrapped("Where more of a program's own figure is better, B/A is turned round: above 1, A is better.")
    lines += _wrapped(
        f"B/A: time of B by time of A, {paired}; above 1, A is faster. n: pairs. ±: their spread. Times are "
        "medians: ns of an operation as the workload itself timed it, without its start; else of a whole program, "
        f"start and end included. ~: {NO_DIFFERENCE}, the interval holds 1. ?: it does not, but among so many "
        "rows that may be chance.")
    lines += _wrapped(f"Counters (cycles, instructions, branches, cache misses): "
                      f"{data.counters}.")
    for one in data.machines:
        lines += _wrapped(f"{machine_line(one)}.")
    return lines + _wrapped(f"Several machines, {data.seconds:.0f} s in all; the interval is of the ratio on these, as many "
                            "pairs of each as n says." if data.machines else f"{machine_line(machine)}; {data.seconds:.0f} s.")


class Progress:
    """One line on a terminal, rewritten; nothing anywhere else."""

    def __init__(self, stream: TextIO = sys.stderr) -> None:
        self.stream = stream
        self.on = stream.isatty()
        self.shown = False
        self.last = 0.0

    def show(self, pair: int, what: str, seconds_left: float) -> None:
        """Pair 0 is the warm-up."""
        self.say(f"{what}, pair {pair}" if pair else f"{what}, warm-up", seconds_left)

    def say(self, text: str, seconds_left: float = 0.0) -> None:
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

    def clear(self) -> None:
        if self.shown:
            self.stream.write("\r\033[K")
            self.stream.flush()
            self.shown = False
