# SPDX-License-Identifier: MIT
"""What is shown in the terminal: the tables of a record, which fit WIDTH columns, and the progress
line."""

import math
import os
import shutil
import sys
import textwrap
import time
from datetime import datetime

from .estimate import ENOUGH_PAIRS
from .matrix import FAILED, FEW, geometric_means, matrix
from .record import MEASURES, TIME, built_differently

WIDTH = 80
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


def letter(index):
    """Of a library: A, then those that it is compared with."""
    return chr(ord("A") + index) if index < 26 else f"#{index}"


def letters(data):
    """{label: letter} of all libraries."""
    labels = [data["A"]["label"], *(other["label"] for other in data["others"])]
    return {label: letter(index) for index, label in enumerate(labels)}


NO_DIFFERENCE, FEW_PAIRS = "no significant difference", "too few pairs"


def told(row):
    """Whether the row has as many pairs as it takes to tell anything."""
    return not row["failure"] and bool(row["measures"][TIME]) and row["pairs"] >= ENOUGH_PAIRS


def _times_word(value):
    """How many times, in at most five characters."""
    return f"{value / 1e3:.0f}k" if value >= 9999.5 else ratio(value)


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
        return FEW_PAIRS, None
    if estimate["faster"] is None:
        return NO_DIFFERENCE, None
    mark = "" if row["claimed"] else "?"
    if estimate["faster"] == "A":
        return f"{_times_word(estimate['ratio'])}x faster{mark}", "faster"
    return f"{_times_word(1 / estimate['ratio'])}x slower{mark}", "slower"


def budget_hint(data):
    """What to ask for where there were too few pairs."""
    enough = data["enough_budget"]
    if data["interrupted"]:
        return "it was interrupted"
    if not enough:
        return "a larger BUDGET= would do"
    # On a machine that has become slower meanwhile, the budget was too small although it seems enough.
    seconds = max(enough, 1.5 * data["budget"] if enough <= data["budget"] else 0)
    return f"BUDGET={5 * math.ceil(seconds / 5)}s would do"


def _count(number, what):
    return f"{number} {what}{'s'[:number != 1]}"


def _claims(data, other):
    """What may be said of A and one of the others; None where nothing may."""
    a, b = data["A"]["label"], other["label"]
    here = [row for row in data["rows"] if row["B"]["label"] == b]
    sound = [row for row in here if told(row)]
    parts = []
    for how, winner in ((f"faster than {b}", "A"), (f"slower than {b}", "B")):
        if names := [row["workload"] for row in sound if row["claimed"] == winner]:
            of = "" if parts else f" of {_count(len(here), 'workload')}"
            parts.append(f"{how.split(' than ')[0] if parts else how} in {len(names)}{of} ({', '.join(names)})")
    if parts:
        return f"{a} is {' and '.join(parts)}."
    return f"No significant difference between {a} and {b} on {_count(len(sound), 'workload')}." if sound else None


def _gaps(data):
    """Of how many rows nothing can be said, and why."""
    rows, lines = data["rows"], []
    few = [row for row in rows if not row["failure"] and not row["skipped"] and not told(row)]
    if few:
        lines.append(f"Too few pairs in {_names(few)} ({len(few)} of {_count(len(rows), 'row')}), so that nothing can be "
                     f"told there: {budget_hint(data)}.")
    for what, found in (("Failed", [row for row in rows if row["failure"]]),
                        ("Not installed", [row for row in rows if row["skipped"]])):
        if found:
            lines.append(f"{what}: {_names(found)} ({len(found)} of {_count(len(rows), 'row')}).")
    return lines


def _names(rows):
    return ", ".join(dict.fromkeys(row["workload"] for row in rows))


def failures(data):
    """The rows that failed; A's failure, which ends those of a workload all together, once."""
    return list({(row["workload"], row["failure"]): row for row in data["rows"] if row["failure"]}.values())


def measured(data):
    """Whether there is anything to show: a pair of a workload that did not fail."""
    return any(row["pairs"] and not row["failure"] for row in data["rows"])


def headline(data):
    """The sentences that may be quoted, a list of lines; the last one says how sure they are."""
    lines = [] if measured(data) else ["Nothing was measured."]
    lines += filter(None, (_claims(data, other) for other in data["others"]))
    lines += _gaps(data)
    count = sum(told(row) for row in data["rows"])
    lines.append(f"Corrected for {_count(count, 'row')} with Holm's method: the chance that chance alone makes "
                 "any of these claims is at most 5 %." if count else "No row has enough pairs for a claim.")
    return lines


def warnings(data):
    """What a reader must know before any figure."""
    lines = []
    if data["spoiled"]:
        lines.append(f"Warning: changed while it was measured: {', '.join(data['spoiled'])}. The figures mix the "
                     "old and the new one: measure again.")
    for other in data["others"]:
        if differing := built_differently(data["A"], other):
            what = "; ".join(f"{name} {a} vs {b}" for name, a, b in differing)
            lines.append(f"Warning: {data['A']['label']} and {other['label']} differ in more than their "
                         f"configuration: {what}.")
        if data["A"]["digest"] and data["A"]["digest"] == other["digest"]:
            lines.append(f"Note: {data['A']['label']} and {other['label']} are the same file, byte by byte.")
    if data["replaced"]:
        lines.append(f"Note: replaced while this ran: {', '.join(data['replaced'])}. What was measured is a copy "
                     "of what was there at the start.")
    return lines + (_warnings_apart(data) if "apart" in data else [])


def _warnings_apart(data):
    """For two records: what their difference may come from, save the libraries."""
    apart = data["apart"]
    times = " and ".join(f"{datetime.fromisoformat(time):%Y-%m-%d %H:%M}" for time in apart["started"])
    lines = [f"Warning: measured at different times ({times}), not by turns: a difference may be the machine's."]
    if apart["machine"]:
        lines.append(f"Warning: the machine is not the same in both: {', '.join(apart['machine'])}.")
    libraries = dict.fromkeys(one["library"] for one in apart["control"])
    for name in libraries:
        rows = [one for one in apart["control"] if one["library"] == name]
        ratios = [one["estimate"]["ratio"] for one in rows]
        changed = [one["workload"] for one in rows if one["claimed"]]
        lines.append(f"{'Warning' if changed else 'Note'}: the control, {name}, which both measured, took "
                     f"{ratio(min(ratios))} to {ratio(max(ratios))} times as long the second time: "
                     + (f"significantly different in {', '.join(changed)}, so the machine has changed."
                        if changed else f"{NO_DIFFERENCE}."))
    if not libraries:
        lines.append("Note: no library was measured in both, so there is no control for what the machine did.")
    return lines


def _cells(name, pairs, a, b, ratio_, interval_, spread):
    return (f"{name:<18.18} {pairs:>3} {a:>8.8} {b:>8.8} {ratio_:>5.5} {interval_:^13.13} "
            f"{spread:>4.4} ")


def value_of(row, name, letter):
    measured = row["measures"][name]
    return measured and measured[letter]


def shown_time(row, letter):
    measured = row["measures"][TIME]
    if not measured:
        return NONE
    return duration(measured[letter] * (1 if measured["unit"] == "ns" else 1e9))


def _spread(value):
    return f"{100 * value:.1f}%" if value < 0.0995 else f"{100 * value:.0f}%" if value < 9.995 else ">10x"


def _row(row, colour):
    name = row["workload"]
    if row["failure"]:
        after = f" (after {_count(row['pairs'], 'pair')})" if row["pairs"] else ""
        text = f"{name:<18.18} FAILED  {row['failure']}"
        room = WIDTH - len(after)
        if len(text) > room:
            text = text[:room - 1] + "…"
        return [_paint(text + after, RED, colour)]
    if not row["pairs"]:
        return textwrap.wrap(row["skipped"] or "not measured", WIDTH, initial_indent=f"{name:<18.18} ",
                             subsequent_indent=" " * 19, break_on_hyphens=False)
    estimate = row["measures"][TIME]["estimate"]
    said, direction = verdict(row)
    if said == NO_DIFFERENCE:
        said = f"~ (p={estimate['p']:.2f})" if estimate.get("p") is not None else "~"
    shade = {"faster": GREEN, "slower": RED, None: None}[direction]
    if row["pairs"] < ENOUGH_PAIRS or (direction and not row["claimed"]):
        shade = YELLOW
    return [_cells(name, row["pairs"], shown_time(row, "A"), shown_time(row, "B"), ratio(estimate["ratio"]),
                   interval(estimate), _spread(estimate["spread"])) + _paint(said, shade, colour)]


def _wrapped(text, indent=0):
    return textwrap.wrap(text, WIDTH, subsequent_indent=" " * indent, break_on_hyphens=False)


def _path(path):
    """Relative to where the user is, if that is shorter; only the end of one that is too long."""
    shown = min(os.path.relpath(path), path, key=len)
    return shown if len(shown) <= WIDTH - 3 else f"…{shown[-(WIDTH - 4):]}"


def _library(letter_, library):
    lines = _wrapped(f"{letter_:<2} {library['label']}: {library['identity']}", 3)
    return lines + ([f"   {_path(library['path'])}"] if library["path"] else [])


def columns(row, names, width):
    """What heads the columns of A and B: their names if both fit, else their letters."""
    labels = row["A"]["label"], row["B"]["label"]
    return labels if max(map(len, labels)) <= width else tuple(names.get(label, "?") for label in labels)


def _times(rows, names, colour):
    a, b = columns(rows[0], names, 8)
    first, second = names[rows[0]["A"]["label"]], names[rows[0]["B"]["label"]]
    header = _cells("workload", "n", a, b, f"{second}/{first}", "95 % interval", "±") + f"{a} is"
    return [_paint(header, BOLD, colour), *(line for row in rows for line in _row(row, colour))]


def _further(rows, measures, show, names, colour):
    """A table of further measures, medians; nothing where no row has them."""
    rows = [row for row in rows if any(row["measures"][name] for name, _, _ in measures)]
    if not rows:
        return []
    header, below = f"{'':<18}", f"{'workload':<18}"
    for _, title, width in measures:
        a, b = columns(rows[0], names, width)
        header += f" {title:>{2 * width + 1}}"
        below += f" {a:>{width}} {b:>{width}}"
    lines = ["", _paint(header, BOLD, colour), _paint(below, BOLD, colour)]
    for row in rows:
        cells = [f" {show[name](value_of(row, name, side)).replace(' ', ''):>{width}.{width}}"
                 for name, _, width in measures for side in "AB"]
        lines.append(f"{row['workload']:<18.18}" + "".join(cells))
    return lines


# Name, title, and the width of each of the two columns.
MEMORY = (("peak_rss", "peak MiB", 6), ("rss_seconds", "MiB x s", 6), ("faults", "page faults", 6),
          ("switches", "context sw.", 6))
LATENCY = (("p50", "latency: median", 7), ("p99", "99 %", 6), ("p999", "99.9 %", 7), ("max", "worst", 6))


def _shown(measure):
    """How figures of a measure are written."""
    if measure.unit == "s":
        return lambda value: duration(None if value is None else 1e9 * value)
    return {"ns": duration, "": whole}.get(measure.unit, three_digits)


SHOWN = {measure.name: _shown(measure) for measure in MEASURES}


def _counters(rows, names, colour):
    rows = [row for row in rows if row["counters"]]
    if not rows:
        return []
    titles = ("cycles", "IPC", "instr.", "branch", "misses", "L1 miss")
    lines = ["", _paint(f"{'workload':<18} {'':<8} " + " ".join(f"{t:>7}" for t in titles), BOLD, colour)]
    for row in rows:
        for side, of in zip("AB", columns(row, names, 8)):
            counted = row["counters"].get(side)
            values = counted["values"] if counted else {}
            cycles, instructions = values.get("cycles"), values.get("instructions")
            cells = [cycles, instructions / cycles if cycles and instructions else None,
                     instructions, *map(values.get, ("branches", "branch_misses", "l1_misses"))]
            name = row["workload"] if side == "A" else ""
            lines.append(f"{name:<18.18} {of:<8.8} " + " ".join(f"{three_digits(cell):>7}" for cell in cells))
    per = {counted["per"] for row in rows for counted in row["counters"].values()}
    what = "an operation" if per == {"operation"} else (
        "a run" if per == {"run"} else "an operation, or of a run where operations are not known")
    return lines + _wrapped(f"Counts of {what}, start and end of the program taken off.")


MATRIX_COLUMNS = 6


def cell_text(cell):
    """A cell of the matrix: ~ where it does not differ significantly from A, * where it is best."""
    if cell.why_not:
        return {FEW: "few"}.get(cell.why_not, cell.why_not)
    uncertain = not cell.significant and (cell.low, cell.high) != (1.0, 1.0)
    return f"{'~' if uncertain else ''}{three_digits(cell.ratio)}{'*' if cell.best else ''}"


def _cell_colour(cell):
    if cell.why_not:
        return RED if cell.why_not == FAILED else None
    if not cell.significant:
        return BOLD if cell.best else None
    return (BOLD if cell.best else "") + (GREEN if cell.ratio < 1 else RED)


def _matrix(data, colour):
    lines_of_matrix = matrix(data)
    if len(data["others"]) < 2 or not lines_of_matrix:
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
        f"Time in multiples of that of {data['A']['label']} (A): below 1 is faster than A. * marks the best of a row, "
        "and what does not differ significantly from it; ~ marks no significant difference from A.")


def table(data, colour=False):
    """The lines to print."""
    rows, machine, others, names = data["rows"], data["machine"], data["others"], letters(data)
    lines = [_paint(part, YELLOW, colour) for line in warnings(data) for part in _wrapped(line)]
    for library in (data["A"], *others):
        lines += _library(names[library["label"]], library)
    lines += _matrix(data, colour)
    for other in others:
        here = [row for row in rows if row["B"]["label"] == other["label"]]
        if not here:
            continue
        lines.append("")
        if len(others) > 1:
            title = f"{data['A']['label']} (A) vs {other['label']} ({names[other['label']]})"
            lines += [_paint(part, BOLD, colour) for part in _wrapped(title)]
        lines += _times(here, names, colour)
        lines += _further(here, MEMORY, SHOWN, names, colour)
        lines += _further(here, LATENCY, SHOWN, names, colour)
        lines += _counters(here, names, colour)
    lines.append("")
    for row in failures(data):
        lines += _wrapped(f"{row['workload']}: {row['failure']}", 4)
        lines += [f"    to repeat: {row['to_repeat']}"]
    if data["interrupted"]:
        lines += ["Interrupted: these are the pairs that were complete by then."]
    if machine["load"] > machine["cpus"] / 2:
        lines += _wrapped("The machine was busy with something else when this began: expect wide "
                          "intervals.")
    for line in headline(data):
        lines += [_paint(part, BOLD, colour) for part in _wrapped(line)]
    paired = "of independent runs" if "apart" in data else "of runs in pairs"
    lines += _wrapped(
        f"B/A: time of B by time of A, {paired}; above 1, A is faster. n: pairs. ±: their spread. Times are "
        "medians: ns of an operation as the workload itself timed it, without its start; else of a whole program, "
        f"start and end included. ~: {NO_DIFFERENCE}, the interval holds 1. ?: it does not, but among so many "
        "rows that may be chance.")
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
