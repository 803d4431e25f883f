# SPDX-License-Identifier: MIT
"""A comparison as data, which is kept as a JSON file: every single run, so that other figures can
follow later, and all that the table and the page show, so that they can be drawn again."""

import json
import math
import os
import re
import statistics
from dataclasses import asdict, dataclass
from datetime import datetime
from itertools import zip_longest
from pathlib import Path

from .estimate import CONFIDENCE, estimate, estimate_apart, holm
from .runs import Run

FORMAT = 3
READABLE = (2, FORMAT)
ROOT = Path(__file__).resolve().parent.parent.parent
CURVE_POINTS = 200
MOST_NAME = 40  # characters of a file that are the labels'
RESAMPLES = 1999  # for all but the time


class RecordError(Exception):
    """The file is no record; the message says why."""


@dataclass(frozen=True)
class Measure:
    """What is taken of a run, besides the time: less is better."""
    name: str
    title: str
    unit: str

    def of(self, run):
        """The figure, or None where the run has none."""
        if self.name == "faults":
            return run.minor_faults + run.major_faults
        if self.name == "switches":
            return run.voluntary_switches + run.involuntary_switches
        if self.name == "processor":
            return run.user_seconds + run.system_seconds
        if self.name == "peak_rss":
            return run.peak_rss_kib / 1024
        if self.name == "rss_seconds":
            return run.rss_mib_seconds
        return run.latency_ns.get(self.name)


TIME = "time"
MEASURES = (
    Measure("processor", "processor time", "s"),
    Measure("peak_rss", "peak resident memory", "MiB"),
    Measure("rss_seconds", "resident memory over time", "MiB s"),
    Measure("faults", "page faults", ""),
    Measure("switches", "context switches", ""),
    Measure("p50", "latency, median", "ns"),
    Measure("p99", "latency, 99 %", "ns"),
    Measure("p999", "latency, 99.9 %", "ns"),
    Measure("max", "latency, worst", "ns"),
)


def _estimated(found):
    return found and {**asdict(found), "faster": found.faster}


def _measured(values_a, values_b, estimator=estimate):
    """Medians and ratio of one measure; None where a run does not give it."""
    if not values_a or not values_b or None in values_a or None in values_b:
        return None
    # There is no ratio to nothing.
    ratio = estimator(values_a, values_b, RESAMPLES) if min(values_a + values_b) > 0 else None
    return {"A": statistics.median(values_a), "B": statistics.median(values_b),
            "estimate": _estimated(ratio)}


def _time(runs_a, runs_b, estimator=estimate):
    seconds = [[run.seconds for run in runs] for runs in (runs_a, runs_b)]
    found = estimator(*seconds)
    if not found:
        return None
    ns = [[run.ns_per_op for run in runs] for runs in (runs_a, runs_b)]
    of_operations = None not in ns[0] + ns[1]
    medians = [statistics.median(values) for values in (ns if of_operations else seconds)]
    return {"A": medians[0], "B": medians[1], "unit": "ns" if of_operations else "s",
            "estimate": _estimated(found)}


def _curve(runs):
    """Resident memory over time of the run that is in the middle: [[seconds, MiB], …]."""
    sampled = [run for run in runs if run.rss_mib_seconds is not None]
    if not sampled:
        return None
    samples = sorted(sampled, key=lambda run: run.rss_mib_seconds)[len(sampled) // 2].rss
    step = math.ceil(len(samples) / CURVE_POINTS)
    return [[milliseconds / 1000, round(kib / 1024, 2)] for milliseconds, kib in samples[::step]]


def _measures(runs_a, runs_b, estimator=estimate):
    return {TIME: _time(runs_a, runs_b, estimator),
            **{measure.name: _measured([measure.of(run) for run in runs_a], [measure.of(run) for run in runs_b],
                                       estimator) for measure in MEASURES}}


def _library(library):
    data = asdict(library)
    del data["copy"]
    return data


def _run(run):
    data = asdict(run)
    del data["rss"]
    return data


def _row(trial, row, comparison, machine):
    a, b = comparison.a, row.b
    runs_a, runs_b = [run for run, _ in row.pairs], [run for _, run in row.pairs]
    counters = {letter: asdict(trial.counters[library.label])
                for letter, library in (("A", a), ("B", b)) if library.label in trial.counters}
    return {
        "workload": row.workload.name,
        "about": row.workload.about,
        "command": [comparison.runner.known(word)
                    for word in comparison.runner.filled(row.workload, row.workload.command)],
        "environment": row.workload.environment,
        "compared": row.workload.measure,
        "A": {"label": a.label, "identity": a.identity},
        "B": {"label": b.label, "identity": b.identity},
        "machine": {**machine, "load": row.load()},
        "pinned": trial.pinned,
        "pairs": len(row.pairs),
        "narrow": row.narrow,
        "measures": _measures(runs_a, runs_b),
        "counters": counters or None,
        "rss": {"A": _curve(runs_a), "B": _curve(runs_b)},
        "failure": row.failure,
        "to_repeat": row.command,
        "skipped": row.skipped,
        "runs": [{"round": round_, "order": order, "A": _run(run_a), "B": _run(run_b)}
                 for round_, order, (run_a, run_b) in zip(row.rounds, row.orders, row.pairs)],
    }


def correct(rows):
    """Adds to each row that names a winner whether it may be claimed together with all others."""
    estimates = [row["measures"][TIME] and row["measures"][TIME]["estimate"] for row in rows]
    for row, found, p in zip(rows, estimates, holm([found and found["p"] for found in estimates])):
        row["p_corrected"] = p
        row["claimed"] = found["faster"] if found and p is not None and p < 1 - CONFIDENCE else None


def as_data(comparison, machine, started, counted="not asked for", sweep=None, spoiled=(), replaced=()):
    """`sweep` is the option whose values the others differ in; `spoiled` and `replaced` are those of Copies."""
    trials = {id(row): trial for trial in comparison.trials for row in trial.rows}
    rows = [_row(trials[id(row)], row, comparison, machine) for row in comparison.rows]
    correct(rows)
    return {
        "format": FORMAT,
        "started": started.isoformat(timespec="seconds"),
        "seconds": round(comparison.seconds, 1),
        "budget": comparison.budget,
        "width": comparison.width,
        "seed": comparison.seed,
        "interrupted": comparison.interrupted,
        "machine": machine,
        "enough_budget": comparison.enough_budget(),
        "root": str(ROOT),
        "sweep": sweep,
        "spoiled": list(spoiled),
        "replaced": list(replaced),
        "counters": counted,
        "A": _library(comparison.a),
        "others": [_library(library) for library in comparison.others],
        "rows": rows,
    }


def link(path, name):
    """Makes `name`, beside the file, a link to it, whatever it was."""
    latest = os.path.join(os.path.dirname(path), name)
    temporary = f"{latest}.{os.getpid()}"
    os.symlink(os.path.basename(path), temporary)
    os.replace(temporary, latest)


def write(data, started, folder):
    """Writes the record, and `latest.json` as a link to it; returns its path."""
    os.makedirs(folder, exist_ok=True)
    labels = "-".join([data["A"]["label"], *(library["label"] for library in data["others"])])
    labels = "".join(c if c.isalnum() or c in "-+=._@~" else "_" for c in labels)[:MOST_NAME]
    name = f"{started:%Y%m%d-%H%M%S}-{labels}.json"
    path = os.path.join(folder, name)
    with open(path, "w", encoding="utf-8") as file:
        json.dump(data, file, indent=1)
        file.write("\n")
    link(path, "latest.json")
    return path


def read(path):
    """The data of a record. Raises RecordError."""
    try:
        with open(path, encoding="utf-8") as file:
            data = json.load(file)
    except OSError as error:
        raise RecordError(f"{path}: {error.strerror}; `scons ab` makes a record") from None
    except ValueError as error:
        raise RecordError(f"{path} is not JSON: {error}") from None
    if not isinstance(data, dict) or data.get("format") not in READABLE:
        raise RecordError(f"{path} is no record of this version (format {FORMAT}); measure anew "
                          "with `scons ab`")
    # What format 2 did not know.
    for name, value in (("enough_budget", None), ("root", str(ROOT)), ("sweep", None), ("spoiled", []),
                        ("replaced", [])):
        data.setdefault(name, value)
    for row in data["rows"]:
        for number, pair in enumerate(row["runs"]):
            pair.setdefault("round", number)
    return data


# ── Two records ─────────────────────────────────────────────────────────────────────────────────────


def _find(data, label, path):
    for library in (data["A"], *data["others"]):
        if library["label"] == label:
            return library
    known = ", ".join(library["label"] for library in (data["A"], *data["others"]))
    raise RecordError(f"{path}: there is no {label!r} in it; it has {known}")


def _measured_rows(data, label):
    """{workload: (row, letter)} of a library: where its runs are."""
    letter = "A" if label == data["A"]["label"] else "B"
    found = {}
    for row in data["rows"]:
        if row[letter]["label"] == label and (row["workload"] not in found or not row["failure"] and row["pairs"]):
            found[row["workload"]] = row, letter
    return found


def _runs_of(row, letter):
    return [Run(**pair[letter]) for pair in row["runs"] if pair[letter]]


def _arguments(row):
    """Without the folders, which differ from tree to tree."""
    return [os.path.basename(word) for word in row["command"]], row["compared"]


def _apart(first, second):
    """A row from runs of two records; each argument is (row, letter)."""
    (row_a, letter_a), (row_b, letter_b) = first, second
    runs_a, runs_b = _runs_of(*first), _runs_of(*second)
    failed = next((row for row in (row_a, row_b) if row["failure"]), None)
    failure, command = (failed["failure"], failed["to_repeat"]) if failed else (None, None)
    results = {run.result for run in runs_a + runs_b}
    if not failure and (_arguments(row_a) != _arguments(row_b) or len(results) > 1):
        failure, command = "the two records ran other work under this name", " ".join(row_b["command"])
    counters = {letter: row["counters"][side] for letter, row, side in
                (("A", row_a, letter_a), ("B", row_b, letter_b)) if row["counters"] and side in row["counters"]}
    return {
        **row_b,
        "A": row_a[letter_a], "B": row_b[letter_b],
        "pairs": min(len(runs_a), len(runs_b)),
        "measures": _measures(runs_a, runs_b, estimate_apart),
        "counters": counters or None,
        "rss": {"A": row_a["rss"][letter_a], "B": row_b["rss"][letter_b]},
        "failure": failure, "to_repeat": command,
        "skipped": row_a["skipped"] or row_b["skipped"],
        "runs": [{"round": number, "order": "", "A": a and _run(a), "B": b and _run(b)}
                 for number, (a, b) in enumerate(zip_longest(runs_a, runs_b))],
    }


def _rows_apart(first, second, label_a, label_b):
    rows_a, rows_b = _measured_rows(first, label_a), _measured_rows(second, label_b)
    rows = [_apart(rows_a[name], rows_b[name]) for name in rows_a if name in rows_b]
    correct(rows)
    return rows


def _same(a, b):
    return a["digest"] == b["digest"] and a["identity"] == b["identity"]


def compare(first_path, second_path):
    """The data of a comparison between libraries of two stored records: A of each, or FILE#LABEL. What both
    records measured, as the system's malloc, is the control: it shows how the machine has changed. Raises
    RecordError."""
    (path_a, _, label_a), (path_b, _, label_b) = (str(path).partition("#") for path in (first_path, second_path))
    first, second = read(path_a), read(path_b)
    label_a, label_b = label_a or first["A"]["label"], label_b or second["A"]["label"]
    a, b = _find(first, label_a, path_a), _find(second, label_b, path_b)
    rows = _rows_apart(first, second, label_a, label_b)
    if not rows:
        raise RecordError(f"{path_a} and {path_b} have no workload in common")
    control = []
    for library in (first["A"], *first["others"]):
        for other in (second["A"], *second["others"]):
            chosen = (library["label"], other["label"]) == (label_a, label_b)
            if _same(library, other) and not chosen:
                control += [{"library": library["label"], "workload": row["workload"], "claimed": row["claimed"],
                             "estimate": row["measures"][TIME]["estimate"]}
                            for row in _rows_apart(first, second, library["label"], other["label"])
                            if row["measures"][TIME] and not row["failure"]]
    if a["label"] == b["label"]:
        # Equal labels are told apart by when they were measured, to the second if need be.
        times = [datetime.fromisoformat(data["started"]) for data in (first, second)]
        shape = "%Y-%m-%d %H:%M" if f"{times[0]:%Y%m%d%H%M}" != f"{times[1]:%Y%m%d%H%M}" else "%Y-%m-%d %H:%M:%S"
        labels = [f"{one['label']} of {time.strftime(shape)}" for one, time in zip((a, b), times)]
        if labels[0] == labels[1]:
            labels = [f"{label} ({number})" for number, label in enumerate(labels, 1)]
        a, b = ({**one, "label": label} for one, label in zip((a, b), labels))
        for row in rows:
            row["A"], row["B"] = {**row["A"], "label": a["label"]}, {**row["B"], "label": b["label"]}
    differing = [name for name in first["machine"]
                 if name != "load" and first["machine"][name] != second["machine"].get(name)]
    return {
        **second,
        "format": FORMAT,
        "interrupted": first["interrupted"] or second["interrupted"],
        "seconds": first["seconds"] + second["seconds"],
        "enough_budget": None,
        "sweep": None,
        "spoiled": [*first["spoiled"], *second["spoiled"]],
        "replaced": [],
        "apart": {"started": [first["started"], second["started"]], "machine": differing, "control": control},
        "A": a,
        "others": [b],
        "rows": rows,
    }


# ── How builds differ ───────────────────────────────────────────────────────────────────────────────

IDENTITY = re.compile(r"hakmem \S+ \S+ revision (?P<revision>\S+) config \S+ compiler (?P<compiler>.*) "
                      r"flags (?P<flags>\S+)")


def built_differently(a, b):
    """[(what, of A, of B), …] in which two builds differ, their configuration apart: compiler, flags and, where
    no side was asked for by its revision, the revision. Empty if one is no build of this project."""
    built = [IDENTITY.match(library["identity"]) for library in (a, b)]
    if not all(built):
        return []
    asked = any("@" in library["label"] for library in (a, b))
    return [(name, built[0][name], built[1][name]) for name in ("compiler", "flags", "revision")
            if built[0][name] != built[1][name] and not (asked and name == "revision")]
