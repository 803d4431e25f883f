# SPDX-License-Identifier: MIT
"""The plots of a recording, and the page that they stand on."""

import math
import os
from pathlib import Path

from lab import figures

from . import library

TEMPLATE = "trace.html.j2"
MOST_LABELS = 6  # below a plot's bars: more would overlap
# What the events of the recording are called on the page.
OPERATIONS = {"give": "realloc begins", "take": "realloc ends, with another block or a first one",
              "keep": "realloc ends, in place", "retract": "realloc failed", "touched": "large blocks looked at"}
SOON = "at once"  # a life shorter than the recording's clock can tell


def _axes(title):
    figure, axes = figures._pyplot().subplots(figsize=(figures.NARROW * 1.4, 2.6), layout="constrained")
    axes.set_title(title, loc="left")
    return figure, axes


def bytes_of(number):
    """With two or three digits and a unit."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(number) < 1000 or unit == "GiB":
            return f"{number:.0f} {unit}" if number >= 100 or number == int(number) else f"{number:.1f} {unit}"
        number /= 1024
    return ""


def seconds_of(number):
    if number <= 1e-9:
        return SOON
    for unit, factor in (("s", 1), ("ms", 1e3), ("µs", 1e6), ("ns", 1e9)):
        if number * factor >= 1 or unit == "ns":
            return f"{number * factor:.3g} {unit}"
    return ""


class Plots:
    """Makes the plots of one page."""

    def __init__(self):
        self.count = 0

    def _finished(self, figure, about):
        self.count += 1
        return figures._svg(figure, about, self.count)

    def live(self, measures):
        figure, axes = _axes("Live bytes over time")
        seconds, live = measures.curve
        axes.fill_between(seconds, live / 2**20, color=figures.STYLE["lib0"], alpha=0.2, linewidth=0)
        axes.plot(seconds, live / 2**20, color=figures.STYLE["lib0"], linewidth=1.4)
        axes.set_xlabel("seconds")
        axes.set_ylabel("MiB asked for")
        axes.set_ylim(0, None)
        return self._finished(figure, "live bytes over time")

    def bars(self, title, edges, counts, label, axis):
        figure, axes = _axes(title)
        total = counts.sum() or 1
        places = range(len(edges))
        axes.bar(places, 100 * counts / total, color=figures.STYLE["lib0"], width=0.85)
        step = math.ceil(len(edges) / MOST_LABELS)
        axes.set_xticks(list(places)[::step], [label(edge) for edge in edges[::step]])
        axes.set_xlabel(axis)
        axes.set_ylabel("%")
        return self._finished(figure, title)


def page(recording, measures, lines, name):
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).resolve().parent), autoescape=True,
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    plots = Plots()
    edges, counts, weights = measures.sizes
    shown = [plots.live(measures)]
    if len(edges):
        shown.append(plots.bars("Allocations by size", edges, counts, bytes_of, "up to"))
        shown.append(plots.bars("Bytes by size", edges, weights, bytes_of, "up to"))
    if len(measures.lifetimes[0]):
        shown.append(plots.bars("Blocks by lifetime", *measures.lifetimes, seconds_of, "up to"))
    if len(measures.lifetimes_bytes[0]):
        shown.append(plots.bars("Blocks by bytes allocated meanwhile", *measures.lifetimes_bytes, bytes_of, "up to"))
    return environment.get_template(TEMPLATE).render(
        name=name, lines=lines, plots=shown, threads=len(recording.threads),
        operations=[(OPERATIONS.get(name, name), count) for name, count in measures.operations.items()])


def write(text, path):
    temporary = f"{path}.{os.getpid()}"
    try:
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(text)
        os.replace(temporary, path)
    except OSError as error:
        raise library.TraceError(f"{path}: {error.strerror}") from None
