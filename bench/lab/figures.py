# SPDX-License-Identifier: MIT
"""Plots of a record, as SVG to be put into a page.

Colours are names of the page's style (var(--a)), so that a plot follows the page from light to
dark; text is text, in the page's font.
"""

import io
import re

from .estimate import ENOUGH_PAIRS
from .record import TIME

# What matplotlib is told, and what the page calls it. No other colour is drawn.
STYLE = {
    "a": "#0a0001",
    "b": "#0a0002",
    "text": "#0a0003",
    "dim": "#0a0004",
    "line": "#0a0005",
    "good": "#0a0006",
    "bad": "#0a0007",
    "card": "#0a0008",
}
FONT_SIZE = 9.5  # in units of which a plot is NARROW or WIDE inches * 72 wide
NARROW, WIDE = 3.8, 10.5
RATIO_TICKS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.33, 0.5, 0.67, 0.8, 0.9, 0.95, 0.98, 1, 1.02, 1.05, 1.1,
               1.25, 1.5, 2, 3, 5, 10, 20, 50, 100)
MOST_TICKS = 7


def _pyplot():
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
        "legend.borderpad": 0.1, "legend.handlelength": 1.4,
    })
    return pyplot


def _svg(figure, about, number):
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

    def __init__(self):
        self.count = 0

    def _finished(self, figure, about):
        self.count += 1
        return _svg(figure, about, self.count)

    def forest(self, rows, wide):
        """Ratio and interval of each row, from the first one down; None if none has an interval."""
        rows = [row for row in rows if _interval(row)]
        if not rows:
            return None
        figure, axes = _pyplot().subplots(
            figsize=(WIDE if wide else NARROW, 0.85 + 0.26 * len(rows)), layout="constrained")
        for y, row in enumerate(reversed(rows)):
            low, ratio, high = _interval(row)
            colour = STYLE[_direction(row)]
            axes.plot([low, high], [y, y], color=colour, linewidth=2, solid_capstyle="round")
            axes.plot([ratio], [y], marker="o", markersize=6, color=colour, markeredgewidth=1.6,
                      markerfacecolor=colour if row["claimed"] else STYLE["card"])
        axes.axvline(1, color=STYLE["text"], linewidth=1, zorder=0)
        axes.set_yticks(range(len(rows)), [row["workload"] for row in reversed(rows)])
        axes.tick_params(axis="y", length=0, labelcolor=STYLE["text"])
        axes.set_ylim(-0.7, len(rows) - 0.3)
        lowest = min(min(_interval(row)[0] for row in rows), 0.98) * 0.99
        highest = max(max(_interval(row)[2] for row in rows), 1.02) * 1.01
        axes.set_xscale("log")
        axes.set_xlim(lowest, highest)
        ticks = _ticks(lowest, highest, MOST_TICKS * (2 if wide else 1))
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.minorticks_off()
        axes.grid(axis="x")
        axes.set_axisbelow(True)
        axes.spines["left"].set_visible(False)
        axes.set_xlabel("B/A: right of 1, A is faster")
        return self._finished(figure, "ratio of times and its interval, for each workload")

    def memory(self, row):
        """Resident memory over time; None where a run was too short for that."""
        curves = [(letter, row["rss"][letter]) for letter in "AB" if row["rss"][letter]]
        if not curves:
            return None
        figure, axes = _small(row["workload"])
        for letter, curve in curves:
            axes.plot(*zip(*curve), color=STYLE[letter.lower()], linewidth=1.6,
                      linestyle="-" if letter == "A" else (0, (4, 1.5)),
                      label=_short(row[letter]["label"]))
        axes.set_ylim(0, 1.15 * max(mib for _, curve in curves for _, mib in curve) or 1)
        axes.set_xlim(left=0)
        axes.locator_params(nbins=5)
        axes.set_xlabel("seconds")
        axes.set_ylabel("MiB")
        axes.grid(axis="y")
        _legend(axes)
        return self._finished(figure, f"resident memory of {row['workload']} over time")

    def latency(self, row):
        """Latency by percentile; None where the workload gives none."""
        names = [(name, title) for name, title in
                 (("p50", "50 %"), ("p99", "99 %"), ("p999", "99.9 %"), ("max", "worst"))
                 if row["measures"][name]]
        if len(names) < 2:
            return None
        figure, axes = _small(row["workload"])
        for letter, marker in (("A", "o"), ("B", "s")):
            values = [row["measures"][name][letter] for name, _ in names]
            axes.plot(range(len(names)), values, color=STYLE[letter.lower()], marker=marker,
                      markersize=4.5, linewidth=1.6, linestyle="-" if letter == "A" else (0, (4, 1.5)),
                      label=_short(row[letter]["label"]))
        axes.set_yscale("log")
        from matplotlib.ticker import FuncFormatter, LogLocator

        axes.yaxis.set_major_locator(LogLocator(base=10, numticks=8))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _time(value)))
        axes.minorticks_off()
        axes.set_xticks(range(len(names)), [title for _, title in names])
        axes.set_xlabel("operations up to here")
        axes.grid(axis="y")
        _legend(axes)
        return self._finished(figure, f"latency of {row['workload']} by percentile")


def _small(title):
    figure, axes = _pyplot().subplots(figsize=(NARROW, 2.35), layout="constrained")
    axes.set_title(title, loc="left", pad=18)
    axes.set_axisbelow(True)
    return figure, axes


def _legend(axes):
    axes.legend(loc="lower left", bbox_to_anchor=(-0.02, 0.98), ncol=2, fontsize=FONT_SIZE - 0.5,
                labelcolor=STYLE["dim"])


def _short(label):
    return label if len(label) <= 24 else f"{label[:10]}…{label[-13:]}"


def _time(nanoseconds):
    for limit, unit, size in ((1e3, "ns", 1), (1e6, "µs", 1e3), (1e9, "ms", 1e6)):
        if nanoseconds < limit:
            return f"{nanoseconds / size:g} {unit}"
    return f"{nanoseconds / 1e9:g} s"


def _interval(row):
    measured = row["measures"][TIME]
    estimate = measured and measured["estimate"]
    if not estimate or estimate["low"] is None or row["failure"]:
        return None
    return estimate["low"], estimate["ratio"], estimate["high"]


def _direction(row):
    faster = row["measures"][TIME]["estimate"]["faster"]
    if row["pairs"] < ENOUGH_PAIRS or faster is None:
        return "dim"
    return "good" if faster == "A" else "bad"


def _ticks(low, high, most):
    """Those of RATIO_TICKS that are in sight and not too close to each other; 1 is one of them."""
    import math

    room = math.log(high / low) / most
    kept = [1]
    for tick in sorted(RATIO_TICKS, key=lambda tick: abs(math.log(tick))):
        if low <= tick <= high and all(abs(math.log(tick / other)) >= room for other in kept):
            kept.append(tick)
    return sorted(kept)
