# SPDX-License-Identifier: MIT
"""What a record says of A: the verdict of each row, and the sentences above all rows. The terminal, the page, the
plots and the exports show these and decide nothing themselves."""

from __future__ import annotations

import enum
import math
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from typing import Iterable

from .estimate import ENOUGH_PAIRS
from .libraries import Library
from .record import Apart, Record, Row, built_differently
from .text import count, ratio


class Outcome(enum.Enum):
    """The words are those of a verdict without a ratio."""
    FASTER = "faster"
    SLOWER = "slower"
    SAME = "no significant difference"
    FEW = "too few pairs"
    FAILED = "failed"
    ABSENT = "not measured"


NO_DIFFERENCE = Outcome.SAME.value
BETTER = {"faster": "better", "slower": "worse"}  # of a figure that is no time


@dataclass(frozen=True)
class Verdict:
    """Of A in one row."""
    outcome: Outcome
    words: str  # "2.00x faster", or why there is nothing to say
    certain: bool = False  # the difference holds together with those of all other rows

    @property
    def direction(self) -> str | None:
        """"faster", "slower", or None where no difference shows."""
        return self.outcome.value if self.outcome in (Outcome.FASTER, Outcome.SLOWER) else None

    @property
    def shade(self) -> str:
        """How it is coloured: good, bad, open (a difference that may be chance, or too few pairs) or dim."""
        if self.outcome == Outcome.FAILED:
            return "bad"
        if self.outcome == Outcome.FEW or self.direction and not self.certain:
            return "open"
        return {Outcome.FASTER: "good", Outcome.SLOWER: "bad"}.get(self.outcome, "dim")


def enough(row: Row) -> bool:
    """Whether the row has as many pairs as it takes to say anything."""
    return not row.failure and row.time is not None and row.pairs >= ENOUGH_PAIRS


def _times(value: float) -> str:
    """How many times, in at most five characters."""
    return f"{value / 1e3:.0f}k" if value >= 9999.5 else ratio(value)


def verdict(row: Row) -> Verdict:
    """Of A, compared with the row's B. A question mark stands where the interval excludes 1, but the correction
    for the number of rows leaves room for chance."""
    if row.failure:
        return Verdict(Outcome.FAILED, Outcome.FAILED.value)
    if not row.time:
        return Verdict(Outcome.ABSENT, row.skipped or Outcome.ABSENT.value)
    found = row.time.estimate
    if row.pairs < ENOUGH_PAIRS or found is None:
        return Verdict(Outcome.FEW, Outcome.FEW.value)
    if found.faster is None:
        return Verdict(Outcome.SAME, NO_DIFFERENCE)
    outcome, value = ((Outcome.FASTER, found.ratio) if found.faster == "A" else (Outcome.SLOWER, 1 / found.ratio))
    word = BETTER[outcome.value] if row.time.title else outcome.value
    return Verdict(outcome, f"{_times(value)}x {word}{'' if row.claimed else '?'}", bool(row.claimed))


# ── All rows ────────────────────────────────────────────────────────────────────────────────────────


def budget_hint(data: Record) -> str:
    """The BUDGET= that would do where there were too few pairs."""
    wanted = data.enough_budget
    if data.interrupted:
        return "the measurement was interrupted"
    if not wanted:
        return "a larger BUDGET= would do"
    # A machine that has become slower meanwhile makes a budget too small that seems enough.
    seconds = max(wanted, 1.5 * data.budget if wanted <= data.budget else 0)
    return f"BUDGET={5 * math.ceil(seconds / 5)}s would do"


def _claims(data: Record, other: Library) -> str | None:
    """What holds for A vs one of the others; None where nothing does."""
    a, b = data.A.label, other.label
    here = [row for row in data.rows if row.B.label == b]
    sound = [row for row in here if enough(row)]
    parts: list[str] = []
    for how, winner in ((f"faster than {b}", "A"), (f"slower than {b}", "B")):
        if names := [row.workload for row in sound if row.claimed == winner]:
            of = "" if parts else f" of {count(len(here), 'workload')}"
            parts.append(f"{how.split(' than ')[0] if parts else how} in {len(names)}{of} ({', '.join(names)})")
    if parts:
        return f"{a} is {' and '.join(parts)}."
    return f"No significant difference between {a} and {b} on {count(len(sound), 'workload')}." if sound else None


def _gaps(data: Record) -> list[str]:
    """The rows of which nothing can be said, and why."""
    rows, lines = data.rows, []
    few = [row for row in rows if not row.failure and not row.skipped and not enough(row)]
    if few:
        lines.append(f"Too few pairs in {_names(few)} ({len(few)} of {count(len(rows), 'row')}), so that nothing can be "
                     f"said there: {budget_hint(data)}.")
    for what, found in (("Failed", [row for row in rows if row.failure]),
                        ("Not installed", [row for row in rows if row.skipped])):
        if found:
            lines.append(f"{what}: {_names(found)} ({len(found)} of {count(len(rows), 'row')}).")
    return lines


def _names(rows: Iterable[Row]) -> str:
    return ", ".join(dict.fromkeys(row.workload for row in rows))


def failures(data: Record) -> list[Row]:
    """The rows that failed; A's failure, which ends those of a workload all together, once."""
    return list({(row.workload, row.failure): row for row in data.rows if row.failure}.values())


def measured(data: Record) -> bool:
    """Whether there is anything to show: a pair of a workload that did not fail."""
    return any(row.pairs and not row.failure for row in data.rows)


def headline(data: Record) -> list[str]:
    """The sentences that may be quoted; the last one says how sure they are."""
    lines = [] if measured(data) else ["Nothing was measured."]
    lines += [line for line in (_claims(data, other) for other in data.others) if line]
    lines += _gaps(data)
    sound = sum(enough(row) for row in data.rows)
    lines.append(f"Corrected for {count(sound, 'row')} with Holm's method: the chance that chance alone makes "
                 "any of these claims is at most 5 %." if sound else "No row has enough pairs for a claim.")
    return lines


def warnings(data: Record) -> list[str]:
    """What a reader must know before any figure."""
    lines = []
    if data.spoiled:
        lines.append(f"Warning: changed during the measurement: {', '.join(data.spoiled)}. The figures mix the "
                     "old and the new one: measure again.")
    for other in data.others:
        if differing := built_differently(data.A, other):
            what = "; ".join(f"{name} {a} vs {b}" for name, a, b in differing)
            lines.append(f"Warning: {data.A.label} and {other.label} differ in more than their "
                         f"configuration: {what}.")
        if data.A.digest and data.A.digest == other.digest:
            lines.append(f"Note: {data.A.label} and {other.label} are the same file, byte by byte.")
    if data.replaced:
        lines.append(f"Note: replaced during the measurement: {', '.join(data.replaced)}. What was measured is a copy "
                     "made at the start.")
    for why, times in Counter(data.lost).items():
        lines.append(f"Note: not measured, {why}{f' ({times} times)' if times > 1 else ''}.")
    return lines + (_warnings_apart(data.apart) if data.apart else [])


def _warnings_apart(apart: Apart) -> list[str]:
    """For two records: what else than the libraries may have made their difference."""
    times = " and ".join(f"{datetime.fromisoformat(time):%Y-%m-%d %H:%M}" for time in apart.started)
    lines = [f"Warning: measured at different times ({times}), not interleaved: a difference may be the machine's."]
    if apart.machine:
        lines.append(f"Warning: the machine is not the same in both: {', '.join(apart.machine)}.")
    libraries = dict.fromkeys(one.library for one in apart.control)
    for name in libraries:
        rows = [one for one in apart.control if one.library == name]
        ratios = [one.estimate.ratio for one in rows if one.estimate]
        changed = [one.workload for one in rows if one.claimed]
        lines.append(f"{'Warning' if changed else 'Note'}: the control, {name}, which both measured, took "
                     f"{ratio(min(ratios))} to {ratio(max(ratios))} times as long the second time: "
                     + (f"significantly different in {', '.join(changed)}, so the machine has changed."
                        if changed else f"{NO_DIFFERENCE}."))
    if not libraries:
        lines.append("Note: no library was measured in both, so there is no control for the machine's changes.")
    return lines
