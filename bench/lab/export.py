# SPDX-License-Identifier: MIT
"""A record for other programs: CSV, a line for each workload and library or for each run, and Markdown."""

from __future__ import annotations

import csv
import io
from typing import Any, Iterable, Sequence

from .present import cell_text
from .matrix import geometric_means, matrix
from .record import MEASURES, TIME, Record
from .text import interval, letters, of_machines, ratio, shown_time, three_digits
from .verdict import NO_DIFFERENCE, headline, verdict, warnings

SUMMARY = ("workload", "library", "measure", "unit", "pairs", "median_of_A", "median", "ratio_to_A", "low", "high",
           "p", "p_corrected", "verdict_on_A", "failure")
RUN = ("seconds", "ns_per_op", "operations", "metric", "wall_seconds", "user_seconds", "system_seconds", "peak_rss_kib",
       "rss_mib_seconds", "minor_faults", "major_faults", "voluntary_switches", "involuntary_switches", "threads")


def _csv(header: Sequence[str], lines: Iterable[Sequence[Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(lines)
    return text.getvalue()


def _blank(value: Any) -> Any:
    """What there is no figure for is empty, never 0."""
    return "" if value is None else value


def summary_csv(data: Record) -> str:
    """Medians, ratios and intervals: a line for each workload, library compared with A, and measure."""
    lines = []
    for row in data.rows:
        said = verdict(row).words
        start = [row.workload, row.B.label]
        if row.failure or not row.time:
            lines.append([*start, TIME, "", row.pairs, *[""] * 7, said, _blank(row.failure)])
            continue
        units = {TIME: row.time.unit, **{measure.name: measure.unit for measure in MEASURES}}
        for name, unit in units.items():
            measured = row.measure(name)
            if not measured:
                continue
            figures = [_blank(getattr(measured.estimate, key, None)) for key in ("ratio", "low", "high", "p")]
            of_time = [_blank(row.p_corrected), said] if name == TIME else ["", ""]
            lines.append([*start, name, unit, row.pairs, measured.A, measured.B, *figures, *of_time, ""])
    return _csv(SUMMARY, lines)


def runs_csv(data: Record) -> str:
    """Every run, in the order of its workload's rounds. A's run of a round stands there once, whatever it is compared with."""
    seen: set[tuple[str, str, int]] = set()
    lines: list[list[Any]] = []
    for row in data.rows:
        for pair in row.runs:
            for side in "AB":
                run, key = pair.side(side), (row.workload, row.side(side).label, pair.round)
                if run and key not in seen:
                    seen.add(key)
                    lines.append([*key, pair.machine, *(_blank(getattr(run, name)) for name in RUN),
                                  *(_blank(run.latency_ns.get(name)) for name in ("p50", "p99", "p999", "max"))])
    lines.sort(key=lambda line: (line[0], line[2]))
    return _csv(("workload", "library", "round", "machine", *RUN, "p50_ns", "p99_ns", "p999_ns", "max_ns"), lines)


def _escaped(text: Any) -> str:
    return str(text).replace("|", "\\|").replace("\n", " ")


def table(header: Sequence[Any], lines: Iterable[Sequence[Any]]) -> list[str]:
    def shown(cells: Sequence[Any]) -> str:
        return "| " + " | ".join(_escaped(cell) for cell in cells) + " |"
    return [shown(header), "|---|" + "---:|" * (len(header) - 1), *map(shown, lines)]


def markdown(data: Record) -> str:
    """The warnings, the matrix if there are several others, a table for each of them, the headline."""
    names = letters(data)
    text = [f"# {data.A.label} vs {', '.join(other.label for other in data.others)}", ""]
    for line in warnings(data):
        text += [f"> {_escaped(line)}", ""]
    text += [f"- {line}" for line in headline(data)] + [""]
    lines = matrix(data)
    if len(data.others) > 1 and lines:
        text += [f"Time in multiples of that of {data.A.label}; best in bold; ~: {NO_DIFFERENCE}.", ""]
        rows = [[line.workload, *(f"**{cell_text(cell).rstrip('*')}**" if cell.best
                                  else cell_text(cell) for cell in line.cells)] for line in lines]
        means, over = geometric_means(lines)
        if over > 1:
            rows.append([f"geometric mean of {over}", *map(three_digits, means)])
        text += [*table(["workload", *names], rows), ""]
    for other in data.others:
        lines_of_other: list[list[Any]] = []
        for row in (row for row in data.rows if row.B.label == other.label):
            said = verdict(row).words
            found = row.time.estimate if row.time and not row.failure else None
            lines_of_other.append([row.workload, row.pairs, shown_time(row, "A"), shown_time(row, "B"),
                         ratio(found.ratio) if found else "", interval(found) if found else "",
                         row.failure or said])
        if lines_of_other:
            text += [*table(["workload", "pairs", data.A.label, other.label,
                              f"{names[other.label]}/A", "95 % interval", f"{data.A.label} is"], lines_of_other), ""]
    text += [f"- {names[library.label]}, {library.label}: `{library.identity}`"
             for library in (data.A, *data.others)]
    told = [[row.workload, row.B.label, *line] for row in data.rows if not row.failure for line in of_machines(row)]
    if told:
        text += ["", *table(["workload", "library", "machine", "pairs", "ratio", "95 % interval"], told)]
    for machine in data.machines or [data.machine]:
        text += ["", f"{machine.name + ': ' if machine.name else ''}{data.started}, {data.seconds:.0f} s, {machine.kernel}, "
                 f"{machine.cpu}, {machine.cpus} CPUs, load {machine.load} at the start."]
    return "\n".join(text) + "\n"


# The files next to a page: the end of the name, and the function that makes the text.
FILES = (("csv", summary_csv), ("runs.csv", runs_csv), ("md", markdown))
