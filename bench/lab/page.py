# SPDX-License-Identifier: MIT
"""A record as one HTML page that needs nothing else: no network, no script."""

from __future__ import annotations

import base64
import math
import os
import re
import shlex
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Callable

from . import export
from .counters import Counted
from .figures import LIBRARIES, Plotter, slots
from .libraries import Library
from .matrix import FAILED, FEW, Cell, geometric_means, matrix, workload_names
from .record import MEASURES, TIME, Record, Row, decode
from .text import NONE, SHOWN, interval, letters, of_machines, ratio, shown_time, three_digits
from .verdict import enough, failures, headline, verdict, warnings

TEMPLATE = "report.html.j2"
SHORT = {FEW: "few", FAILED: "fail"}  # in a cell of the matrix
SHORT_LABEL = 10  # characters that a column of the matrix has room for
MOST_EMBEDDED = 500_000  # bytes of a file that the page carries along
MACHINE = (("cpu", "processor"), ("cpus", "processors that could be used"), ("memory", "memory"),
           ("kernel", "kernel"), ("governor", "frequency governor"),
           ("huge_pages", "transparent huge pages"), ("layout", "address-space layout"),
           ("priority", "priority of what was measured"),
           ("load", "load at the start"))
COUNTERS = (("cycles", "cycles"), ("instructions", "instructions"), ("branches", "branches"),
            ("branch_misses", "branch misses"), ("l1_misses", "L1 misses"))


Plots = list[tuple[str, Any]]  # ("narrow" or "wide", SVG)


# ── What the template is given ──────────────────────────────────────────────────────────────────────


@dataclass(frozen=True)
class ShownLibrary:
    label: str
    identity: str
    letter: str
    slot: int  # of its colour


@dataclass(frozen=True)
class TimesLine:
    name: str
    id: str
    about: str
    pairs: int
    A: str
    B: str
    ratio: str
    interval: str
    said: str
    shade: str
    failure: str | None


@dataclass(frozen=True)
class MeasureLine:
    title: str
    A: str
    B: str
    ratio: str = ""
    interval: str = ""


@dataclass(frozen=True)
class Details:
    """The further measures of a row."""
    name: str
    id: str
    about: str
    command: str
    pinned: bool
    load: float | None
    lines: list[MeasureLine]
    counted: list[MeasureLine]
    per: str | None  # what a count is of
    machines: list[tuple[str, int, str, str]]  # of several: name, pairs, ratio, interval


@dataclass(frozen=True)
class MatrixCell:
    text: str
    below: str
    kind: str  # less, more or none: its colour
    tint: float  # how much of it
    best: bool
    title: str


@dataclass(frozen=True)
class MatrixLine:
    name: str
    cells: list[MatrixCell]


@dataclass(frozen=True)
class MatrixTable:
    title: str
    id: str
    lines: list[MatrixLine]
    over: int  # rows that the means are of
    means: list[str]


@dataclass(frozen=True)
class Section:
    """A compared with one of the others."""
    other: Library
    id: str
    times: list[TimesLine]
    forest: Plots
    memory: list[Any]
    latency: list[Any]
    details: list[Details]
    differences: list[tuple[str, str, str]] | None


def differences(a: Library, b: Library) -> list[tuple[str, str, str]] | None:
    """[(symbol, value in A, value in B), …] of two libraries' options; None if one is not known."""
    if a.options is None or b.options is None:
        return None

    def shown(name: str, options: dict[str, str], other: dict[str, str]) -> str:
        # A yes-or-no option that is off has no macro, and is 1 when on.
        value, theirs = options.get(name), other.get(name)
        if {value, theirs} == {None, "1"}:
            return "y" if value else "n"
        return "-" if value is None else value
    names = [*a.options, *(name for name in b.options if name not in a.options)]
    return [(name, shown(name, a.options, b.options), shown(name, b.options, a.options))
            for name in names if a.options.get(name) != b.options.get(name)]


def _times(row: Row) -> TimesLine:
    found = verdict(row)
    estimate = row.time.estimate if row.time else None
    return TimesLine(row.workload, slug(row.workload), row.about, row.pairs, shown_time(row, "A"), shown_time(row, "B"),
                     ratio(estimate.ratio) if estimate else NONE, interval(estimate, "–"), found.words, found.shade,
                     row.failure)


def _further(row: Row) -> list[MeasureLine]:
    """The further measures that a row has."""
    lines = []
    if row.time and row.time.title:
        better = "higher" if row.time.higher else "lower"
        lines.append(MeasureLine(f"{row.time.title} ({better} is better)", shown_time(row, "A"), shown_time(row, "B"),
                                 ratio(row.time.estimate.ratio) if row.time.estimate else "–",
                                 interval(row.time.estimate, "–")))
    for measure in MEASURES:
        if measured := row.measure(measure.name):
            show = SHOWN[measure.name]
            unit = f" {measure.unit}" if measure.unit not in ("", "ns", "s") else ""
            estimate = measured.estimate
            lines.append(MeasureLine(measure.title, show(measured.A) + unit, show(measured.B) + unit,
                                     ratio(estimate.ratio) if estimate else "–", interval(estimate, "–")))
    return lines


def _counted(row: Row) -> list[MeasureLine]:
    """The counters of a row; empty if nothing was counted."""
    counters = row.counters
    if not counters:
        return []

    a, b = (counters.get(letter) for letter in "AB")

    def line(title: str, value: Callable[[Counted], float | None]) -> MeasureLine:
        return MeasureLine(title, *(three_digits(value(counted) if counted else None) for counted in (a, b)))

    def of(name: str) -> Callable[[Counted], float | None]:
        return lambda counted: counted.values.get(name)
    lines = [line(title, of(name)) for name, title in COUNTERS]
    lines.insert(1, line("instructions per cycle", lambda counted: counted.instructions_per_cycle))
    return lines


def slug(text: str) -> str:
    """What an anchor can be called."""
    return re.sub(r"\W+", "-", text).strip("-").lower()


ABSOLUTE = re.compile(r"(?<![\w.~/-])(?!/dev/)(?:/[\w.+@=,~%-]+)+/([\w.+@=,~%-]*)")


def _without_folders(value: Any, root: str) -> Any:
    if isinstance(value, dict):
        return {name: _without_folders(part, root) for name, part in value.items()}
    if isinstance(value, list):
        return [_without_folders(part, root) for part in value]
    return ABSOLUTE.sub(r"\1", value.replace(f"{root}/", "")) if isinstance(value, str) else value


def without_folders(data: Record) -> Record:
    """The same data, in which paths below the root of the sources begin there, and others are their last part: a
    page is shown to others, to whom folders of this machine say nothing."""
    return decode(Record, _without_folders(asdict(data), data.root))  # type: ignore[no-any-return]


def sweep_values(data: Record) -> dict[str, int]:
    """{label: value} of those that a sweep has measured, A with its own; empty where there was none, or where
    values are no numbers."""
    name = data.sweep
    found = {}
    for library in (data.A, *data.others):
        given = re.search(rf"\b{re.escape(name or '-')}=(\w+)", library.label)
        text = given[1] if given else (library.options or {}).get(name or "", "")
        if re.fullmatch(r"\d+|0[xX][0-9a-fA-F]+", text):
            found[library.label] = int(text, 0)
    return found if name and len(found) > 1 else {}


def _sweep_points(data: Record, workload: str, values: dict[str, int]) -> list[tuple[float, float, float, float]]:
    """(value, low, ratio, high), in order of the values. A is 1 where it is itself no value of the sweep."""
    points = {}
    for row in data.rows:
        found = row.time and row.time.estimate
        if row.workload == workload and row.B.label in values and not row.failure and found \
                and found.low is not None and found.high is not None:
            points[values[row.B.label]] = (found.low, found.ratio, found.high)
    if points and data.A.label in values:
        points.setdefault(values[data.A.label], (1.0, 1.0, 1.0))
    return [(value, *points[value]) for value in sorted(points)]


def _matrix_cell(cell: Cell) -> MatrixCell:
    """A cell as the template wants it: text, what stands below it, colour and how much of it."""
    if cell.why_not:
        return MatrixCell(SHORT.get(cell.why_not, cell.why_not), "", "none", 0, False, cell.why_not)
    is_a = (cell.low, cell.high) == (1.0, 1.0)
    title = "" if is_a else f"95 % interval {ratio(cell.low)} – {ratio(cell.high)}"
    return MatrixCell(
        text=("" if is_a or cell.significant else "~") + three_digits(cell.ratio),
        below="" if is_a else f"{three_digits(cell.low)} – {three_digits(cell.high)}",
        kind="none" if not cell.significant else "less" if cell.ratio < 1 else "more",
        tint=round(min(0.5, 0.1 + 0.15 * abs(math.log2(cell.ratio))), 2) if cell.significant else 0,
        best=cell.best,
        title=title,
    )


def _matrices(data: Record) -> list[MatrixTable]:
    """Those of time and of memory, where there are several others."""
    if len(data.others) < 2:
        return []
    made = []
    for measure, title in ((TIME, "Time"), ("peak_rss", "Peak resident memory")):
        lines = matrix(data, measure)
        if lines:
            means, over = geometric_means(lines)
            made.append(MatrixTable(
                title, f"matrix-{slug(title)}",
                [MatrixLine(line.workload, [_matrix_cell(cell) for cell in line.cells]) for line in lines],
                over, [three_digits(mean) for mean in means] if over > 1 else []))
    return made


def _both(plot: Callable[[bool], Any]) -> Plots:
    """A plot in the two widths between which the page's style chooses."""
    return [(kind, made) for kind, made in (("narrow", plot(False)), ("wide", plot(True))) if made]


def _details(row: Row) -> Details:
    settings = [f"{name}={shlex.quote(value)}" for name, value in row.environment.items()]
    per = next((counted.per for counted in (row.counters or {}).values()), None)
    return Details(row.workload, slug(row.workload), row.about, " ".join([*settings, shlex.join(row.command)]), row.pinned,
                   row.machine.load, _further(row), _counted(row), per, of_machines(row))


def _section(data: Record, other: Library, plotter: Plotter, letter: str) -> Section:
    rows = [row for row in data.rows if row.B.label == other.label]
    sound = [row for row in rows if not row.failure]
    return Section(
        other=other,
        id=f"{letter.strip('#')}-{slug(other.label)}".lower(),
        times=[_times(row) for row in rows],
        forest=_both(lambda wide: plotter.forest(rows, wide)),
        memory=[plot for plot in map(plotter.memory, sound) if plot],
        latency=[plot for plot in map(plotter.latency, sound) if plot],
        details=[_details(row) for row in sound if row.pairs],
        differences=differences(data.A, other),
    )


def _downloads(data: Record) -> list[tuple[str, str, str]]:
    """(title, name of the file, link with its content), so that the page needs no other file. What is too large
    is in the folder of the page only."""
    titles = {"csv": "Summary as CSV", "runs.csv": "All runs as CSV", "md": "Tables as Markdown"}
    made = []
    for ending, make in export.FILES:
        content = make(data).encode()
        if len(content) <= MOST_EMBEDDED:
            kind = "text/markdown" if ending == "md" else "text/csv"
            made.append((titles[ending], f"comparison.{ending}",
                         f"data:{kind};base64,{base64.b64encode(content).decode()}"))
    return made


def html(data: Record) -> str:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).resolve().parent), autoescape=True,
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    data = without_folders(data)
    plotter = Plotter(data)
    names, colours = letters(data), slots(data)
    started = datetime.fromisoformat(data.started)
    *claims, corrected = headline(data)
    workloads = workload_names(data)
    values = sweep_values(data)
    curves = [plot for plot in (plotter.sweep(name, _sweep_points(data, name, values)) for name in workloads)
              if plot] if values else []
    several = len(data.others) > 1
    libraries = [ShownLibrary(library.label, library.identity, names[library.label], colours[library.label])
                 for library in (data.A, *data.others)]
    return environment.get_template(TEMPLATE).render(
        data=data, claims=claims, corrected=corrected, started=f"{started:%Y-%m-%d %H:%M}",
        warnings=warnings(data), libraries=libraries, slots=range(LIBRARIES),
        short=max(len(library.label) for library in libraries) <= SHORT_LABEL,
        failures=failures(data),
        matrices=_matrices(data), curves=curves,
        overview=_both(lambda wide: plotter.overview(workloads, wide)) if several else [],
        runs=[plot for plot in map(plotter.runs, workloads) if plot],
        sections=[_section(data, other, plotter, names[other.label]) for other in data.others],
        higher=any(row.time.higher for row in data.rows if row.time),
        rows_told=sum(map(enough, data.rows)), downloads=_downloads(data),
        machines=[(one.name, [(title, getattr(one, name)) for name, title in MACHINE])
                  for one in data.machines or [data.machine]])


def write(data: Record, path: str | Path) -> None:
    """Writes the page; it is never there by half."""
    text = html(data)
    temporary = f"{path}.{os.getpid()}"
    with open(temporary, "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(temporary, path)
