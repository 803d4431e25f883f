# SPDX-License-Identifier: MIT
"""A comparison whose rounds other machines make.

It asks an engine for a wave of evaluations, each of a few rounds of one workload on one machine, looks at the
intervals when the wave is over, and asks for another one. The first wave is as many as give each row its ten pairs; later
ones are as many again as half of what there is. Every wave gives each machine something to do. The rule for when a row has
enough is that of any comparison, and the budget begins with the first answer, as machines may be busy with other work.

A machine that has made pairs is a block of the estimate. A workload that fails on one machine fails, and the row says on
which; one whose program a machine lacks is made by the others.
"""

from __future__ import annotations

import math
import os
import tempfile
import time
from contextlib import closing
from itertools import cycle, islice
from pathlib import Path
from typing import Any, Iterable, Sequence

from .comparison import ENOUGH_PAIRS, MOST_PAIRS, PAIRS_BETWEEN_LOOKS, Comparison, Row, grace
from .copies import Copies
from .engine import MOST_ASKED, Engine, EngineError
from .estimate import FEWEST_OF_MACHINE
from .evaluation import Answer, Evaluation, Part, write_bundle
from .libraries import Library
from .runs import Runner
from .text import count
from .workloads import Workload

ROUNDS = FEWEST_OF_MACHINE  # of an evaluation, so that the estimate has a use for each


class Spread(Comparison):
    def __init__(self, a: Library, others: Sequence[Library], chosen: Iterable[Workload], runner: Runner, budget: float, seed: int,
                 progress: Any, width: float, stretch: float, engine: Engine, copies: Copies, output: Path) -> None:
        """`output` is a folder that Slurm's nodes see, too."""
        super().__init__(a, others, chosen, runner, budget, seed, progress, width, stretch)
        self.engine = engine
        os.makedirs(output, exist_ok=True)
        self._folder = tempfile.TemporaryDirectory(prefix="bundle-", dir=os.path.abspath(output))
        self.bundle = Path(self._folder.name) / "bundle.pyz"
        self.asked = 0  # evaluations so far
        self.began: float | None = None  # when the first answer's work did
        self._lacking: dict[int, dict[str, str]] = {}  # workload -> machine -> what it lacks
        write_bundle(self.bundle, copies, [a, *self.others], [trial.workload for trial in self.trials], runner.limit)

    def spent(self) -> float:
        return time.monotonic() - self.began if self.began is not None else 0.0

    def _run(self, start: float) -> None:
        try:
            self._waves()
        except EngineError as error:  # in the middle, it is no reason to lose what there is
            if not self.machines:
                raise
            self.lost.append(str(error))

    def _waves(self) -> None:
        while wave := self._wave():
            before = len(self.machines), sum(len(row.pairs) for row in self.rows)
            draining = False
            with closing(self.engine.answers(self.bundle, wave)) as answers:
                for answer in answers:
                    if answer:
                        self._take(answer)
                    self.progress.say(f"{count(len(self.machines), 'machine')}, {sum(len(row.pairs) for row in self.rows)} pairs",
                                      self._end() - self.spent())
                    if not draining and self.spent() >= self._end():
                        self.engine.drain()
                        draining = True
            self._look()
            if before == (len(self.machines), sum(len(row.pairs) for row in self.rows)):
                return  # no machine is left

    def _wave(self) -> list[Evaluation]:
        """One evaluation after another of each workload that wants pairs, as often as it wants them."""
        wanted: list[list[int]] = []
        for index, trial in enumerate(self.trials):
            rows = [row for row in trial.live() if self.wants_pair(row, trial.seconds, self.spent())]
            if rows:
                least = min(len(row.pairs) for row in rows)
                pairs = ENOUGH_PAIRS - least if least < ENOUGH_PAIRS else max(PAIRS_BETWEEN_LOOKS, least // 2)
                wanted.append([index] * math.ceil(min(pairs, MOST_PAIRS - least) / ROUNDS))
        if not wanted:
            return []
        # The workloads take turns, so that all share a bad hour of the machines.
        turns = [index for turn in range(max(map(len, wanted))) for index in (of[turn] for of in wanted if turn < len(of))]
        length = min(MOST_ASKED, max(len(turns), self.engine.width))
        made = [Evaluation(self.asked + place, index, self.generator.randrange(1 << 31), ROUNDS)
                for place, index in enumerate(islice(cycle(turns), length))]
        self.asked += length
        return made

    def _end(self) -> float:
        """When no further evaluation begins, in seconds after the first one did."""
        few = any(len(row.pairs) < ENOUGH_PAIRS for trial in self.trials for row in trial.live())
        return max(self.budget, self.stretch) + grace(self.budget) if few else self.budget

    def _take(self, answer: Answer) -> None:
        if self.began is None:
            self.began = time.monotonic() - answer.seconds
        name = answer.machine.name
        trial = self.trials[answer.workload]
        rounds = max((len(part.pairs) for part in answer.parts), default=0)
        if rounds:
            self.machines.setdefault(name, answer.machine)
            trial.rounds += rounds
            trial.spent += answer.seconds / max(1, len(self.machines))
            trial.seconds = answer.seconds / (rounds + 1)
            trial.pinned = answer.pinned
        for row, part in zip(trial.rows, answer.parts):
            self._add(row, part, answer)

    def _add(self, row: Row, part: Part, answer: Answer) -> None:
        name = answer.machine.name
        if part.skipped:
            self._lacking.setdefault(answer.workload, {})[name] = part.skipped
        if part.failure and not row.failure:
            row.failure, row.command = f"{part.failure} (on {name})", part.to_repeat
        for pair, load in zip(part.pairs, part.loads):
            assert pair.A and pair.B
            row.pairs.append((pair.A, pair.B))
            row.orders.append(pair.order)
            row.rounds.append(answer.number * ROUNDS + pair.round)
            row.loads.append(load)
            row.machines.append(name)

    def _look(self) -> None:
        """Between two waves: which rows have enough, and which no machine can make."""
        for index, trial in enumerate(self.trials):
            for row in trial.live():
                row.look(self.width)
                if not row.pairs and index in self._lacking:
                    machine, what = next(iter(self._lacking[index].items()))
                    row.skipped = f"{what} (on {machine})"
        lacking = [f"{machine}: {what}" for of in self._lacking.values() for machine, what in of.items()]
        self.lost = [*self.engine.lost, *dict.fromkeys(lacking)]
