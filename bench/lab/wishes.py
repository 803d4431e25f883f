# SPDX-License-Identifier: MIT
"""The forms of what a measurement is asked for, for bench/ab.py and for the build, which refuses what is
ill-formed before it compiles anything. Each function raises ValueError with a message that says what is right."""

from __future__ import annotations

from typing import Iterable, Sequence

from . import workloads


def seconds(text: str) -> float:
    """A time: 60, 60s or 0.5s."""
    return _number(text, text.removesuffix("s"), 1e6, "a number of seconds: 60 or 60s")


def per_cent(text: str) -> float:
    """A part of one: 2 or 2% is 0.02."""
    return _number(text, text.removesuffix("%"), 1000, "a number of per cent: 2 or 2%") / 100


def chosen(names: Iterable[str], own: Sequence[workloads.Workload] = ()) -> list[workloads.Workload]:
    """The workloads of these names, of what they begin with, or of @GROUPs; the default ones without a name. `own`
    are those of the user's file."""
    try:
        return workloads.select(["@all" if name == "all" else name for name in names], own)
    except LookupError as error:
        raise ValueError(f"no workload begins with {error.args[0]!r}; bench/ab.py --list shows all") from None


def _number(text: str, digits: str, end: float, form: str) -> float:
    try:
        value = float(digits)
    except ValueError:
        value = 0.0
    if not 0 < value < end:
        raise ValueError(f"{text!r} is not {form}")
    return value
