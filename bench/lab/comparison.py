# SPDX-License-Identifier: MIT
"""Which runs are made, in which order, within which budget of time.

A is compared with one or several others. A round of a workload is one run under A and one under
each of the others, in random order; a round is reversed in the next one, so that each comes early
as often as late. A with one of the others, both of the same round, is a pair.

The rounds of all workloads are interleaved: a block holds one round of each workload (some more of
the very short ones), in shuffled order, so that a slow minute of the machine is shared by all rows.
Each run has an environment of another size, and the kernel gives it another layout. A workload with
one thread has one CPU for the whole round, another one each time; others may use all.

A row gets ten pairs, then more until its interval is narrow enough or the budget is spent. Only the
interval's width decides, never its position: which side is faster plays no part.
"""

from __future__ import annotations

import math
import os
import random
import statistics
import time
from dataclasses import dataclass, field
from typing import Any, Callable, Iterable, Sequence

from .estimate import ENOUGH_PAIRS, Estimate, estimate
from .libraries import Library, LibraryError, check_served
from .machine import Machine
from .runs import MOST_PADDING, Run, RunFailed, Runner
from .workloads import Workload

MOST_PAIRS = 300
PAIRS_BETWEEN_LOOKS = 5  # at the interval's width; more when there are many already
LOOK_RESAMPLES = 1999
NARROW = 0.02
MOST_GRACE = 60.0  # seconds
BUDGET_MARGIN = 1.2  # of the time that ten pairs took, for a machine that gets busier


def grace(budget: float) -> float:
    """By how much the budget may be exceeded, for the first ten pairs of rows only."""
    return min(budget / 2, MOST_GRACE)


def lacking(workload: Workload) -> str | None:
    """What this machine lacks for the workload, and how to get it; None if it is all there."""
    missing = workload.missing()
    programs, packages = zip(*missing) if missing else ((), ())
    return (f"needs {', '.join(programs)}: apt-get install {' '.join(dict.fromkeys(packages))}"
            if missing else None)


@dataclass
class Row:
    """One workload, A vs one of the others."""
    workload: Workload
    b: Library  # the other one
    pairs: list[tuple[Run, Run]] = field(default_factory=list)
    orders: list[str] = field(default_factory=list)  # "AB" or "BA", pair by pair
    rounds: list[int] = field(default_factory=list)  # of the workload, in which each pair was made
    failure: str | None = None
    command: str | None = None  # repeats the failure
    skipped: str | None = None  # what the machine lacks for it
    narrow: bool = False  # no more pairs are needed
    loads: list[float] = field(default_factory=list)  # of the machine, after each pair
    machines: list[str] = field(default_factory=list)  # that the pairs were made on; empty where there is one only

    def times(self) -> tuple[list[float], list[float]]:
        return [a.seconds for a, _ in self.pairs], [b.seconds for _, b in self.pairs]

    def estimate(self, **more: Any) -> Estimate | None:
        return estimate(*self.times(), machines=self.machines, **more)

    def load(self) -> float | None:
        """The machine's, the row's own runs included; None if there are none."""
        return round(statistics.median(self.loads), 2) if self.loads else None

    def add(self, pair: tuple[Run, Run], order: str, width: float, round_: int = 0) -> None:
        self.pairs.append(pair)
        self.orders.append(order)
        self.rounds.append(round_)
        self.loads.append(os.getloadavg()[0])
        count = len(self.pairs)
        if count % max(PAIRS_BETWEEN_LOOKS, count // 10) == 0:
            self.look(width)

    def look(self, width: float) -> None:
        """Sees whether the interval is narrow enough."""
        if len(self.pairs) >= ENOUGH_PAIRS:
            found = self.estimate(resamples=LOOK_RESAMPLES)
            self.narrow = found is not None and found.width is not None and found.width <= width


@dataclass
class Trial:
    """One workload and its rows: A's run serves all of them."""
    workload: Workload
    rows: list[Row]
    pinned: bool = False
    failed: bool = False  # under A, which ends all rows
    seconds: float = 0.0  # that one round takes, as of the warm-up
    rounds: int = 0  # that were made
    spent: float = 0.0  # seconds, on all of them
    order: list[int] = field(default_factory=list)  # of the last round, to be reversed
    counters: dict = field(default_factory=dict)  # label -> counters.Counted

    def live(self) -> list[Row]:
        return [row for row in self.rows if not row.failure and not row.skipped]

    def seconds_per_round(self) -> float:
        """What a round takes, all that is done around its runs included; 0 where none was ever made."""
        return self.spent / self.rounds if self.rounds else self.seconds


class Comparison:
    """A vs others on a list of workloads. After run(), also an interrupted one, `rows` holds
    what was measured."""

    def __init__(self, a: Library, others: Sequence[Library], chosen: Iterable[Workload], runner: Runner,
                 budget: float, seed: int, progress: Any, width: float = NARROW, stretch: float = 0.0) -> None:
        self.a, self.others = a, list(others)
        self.runner = runner
        self.budget = budget
        self.stretch = stretch  # the budget may grow up to this, for ten pairs of each row
        self.seed = seed
        self.width = width
        self.progress = progress
        self.trials = [Trial(workload, [Row(workload, b) for b in self.others])
                       for workload in chosen]
        self.cpus = sorted(os.sched_getaffinity(0))
        self.generator = random.Random(seed)
        self.machines: dict[str, Machine] = {}  # of several, those that pairs were made on, by name
        self.lost: list[str] = []  # what they did not give, and why
        self.interrupted = False
        self.seconds = 0.0
        self.warm_up_seconds = 0.0

    @property
    def rows(self) -> list[Row]:
        """All rows, those of each of the others together."""
        return [row for b in range(len(self.others)) for row in (t.rows[b] for t in self.trials)]

    @property
    def failed(self) -> bool:
        return any(row.failure for row in self.rows)

    def enough_budget(self) -> float | None:
        """The seconds in which all rows get ten pairs, from what the runs have taken, with a margin; None where
        that is not known. As a block has one round of most workloads and some more of the short ones, all rows
        are served by the time that the last one has its ten."""
        live = [trial for trial in self.trials if trial.live()]
        if not live or not all(trial.seconds_per_round() for trial in live):
            return None
        blocks = max(math.ceil(ENOUGH_PAIRS / trial.workload.pairs_in_block) for trial in live)
        return self.warm_up_seconds + BUDGET_MARGIN * blocks * sum(
            trial.workload.pairs_in_block * trial.seconds_per_round() for trial in live)

    def run(self, afterwards: Callable[[Comparison], None] | None = None) -> None:
        """Measures; then calls `afterwards`, which may take its time and be interrupted, too."""
        start = time.monotonic()
        try:
            self._run(start)
            if afterwards:
                afterwards(self)
        except KeyboardInterrupt:
            self.interrupted = True
        finally:
            self.runner.stop()
            self.progress.clear()
            self.seconds = time.monotonic() - start

    def _run(self, start: float) -> None:
        for trial in self.trials:
            self.progress.show(0, trial.workload.name, self.budget - (time.monotonic() - start))
            self._warm_up(trial)
        self.warm_up_seconds = time.monotonic() - start
        self.budget = max(self.budget, min(self.enough_budget() or 0, self.stretch))
        while True:
            block = [trial for trial in self.trials for _ in range(trial.workload.pairs_in_block)]
            self.generator.shuffle(block)
            ran = False
            for trial in block:
                spent = time.monotonic() - start
                rows = [row for row in trial.live() if self.wants_pair(row, trial.seconds, spent)]
                if not rows:
                    continue
                self.progress.show(max(len(row.pairs) for row in rows) + 1, trial.workload.name,
                                   self.budget - spent)
                self._round(trial, rows)
                trial.rounds += 1
                trial.spent += time.monotonic() - start - spent
                ran = True
            if not ran:
                return

    def make(self, rounds: int) -> None:
        """Measures that many rounds of each workload, however long they take."""
        try:
            for trial in self.trials:
                self._warm_up(trial)
                for _ in range(rounds):
                    if rows := trial.live():
                        self._round(trial, rows)
                        trial.rounds += 1
        finally:
            self.runner.stop()

    def wants_pair(self, row: Row, expected: float, spent: float) -> bool:
        """Whether the row gets one more pair. The budget binds, save that a row's first ten pairs
        may exceed it a little. Who is winning plays no part."""
        if row.failure or row.narrow or len(row.pairs) >= MOST_PAIRS:
            return False
        if len(row.pairs) < ENOUGH_PAIRS:
            return spent < self.budget + grace(self.budget)
        return spent + expected < self.budget

    def _fail(self, rows: Sequence[Row], error: RunFailed) -> None:
        for row in rows:
            row.failure, row.command = str(error), error.command

    def _warm_up(self, trial: Trial) -> None:
        """Sees that each library serves the program and runs it once under each, which fills the
        page cache. The figures are dropped, but for how long it takes and whether it has threads."""
        for row in trial.rows:
            row.skipped = lacking(trial.workload)
        if not trial.live():
            return
        try:
            if trial.workload.own:
                self.runner.set_up(trial.workload)
        except RunFailed as error:
            self._fail(trial.rows, error)
            return
        runs = self._each(trial, [0, *range(1, len(self.others) + 1)], self._first_run)
        trial.seconds = sum(run.wall_seconds for run in runs.values())
        own = trial.workload.own
        trial.pinned = bool(runs) and all(run.threads == 1 for run in runs.values()) and not (own and own.client)
        for index, row in enumerate(trial.rows, 1):
            if not row.failure:
                self._compare_results(row, runs[0], runs[index])

    def _each(self, trial: Trial, indices: Iterable[int], run: Callable[[Workload, Library], Run]) -> dict[int, Run]:
        """{index: Run} of the libraries, 0 being A. One that fails ends the row that it is for, A's
        all rows and thereby the round."""
        runs = {}
        for index in indices:
            library = self.others[index - 1] if index else self.a
            try:
                runs[index] = run(trial.workload, library)
            except RunFailed as error:
                self._fail(trial.live() if not index else [trial.rows[index - 1]], error)
                if not index:
                    trial.failed = True
                    return {}
        return runs

    def _first_run(self, workload: Workload, library: Library) -> Run:
        if workload.own:
            return self.runner.first_run(workload, library)
        try:
            check_served(library, self.runner.filled(workload, workload.probe), workload.environment)
        except LibraryError as error:
            raise RunFailed(library, self.runner.known(str(error)),
                            self.runner.command(workload, library, workload.probe)) from None
        return self.runner.run(workload, library)

    def _compare_results(self, row: Row, run_a: Run, run_b: Run) -> bool:
        """False, and the end of the row, if A and B disagree."""
        if run_a.result == run_b.result:
            return True
        self._fail([row], RunFailed(
            self.a, f"its result is {run_a.result}, that of {row.b.label} is {run_b.result}",
            self.runner.command(row.workload, self.a)))
        return False

    def _round(self, trial: Trial, rows: Sequence[Row]) -> None:
        wanted = [0] + [index for index, row in enumerate(trial.rows, 1) if row in rows]
        if sorted(trial.order) == wanted:
            order, trial.order = trial.order[::-1], []
        else:
            order = trial.order = self.generator.sample(wanted, len(wanted))
        cpus = [self.generator.choice(self.cpus)] if trial.pinned else None
        runs = self._each(trial, order, lambda workload, library: self.runner.run(
            workload, library, cpus, self.generator.randrange(1, MOST_PADDING)))
        for index in wanted[1:]:
            row = trial.rows[index - 1]
            if 0 in runs and index in runs and self._compare_results(row, runs[0], runs[index]):
                row.add((runs[0], runs[index]),
                        "AB" if order.index(0) < order.index(index) else "BA", self.width, trial.rounds)
