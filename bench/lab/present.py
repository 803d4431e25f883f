# SPDX-License-Identifier: MIT
"""What is shown: the table, which fits WIDTH columns, and the progress line."""

import os
import shutil
import statistics
import sys
import textwrap
import time

from .workloads import OWN_TIME

WIDTH = 100
GREEN, RED, YELLOW, BOLD, PLAIN = "\033[32m", "\033[31m", "\033[33m", "\033[1m", "\033[0m"


def wants_colour(stream):
    return stream.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"


def _paint(text, colour, on):
    return f"{colour}{text}{PLAIN}" if on and colour else text


def _three_digits(value):
    """1.23, 12.3, 123: as many digits as mean something."""
    for limit, digits in ((10, 2), (100, 1)):
        if round(value, digits) < limit:
            return f"{value:.{digits}f}"
    return f"{value:.0f}" if value < 99999 else f"{value:.0e}"


def _ratio(value):
    """Near 1 every per mille matters, further off it does not."""
    return f"{value:.3f}" if 0.9 < value < 1.1 else _three_digits(value)


def _time(runs, measure):
    if measure == OWN_TIME:
        return f"{_three_digits(statistics.median(run.ns_per_op for run in runs))} ns"
    return f"{_three_digits(statistics.median(run.seconds for run in runs))} s"


def _memory(runs):
    return _three_digits(statistics.median(run.peak_rss_kib for run in runs) / 1024)


def verdict(estimate):
    """What the row says of A, and in which colour."""
    if not estimate.enough:
        return "too few pairs", YELLOW
    faster = estimate.faster
    if faster is None:
        return "not told apart", None
    if faster == "A":
        return f"{_ratio(estimate.ratio)}x faster", GREEN
    return f"{_ratio(1 / estimate.ratio)}x slower", RED


def _cells(name, pairs, a, b, ratio, interval, spread, memory_a, memory_b):
    return (f"{name:<18.18} {pairs:>5} {a:>9.9} {b:>9.9} {ratio:>5.5} {interval:^13.13} "
            f"{spread:>6.6} {memory_a:>6.6} {memory_b:>6.6} ")


def _row(row, colour):
    if row.failure:
        after = f" (after {len(row.pairs)} pairs)" if row.pairs else ""
        text = f"{row.workload.name:<18.18} FAILED  {row.failure}"
        room = WIDTH - len(after)
        if len(text) > room:
            text = text[:room - 1] + "…"
        return _paint(text + after, RED, colour)
    if not row.pairs:
        return f"{row.workload.name:<18.18} not measured"
    estimate = row.estimate()
    runs_a, runs_b = zip(*row.pairs)
    interval = "-"
    if estimate.low is not None:
        interval = f"{_ratio(estimate.low)} - {_ratio(estimate.high)}"
    said, shade = verdict(estimate)
    measure = row.workload.measure
    return _cells(row.workload.name, estimate.pairs, _time(runs_a, measure), _time(runs_b, measure),
                  _ratio(estimate.ratio), interval, f"{100 * estimate.spread:.1f} %",
                  _memory(runs_a), _memory(runs_b)) + _paint(said, shade, colour)


def _wrapped(text, indent=0):
    return textwrap.wrap(text, WIDTH, subsequent_indent=" " * indent, break_on_hyphens=False)


def _named(letter, library):
    label = "" if library.label == letter else f"{library.label}: "
    return f"{letter}  {label}{library.identity}"


def _path(path):
    """Relative to where the user is, if that is shorter; only the end of one that is too long."""
    shown = min(os.path.relpath(path), path, key=len)
    return shown if len(shown) <= WIDTH - 3 else f"…{shown[-(WIDTH - 4):]}"


def table(comparison, machine, colour=False):
    """The lines to print."""
    a, b = comparison.a, comparison.b
    lines = _wrapped(_named("A", a), 3)
    lines += [f"   {_path(a.path)}"] if a.path else []
    lines += _wrapped(_named("B", b), 3)
    lines += [f"   {_path(b.path)}"] if b.path else []
    header = _cells("workload", "pairs", a.label, b.label, "B/A", "95 % interval", "spread",
                    "A, MB", "B, MB") + f"{a.label} is"
    lines += ["", _paint(header, BOLD, colour)]
    lines += [_row(row, colour) for row in comparison.rows]
    lines.append("")
    for row in comparison.rows:
        if row.failure:
            lines += _wrapped(f"{row.workload.name}: {row.failure}", 4)
            lines += [f"    to repeat: {row.command}"]
    if comparison.interrupted:
        lines += ["Interrupted: these are the pairs that were complete by then."]
    if machine["load"] > machine["cpus"] / 2:
        lines += _wrapped("The machine was busy with something else when this began: expect wide "
                          "intervals.")
    lines += _wrapped(
        f"B/A: time of {b.label} by time of {a.label}, of runs in pairs; above 1, {a.label} is "
        "faster. Times are medians: ns of an operation as the workload itself timed it, without "
        "its start; s of a whole program, start and end included. MB: peak resident memory, "
        "median. No one is called faster when the interval holds 1.")
    lines += _wrapped(
        f"{machine['kernel']}; {machine['cpu']}, {machine['cpus']} CPUs; governor "
        f"{machine['governor']}; huge pages {machine['huge_pages']}; load {machine['load']} at the "
        f"start; {comparison.seconds:.0f} s.")
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
        now = time.monotonic()
        if not self.on or (self.shown and now - self.last < 0.1):
            return
        self.last = now
        text = f"{what}, pair {pair}" if pair else f"{what}, warm-up"
        if seconds_left > 0:
            text = f"{seconds_left:3.0f} s left: {text}"
        columns = shutil.get_terminal_size((80, 24)).columns
        self.stream.write(f"\r\033[K{text[:columns - 1]}")
        self.stream.flush()
        self.shown = True

    def clear(self):
        if self.shown:
            self.stream.write("\r\033[K")
            self.stream.flush()
            self.shown = False
