# SPDX-License-Identifier: MIT
"""Candidates are run in blocks, each once in a block, in random order; so all share a bad minute of the machine. One whose
figure is worse than the best one's with confidence leaves, and the rest get more blocks."""

import math
import random
import statistics
from dataclasses import dataclass
from typing import Any, Callable, Sequence

from lab.estimate import FEWEST_PAIRS, Estimate, estimate

from .journal import Journal

MOST_BLOCKS = 12  # of one race


class Failed(Exception):
    """A candidate cannot be built, crashes, or hangs; the message says which."""


@dataclass(frozen=True)
class Goal:
    """What is to be little, and what must not be more than so many times the base's."""
    name: str  # time, rss, time*rss or metric
    limits: "tuple[tuple[str, float], ...]" = ()

    def figure(self, figures: "dict[str, float]") -> float:
        return math.prod(figures[part] for part in self.name.split("*"))


@dataclass
class Standing:
    """What a candidate has in relation to the base: logarithms of ratios, so that 0 is the base's."""
    value: float  # of the goal: the mean over its blocks
    exceeds: float  # by how much a limit is exceeded, in all
    blocks: int
    error: float  # standard error of `value`

    @property
    def cost(self) -> float:
        """To be least: what exceeds a limit counts ten times."""
        return self.value + 10 * self.exceeds


class Race:
    def __init__(self, journal: Journal, goal: Goal, base: str, run: "Callable[[str], dict[str, float]]", seed: int = 1,
                 over: "Callable[[], bool]" = lambda: False, say: "Callable[[str], None]" = lambda line: None,
                 name: "Callable[[str], str]" = str, far: Any = None) -> None:
        """`far`, a far.Far, makes the blocks on other machines, in place of `run`."""
        self.journal, self.goal, self.base, self.run, self.over, self.say = journal, goal, base, run, over, say
        self.name, self.far = name, far  # the name of a digest is for what is said
        self.chance = random.Random(seed * 1000003 + journal.blocks)

    def common(self, first: str, second: str, blocks: "Sequence[int] | None" = None) -> "list[int]":
        """Blocks in which both were run: of these, or without them all but the fresh ones."""
        shared = self.journal.runs.get(first, {}).keys() & self.journal.runs.get(second, {}).keys()
        return sorted(block for block in shared if (block not in self.journal.fresh if blocks is None else block in blocks))

    def ratio(self, first: str, second: str, blocks: "Sequence[int] | None" = None, part: str = "") -> "Estimate | None":
        """The first's figure by the second's, in blocks that both have."""
        shared = self.common(first, second, blocks)
        figure = (lambda figures: figures[part]) if part else self.goal.figure
        values = [[figure(self.journal.runs[digest][block]) for block in shared] for digest in (second, first)]
        return estimate(*values, resamples=1999, machines=[self.journal.machines.get(block, "") for block in shared])

    def standing(self, digest: str) -> "Standing | None":
        """None for one that failed, or was never run beside the base."""
        shared = self.common(digest, self.base)
        if digest in self.journal.failed or not shared:
            return None
        logs = lambda figure: [math.log(figure(self.journal.runs[digest][block]) / figure(self.journal.runs[self.base][block]))
                               for block in shared]
        exceeds = sum(max(0.0, statistics.fmean(logs(lambda figures, part=part: figures[part])) - math.log(most))
                      for part, most in self.goal.limits)
        values = logs(self.goal.figure)
        error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.inf
        return Standing(statistics.fmean(values), exceeds, len(shared), error)

    def blocks(self, digests: "Sequence[str]", fresh: bool = False) -> int:
        """One block here, or as many as other machines make at once; returns how many were made."""
        first = self.journal.blocks
        if self.far:
            self.far_blocks([digest for digest in dict.fromkeys(digests) if digest != self.base and digest not in self.journal.failed], fresh)
        else:
            self.block(digests, fresh)
        return self.journal.blocks - first

    def far_blocks(self, digests: "Sequence[str]", fresh: bool) -> None:
        first = self.journal.blocks
        for found in self.far.blocks(self.base, digests, self.chance.randrange(1 << 30)):
            block = first + found.block
            if found.figures is None:
                self.leave(found.digest, found.why)
                continue
            if fresh and block not in self.journal.fresh:
                self.journal.add("fresh", block=block)
            self.journal.add("run", digest=found.digest, block=block, figures=found.figures, machine=found.machine)

    def leave(self, digest: str, why: str) -> None:
        if digest not in self.journal.failed:
            self.journal.add("failed", digest=digest, why=why)
            self.say(f"{self.name(digest)} leaves: {why}")

    def block(self, digests: "Sequence[str]", fresh: bool = False) -> None:
        """One run of each, and of the base; a fresh one counts for nothing but what is asked of it by its number."""
        number = self.journal.blocks
        if fresh:
            self.journal.add("fresh", block=number)
        order = list(dict.fromkeys([self.base, *digests]))
        self.chance.shuffle(order)
        for digest in order:
            if digest in self.journal.failed:
                continue
            try:
                self.journal.add("run", digest=digest, block=number, figures=self.run(digest))
            except Failed as error:
                if digest == self.base:
                    raise
                self.leave(digest, str(error))

    def best(self, digests: "Sequence[str]") -> "str | None":
        standings = {digest: self.standing(digest) for digest in digests}
        known = [digest for digest, one in standings.items() if one]
        return min(known, key=lambda digest: standings[digest].cost, default=None)

    def hold(self, digests: "Sequence[str]", blocks: int = MOST_BLOCKS, least: int = 0) -> "list[str]":
        """Races the candidates, in `least` blocks even when the time is over; returns those that are left, the best first."""
        left = [digest for digest in dict.fromkeys(digests) if digest not in self.journal.failed]
        held = 0
        while held < blocks and left and not (held >= least and self.over()):
            made = self.blocks(left)
            if not made:
                break
            held += made
            left = [digest for digest in left if digest not in self.journal.failed]
            best = self.best(left)
            for digest in [] if best is None else list(left):
                found = self.ratio(digest, best) if digest != best else None
                if found and found.pairs >= FEWEST_PAIRS and found.low is not None and found.low > 1:
                    left.remove(digest)
                    self.say(f"{self.name(digest)} leaves: {found.ratio:.3f} times the best one's {self.goal.name} "
                             f"({found.low:.3f} - {found.high:.3f})")
            if len(left) <= 1:
                break
        return sorted(left, key=lambda digest: standing.cost if (standing := self.standing(digest)) else math.inf)
