#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Measures what recording costs a program, and writes doc/recording.md.

Each program runs in interleaved pairs under the system's malloc, without and with the recorder (`scons workloads` builds it).
Exit status: 0; 2 if something cannot be measured; 130 after Ctrl-C."""

import argparse
import datetime
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

sys.dont_write_bytecode = True
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from lab import document, libraries, machine, present, programs, record, runs, text, workloads  # noqa: E402
from lab.comparison import Comparison  # noqa: E402
from recording import recording  # noqa: E402
from recording.library import TraceError  # noqa: E402

BENCH = Path(__file__).resolve().parent
ROOT = BENCH.parent
DOCUMENT = ROOT / "doc" / "recording.md"
MARK = "bench/recorder_cost.py"
ROW_BUDGET, MOST_BUDGET = 25.0, 300.0  # seconds for a program; the most, where ten pairs take longer


class CannotMeasure(Exception):
    """The message says why."""


@dataclass(frozen=True)
class Subject:
    """A program to record. Of the laboratory's own an operation is two events."""
    name: str
    program: str
    client: str = ""
    metric: str = ""
    environment: "dict[str, str] | None" = None


PER_OPERATION = r"ns_per_op=([0-9.]+)"
SUBJECTS = (
    Subject("gcc -O2 of bench/server.c", f"gcc -O2 -S -o /dev/null {BENCH}/server.c"),
    Subject("python3 as it is, its own small blocks", f"/usr/bin/python3 -s -S {BENCH}/load_python.py 5"),
    Subject("python3, PYTHONMALLOC=malloc", f"/usr/bin/python3 -s -S {BENCH}/load_python.py 5", environment={"PYTHONMALLOC": "malloc"}),
    Subject("sqlite3, bench/load_sqlite.sql", f"sqlite3 -batch :memory: '.read {BENCH}/load_sqlite.sql'"),
    Subject("redis, 20 000 SET", "redis-server --port {port} --save ''", "redis-benchmark -p {port} -n 20000 -t set -d 64 -q"),
    Subject("bench/pair 64", "{built}/pair 64 3000000", metric=PER_OPERATION),
    Subject("bench/batch 16", "{built}/batch 16 200000", metric=PER_OPERATION),
    Subject("bench/random_mixed", "{built}/random_mixed 2000000 1024 12345", metric=PER_OPERATION),
)


def workload_of(subject: Subject, folder: Path, built: Path) -> workloads.Workload:
    try:
        made, = programs.asked(subject.program.replace("{built}", str(built)), client=subject.client, metric=subject.metric,
                               prepare=f"rm -rf {folder}")
    except ValueError as error:
        raise CannotMeasure(f"{subject.name}: {error}") from None
    return replace(made, name=subject.name[:programs.MOST_NAME], environment={"HAKMEM_RECORD": str(folder), **(subject.environment or {})})


def measured(subject: Subject, folder: Path, options: argparse.Namespace) -> str:
    """The subject's row of the table."""
    built = Path(options.programs).resolve()
    workload = workload_of(subject, folder, built)
    a, b = libraries.open_library(libraries.SYSTEM), libraries.open_library(str(built / "libhakmem-record.so"))
    made = Comparison(a, [b], [workload], runs.Runner(built), options.budget, 1, present.Progress(),
                      stretch=MOST_BUDGET)
    made.run()
    if made.interrupted:
        raise KeyboardInterrupt
    row = record.as_data(made, machine.describe(), datetime.datetime.now()).rows[0]
    if row.failure:
        raise CannotMeasure(f"{subject.name}: {row.failure}; to repeat: {row.to_repeat}")
    shutil.rmtree(folder, ignore_errors=True)
    runs.Runner(built).run(workload, b)
    one = recording.load_one(str(folder), None)
    events = len(one.events)
    processor, time = row.measure("processor"), row.time
    if not processor or not processor.estimate or not time or not time.estimate or not time.estimate.enough:
        raise CannotMeasure(f"{subject.name}: {row.pairs} pairs only; the machine is too busy")
    each = f"{(time.B - time.A) / 2:.1f} ns" if subject.metric else ""
    return (f"| {subject.name} | {events:,} | {one.bytes / max(events, 1):.1f} | {text.ratio(processor.estimate.ratio)} "
            f"({text.interval(processor.estimate, '–')}) | {text.ratio(time.estimate.ratio)} ({text.interval(time.estimate, '–')}) "
            f"| {each} |")


def revision() -> str:
    done = subprocess.run(["git", "-C", ROOT, "describe", "--always", "--dirty"], capture_output=True, text=True)
    return done.stdout.strip() or "unknown"


def main() -> int:
    parser = argparse.ArgumentParser(prog="recorder_cost.py", description=__doc__.split("\n\n")[0])
    parser.add_argument("--budget", type=float, default=ROW_BUDGET, metavar="SECONDS", help="for each program (%(default)s)")
    parser.add_argument("--programs", default=ROOT / "build" / "bench", metavar="FOLDER", help="the built workloads (build/bench)")
    parser.add_argument("--document", type=Path, metavar="FILE", help=f"write the result there ({DOCUMENT.relative_to(ROOT)})")
    parser.add_argument("--only", default="", metavar="TEXT", help="just the programs whose names contain it")
    options = parser.parse_args()
    lines = ["| program | events | bytes an event | processor time with / without (95 %) | time or figure | an event |",
             "|---|---:|---:|---|---|---:|"]
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    try:
        with tempfile.TemporaryDirectory(prefix="hakmem-cost-", dir=memory) as place:
            for subject in SUBJECTS:
                if options.only in subject.name:
                    lines.append(measured(subject, Path(place) / "recording", options))
                    print(lines[-1], flush=True)
        described = machine.describe()
        lines += ["", f"{datetime.date.today()}, revision {revision()}, {described.kernel}, {described.cpu} with {described.cpus} "
                  f"CPUs, load {described.load} at the end; recorded to {'a tmpfs' if memory else 'a disk'}."]
        if options.document:
            document.write(options.document, MARK, lines)
    except (CannotMeasure, libraries.LibraryError, document.DocumentError, TraceError, runs.RunFailed) as error:
        print(f"recorder_cost.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
