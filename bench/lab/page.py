# SPDX-License-Identifier: MIT
"""A record as one HTML page that needs nothing else: no network, no script."""

import base64
import math
import os
import re
from datetime import datetime
from pathlib import Path

from . import export, present
from .figures import LIBRARIES, Plotter, slots
from .machine import NOT_AVAILABLE
from .matrix import geometric_means, matrix, workload_names
from .record import MEASURES, TIME

TEMPLATE = "report.html.j2"
SHORT = {present.FEW: "few", present.FAILED: "fail"}  # in a cell of the matrix
SHORT_LABEL = 10  # characters that a column of the matrix has room for
MOST_EMBEDDED = 500_000  # bytes of a file that the page carries along
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
        value, theirs = options.get(name), other.get(name)
        if {value, theirs} == {None, "1"}:
            return "y" if value else "n"
        return "-" if value is None else value
    names = [*a["options"], *(name for name in b["options"] if name not in a["options"])]
    return [(name, shown(name, a["options"], b["options"]), shown(name, b["options"], a["options"]))
            for name in names if a["options"].get(name) != b["options"].get(name)]


def _times(row):
    said, direction = present.verdict(row)
    measured = row["measures"][TIME]
    estimate = measured and measured["estimate"]
    return {"name": row["workload"], "about": row["about"], "pairs": row["pairs"], "id": slug(row["workload"]),
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


def slug(text):
    """What an anchor can be called."""
    return re.sub(r"\W+", "-", text).strip("-").lower()


ABSOLUTE = re.compile(r"(?<![\w.~/-])(?:/[\w.+@=,~%-]+)+/([\w.+@=,~%-]*)")


def without_folders(value, root):
    """The same data, in which paths below the root of the sources begin there, and others are their last part: a
    page is shown to others, to whom folders of this machine say nothing."""
    if isinstance(value, dict):
        return {name: without_folders(part, root) for name, part in value.items()}
    if isinstance(value, list):
        return [without_folders(part, root) for part in value]
    return ABSOLUTE.sub(r"\1", value.replace(f"{root}/", "")) if isinstance(value, str) else value


def sweep_values(data):
    """{label: value} of those that a sweep has measured, A with its own; empty where there was none, or where
    values are no numbers."""
    name = data["sweep"]
    found = {}
    for library in (data["A"], *data["others"]):
        given = re.search(rf"\b{re.escape(name or '-')}=(\w+)", library["label"])
        text = given[1] if given else (library["options"] or {}).get(name, "")
        if re.fullmatch(r"\d+|0[xX][0-9a-fA-F]+", text):
            found[library["label"]] = int(text, 0)
    return found if name and len(found) > 1 else {}


def _sweep_points(data, workload, values):
    """(value, low, ratio, high), in order of the values. A is 1 where it is itself no value of the sweep."""
    points = {}
    for row in data["rows"]:
        measured = row["measures"][TIME]
        found = measured and measured["estimate"]
        if row["workload"] == workload and row["B"]["label"] in values and not row["failure"] and found \
                and found["low"] is not None:
            points[values[row["B"]["label"]]] = (found["low"], found["ratio"], found["high"])
    if points and data["A"]["label"] in values:
        points.setdefault(values[data["A"]["label"]], (1.0, 1.0, 1.0))
    return [(value, *points[value]) for value in sorted(points)]


def _matrix_cell(cell):
    """A cell as the template wants it: text, what stands below it, colour and how much of it."""
    if cell.why_not:
        return {"text": SHORT.get(cell.why_not, cell.why_not), "below": "", "kind": "none",
                "tint": 0, "best": False, "title": cell.why_not}
    is_a = (cell.low, cell.high) == (1.0, 1.0)
    title = "" if is_a else f"95 % interval {present.ratio(cell.low)} – {present.ratio(cell.high)}"
    return {
        "text": ("" if is_a or cell.significant else "~") + present.three_digits(cell.ratio),
        "below": "" if is_a else f"{present.three_digits(cell.low)} – {present.three_digits(cell.high)}",
        "kind": "none" if not cell.significant else "less" if cell.ratio < 1 else "more",
        "tint": round(min(0.5, 0.1 + 0.15 * abs(math.log2(cell.ratio))), 2) if cell.significant else 0,
        "best": cell.best,
        "title": title,
    }


def _matrices(data):
    """Those of time and of memory, where there are several others."""
    if len(data["others"]) < 2:
        return []
    made = []
    for measure, title in ((TIME, "Time"), ("peak_rss", "Peak resident memory")):
        lines = matrix(data, measure)
        if lines:
            means, over = geometric_means(lines)
            made.append({
                "title": title, "id": f"matrix-{slug(title)}",
                "lines": [{"name": line.workload, "cells": [_matrix_cell(cell) for cell in line.cells]}
                          for line in lines],
                "over": over, "means": [present.three_digits(mean) for mean in means] if over > 1 else None,
            })
    return made


def _both(plot):
    """A plot in the two widths between which the page's style chooses."""
    return [(kind, made) for kind, made in (("narrow", plot(False)), ("wide", plot(True))) if made]


def _section(data, other, plotter, letter):
    rows = [row for row in data["rows"] if row["B"]["label"] == other["label"]]
    details = [{"name": row["workload"], "id": slug(row["workload"]), "about": row["about"], "command":
                " ".join([*(f"{n}={v}" for n, v in row["environment"].items()), *row["command"]]),
                "pinned": row["pinned"], "load": row["machine"]["load"],
                "lines": _further(row), "counted": _counted(row),
                "per": next((c["per"] for c in (row["counters"] or {}).values()), None)}
               for row in rows if not row["failure"] and row["pairs"]]
    sound = [row for row in rows if not row["failure"]]
    return {
        "other": other,
        "letter": letter,
        "id": f"{letter.strip('#')}-{slug(other['label'])}".lower(),
        "times": [_times(row) for row in rows],
        "forest": _both(lambda wide: plotter.forest(rows, wide)),
        "memory": [plot for plot in map(plotter.memory, sound) if plot],
        "latency": [plot for plot in map(plotter.latency, sound) if plot],
        "details": details,
        "differences": differences(data["A"], other),
        "built_here": other["options"] is not None and data["A"]["options"] is not None,
    }


def _downloads(data):
    """(title, name of the file, link with its content), so that the page needs nothing beside it. What is too large
    stands beside the page only."""
    titles = {"csv": "Summary as CSV", "runs.csv": "All runs as CSV", "md": "Tables as Markdown"}
    made = []
    for ending, make in export.FILES:
        content = make(data).encode()
        if len(content) <= MOST_EMBEDDED:
            kind = "text/markdown" if ending == "md" else "text/csv"
            made.append((titles[ending], f"comparison.{ending}",
                         f"data:{kind};base64,{base64.b64encode(content).decode()}"))
    return made


def html(data):
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).resolve().parent), autoescape=True,
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    data = without_folders(data, data["root"])
    plotter = Plotter(data)
    names, colours = present.letters(data), slots(data)
    started = datetime.fromisoformat(data["started"])
    *claims, corrected = present.headline(data)
    workloads = workload_names(data)
    values = sweep_values(data)
    curves = [plot for plot in (plotter.sweep(name, _sweep_points(data, name, values)) for name in workloads)
              if plot] if values else []
    several = len(data["others"]) > 1
    libraries = [{**library, "letter": names[library["label"]], "slot": colours[library["label"]]}
                 for library in (data["A"], *data["others"])]
    return environment.get_template(TEMPLATE).render(
        data=data, claims=claims, corrected=corrected, started=f"{started:%Y-%m-%d %H:%M}",
        warnings=present.warnings(data), libraries=libraries, slots=range(LIBRARIES),
        short=max(len(library["label"]) for library in libraries) <= SHORT_LABEL,
        failures=present.failures(data),
        matrices=_matrices(data), curves=curves,
        overview=_both(lambda wide: plotter.overview(workloads, wide)) if several else [],
        runs=[plot for plot in map(plotter.runs, workloads) if plot],
        sections=[_section(data, other, plotter, names[other["label"]]) for other in data["others"]],
        rows_told=sum(map(present.told, data["rows"])), downloads=_downloads(data),
        machine=[(title, data["machine"].get(name, NOT_AVAILABLE)) for name, title in MACHINE])


def write(data, path):
    """Writes the page; it is never there by half."""
    text = html(data)
    temporary = f"{path}.{os.getpid()}"
    with open(temporary, "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(temporary, path)
