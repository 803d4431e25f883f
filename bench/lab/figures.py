# SPDX-License-Identifier: MIT
"""Plots of a record, as SVG to be put into a page.

Colours are names of the page's style (var(--a)), so that a plot follows the page from light to
dark; text is text, in the page's font. Each library has one colour and one marker on all plots of a page, which the
page's legends explain: names of any length have room there.
"""

from __future__ import annotations

import io
import math
import random
import re
import statistics
from typing import Any, Callable, Sequence

from .libraries import PEERS, SYSTEM
from .matrix import rows_of
from .record import Record, Row
from .text import letters, three_digits
from .verdict import verdict

# What matplotlib is told, and what the page calls it. No other colour is drawn.
STYLE = {
    "text": "#0a0003",
    "dim": "#0a0004",
    "line": "#0a0005",
    "good": "#0a0006",
    "bad": "#0a0007",
    "card": "#0a0008",
}
LIBRARIES = 12  # that have a colour of their own; further ones share them
STYLE |= {f"lib{slot}": f"#0a00{0x10 + slot:02x}" for slot in range(LIBRARIES)}
MARKERS = "osD^vPXd<>ph"
# The first colour is A's; peers have theirs on every page.
FIXED = {peer: slot for slot, peer in enumerate((SYSTEM, *PEERS), 1)}
FONT_SIZE = 9.5  # in units of which a plot is NARROW or WIDE inches * 72 wide
NARROW, WIDE = 3.8, 10.5
RATIO_TICKS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.33, 0.5, 0.67, 0.8, 0.9, 0.95, 0.98, 1, 1.02, 1.05, 1.1,
               1.25, 1.5, 2, 3, 5, 10, 20, 50, 100)
MOST_TICKS = 7


def slots(data: Record) -> dict[str, int]:
    """{label: number of its colour}"""
    chosen = {data.A.label: 0}
    chosen |= {other.label: FIXED[other.label] for other in data.others if other.label in FIXED}
    free = [slot for slot in range(1, LIBRARIES) if slot not in chosen.values()]
    # Those of peers that are not there come last.
    free.sort(key=lambda slot: slot in FIXED.values())
    rest = [other.label for other in data.others if other.label not in chosen]
    return chosen | {label: (free or range(1, LIBRARIES))[index % len(free or range(1, LIBRARIES))]
                     for index, label in enumerate(rest)}


def _pyplot() -> Any:
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    pyplot.rcParams.update({
        "svg.fonttype": "none", "font.size": FONT_SIZE, "axes.linewidth": 0.8,
        "text.color": STYLE["text"], "axes.labelcolor": STYLE["dim"], "axes.edgecolor":
        STYLE["line"], "xtick.color": STYLE["line"], "ytick.color": STYLE["line"],
        "xtick.labelcolor": STYLE["dim"], "ytick.labelcolor": STYLE["dim"], "grid.color":
        STYLE["line"], "grid.linewidth": 0.6, "axes.spines.top": False, "axes.spines.right": False,
        "legend.frameon": False, "axes.titlesize": FONT_SIZE + 1, "axes.titleweight": "bold",
        "path.simplify": False,  # dots are paths of no length
    })
    return pyplot


def _svg(figure: Any, about: str, number: int) -> Any:
    """The figure's SVG, ready to stand in HTML. `number` keeps names apart on a page."""
    from markupsafe import Markup, escape

    text = io.StringIO()
    figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    _pyplot().close(figure)
    svg = text.getvalue()
    svg = svg[svg.index("<svg"):]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    for name, colour in STYLE.items():
        svg = svg.replace(colour, f"var(--{name})")
    svg = re.sub(r"font: (bold )?([0-9.]+)px [^;\"]+", r"font: \1\2px var(--font)", svg)
    svg = re.sub(r'\bid="', f'id="f{number}-', svg)
    svg = re.sub(r'(url\(|href=")#', rf"\g<1>#f{number}-", svg)
    # The page gives the size.
    svg = re.sub(r' (?:width|height)="[^"]*pt"', "", svg)
    return Markup(svg.replace("<svg", f'<svg role="img" aria-label="{escape(about)}"', 1))


class Plotter:
    """Makes the plots of one page."""

    def __init__(self, data: Record) -> None:
        self.data = data
        self.slots = slots(data)
        self.count = 0

    def _look(self, label: str) -> tuple[str, str]:
        """Colour and marker of a library."""
        slot = self.slots[label]
        return STYLE[f"lib{slot}"], MARKERS[slot]

    def _finished(self, figure: Any, about: str) -> Any:
        self.count += 1
        return _svg(figure, about, self.count)

    def forest(self, rows: Sequence[Row], wide: bool) -> Any:
        """Ratio and interval of each row, from the first one down; None if none has an interval."""
        found = [(row, bounds) for row in rows if (bounds := _interval(row))]
        if not found:
            return None
        figure, axes = _pyplot().subplots(
            figsize=(WIDE if wide else NARROW, 0.85 + 0.26 * len(found)), layout="constrained")
        for y, (row, (low, ratio, high)) in enumerate(reversed(found)):
            colour = STYLE[_direction(row)]
            axes.plot([low, high], [y, y], color=colour, linewidth=2, solid_capstyle="round")
            axes.plot([ratio], [y], marker="o", markersize=6, color=colour, markeredgewidth=1.6,
                      markerfacecolor=colour if row.claimed else STYLE["card"])
        axes.axvline(1, color=STYLE["text"], linewidth=1, zorder=0)
        axes.set_yticks(range(len(found)), [row.workload for row, _ in reversed(found)])
        axes.tick_params(axis="y", length=0, labelcolor=STYLE["text"])
        axes.set_ylim(-0.7, len(found) - 0.3)
        lowest = min(min(low for _, (low, _, _) in found), 0.98) * 0.99
        highest = max(max(high for _, (_, _, high) in found), 1.02) * 1.01
        _ratio_axis(axes, lowest, highest, wide)
        axes.set_xlabel("time of B / time of A: right of 1, A is faster" if wide else "right of 1: A is faster")
        return self._finished(figure, "ratio of times and its interval, for each workload")

    def overview(self, workloads: Sequence[str], wide: bool) -> Any:
        """Ratio and interval of each of the others, in groups, one for each workload; None without any."""
        groups = [(name, [(row.B.label, bounds) for row in rows_of(self.data, name)
                          if row and (bounds := _interval(row))]) for name in workloads]
        groups = [(name, found) for name, found in groups if found]
        if not groups:
            return None
        height = sum(1 + len(found) for _, found in groups)
        figure, axes = _pyplot().subplots(figsize=(WIDE if wide else NARROW, 0.7 + 0.13 * height),
                                          layout="constrained")
        y, places = 0.0, []
        for name, found in groups:
            places.append(-y - (len(found) - 1) / 2)
            for label, (low, ratio, high) in found:
                colour, marker = self._look(label)
                axes.plot([low, high], [-y, -y], color=colour, linewidth=1.6, solid_capstyle="round")
                axes.plot([ratio], [-y], marker=marker, markersize=4.5, color=colour)
                y += 1
            y += 1
            if name != groups[-1][0]:
                axes.axhline(-y + 1, color=STYLE["line"], linewidth=0.6)
        axes.axvline(1, color=STYLE["lib0"], linewidth=1.4, zorder=0)
        axes.set_yticks(places, [name for name, _ in groups])
        axes.tick_params(axis="y", length=0, labelcolor=STYLE["text"])
        axes.set_ylim(-y + 1, 1)
        intervals = [interval for _, found in groups for _, interval in found]
        _ratio_axis(axes, min(0.98, *(low for low, _, _ in intervals)) * 0.99,
                    max(1.02, *(high for _, _, high in intervals)) * 1.01, wide)
        axes.set_xlabel("time / time of A: left of 1 is faster than A" if wide else "left of 1: faster than A")
        return self._finished(figure, "times of all libraries by that of A, for each workload")

    def sweep(self, workload: str, points: Sequence[Any]) -> Any:
        """Time by that of A over the values of an option, with the band of the intervals; None below two
        points. `points` holds (value, low, ratio, high), in order."""
        if len(points) < 2:
            return None
        figure, axes = _small(workload)
        values = [value for value, *_ in points]
        colour = STYLE["lib0"]
        axes.fill_between(values, [low for _, low, _, _ in points], [high for *_, high in points],
                          color=colour, alpha=0.22, linewidth=0)
        axes.plot(values, [ratio for _, _, ratio, _ in points], color=colour, marker="o", markersize=4.5,
                  linewidth=1.6)
        axes.axhline(1, color=STYLE["text"], linewidth=1, zorder=0)
        if min(values) > 0 and max(values) >= 4 * min(values):
            axes.set_xscale("log", base=2)
        axes.set_xticks(*_value_ticks(values))
        axes.minorticks_off()
        axes.grid(axis="y")
        axes.set_xlabel(self.data.sweep or "value")
        axes.set_ylabel("time / time of A")
        return self._finished(figure, f"time of {workload} over the values of {self.data.sweep}")

    def runs(self, workload: str) -> Any:
        """Every run: over the rounds, which shows drift, and side by side, which shows the distribution; None
        without any."""
        series, unit = _series(self.data, workload)
        if not series:
            return None
        figure, (drift, strip) = _pyplot().subplots(
            1, 2, sharey=True, figsize=(NARROW, 2.35), layout="constrained",
            gridspec_kw={"width_ratios": [max(1.4, 3 - 0.2 * len(series)), 1]})
        figure.get_layout_engine().set(wspace=0.02)
        noise = random.Random(1)
        for index, (label, points) in enumerate(series.items()):
            colour, _ = self._look(label)
            _dots(drift, points, colour)
            middle = _running_median(points)
            drift.plot([x for x, _ in middle], [y for _, y in middle], color=colour, linewidth=1.1)
            _dots(strip, [(index + noise.uniform(-0.28, 0.28), y) for _, y in points], colour)
            median = statistics.median(y for _, y in points)
            strip.plot([index - 0.4, index + 0.4], [median] * 2, color=STYLE["text"], linewidth=1.4)
        values = [y for points in series.values() for _, y in points]
        if max(values) > 6 * min(values):
            drift.set_yscale("log")
            low, high = min(values) * 0.9, max(values) * 1.1
            ticks = _decades(low, high)
            drift.set_yticks(ticks)
            drift.set_ylim(low, high)
        else:
            drift.set_ylim(min(values) - 0.08 * (max(values) - min(values) or 1),
                           max(values) + 0.08 * (max(values) - min(values) or 1))
            drift.locator_params(axis="y", nbins=5)
        from matplotlib.ticker import FuncFormatter, MaxNLocator

        drift.yaxis.set_major_formatter(FuncFormatter(lambda value, _: unit(value)))
        drift.minorticks_off()
        drift.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
        drift.set_xlabel("round")
        drift.set_title(workload, loc="left", pad=6)
        strip.set_xticks(range(len(series)), [_letter(self.data, label) for label in series])
        strip.set_xlim(-0.7, len(series) - 0.3)
        strip.tick_params(axis="y", length=0)
        strip.spines["left"].set_visible(False)
        strip.set_xlabel("all runs")
        for axes in (drift, strip):
            axes.set_axisbelow(True)
            axes.grid(axis="y")
        return self._finished(figure, f"every run of {workload}, over the rounds and side by side")

    def memory(self, row: Row) -> Any:
        """Resident memory over time; None where a run was too short for that."""
        curves = [(letter, curve) for letter in "AB" if (curve := row.rss[letter])]
        if not curves:
            return None
        figure, axes = _small(row.workload)
        for letter, curve in curves:
            axes.plot([x for x, _ in curve], [y for _, y in curve], color=self._look(row.side(letter).label)[0], linewidth=1.6,
                      linestyle="-" if letter == "A" else (0, (4, 1.5)))
        axes.set_ylim(0, 1.15 * max(mib for _, curve in curves for _, mib in curve) or 1)
        axes.set_xlim(left=0)
        axes.locator_params(nbins=5)
        axes.set_xlabel("seconds")
        axes.set_ylabel("MiB")
        axes.grid(axis="y")
        return self._finished(figure, f"resident memory of {row.workload} over time")

    def latency(self, row: Row) -> Any:
        """Latency by percentile; None where the workload gives none."""
        found = [(title, measured) for name, title in
                 (("p50", "50 %"), ("p99", "99 %"), ("p999", "99.9 %"), ("max", "worst"))
                 if (measured := row.measure(name))]
        if len(found) < 2:
            return None
        figure, axes = _small(row.workload)
        for letter in "AB":
            colour, marker = self._look(row.side(letter).label)
            values = [measured.side(letter) for _, measured in found]
            axes.plot(range(len(found)), values, color=colour, marker=marker, markersize=4.5,
                      linewidth=1.6, linestyle="-" if letter == "A" else (0, (4, 1.5)))
        axes.set_yscale("log")
        from matplotlib.ticker import FuncFormatter, LogLocator

        axes.yaxis.set_major_locator(LogLocator(base=10, numticks=8))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _time(value)))
        axes.minorticks_off()
        axes.set_xticks(range(len(found)), [title for title, _ in found])
        axes.set_xlabel("operations up to here")
        axes.grid(axis="y")
        return self._finished(figure, f"latency of {row.workload} by percentile")


def _small(title: str) -> tuple[Any, Any]:
    figure, axes = _pyplot().subplots(figsize=(NARROW, 2.35), layout="constrained")
    axes.set_title(title, loc="left", pad=6)
    axes.set_axisbelow(True)
    return figure, axes


def _ratio_axis(axes: Any, lowest: float, highest: float, wide: bool) -> None:
    """A logarithmic x axis of ratios."""
    axes.set_xscale("log")
    axes.set_xlim(lowest, highest)
    ticks = _ticks(lowest, highest, MOST_TICKS * (2 if wide else 1))
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.grid(axis="x")
    axes.set_axisbelow(True)
    axes.spines["left"].set_visible(False)


def _letter(data: Record, label: str) -> str:
    return letters(data)[label]


def _series(data: Record, workload: str) -> tuple[dict[str, list[tuple[int, float]]], Callable[[float], str]]:
    """({label: [(round, figure), …]}, how it is written) of all runs of a workload: times, or what it prints."""
    rows = [row for row in rows_of(data, workload) if row and row.runs]
    of_operations = bool(rows) and all(row.time and row.time.unit == "ns" for row in rows)
    of_metric = any(row.metric for row in rows)
    series: dict[str, dict[int, float]] = {}
    for row in rows:
        for pair in row.runs:
            for side in "AB":
                if run := pair.side(side):
                    value = run.metric if of_metric else run.ns_per_op if of_operations else None
                    series.setdefault(row.side(side).label, {})[pair.round] = 1e9 * run.seconds if value is None else value
    return {label: sorted(points.items()) for label, points in series.items()}, (
        three_digits if of_metric else _time)


def _dots(axes: Any, points: Sequence[Any], colour: str) -> None:
    """Many dots as one path: a line of no length has round ends. An element for each would make the page large."""
    xs, ys = [], []
    for x, y in points:
        xs += [x, x, math.nan]
        ys += [y, y, math.nan]
    axes.plot(xs, ys, color=colour, linewidth=3, solid_capstyle="round", alpha=0.55)


def _running_median(points: Sequence[Any], buckets: int = 12) -> list[tuple[float, float]]:
    """Medians of neighbours, from the first round to the last."""
    size = max(3, math.ceil(len(points) / buckets))
    parts = [points[start:start + size] for start in range(0, len(points), size)]
    return [(statistics.mean(x for x, _ in part), statistics.median(y for _, y in part)) for part in parts
            if len(part) > size // 2]


def _decades(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten within bounds, fewer if these are many."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = (1, 2, 5) if len(powers) <= 3 else (1,)
    return [step * 10.0 ** power for power in powers for step in steps if low <= step * 10.0 ** power <= high]


def _value_ticks(values: Sequence[float]) -> tuple[Sequence[float], list[str]]:
    """Places and labels on an axis of an option's values: all of them if there are few."""
    shown = values if len(values) <= 6 else values[::math.ceil(len(values) / 6)]
    return shown, [_binary(value) for value in shown]


def _binary(value: float) -> str:
    for unit, size in (("Mi", 1 << 20), ("Ki", 1 << 10)):
        if value >= size and value % size == 0:
            return f"{value // size}{unit}"
    return f"{value:g}"


def _time(nanoseconds: float) -> str:
    for limit, unit, size in ((1e3, "ns", 1), (1e6, "µs", 1e3), (1e9, "ms", 1e6)):
        if nanoseconds < limit:
            return f"{nanoseconds / size:g} {unit}"
    return f"{nanoseconds / 1e9:g} s"


def _interval(row: Row) -> tuple[float, float, float] | None:
    estimate = row.time.estimate if row.time else None
    if not estimate or estimate.low is None or estimate.high is None or row.failure:
        return None
    return estimate.low, estimate.ratio, estimate.high


def _direction(row: Row) -> str:
    """The colour, whether the difference holds for all rows together or not: that is how the dot is filled."""
    return {"faster": "good", "slower": "bad"}.get(verdict(row).direction or "", "dim")


def _ticks(low: float, high: float, most: float) -> list[float]:
    """Those of RATIO_TICKS that are in sight and not too close to each other; 1 is one of them."""
    room = math.log(high / low) / most
    kept = [1.0]
    for tick in sorted(RATIO_TICKS, key=lambda tick: abs(math.log(tick))):
        if low <= tick <= high and all(abs(math.log(tick / other)) >= room for other in kept):
            kept.append(tick)
    return sorted(kept)
