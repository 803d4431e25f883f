# SPDX-License-Identifier: MIT
"""A record for other programs: CSV, a line for each workload and library or for each run, and Markdown."""

import csv
import io

from . import present
from .matrix import geometric_means, matrix
from .record import MEASURES, TIME

SUMMARY = ("workload", "library", "measure", "unit", "pairs", "median_of_A", "median", "ratio_to_A", "low", "high",
           "p", "p_corrected", "verdict_on_A", "failure")
RUN = ("seconds", "ns_per_op", "operations", "wall_seconds", "user_seconds", "system_seconds", "peak_rss_kib",
       "rss_mib_seconds", "minor_faults", "major_faults", "voluntary_switches", "involuntary_switches", "threads")


def _csv(header, lines):
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(lines)
    return text.getvalue()


def _blank(value):
    """What there is no figure for is empty, never 0."""
    return "" if value is None else value


def summary_csv(data):
    """Medians, ratios and intervals: a line for each workload, library compared with A, and measure."""
    lines = []
    for row in data["rows"]:
        said, _ = present.verdict(row)
        start = [row["workload"], row["B"]["label"]]
        if row["failure"] or not row["measures"][TIME]:
            lines.append([*start, TIME, "", row["pairs"], *[""] * 7, said, _blank(row["failure"])])
            continue
        units = {TIME: row["measures"][TIME]["unit"], **{measure.name: measure.unit for measure in MEASURES}}
        for name, unit in units.items():
            measured = row["measures"][name]
            if not measured:
                continue
            found = measured["estimate"] or {}
            figures = [_blank(found.get(key)) for key in ("ratio", "low", "high", "p")]
            of_time = [_blank(row["p_corrected"]), said] if name == TIME else ["", ""]
            lines.append([*start, name, unit, row["pairs"], measured["A"], measured["B"], *figures, *of_time, ""])
    return _csv(SUMMARY, lines)


def runs_csv(data):
    """Every run, in the order of its workload's rounds. A's run of a round stands there once, whatever it is compared with."""
    seen, lines = set(), []
    for row in data["rows"]:
        for pair in row["runs"]:
            for side in "AB":
                run, key = pair[side], (row["workload"], row[side]["label"], pair["round"])
                if run and key not in seen:
                    seen.add(key)
                    lines.append([*key, *(_blank(run[name]) for name in RUN),
                                  *(_blank(run["latency_ns"].get(name)) for name in ("p50", "p99", "p999", "max"))])
    lines.sort(key=lambda line: (line[0], line[2]))
    return _csv(("workload", "library", "round", *RUN, "p50_ns", "p99_ns", "p999_ns", "max_ns"), lines)


def _escaped(text):
    return str(text).replace("|", "\\|").replace("\n", " ")


def _table(header, lines):
    def shown(cells):
        return "| " + " | ".join(_escaped(cell) for cell in cells) + " |"
    return [shown(header), "|---|" + "---:|" * (len(header) - 1), *map(shown, lines)]


def markdown(data):
    """The warnings, the matrix if there are several others, a table for each of them, the headline."""
    names = present.letters(data)
    text = [f"# {data['A']['label']} vs {', '.join(other['label'] for other in data['others'])}", ""]
    for line in present.warnings(data):
        text += [f"> {_escaped(line)}", ""]
    text += [f"- {line}" for line in present.headline(data)] + [""]
    lines = matrix(data)
    if len(data["others"]) > 1 and lines:
        text += [f"Time in multiples of that of {data['A']['label']}; best in bold; ~: {present.NO_DIFFERENCE}.", ""]
        rows = [[line.workload, *(f"**{present.cell_text(cell).rstrip('*')}**" if cell.best
                                  else present.cell_text(cell) for cell in line.cells)] for line in lines]
        means, over = geometric_means(lines)
        if over > 1:
            rows.append([f"geometric mean of {over}", *map(present.three_digits, means)])
        text += [*_table(["workload", *names], rows), ""]
    for other in data["others"]:
        rows = []
        for row in (row for row in data["rows"] if row["B"]["label"] == other["label"]):
            said, _ = present.verdict(row)
            found = row["measures"][TIME] and not row["failure"] and row["measures"][TIME]["estimate"]
            rows.append([row["workload"], row["pairs"], present.shown_time(row, "A"), present.shown_time(row, "B"),
                         present.ratio(found["ratio"]) if found else "", present.interval(found) if found else "",
                         row["failure"] or said])
        if rows:
            text += [*_table(["workload", "pairs", data["A"]["label"], other["label"],
                              f"{names[other['label']]}/A", "95 % interval", f"{data['A']['label']} is"], rows), ""]
    text += [f"- {names[library['label']]}, {library['label']}: `{library['identity']}`"
             for library in (data["A"], *data["others"])]
    machine = data["machine"]
    text += ["", f"{data['started']}, {data['seconds']:.0f} s, {machine['kernel']}, {machine['cpu']}, "
             f"{machine['cpus']} CPUs, load {machine['load']} at the start."]
    return "\n".join(text) + "\n"


# What is written beside a page: the end of its name, and how it is made.
FILES = (("csv", summary_csv), ("runs.csv", runs_csv), ("md", markdown))
