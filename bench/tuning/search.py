# SPDX-License-Identifier: MIT
"""The search: every hand-made configuration first, then points that optuna asks for, in races with the best so far; at the
end the best found and the three best hand-made ones in a measurement that the search has not seen, maybe of another recording."""

import math
import time
import warnings
from dataclasses import dataclass, field
from typing import Any, Callable

from lab.estimate import ENOUGH_PAIRS, FEWEST_PAIRS, Estimate

from .journal import Journal
from .race import Failed, Goal, MOST_BLOCKS, Race
from .space import Composer, Dimension

ASKED = 5  # points at a time
ELITE = 3  # that stay for the next race
FAILED_COST = 3.0  # of what cannot be built or run: twenty times as much, so that the sampler keeps away from its like
FRESH = 0.25  # of the budget, for the measurement at the end
FRESH_BLOCKS = 40


@dataclass
class Outcome:
    """What the fresh measurement says."""
    winner: "str | None"  # digest of the best that was found; None: nothing was found that keeps to the limits
    best: str  # digest of the best hand-made one
    versus: "Estimate | None" = None  # the winner's figure by that of `best`
    fresh: "list[int]" = field(default_factory=list)  # blocks

    @property
    def is_better(self) -> bool:
        return bool(self.versus and self.versus.enough and self.versus.high is not None and self.versus.high < 1)


def suggest(trial: Any, space: "list[Dimension]") -> "dict[str, str | int]":
    point: "dict[str, str | int]" = {}
    for one in space:
        if one.values:
            point[one.name] = trial.suggest_categorical(one.name, one.values)
        else:  # each doubling is as likely as the next; 0 comes before 1
            shift = 1 if one.low == 0 else 0
            point[one.name] = trial.suggest_int(one.name, one.low + shift, one.high + shift, log=True) - shift
    return point


def as_asked(point: "dict[str, str | int]", space: "list[Dimension]") -> "dict[str, str | int]":
    """The point as suggest() draws it."""
    shifted = {one.name for one in space if not one.values and one.low == 0}
    return {name: value + 1 if name in shifted else value for name, value in point.items()}


class Search:
    """`build` makes the library of a point, and returns its digest or raises Failed; `run` gives a digest's figures."""

    def __init__(self, composer: Composer, hand_made: "dict[str, dict]", journal: Journal, goal: Goal, budget: float,
                 build: "Callable[[dict], str]", run: "Callable[[str], dict[str, float]]", seed: int = 1,
                 now: "Callable[[], float]" = time.monotonic, say: "Callable[[str], None]" = lambda line: None,
                 run_fresh: "Callable[[str], dict[str, float]] | None" = None, far: Any = None, far_fresh: Any = None) -> None:
        self.composer, self.hand_made, self.journal, self.goal = composer, hand_made, journal, goal
        self.budget, self.build, self.seed, self.now, self.say = budget, build, seed, now, say
        self.began = now() - journal.seconds
        self.names: "dict[str, str]" = {}  # digest → name
        self.built: "set[str]" = set()
        self._run, self._run_fresh = run, run_fresh or run
        self.far, self.far_fresh = far, far_fresh or far

    def make(self, digest: str) -> None:
        """Builds what an earlier search has built, as it may be gone."""
        if digest not in self.built:
            self.build(self.journal.points[digest]["point"])
            self.built.add(digest)

    def run(self, digest: str, run: "Callable[[str], dict[str, float]] | None" = None) -> "dict[str, float]":
        self.make(digest)
        return (run or self._run)(digest)

    def spent(self) -> float:
        return self.now() - self.began

    def searched(self) -> bool:
        """Whether what is left of the budget belongs to the fresh measurement."""
        return self.spent() >= (1 - FRESH) * self.budget

    def digest_of(self, point: dict) -> "str | None":
        """Builds a point. A point that cannot be built is a result, too."""
        digest = self.composer.digest(point)
        if digest not in self.journal.points:
            self.journal.add("point", digest=digest, point=point, name="")
        if digest not in self.journal.failed:
            try:
                self.build(point)
                self.built.add(digest)
            except Failed as error:
                self.journal.add("failed", digest=digest, why=str(error))
                self.say(f"{digest} cannot be built: {error}")
        return None if digest in self.journal.failed else digest

    def study(self) -> Any:
        import optuna

        warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)  # of the journal
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        file = self.journal.file.with_suffix(".optuna")
        storage = optuna.storages.JournalStorage(optuna.storages.JournalFileStorage(str(file)))
        sampler = optuna.samplers.TPESampler(seed=self.seed + self.journal.blocks, n_startup_trials=2 * len(self.hand_made))
        study = optuna.create_study(study_name="tune", storage=storage, sampler=sampler, load_if_exists=True)
        for trial in study.get_trials(deepcopy=False):  # that an earlier search was in the middle of
            if trial.state == optuna.trial.TrialState.RUNNING:
                study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
        return study

    def search(self) -> "tuple[str, list[str]]":
        """(digest of the base, digests of the hand-made ones). Afterwards the journal has all that was found."""
        hand_made: "list[str]" = []
        for name, point in self.hand_made.items():
            if digest := self.digest_of(point):
                self.names.setdefault(digest, name)
                hand_made.append(digest)
        base = next((digest for digest, name in self.names.items() if name == "default"), None)
        if base is None:
            raise Failed("the default configuration cannot be built or run: nothing can be compared")
        self.race = Race(self.journal, self.goal, base, self.run, self.seed, self.searched, self.say, self.name, self.far)
        study = self.study()
        if not study.get_trials(deepcopy=False):
            for point in self.hand_made.values():
                study.enqueue_trial(as_asked(point, self.composer.space))
        left: "list[str]" = []
        if max((len(self.journal.runs.get(digest, {})) for digest in hand_made), default=0) < MOST_BLOCKS:
            left = self.race.hold(hand_made, least=FEWEST_PAIRS)[:ELITE]
        # What an earlier search has found goes on, too.
        left = self.ranking()[:ELITE] or left
        while not self.searched():
            trials, asked = [], []
            for _ in range(ASKED):
                trial = study.ask()
                trials.append(trial)
                asked.append(self.digest_of(suggest(trial, self.composer.space)))
                if self.searched():
                    break
            left = self.race.hold([*left, *(digest for digest in asked if digest)])[:ELITE]
            for trial, digest in zip(trials, asked):
                standing = self.race.standing(digest) if digest else None
                study.tell(trial, standing.cost if standing else FAILED_COST)
            best = left and self.race.standing(left[0])
            if best:
                self.say(f"{len(self.journal.points)} compositions, {self.journal.blocks} blocks; best {self.name(left[0])}: "
                         f"{math.exp(best.value):.3f} of default's {self.goal.name}")
        return base, hand_made

    def name(self, digest: str) -> str:
        return self.names.get(digest, digest)

    def ranking(self) -> "list[str]":
        """All that could be run and keep to the limits, the best first. Of many, one that few blocks have seen is best by luck: the
        standard error is added twice."""
        known = {digest: self.race.standing(digest) for digest in self.journal.points}
        fit = {digest: one for digest, one in known.items() if one and one.exceeds <= 0.005}
        return sorted(fit, key=lambda digest: fit[digest].cost + 2 * fit[digest].error)

    def finish(self, base: str, hand_made: "list[str]") -> Outcome:
        """The fresh measurement: blocks that no choice of the search rests on."""
        ranking = self.ranking()
        known = [digest for digest in ranking if digest in hand_made][:3] or [base]
        winner = next((digest for digest in ranking if digest not in hand_made), None)
        field_ = [*known, *([winner] if winner else [])]
        first = self.journal.blocks
        race = Race(self.journal, self.goal, base, lambda digest: self.run(digest, self._run_fresh), self.seed + 1, say=self.say, name=self.name,
                    far=self.far_fresh)
        while self.journal.blocks - first < FRESH_BLOCKS and (
                self.spent() < self.budget or self.journal.blocks - first < ENOUGH_PAIRS):
            if not race.blocks(field_, fresh=True):
                break
        fresh = list(range(first, self.journal.blocks))
        figure = lambda digest: (found.ratio if (found := race.ratio(digest, base, fresh)) else math.inf) if digest != base else 1.0
        best = min((digest for digest in known if digest not in self.journal.failed), key=figure, default=base)
        if winner is None or winner in self.journal.failed:
            return Outcome(None, best, None, fresh)
        kept = all((found := race.ratio(winner, base, fresh, part)) is None or found.ratio <= most for part, most in self.goal.limits)
        return Outcome(winner if kept else None, best, race.ratio(winner, best, fresh) if kept else None, fresh)
