# SPDX-License-Identifier: MIT
"""A record as one HTML page that needs nothing else: no network, no script."""

import os
from datetime import datetime
from pathlib import Path

from . import present
from .figures import Plotter
from .machine import NOT_AVAILABLE
from .record import MEASURES, TIME

TEMPLATE = "report.html.j2"
MACHINE = (("cpu", "processor"), ("cpus", "processors that could be used"), ("memory", "memory"),
           ("kernel", "kernel"), ("governor", "frequency governor"),
           ("huge_pages", "transparent huge pages"), ("layout", "address-space layout"),
           ("priority", "priority of what was measured"),
           ("load", "load at the start"))
COUNTERS = (("cycles", "cycles"), ("instructions", "instructions"), ("branches", "branches"),
            ("branch_misses", "branch misses"), ("l1_misses", "L1 misses"))


def differences(a, b):
    """[(symbol, value in A, value in B), …] of two libraries' options; None if one is not known."""
    if a["options"] is None or b["options"] is None:
        return None

    def shown(name, options, other):
        # A yes-or-no option that is off has no macro, and is 1 when on.
        value, beside = options.get(name), other.get(name)
        if {value, beside} == {None, "1"}:
            return "y" if value else "n"
        return "-" if value is None else value
    names = [*a["options"], *(name for name in b["options"] if name not in a["options"])]
    return [(name, shown(name, a["options"], b["options"]), shown(name, b["options"], a["options"]))
            for name in names if a["options"].get(name) != b["options"].get(name)]


def _times(row):
    said, direction = present.verdict(row)
    measured = row["measures"][TIME]
    estimate = measured and measured["estimate"]
    return {"name": row["workload"], "about": row["about"], "pairs": row["pairs"],
            "A": present.shown_time(row, "A"), "B": present.shown_time(row, "B"),
            "ratio": present.ratio(estimate["ratio"]) if estimate else present.NONE,
            "interval": present.interval(estimate).replace(" - ", " – "), "said": said,
            "direction": direction, "failure": row["failure"], "to_repeat": row["to_repeat"]}


def _further(row):
    """The further measures that a row has, as lines of a table."""
    lines = []
    for measure in MEASURES:
        measured = row["measures"][measure.name]
        if measured:
            show = present.SHOWN[measure.name]
            unit = f" {measure.unit}" if measure.unit not in ("", "ns", "s") else ""
            estimate = measured["estimate"]
            lines.append({"title": measure.title, "A": show(measured["A"]) + unit,
                          "B": show(measured["B"]) + unit,
                          "ratio": present.ratio(estimate["ratio"]) if estimate else "–",
                          "interval": present.interval(estimate).replace(" - ", " – ")})
    return lines


def _counted(row):
    """The counters of a row, as lines of a table; empty if nothing was counted."""
    counters = row["counters"] or {}
    if not counters:
        return []

    def value(letter, name):
        return counters[letter]["values"].get(name) if letter in counters else None

    def per_cycle(letter):
        cycles, instructions = value(letter, "cycles"), value(letter, "instructions")
        return instructions / cycles if cycles and instructions is not None else None
    lines = [{"title": title, **{letter: present.three_digits(value(letter, name))
                                 for letter in "AB"}} for name, title in COUNTERS]
    lines.insert(1, {"title": "instructions per cycle", **{
        letter: present.three_digits(per_cycle(letter)) for letter in "AB"}})
    return lines


def _section(data, other, plotter):
    rows = [row for row in data["rows"] if row["B"]["label"] == other["label"]]
    details = [{"name": row["workload"], "about": row["about"], "command":
                " ".join([*(f"{n}={v}" for n, v in row["environment"].items()), *row["command"]]),
                "pinned": row["pinned"], "load": row["machine"]["load"],
                "lines": _further(row), "counted": _counted(row),
                "per": next((c["per"] for c in (row["counters"] or {}).values()), None)}
               for row in rows if not row["failure"] and row["pairs"]]
    sound = [row for row in rows if not row["failure"]]
    return {
        "other": other,
        "times": [_times(row) for row in rows],
        "forest": [(kind, plot) for kind, plot in (
            ("narrow", plotter.forest(rows, wide=False)), ("wide", plotter.forest(rows, wide=True)))
            if plot],
        "memory": [plot for plot in map(plotter.memory, sound) if plot],
        "latency": [plot for plot in map(plotter.latency, sound) if plot],
        "details": details,
        "differences": differences(data["A"], other),
        "built_here": other["options"] is not None and data["A"]["options"] is not None,
    }


def html(data):
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).resolve().parent), autoescape=True,
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    plotter = Plotter()
    started = datetime.fromisoformat(data["started"])
    *claims, corrected = present.headline(data)
    return environment.get_template(TEMPLATE).render(
        data=data, claims=claims, corrected=corrected, started=f"{started:%Y-%m-%d %H:%M}",
        failures=[row for row in data["rows"] if row["failure"]],
        sections=[_section(data, other, plotter) for other in data["others"]],
        machine=[(title, data["machine"].get(name, NOT_AVAILABLE)) for name, title in MACHINE])


def write(data, path):
    """Writes the page; it is never there by half."""
    text = html(data)
    temporary = f"{path}.{os.getpid()}"
    with open(temporary, "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(temporary, path)
