# SPDX-License-Identifier: MIT
"""All workloads by all libraries: what each takes in multiples of what A takes.

A library is best in a row if it is the fastest by its ratio; those that do not differ significantly from it
share the place. For two that are not A, the ratio is taken from their runs in the same rounds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Sequence

from .estimate import ENOUGH_PAIRS, Estimate, estimate
from .record import RESAMPLES, TIME, Record, Row

# Why a cell has no figure.
FAILED, ABSENT, FEW = "failed", "n/a", "too few pairs"


@dataclass
class Cell:
    ratio: float = math.nan  # what the library takes by what A takes: below 1 is less than A
    low: float = math.nan
    high: float = math.nan
    why_not: str | None = None  # FAILED, ABSENT or FEW, where there is no ratio that means something
    significant: bool = False  # differs from A after the correction for all rows
    best: bool = False


@dataclass
class Line:
    workload: str
    cells: list[Cell]  # of A, then of the others


def rows_of(data: Record, workload: str) -> list[Row | None]:
    """The rows of a workload, in the order of the others."""
    rows = {row.B.label: row for row in data.rows if row.workload == workload}
    return [rows.get(other.label) for other in data.others]


def workload_names(data: Record) -> list[str]:
    return list(dict.fromkeys(row.workload for row in data.rows))


def _cell(row: Row | None, measure: str) -> Cell:
    if row is None:
        return Cell(why_not=ABSENT)
    if row.failure:
        return Cell(why_not=FAILED)
    measured = row.measure(measure)
    found = measured and measured.estimate
    if not found:
        return Cell(why_not=ABSENT)
    significant = row.claimed is not None if measure == TIME else found.faster is not None
    few = row.pairs < ENOUGH_PAIRS or found.low is None
    bounds = (math.nan, math.nan) if found.low is None or found.high is None else (found.low, found.high)
    return Cell(found.ratio, *bounds, FEW if few else None, significant and not few)


def _between(row: Row, other: Row) -> Estimate | None:
    """The estimate of two libraries that are not A, from the rounds that both have; None without any."""
    runs = [{pair.round: pair.B.seconds for pair in one.runs if pair.B} for one in (row, other)]
    common = sorted(runs[0].keys() & runs[1].keys())
    return estimate([runs[0][number] for number in common], [runs[1][number] for number in common], RESAMPLES)


def _mark_best(cells: list[Cell], rows: Sequence[Row | None], measure: str) -> None:
    compared = [index for index, cell in enumerate(cells) if not cell.why_not]
    if len(compared) < 2:
        return
    best = min(compared, key=lambda index: cells[index].ratio)
    for index in compared:
        cell = cells[index]
        if index == best:
            cell.best = True
        elif measure != TIME:
            cell.best = cell.ratio == cells[best].ratio
        elif 0 in (index, best):
            cell.best = not cells[index or best].significant
        else:
            first, second = rows[best - 1], rows[index - 1]
            found = _between(first, second) if first and second else None
            cell.best = found is not None and found.enough and found.faster is None


def matrix(data: Record, measure: str = TIME) -> list[Line]:
    """[Line, …] of all workloads of which anything was measured or failed."""
    lines = []
    for workload in workload_names(data):
        rows = rows_of(data, workload)
        others = [_cell(row, measure) for row in rows]
        if all(cell.why_not == ABSENT for cell in others):
            continue
        a_failed = all(cell.why_not in (FAILED, ABSENT) for cell in others)
        a = Cell(why_not=ABSENT) if a_failed else Cell(1.0, 1.0, 1.0)
        if not a_failed and all(cell.why_not for cell in others):
            a.why_not = FEW
        cells = [a, *others]
        _mark_best(cells, rows, measure)
        lines.append(Line(workload, cells))
    return lines


def geometric_mean(ratios: Sequence[float]) -> float:
    return math.exp(sum(map(math.log, ratios)) / len(ratios))


def geometric_means(lines: Sequence[Line]) -> tuple[list[float], int]:
    """One for each library over the rows in which all have a figure, and how many rows these are."""
    whole = [line for line in lines if not any(cell.why_not for cell in line.cells)]
    if not whole:
        return [], 0
    return [geometric_mean([line.cells[index].ratio for line in whole]) for index in range(len(whole[0].cells))], len(whole)
