# SPDX-License-Identifier: MIT
"""A comparison as data, which is kept as a JSON file: every single run, so that other figures can
follow later, and all that the table and the page show, so that they can be drawn again. The dataclasses of this
module are the file's format, field by field; sides are called A and B there, too."""

from __future__ import annotations

import json
import math
import os
import re
import statistics
import types
import typing
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from datetime import datetime
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Any, Callable, Sequence, TypeVar

from .comparison import Comparison, Trial
from .comparison import Row as ComparisonRow
from .counters import Counted
from .estimate import CONFIDENCE, Estimate, estimate, estimate_apart, holm
from .libraries import Library
from .machine import Machine
from .runs import Run
from .workloads import Metric

FORMAT = 4
READABLE = (2, 3, FORMAT)
ROOT = Path(__file__).resolve().parent.parent.parent
CURVE_POINTS = 200
MOST_NAME = 40  # characters of a file that are the labels'
RESAMPLES = 1999  # for all but the time
T = TypeVar("T")
Estimator = Callable[..., "Estimate | None"]
Curve = list[list[float]]  # [[seconds, MiB], …]


class RecordError(Exception):
    """The file is no record; the message says why."""


@dataclass(frozen=True)
class Measure:
    """What is taken of a run, besides the time: less is better."""
    name: str
    title: str
    unit: str

    def of(self, run: Run) -> float | None:
        """The figure, or None where the run has none."""
        if self.name == "faults":
            return run.minor_faults + run.major_faults
        if self.name == "switches":
            return run.voluntary_switches + run.involuntary_switches
        if self.name == "processor":
            return run.user_seconds + run.system_seconds
        if self.name == "wall":
            return run.wall_seconds
        if self.name == "peak_rss":
            return run.peak_rss_kib / 1024
        if self.name == "rss_seconds":
            return run.rss_mib_seconds
        return run.latency_ns.get(self.name)


TIME = "time"
MEASURES = (
    Measure("wall", "elapsed time, start and end included", "s"),
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




@dataclass
class Measured:
    """One measure of a row: medians, and the ratio of the pairs. Above 1 the ratio speaks for A: it is B/A of a
    figure that is better lower, A/B of one that is better higher."""
    A: float
    B: float
    estimate: Estimate | None  # None: there is no ratio to nothing
    unit: str = ""
    title: str = ""  # of a figure that the program prints; empty for times and other measures
    higher: bool = False  # is better

    def side(self, letter: str) -> float:
        return self.A if letter == "A" else self.B


@dataclass
class Side:
    label: str
    identity: str


@dataclass
class Pair:
    """The runs of a round. Of two records compared, one side may have more runs than the other."""
    A: Run | None
    B: Run | None
    order: str = ""
    round: int = -1
    machine: str = ""  # its name, of one of several

    def side(self, letter: str) -> Run | None:
        return self.A if letter == "A" else self.B


@dataclass
class Row:
    """One workload under A and under one of the others."""
    workload: str
    about: str
    command: list[str]
    environment: dict[str, str]
    compared: str  # workloads.OWN_TIME, WALL_TIME or METRIC
    A: Side
    B: Side
    machine: Machine  # of several, the first; `runs` has that of each pair
    pinned: bool
    pairs: int
    narrow: bool
    measures: dict[str, Measured | None]
    counters: dict[str, Counted] | None
    rss: dict[str, Curve | None]
    failure: str | None
    to_repeat: str | None
    skipped: str | None
    runs: list[Pair]
    metric: Metric | None = None  # the figure of the program that is compared, if it is not a time
    p_corrected: float | None = None
    claimed: str | None = None  # "A" or "B", the one that is faster with the correction for all rows

    @property
    def time(self) -> Measured | None:
        """What is compared, which is most often a time."""
        return self.measures[TIME]

    def side(self, letter: str) -> Side:
        return self.A if letter == "A" else self.B

    def measure(self, name: str) -> Measured | None:
        """None also where the record is older than the measure."""
        return self.measures.get(name)


@dataclass
class Control:
    """A row of a library that two records have both measured."""
    library: str
    workload: str
    claimed: str | None
    estimate: Estimate | None


@dataclass
class Apart:
    """What two records that are compared have besides the rows."""
    started: list[str]
    machine: list[str]  # in what the machines differ
    control: list[Control]


@dataclass
class Record:
    format: int
    started: str
    seconds: float
    budget: float
    width: float
    seed: int
    interrupted: bool
    machine: Machine
    counters: str  # where they come from, or why there are none
    A: Library
    others: list[Library]
    rows: list[Row]
    enough_budget: float | None = None
    root: str = str(ROOT)
    sweep: str | None = None
    spoiled: list[str] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)
    apart: Apart | None = None
    machines: list[Machine] = field(default_factory=list)  # of several, those that pairs were made on
    lost: list[str] = field(default_factory=list)  # what they did not give, and why


# ── From runs to rows ───────────────────────────────────────────────────────────────────────────────


def _measured(values_a: Sequence[float | None], values_b: Sequence[float | None], unit: str,
              estimator: Estimator = estimate) -> Measured | None:
    """Medians and ratio of one measure; None where a run does not give it."""
    a, b = ([value for value in values if value is not None] for values in (values_a, values_b))
    if not a or not b or len(a) < len(values_a) or len(b) < len(values_b):
        return None
    found = estimator(a, b, RESAMPLES) if min(a + b) > 0 else None
    return Measured(statistics.median(a), statistics.median(b), found, unit)


def _time(runs_a: Sequence[Run], runs_b: Sequence[Run], metric: Metric | None,
          estimator: Estimator = estimate) -> Measured | None:
    found = estimator([run.seconds for run in runs_a], [run.seconds for run in runs_b])
    if not found:
        return None

    def medians(figure: Callable[[Run], float]) -> tuple[float, float]:
        return statistics.median(map(figure, runs_a)), statistics.median(map(figure, runs_b))
    if metric:
        return Measured(*medians(lambda run: run.metric or 0.0), found, metric.unit, metric.title, metric.higher)
    if all(run.ns_per_op is not None for run in [*runs_a, *runs_b]):
        return Measured(*medians(lambda run: run.ns_per_op or 0.0), found, "ns")
    return Measured(*medians(lambda run: run.seconds), found, "s")


def _curve(runs: Sequence[Run]) -> Curve | None:
    """Resident memory over time of the run that is in the middle."""
    sampled = [(run.rss_mib_seconds, run) for run in runs if run.rss_mib_seconds is not None]
    if not sampled:
        return None
    samples = sorted(sampled, key=lambda one: one[0])[len(sampled) // 2][1].rss
    step = math.ceil(len(samples) / CURVE_POINTS)
    return [[milliseconds / 1000, round(kib / 1024, 2)] for milliseconds, kib in samples[::step]]


def _measures(runs_a: Sequence[Run], runs_b: Sequence[Run], metric: Metric | None,
              estimator: Estimator = estimate) -> dict[str, Measured | None]:
    return {TIME: _time(runs_a, runs_b, metric, estimator),
            **{measure.name: _measured([measure.of(run) for run in runs_a], [measure.of(run) for run in runs_b],
                                       measure.unit, estimator) for measure in MEASURES}}


def _row(trial: Trial, row: ComparisonRow, comparison: Comparison, machine: Machine) -> Row:
    a, b = comparison.a, row.b
    runs_a, runs_b = [run for run, _ in row.pairs], [run for _, run in row.pairs]
    machines = row.machines or [""] * len(row.pairs)
    counters = {letter: trial.counters[library.label]
                for letter, library in (("A", a), ("B", b)) if library.label in trial.counters}
    known = comparison.runner.known
    return Row(
        workload=row.workload.name,
        about=row.workload.about,
        command=[known(word) for word in comparison.runner.filled(row.workload, row.workload.command)],
        environment=row.workload.environment,
        compared=row.workload.measure,
        A=Side(a.label, a.identity),
        B=Side(b.label, b.identity),
        machine=replace(machine, load=row.load()),
        pinned=trial.pinned,
        pairs=len(row.pairs),
        narrow=row.narrow,
        measures=_measures(runs_a, runs_b, row.workload.metric, partial(estimate, machines=row.machines)),
        counters=counters or None,
        rss={"A": _curve(runs_a), "B": _curve(runs_b)},
        failure=row.failure,
        to_repeat=row.command,
        skipped=row.skipped,
        runs=[Pair(replace(run_a, rss=[]), replace(run_b, rss=[]), order, round_, name)
              for round_, order, name, (run_a, run_b) in zip(row.rounds, row.orders, machines, row.pairs)],
        metric=row.workload.metric,
    )


def correct(rows: Sequence[Row]) -> None:
    """Says of each row that names a winner whether it may be claimed together with all others."""
    estimates = [row.time.estimate if row.time else None for row in rows]
    for row, found, p in zip(rows, estimates, holm([found.p if found else None for found in estimates])):
        row.p_corrected = p
        row.claimed = found.faster if found and p is not None and p < 1 - CONFIDENCE else None


def as_data(comparison: Comparison, machine: Machine, started: datetime, counted: str = "not asked for",
            sweep: str | None = None, spoiled: Sequence[str] = (), replaced: Sequence[str] = ()) -> Record:
    """`sweep` is the option whose values the others differ in; `spoiled` and `replaced` are those of Copies."""
    trials = {id(row): trial for trial in comparison.trials for row in trial.rows}
    made_on = {id(row): comparison.machines[row.machines[0]] if row.machines else machine for row in comparison.rows}
    rows = [_row(trials[id(row)], row, comparison, made_on[id(row)]) for row in comparison.rows]
    correct(rows)
    return Record(
        format=FORMAT,
        started=started.isoformat(timespec="seconds"),
        seconds=round(comparison.seconds, 1),
        budget=comparison.budget,
        width=comparison.width,
        seed=comparison.seed,
        interrupted=comparison.interrupted,
        machine=next(iter(comparison.machines.values()), machine),
        counters=counted,
        A=replace(comparison.a, copy=None),
        others=[replace(library, copy=None) for library in comparison.others],
        rows=rows,
        enough_budget=comparison.enough_budget(),
        sweep=sweep,
        spoiled=list(spoiled),
        replaced=list(replaced),
        machines=list(comparison.machines.values()),
        lost=comparison.lost,
    )


def by_machine(row: Row) -> dict[str, Estimate]:
    """The estimate of each machine's pairs alone; empty where machines have no names, as there is one only."""
    pairs: dict[str, list[tuple[Run, Run]]] = {}
    for pair in row.runs:
        if pair.machine and pair.A and pair.B:
            pairs.setdefault(pair.machine, []).append((pair.A, pair.B))
    found = {name: estimate([a.seconds for a, _ in of], [b.seconds for _, b in of], RESAMPLES) for name, of in pairs.items()}
    return {name: one for name, one in found.items() if one}


# ── The file ────────────────────────────────────────────────────────────────────────────────────────


def decode(kind: Any, value: Any) -> Any:
    """What was made of that type by asdict(), from JSON. Fields that an older record lacks get their defaults,
    others that it has are dropped."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if value is None or kind is Any:
        return value
    if origin in (typing.Union, types.UnionType):
        return decode(next(one for one in inner if one is not type(None)), value)
    if origin is list:
        return [decode(inner[0], one) for one in value]
    if origin is tuple:
        return tuple(value)
    if origin is dict:
        return {name: decode(inner[1], one) for name, one in value.items()}
    if is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        return kind(**{one.name: decode(hints[one.name], value[one.name])
                       for one in fields(kind) if one.init and one.name in value})
    return value


def link(path: str, name: str) -> None:
    """Makes `name`, in the same folder, a link to the file, whatever it was."""
    latest = os.path.join(os.path.dirname(path), name)
    temporary = f"{latest}.{os.getpid()}"
    os.symlink(os.path.basename(path), temporary)
    os.replace(temporary, latest)


def write(data: Record, started: datetime, folder: str | Path) -> str:
    """Writes the record, and `latest.json` as a link to it; returns its path."""
    os.makedirs(folder, exist_ok=True)
    labels = "-".join([data.A.label, *(library.label for library in data.others)])
    labels = "".join(c if c.isalnum() or c in "-+=._@~" else "_" for c in labels)[:MOST_NAME]
    path = os.path.join(folder, f"{started:%Y%m%d-%H%M%S}-{labels}.json")
    with open(path, "w", encoding="utf-8") as file:
        json.dump(asdict(data), file, indent=1)
        file.write("\n")
    link(path, "latest.json")
    return path


def read(path: str) -> Record:
    """Raises RecordError."""
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
    try:
        record: Record = decode(Record, data)
    except (TypeError, AttributeError) as error:
        raise RecordError(f"{path} is a damaged record ({error}); measure anew with `scons ab`") from None
    for row in record.rows:
        for number, pair in enumerate(row.runs):
            pair.round = number if pair.round < 0 else pair.round  # format 2 has no rounds
    return record


# ── Two records ─────────────────────────────────────────────────────────────────────────────────────


def _find(data: Record, label: str, path: str) -> Library:
    for library in (data.A, *data.others):
        if library.label == label:
            return library
    known = ", ".join(library.label for library in (data.A, *data.others))
    raise RecordError(f"{path}: there is no {label!r} in it; it has {known}")


def _measured_rows(data: Record, label: str) -> dict[str, tuple[Row, str]]:
    """{workload: (row, letter)} of a library: where its runs are."""
    letter = "A" if label == data.A.label else "B"
    found: dict[str, tuple[Row, str]] = {}
    for row in data.rows:
        if row.side(letter).label == label and (row.workload not in found or not row.failure and row.pairs):
            found[row.workload] = row, letter
    return found


def _runs_of(row: Row, letter: str) -> list[Run]:
    return [run for pair in row.runs if (run := pair.side(letter))]


def _arguments(row: Row) -> tuple[list[str], str, Metric | None]:
    """Without the folders, which differ from tree to tree."""
    return [os.path.basename(word) for word in row.command], row.compared, row.metric


def _apart(first: tuple[Row, str], second: tuple[Row, str]) -> Row:
    """A row from runs of two records."""
    (row_a, letter_a), (row_b, letter_b) = first, second
    runs_a, runs_b = _runs_of(*first), _runs_of(*second)
    failed = next((row for row in (row_a, row_b) if row.failure), None)
    failure, command = (failed.failure, failed.to_repeat) if failed else (None, None)
    results = {run.result for run in runs_a + runs_b}
    if not failure and (_arguments(row_a) != _arguments(row_b) or len(results) > 1):
        failure, command = "the two records ran other work under this name", " ".join(row_b.command)
    counters = {letter: row.counters[side] for letter, row, side in
                (("A", row_a, letter_a), ("B", row_b, letter_b)) if row.counters and side in row.counters}
    return replace(
        row_b,
        A=row_a.side(letter_a), B=row_b.side(letter_b),
        pairs=min(len(runs_a), len(runs_b)),
        measures=_measures(runs_a, runs_b, row_b.metric, estimate_apart),
        counters=counters or None,
        rss={"A": row_a.rss[letter_a], "B": row_b.rss[letter_b]},
        failure=failure, to_repeat=command,
        skipped=row_a.skipped or row_b.skipped,
        runs=[Pair(a, b, "", number) for number, (a, b) in enumerate(zip_longest(runs_a, runs_b))],
    )


def _rows_apart(first: Record, second: Record, label_a: str, label_b: str) -> list[Row]:
    rows_a, rows_b = _measured_rows(first, label_a), _measured_rows(second, label_b)
    rows = [_apart(rows_a[name], rows_b[name]) for name in rows_a if name in rows_b]
    correct(rows)
    return rows


def _same(a: Library, b: Library) -> bool:
    return a.digest == b.digest and a.identity == b.identity


def _controls(first: Record, second: Record, chosen: tuple[str, str]) -> list[Control]:
    """What both records measured, but for the two libraries that are compared."""
    found = []
    for library in (first.A, *first.others):
        for other in (second.A, *second.others):
            if _same(library, other) and (library.label, other.label) != chosen:
                found += [Control(library.label, row.workload, row.claimed, row.time.estimate)
                          for row in _rows_apart(first, second, library.label, other.label)
                          if row.time and not row.failure]
    return found


def compare(first_path: str, second_path: str) -> Record:
    """A comparison between libraries of two stored records: A of each, or FILE#LABEL. What both records measured,
    as the system's malloc, is the control: it shows how the machine has changed. Raises RecordError."""
    (path_a, _, label_a), (path_b, _, label_b) = (str(path).partition("#") for path in (first_path, second_path))
    first, second = read(path_a), read(path_b)
    label_a, label_b = label_a or first.A.label, label_b or second.A.label
    a, b = _find(first, label_a, path_a), _find(second, label_b, path_b)
    rows = _rows_apart(first, second, label_a, label_b)
    if not rows:
        raise RecordError(f"{path_a} and {path_b} have no workload in common")
    control = _controls(first, second, (label_a, label_b))
    if a.label == b.label:
        # Equal labels get the time of their measurement, to the second if need be.
        times = [datetime.fromisoformat(data.started) for data in (first, second)]
        shape = "%Y-%m-%d %H:%M" if f"{times[0]:%Y%m%d%H%M}" != f"{times[1]:%Y%m%d%H%M}" else "%Y-%m-%d %H:%M:%S"
        labels = [f"{one.label} of {time.strftime(shape)}" for one, time in zip((a, b), times)]
        if labels[0] == labels[1]:
            labels = [f"{label} ({number})" for number, label in enumerate(labels, 1)]
        a, b = replace(a, label=labels[0]), replace(b, label=labels[1])
        for row in rows:
            row.A, row.B = replace(row.A, label=a.label), replace(row.B, label=b.label)
    machines = asdict(first.machine), asdict(second.machine)
    differing = [name for name in machines[0] if name != "load" and machines[0][name] != machines[1][name]]
    if {one.name for one in first.machines} != {one.name for one in second.machines}:
        differing.append("how many there were, and which")
    return replace(
        second,
        format=FORMAT,
        interrupted=first.interrupted or second.interrupted,
        seconds=first.seconds + second.seconds,
        enough_budget=None,
        sweep=None,
        spoiled=[*first.spoiled, *second.spoiled],
        replaced=[],
        machines=[],
        lost=[],
        apart=Apart([first.started, second.started], differing, control),
        A=a,
        others=[b],
        rows=rows,
    )


# ── How builds differ ───────────────────────────────────────────────────────────────────────────────

IDENTITY = re.compile(r"hakmem \S+ \S+ revision (?P<revision>\S+) config \S+ compiler (?P<compiler>.*) "
                      r"flags (?P<flags>\S+)")


def built_differently(a: Library, b: Library) -> list[tuple[str, str, str]]:
    """[(what, of A, of B), …] in which two builds differ, their configuration apart: compiler, flags and, where
    no side was asked for by its revision, the revision. Empty if one is no build of this project."""
    built_a, built_b = IDENTITY.match(a.identity), IDENTITY.match(b.identity)
    if not built_a or not built_b:
        return []
    asked = any("@" in library.label for library in (a, b))
    return [(name, built_a[name], built_b[name]) for name in ("compiler", "flags", "revision")
            if built_a[name] != built_b[name] and not (asked and name == "revision")]
