#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Does a replay order mallocs as the program itself does? Each kept recording and its program, under the same mallocs.

For each program and each measure, time and peak memory: Kendall's tau of the two orders with a bootstrap interval over
the blocks, and by how much the peaks differ. Writes doc/laboratory.md with --document. Exit status: 0; 2 if nothing can be
measured; 130 after Ctrl-C."""

import argparse
import datetime
import itertools
import math
import os
import random
import re
import sys
import time
from pathlib import Path

sys.dont_write_bytecode = True
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np  # noqa: E402
from lab import copies, document, libraries, machine, runs, workloads  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
MARK = "bench/fidelity.py"
PROGRAMS = ("gcc", "python3", "redis", "sqlite3")  # lld has no row of its own: what it links is not in the tree
PEERS = ("jemalloc", "tcmalloc", "mimalloc")
RESAMPLES = 2000
TIE = {"time": 0.01, "rss": 0.01}  # what differs by less is no order


class CannotMeasure(Exception):
    """The message says why."""


def tau(first, second, tie=0.0):
    """Kendall's tau-b of two lists of logarithms; what differs by less than `tie` is tied."""
    first, second = np.asarray(first), np.asarray(second)
    pairs = np.triu_indices(len(first), 1)

    def sign(values):
        gaps = (values[:, None] - values[None, :])[pairs]
        return np.where(abs(gaps) < tie, 0, np.sign(gaps))
    a, b = sign(first), sign(second)
    both = math.sqrt((a != 0).sum() * (b != 0).sum())
    return float((a * b).sum() / both) if both else math.nan


def interval(program, replay, tie, seed=1):
    """(tau, low, high) of two arrays [block][malloc] of logarithms: blocks are drawn anew, of each side on its own."""
    chance = np.random.default_rng(seed)
    drawn = []
    for _ in range(RESAMPLES):
        sides = [side[chance.integers(0, len(side), len(side))] for side in (program, replay)]
        drawn.append(tau(*(np.median(side, axis=0) for side in sides), tie))
    found = [value for value in drawn if not math.isnan(value)]
    centre = tau(np.median(program, axis=0), np.median(replay, axis=0), tie)
    return (centre, *np.quantile(found, (0.025, 0.975)).tolist()) if found else (math.nan,) * 3


def measure(options, opened, names, private):
    """{(program, is a replay): {"time" or "rss": array [block][malloc]}}."""
    chosen = {(name, replays): workloads.select([f"replay {name}" if replays else name])[0]
              for name in names for replays in (False, True)}
    runner = runs.Runner(options.programs, 120, private)
    if missing := runner.missing(chosen.values()):
        raise CannotMeasure(f"{missing[0]} is not there; `scons workloads` builds it")
    private.take_programs(options.programs, chosen.values())
    chance, end = random.Random(options.seed), time.monotonic() + options.budget
    figures = {key: {"time": [], "rss": []} for key in chosen}
    while time.monotonic() < end or min(len(one["time"]) for one in figures.values()) < 3:
        for key, workload in chance.sample(sorted(chosen.items()), len(chosen)):
            row = [None] * len(opened)
            for index in chance.sample(range(len(opened)), len(opened)):
                row[index] = runner.run(workload, opened[index], [chance.choice(options.cpus)])
            figures[key]["time"].append([math.log(run.seconds) for run in row])
            figures[key]["rss"].append([math.log(run.peak_rss_kib) for run in row])
        print(f"{len(row)} mallocs, {min(len(one['time']) for one in figures.values())} blocks", file=sys.stderr)
    return {key: {name: np.array(values) for name, values in one.items()} for key, one in figures.items()}


def table(figures, names, labels):
    lines = ["| program | blocks | tau of time (95 %) | tau of peak memory (95 %) | peak of the replay by the program's |",
             "|---|---:|---|---|---|"]
    for name in names:
        program, replay = figures[name, False], figures[name, True]
        cells = []
        for measure_, tie in TIE.items():
            centre, low, high = interval(program[measure_], replay[measure_], tie)
            cells.append(f"{centre:.2f} ({low:.2f} – {high:.2f})")
        ratios = np.exp(np.median(replay["rss"], axis=0) - np.median(program["rss"], axis=0))
        cells.append(f"{ratios.min():.2f} – {ratios.max():.2f}")
        lines.append(f"| {name} | {len(program['time'])} | " + " | ".join(cells) + " |")
    return lines + ["", f"Mallocs: {', '.join(labels)}."]


def main():
    parser = argparse.ArgumentParser(prog="fidelity.py", description=__doc__)
    parser.add_argument("libraries", nargs="+", metavar="LIBRARY", help="eight configurations, say; peers are added")
    parser.add_argument("--only", action="append", choices=PROGRAMS, help="of the programs; may be repeated")
    parser.add_argument("--budget", type=float, default=600, metavar="SECONDS")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--programs", default=ROOT / "build" / "bench", metavar="FOLDER")
    parser.add_argument("--document", type=Path, metavar="FILE", help="writes the table there, too")
    options = parser.parse_args()
    options.cpus = sorted(os.sched_getaffinity(0))
    names = options.only or list(PROGRAMS)
    try:
        with copies.Copies() as private:
            opened = libraries.tell_apart([private.open_library(one) for one in
                                           itertools.chain(options.libraries, PEERS, [libraries.SYSTEM])])
            figures = measure(options, opened, names, private)
    except (CannotMeasure, document.DocumentError, libraries.LibraryError, runs.RunFailed) as error:
        print(f"fidelity.py: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    lines = table(figures, names, [one.label for one in opened])
    described = machine.describe()
    revision = next((word for one in opened for word in re.findall(r"revision (\S+)", one.identity)), "unknown")
    lines += ["", f"{datetime.date.today().isoformat()}, revision {revision}, {described.kernel}, {described.cpu} with {described.cpus} CPUs, "
              f"load {described.load} at the end."]
    print("\n".join(lines))
    if options.document:
        document.write(options.document, MARK, lines)
    return 0


if __name__ == "__main__":
    sys.exit(main())
