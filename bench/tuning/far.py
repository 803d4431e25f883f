# SPDX-License-Identifier: MIT
"""Blocks of a race that other machines make: an evaluation has a few blocks, each of them one run of every candidate on one
machine."""

import tempfile
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, Iterator, Sequence

from lab.copies import Copies
from lab.engine import Engine
from lab.estimate import FEWEST_OF_MACHINE
from lab.evaluation import Evaluation, write_bundle
from lab.libraries import LibraryError
from lab.runs import Run
from lab.workloads import Workload

from .race import Failed

BLOCKS = FEWEST_OF_MACHINE  # of an evaluation


@dataclass(frozen=True)
class Found:
    """What a run of a candidate gives, or why it gives nothing."""
    digest: str
    block: int = -1  # from 0 on, in one call
    machine: str = ""
    figures: "dict[str, float] | None" = None
    why: str = ""


class Far:
    """`place` has the library of a digest, or raises Failed; `figures` are what a race takes of a run."""

    def __init__(self, engine: Engine, workload: Workload, programs: Path, limit: float, folder: Path, place: "Callable[[str], Path]",
                 figures: "Callable[[Run], dict[str, float]]") -> None:
        self.engine, self.workload, self.programs, self.limit = engine, workload, programs, limit
        self.folder, self.place, self.figures = folder, place, figures

    def blocks(self, base: str, digests: "Sequence[str]", seed: int) -> "Iterator[Found]":
        """As many blocks as give each machine an evaluation. Raises Failed where the base does not run, or nobody answers."""
        with Copies() as private, tempfile.TemporaryDirectory(prefix="bundle-", dir=self.folder) as folder:
            libraries, candidates = [], []
            for digest in [base, *digests]:
                try:
                    libraries.append(private.open_library(str(self.place(digest))))
                    candidates += [digest] if digest != base else []
                except (Failed, LibraryError) as error:
                    if digest == base:
                        raise Failed(str(error)) from None
                    yield Found(digest, why=str(error))
            if not candidates:
                return
            private.take_programs(self.programs, [self.workload])
            bundle = Path(folder) / "bundle.pyz"
            write_bundle(bundle, private, libraries, [self.workload], self.limit)
            asked = [Evaluation(number, 0, seed + number, BLOCKS) for number in range(self.engine.width)]
            answered = False
            with closing(self.engine.answers(bundle, asked)) as answers:
                for answer in filter(None, answers):
                    answered = True
                    if answer.failed:
                        raise Failed(f"{answer.parts[0].failure} (on {answer.machine.name})")
                    # A's run of a round is in each row; any of them will do.
                    runs = {(base, pair.round): pair.A for part in answer.parts for pair in part.pairs}
                    runs |= {(digest, pair.round): pair.B for digest, part in zip(candidates, answer.parts) for pair in part.pairs}
                    for (digest, round_), run in sorted(runs.items(), key=lambda item: item[0][1]):
                        assert run
                        yield Found(digest, answer.number * BLOCKS + round_, answer.machine.name, self.figures(run))
                    for digest, part in zip(candidates, answer.parts):
                        if part.failure or part.skipped:
                            yield Found(digest, why=f"{part.failure or part.skipped} (on {answer.machine.name})")
            if not answered:
                raise Failed(f"no machine answers: {(self.engine.lost or ['nobody knows why'])[-1]}")
