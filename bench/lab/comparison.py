# SPDX-License-Identifier: MIT
"""Which runs are made, in which order, within which budget of time.

The runs of all workloads are interleaved: a block holds one pair of each workload (some more of
the very short ones), in shuffled order, so that a slow minute of the machine is shared by all rows.
Within a pair A or B comes first at random, each as often as the other. Blocks follow each other
until the budget is spent; nothing here looks at who is winning.
"""

import random
import time
from dataclasses import dataclass, field

from .estimate import ENOUGH_PAIRS, estimate
from .libraries import LibraryError, check_served, command_line
from .runs import Run, RunFailed
from .workloads import Workload

MOST_PAIRS = 40
GRACE = 1.5  # how far the budget may be exceeded for a row's first ten pairs


@dataclass
class Row:
    workload: Workload
    pairs: list[tuple[Run, Run]] = field(default_factory=list)
    orders: list[str] = field(default_factory=list)  # "AB" or "BA", pair by pair
    failure: str | None = None
    command: str | None = None  # repeats the failure

    def times(self):
        return [a.seconds for a, _ in self.pairs], [b.seconds for _, b in self.pairs]

    def estimate(self):
        return estimate(*self.times())


def orders(count, generator):
    """Who comes first, for `count` pairs: of every two pairs, one begins with A."""
    result = []
    while len(result) < count:
        two = ["AB", "BA"]
        generator.shuffle(two)
        result += two
    return result[:count]


class Comparison:
    """A beside B on a list of workloads. After run(), also an interrupted one, `rows` holds what
    was measured."""

    def __init__(self, a, b, chosen, runner, budget, seed, progress):
        self.a, self.b = a, b
        self.runner = runner
        self.budget = budget
        self.seed = seed
        self.progress = progress
        self.rows = [Row(workload) for workload in chosen]
        self.interrupted = False
        self.seconds = 0.0

    @property
    def failed(self):
        return any(row.failure for row in self.rows)

    def run(self):
        start = time.monotonic()
        try:
            self._run(start)
        except KeyboardInterrupt:
            self.interrupted = True
        finally:
            self.runner.stop()
            self.progress.clear()
            self.seconds = time.monotonic() - start

    def _run(self, start):
        expected = [self._warm_up(row) for row in self.rows]  # seconds of a pair
        generator = random.Random(self.seed)
        order = [orders(MOST_PAIRS, generator) for _ in self.rows]

        while True:
            block = [index for index, row in enumerate(self.rows)
                     for _ in range(row.workload.pairs_in_block)]
            generator.shuffle(block)
            ran = False
            for index in block:
                row = self.rows[index]
                spent = time.monotonic() - start
                if not self.wants_pair(row, expected[index], spent):
                    continue
                self.progress.show(len(row.pairs) + 1, row.workload.name, self.budget - spent)
                self._pair(row, order[index][len(row.pairs)])
                ran = True
            if not ran:
                return

    def wants_pair(self, row, expected, spent):
        """Whether the row gets one more pair. The budget binds, save that a row's first ten pairs
        may exceed it a little. Who is winning plays no part."""
        if row.failure or len(row.pairs) >= MOST_PAIRS:
            return False
        if len(row.pairs) < ENOUGH_PAIRS:
            return spent < self.budget * GRACE
        return spent + expected < self.budget

    def _fail(self, row, error):
        row.failure, row.command = str(error), error.command

    def _warm_up(self, row):
        """Sees that each library serves the program and runs it once under both, which fills the
        page cache. The figures are dropped; returns the seconds that a pair takes."""
        self.progress.show(0, row.workload.name, self.budget)
        try:
            results = [self._first_run(row.workload, library) for library in (self.a, self.b)]
            self._compare_results(row, *results)
        except RunFailed as error:
            self._fail(row, error)
            return 0.0
        return sum(run.wall_seconds for run in results)

    def _first_run(self, workload, library):
        probe = workload.filled(workload.probe, self.runner.programs)
        try:
            check_served(library, probe, workload.environment)
        except LibraryError as error:
            settings = {**library.environment, **workload.environment}
            raise RunFailed(library, str(error), command_line(probe, settings)) from None
        return self.runner.run(workload, library)

    def _compare_results(self, row, run_a, run_b):
        if run_a.result != run_b.result:
            command = row.workload.filled(row.workload.command, self.runner.programs)
            raise RunFailed(self.a, f"its result is {run_a.result}, that of {self.b.label} is "
                            f"{run_b.result}",
                            command_line(command,
                                         {**self.a.environment, **row.workload.environment}))

    def _pair(self, row, order):
        try:
            run = {name: self.runner.run(row.workload, self.a if name == "A" else self.b)
                   for name in order}
            self._compare_results(row, run["A"], run["B"])
        except RunFailed as error:
            self._fail(row, error)
        else:
            row.pairs.append((run["A"], run["B"]))
            row.orders.append(order)
