# SPDX-License-Identifier: MIT
"""Figures and names as the terminal, the page and the exports write them."""

from __future__ import annotations

from typing import Callable

from .estimate import Estimate
from .record import MEASURES, Measure, Measured, Record, Row, by_machine

NONE = "n/a"  # what a run or a machine does not give; never 0


def three_digits(value: float | None) -> str:
    """1.23, 12.3, 123, 12k: as many digits as mean something."""
    if value is None:
        return NONE
    for limit, digits in ((10, 2), (100, 1)):
        if round(value, digits) < limit:
            return f"{value:.{digits}f}"
    for most, suffix, size in ((99999, "", 1.0), (99.9e6, "k", 1e3), (99.9e9, "M", 1e6)):
        if value < most:
            return f"{value / size:.0f}{suffix}"
    return f"{value:.0e}"


def whole(value: float | None) -> str:
    """A count: as three_digits, but without decimals that it cannot have."""
    if value is not None and value == int(value) and value < 100:
        return str(int(value))
    return three_digits(value)


def duration(nanoseconds: float | None) -> str:
    """"123 ns", "4.56 us"."""
    if nanoseconds is None:
        return NONE
    for limit, unit, size in ((1e3, "ns", 1.0), (1e6, "us", 1e3), (1e9, "ms", 1e6)):
        if nanoseconds < limit:
            break
    else:
        unit, size = "s", 1e9
    return f"{three_digits(nanoseconds / size)} {unit}"


def ratio(value: float) -> str:
    """Near 1 every per mille matters, further off it does not."""
    return f"{value:.3f}" if 0.9 < value < 1.1 else three_digits(value)


def interval(estimate: Estimate | None, dash: str = "-") -> str:
    if not estimate or estimate.low is None or estimate.high is None:
        return "-"
    return f"{ratio(estimate.low)} {dash} {ratio(estimate.high)}"


def count(number: int, what: str) -> str:
    return f"{number} {what}{'s'[:number != 1]}"


def letter(index: int) -> str:
    """Of a library: A, then those that it is compared with."""
    return chr(ord("A") + index) if index < 26 else f"#{index}"


def letters(data: Record) -> dict[str, str]:
    """{label: letter} of all libraries."""
    labels = [data.A.label, *(other.label for other in data.others)]
    return {label: letter(index) for index, label in enumerate(labels)}


def compared(measured: Measured | None, side: str) -> str:
    """The median of what a row compares: a time, or a figure of the program's own."""
    if not measured:
        return NONE
    value = measured.side(side)
    if measured.title:
        return f"{three_digits(value)} {measured.unit}".strip()
    return duration(value * (1 if measured.unit == "ns" else 1e9))


def of_machines(row: Row) -> list[tuple[str, int, str, str]]:
    """(machine, pairs, ratio, interval) of each of several machines."""
    return [(name, found.pairs, ratio(found.ratio), interval(found)) for name, found in by_machine(row).items()]


def shown_time(row: Row, side: str) -> str:
    return compared(row.time, side)


def _shown(measure: Measure) -> Callable[[float | None], str]:
    """How figures of a measure are written."""
    if measure.unit == "s":
        return lambda value: duration(None if value is None else 1e9 * value)
    return {"ns": duration, "": whole}.get(measure.unit, three_digits)


SHOWN = {measure.name: _shown(measure) for measure in MEASURES}
