# SPDX-License-Identifier: MIT
"""An evaluation: one command that measures one workload on the machine that it is run on, and needs nothing else there.

    /usr/bin/python3 BUNDLE NUMBER WORKLOAD SEED ROUNDS   ─►   a line of JSON

A bundle is a zip archive that Python runs: this package, the private copies of the libraries, of the built programs and
of what they read, and `asked.json`, which says what they are. It is unpacked to a folder of its own, which is removed
at the end. There the rounds are made as any comparison makes them, warm-up and look at who serves malloc first, so that
both runs of a pair are of one machine, one right after the other. What a program of the user's needs is not in it.

The exit status is 0 where there is a line, be it one that says how the workload fails; else nothing was measured, and
stderr says why.
"""

from __future__ import annotations

import json
import math
import os
import shlex
import signal
import sys
import time
import zipfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Iterable, Sequence

from .comparison import Comparison, Row
from .copies import Copies
from .libraries import Library, LibraryError, check_preloads
from .machine import Machine, describe, own_name
from .record import Pair, decode
from .runs import Runner
from .workloads import Workload

PACKAGE = Path(__file__).resolve().parent
MAIN = "import sys\nfrom lab.evaluation import main\nsys.exit(main())\n"
MEASURED = "measured"  # the folder of copies
FAILED = 1
ENDING = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)


@dataclass(frozen=True)
class Asked:
    """What the bundle's files are."""
    libraries: list[Library]  # A first
    workloads: list[Workload]
    limit: float | None  # seconds of a run
    originals: dict[str, str]  # copy -> the file that its user knows


@dataclass(frozen=True)
class Evaluation:
    """What one command is asked for."""
    number: int  # no two of a measurement have the same
    workload: int  # its place in the bundle
    seed: int
    rounds: int

    def command(self, bundle: str) -> str:
        return f"/usr/bin/python3 {shlex.quote(bundle)} {self.number} {self.workload} {self.seed} {self.rounds}"


@dataclass(frozen=True)
class Part:
    """What an evaluation has found of a row."""
    pairs: list[Pair]
    loads: list[float]
    failure: str | None
    to_repeat: str | None
    skipped: str | None


@dataclass(frozen=True)
class Answer:
    """The line of JSON."""
    number: int
    workload: int
    machine: Machine
    seconds: float
    pinned: bool
    failed: bool  # under A
    parts: list[Part]  # as the bundle's libraries, without A


class Unpacked:
    """In place of Copies, in a bundle that was unpacked."""

    def __init__(self, folder: str, asked: Asked) -> None:
        self.programs, self.bench = os.path.join(folder, "programs"), os.path.join(folder, "bench")
        self._folder, self._asked = folder, asked

    def known(self, text: str) -> str:
        for copy, original in self._asked.originals.items():
            text = text.replace(os.path.join(self._folder, copy), original)
        return text


def write_bundle(file: Path, copies: Copies, libraries: Iterable[Library], workloads: Sequence[Workload],
                 limit: float | None) -> None:
    """The bundle of copies that were taken of these."""
    inside = [replace(library, copy=os.path.relpath(library.copy, copies.folder) if library.copy else None)
              for library in libraries]
    originals = {os.path.relpath(copy, copies.folder): original for copy, original in copies.originals.items()}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as bundle:
        bundle.writestr("__main__.py", MAIN)
        bundle.writestr("asked.json", json.dumps(asdict(Asked(inside, list(workloads), limit, originals))))
        for source in PACKAGE.glob("*.py"):
            bundle.write(source, f"{PACKAGE.name}/{source.name}")
        for copy in originals:
            bundle.write(os.path.join(copies.folder, copy), f"{MEASURED}/{copy}")


def unpack(bundle: str, folder: str) -> tuple[Asked, Unpacked]:
    """Puts the bundle's copies into the folder; the libraries' paths are those there."""
    with zipfile.ZipFile(bundle) as archive:
        asked: Asked = decode(Asked, json.loads(archive.read("asked.json")))
        for copy in asked.originals:
            os.chmod(archive.extract(f"{MEASURED}/{copy}", folder), 0o555)
    place = os.path.join(folder, MEASURED)
    libraries = [replace(library, copy=os.path.join(place, library.copy) if library.copy else None)
                 for library in asked.libraries]
    return replace(asked, libraries=libraries), Unpacked(place, asked)


class Quiet:
    """In place of present.Progress."""

    def show(self, *_: object) -> None:
        pass

    def clear(self) -> None:
        pass


def _part(row: Row) -> Part:
    pairs = [Pair(a, b, order, round_) for (a, b), order, round_ in zip(row.pairs, row.orders, row.rounds)]
    return Part(pairs, row.loads, row.failure, row.command, row.skipped)


def evaluate(bundle: str, folder: str, evaluation: Evaluation) -> Answer:
    """Measures, in the folder. Raises LibraryError where this machine cannot."""
    start = time.monotonic()
    asked, unpacked = unpack(bundle, folder)
    for library in asked.libraries:
        try:
            check_preloads(library.path or library.label, library.copy or "")
        except LibraryError as error:
            raise LibraryError(unpacked.known(str(error))) from None
    a, *others = asked.libraries
    described = replace(describe(), name=own_name())
    made = Comparison(a, others, [asked.workloads[evaluation.workload]],
                      Runner(unpacked.programs, asked.limit, unpacked), math.inf, evaluation.seed, Quiet(), 0.0)
    made.make(evaluation.rounds)
    trial = made.trials[0]
    return Answer(evaluation.number, evaluation.workload, described, round(time.monotonic() - start, 3), trial.pinned, trial.failed,
                  [_part(row) for row in trial.rows])


def _interrupt(*_: object) -> None:
    """Once: the next signal must not interrupt what is being removed."""
    _ignore()
    raise KeyboardInterrupt


def _ignore() -> None:
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN)


def main() -> int:
    # When the connection is gone, neither what runs nor the folder may stay behind.
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    for number in ENDING:
        signal.signal(number, _interrupt)
    try:
        with Copies() as place:
            try:
                signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
                answer = evaluate(sys.argv[0], place.folder, Evaluation(*map(int, sys.argv[1:5])))
            finally:
                _ignore()
        print(json.dumps(asdict(answer)), flush=True)
    except (LibraryError, OSError) as error:
        print(f"{own_name()}: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    return 0
