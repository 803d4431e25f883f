# SPDX-License-Identifier: MIT
"""A comparison as data, which is kept as a JSON file: every single run, so that other figures can
follow later, and all that the table and the page show, so that they can be drawn again."""

import json
import math
import os
import statistics
from dataclasses import asdict, dataclass

from .estimate import CONFIDENCE, estimate, holm

FORMAT = 2
CURVE_POINTS = 200
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


def _measured(values_a, values_b, resamples):
    """Medians and ratio of one measure; None where a run does not give it."""
    if not values_a or None in values_a or None in values_b:
        return None
    # There is no ratio to nothing.
    ratio = estimate(values_a, values_b, resamples) if min(values_a + values_b) > 0 else None
    return {"A": statistics.median(values_a), "B": statistics.median(values_b),
            "estimate": _estimated(ratio)}


def _time(row):
    found = row.estimate()
    if not found:
        return None
    ns = [[run.ns_per_op for run in runs] for runs in zip(*row.pairs)]
    seconds = [[run.seconds for run in runs] for runs in zip(*row.pairs)]
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
        "command": row.workload.filled(row.workload.command, comparison.runner.programs),
        "environment": row.workload.environment,
        "compared": row.workload.measure,
        "A": {"label": a.label, "identity": a.identity},
        "B": {"label": b.label, "identity": b.identity},
        "machine": {**machine, "load": row.load()},
        "pinned": trial.pinned,
        "pairs": len(row.pairs),
        "narrow": row.narrow,
        "measures": {
            TIME: _time(row),
            **{measure.name: _measured([measure.of(run) for run in runs_a],
                                       [measure.of(run) for run in runs_b], RESAMPLES)
               for measure in MEASURES},
        },
        "counters": counters or None,
        "rss": {"A": _curve(runs_a), "B": _curve(runs_b)},
        "failure": row.failure,
        "to_repeat": row.command,
        "skipped": row.skipped,
        "runs": [{"order": order, "A": _run(run_a), "B": _run(run_b)}
                 for order, (run_a, run_b) in zip(row.orders, row.pairs)],
    }


def correct(rows):
    """Adds to each row that names a winner whether it may be claimed beside all others."""
    estimates = [row["measures"][TIME] and row["measures"][TIME]["estimate"] for row in rows]
    for row, found, p in zip(rows, estimates, holm([found and found["p"] for found in estimates])):
        row["p_corrected"] = p
        row["claimed"] = found["faster"] if found and p is not None and p < 1 - CONFIDENCE else None


def as_data(comparison, machine, started, counted="not asked for"):
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
        "counters": counted,
        "A": asdict(comparison.a),
        "others": [asdict(library) for library in comparison.others],
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
    labels = "".join(c if c.isalnum() or c in "-+=._" else "_" for c in labels)[:80]
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
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise RecordError(f"{path} is no record of this version (format {FORMAT}); measure anew "
                          "with `scons ab`")
    return data
