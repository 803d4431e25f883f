#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Writes doc/performance.md: a section for each kind of measurement, each between marks of its own.

LIBRARY is build/default/libhakmem.so; a PEER is a path, or a name that bench/ab.py knows. Without any, those that are installed
here, and the system's malloc. The programs that are run are those of build/bench. `scons performance-report` builds all that
is needed, and calls this with every other pair as --also.

Exit status: 0; 2 if something cannot be measured; 130 after Ctrl-C."""

import argparse
import datetime
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

sys.dont_write_bytecode = True

from lab import callgrind, document, export, matrix, record, scaling, text, whole_runs  # noqa: E402
from lab.libraries import PEERS, SYSTEM, Library, LibraryError, find, open_library, tell_apart  # noqa: E402
from lab.matrix import Cell  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
DOCUMENT = ROOT / "doc" / "performance.md"
PROGRAMS = ROOT / "build" / "bench"
RECORDS = ROOT / "build" / "ab"
BUDGET = 45 * 60.0  # seconds for all workloads
SLOWER, LARGER = 1.02, 1.05  # than the best peer: rows that are named


class CannotMeasure(Exception):
    """There is no figure; the message says why."""


@dataclass(frozen=True)
class Asked:
    """What the command line says."""
    library: str
    also: list[str]  # other compositions
    peers: list[str]
    threads: list[int]
    budget: float
    record: str  # of the workloads, if they have been measured before


# ── All workloads ───────────────────────────────────────────────────────────────────────────────────


def measured(asked: Asked) -> record.Record:
    """All workloads under all libraries."""
    if asked.record:
        return record.read(asked.record)
    command = [sys.executable, str(ROOT / "bench" / "ab.py"), asked.library, *asked.also, *asked.peers, "--only=all",
               f"--budget={asked.budget:.0f}", f"--output={RECORDS}", f"--programs={PROGRAMS}"]
    status = subprocess.run(command, stdin=subprocess.DEVNULL).returncode
    if status == 130:
        raise KeyboardInterrupt
    if status not in (0, 1):  # 1: a workload failed, which its row says
        raise CannotMeasure(f"bench/ab.py ended with status {status}")
    return record.read(str(RECORDS / "latest.json"))


def cell(found: Cell) -> str:
    """A ratio with its interval; `~` in front if no difference is significant."""
    if found.why_not:
        return found.why_not
    return f"{'' if found.significant else '~ '}{text.ratio(found.ratio)} ({text.ratio(found.low)}-{text.ratio(found.high)})"


def table(data: record.Record, measure: str) -> list[str]:
    """What default takes, and what the others take in multiples of it."""
    lines = []
    for line in matrix.matrix(data, measure):
        row = next((row for row in matrix.rows_of(data, line.workload) if row and not row.failure and row.measure(measure)), None)
        of_a = row and row.measure(measure)
        own = "failed" if not row or not of_a else (
            text.compared(of_a, "A") if measure == record.TIME else text.SHOWN[measure](of_a.A))
        lines.append([line.workload, own, *map(cell, line.cells[1:])])
    return export.table(["workload", data.A.label, *(other.label for other in data.others)], lines)


@dataclass(frozen=True)
class Beside:
    """A workload under default, in multiples of what the best of the peers takes."""
    workload: str
    peer: str
    ratio: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.workload} {text.ratio(self.ratio)} ({text.ratio(self.low)}-{text.ratio(self.high)}, {self.peer})"


def beside_the_best(data: record.Record, measure: str, peers: set[str]) -> list[Beside]:
    """Of each workload of which a peer has a figure, in the order of the table."""
    found = []
    for line in matrix.matrix(data, measure):
        of_peers = [(one, other.label) for one, other in zip(line.cells[1:], data.others) if other.label in peers and not one.why_not]
        if of_peers:
            best, label = min(of_peers, key=lambda pair: pair[0].ratio)
            found.append(Beside(line.workload, label, 1 / best.ratio, 1 / best.high, 1 / best.low))
    return found


def summary(data: record.Record, peers: set[str]) -> list[str]:
    """Geometric means of all libraries, and default beside the best peer of each row."""
    times, over = matrix.geometric_means(matrix.matrix(data, record.TIME))
    sizes, of_sizes = matrix.geometric_means(matrix.matrix(data, "peak_rss"))
    if not over or not of_sizes:
        raise CannotMeasure("no workload ran under all libraries: a larger --budget, or fewer peers")
    rows = {"time": times, "peak resident memory": sizes, "time × memory": [a * b for a, b in zip(times, sizes)]}
    lines = export.table([f"geometric mean over {over} workloads", data.A.label, *(other.label for other in data.others)],
                         [[name, *map(text.ratio, means_of)] for name, means_of in rows.items()])
    lines.append("")
    for measure, what, bound, more in ((record.TIME, "time", SLOWER, "slower"), ("peak_rss", "peak resident memory", LARGER, "larger")):
        best = beside_the_best(data, measure, peers)
        if not best:
            continue
        behind = [str(one) for one in best if one.low > bound]
        lines += [f"- {data.A.label} takes {text.ratio(matrix.geometric_mean([one.ratio for one in best]))} times the {what} of the best peer of each row. "
                  + (f"Surely {more} than {bound} times that peer: {'; '.join(behind)}." if behind
                     else f"In no row it is surely {more} than {bound} times that peer.")]
    return lines


def workloads(asked: Asked) -> list[str]:
    data = measured(asked)
    peers = {other.label for other in data.others if not other.identity.startswith("hakmem ")}
    lines = [*summary(data, peers), "", "### Time", "", *table(data, record.TIME), "", "### Peak resident memory, MiB", "",
             *table(data, "peak_rss"), ""]
    machine = data.machine
    lines += [f"{data.started[:10]}, {data.seconds / 60:.0f} minutes, on {machine.kernel}, {machine.cpu} with {machine.cpus} CPUs, "
              f"load {machine.load} at the start.", ""]
    return lines + [f"- {library.label}: `{library.identity}`" for library in (data.A, *data.others)]


# ── Counts ──────────────────────────────────────────────────────────────────────────────────────────


def with_a_file(libraries: list[Library]) -> list[Library]:
    """Those whose instructions can be told from the C library's."""
    return [library for library in libraries if library.measured]


def counted(what: Callable[[], float]) -> str:
    """A count, or that there is none: callgrind does not see into every library."""
    try:
        return f"{what():.1f}"
    except callgrind.CountFailed as error:
        say(f"performance.py: {error}")
        return text.NONE


def counts(asked: Asked) -> list[str]:
    """Instructions, which no other load of the machine changes."""
    libraries = tell_apart([open_library(name) for name in [asked.library, *asked.also, *asked.peers]])
    loads = callgrind.loads()
    lines = export.table(["a malloc and a free", *loads],
                         [[library.label, *(counted(lambda: callgrind.count(load, library, PROGRAMS).net) for load in loads.values())]
                          for library in libraries])
    say("\n".join(lines))
    whole = with_a_file(libraries)
    programs = [program for program in whole_runs.PROGRAMS.values() if program.found()]
    names = [program.name for program in programs]
    of_programs = [[library.label, *(counted(lambda: whole_runs.measure([library], [program], say)[program.name, library.label].each)
                                     for program in programs)] for library in whole]
    return [*lines, "", *export.table(["an allocation of a program", *names], of_programs), "", today()]


# ── What threads share ──────────────────────────────────────────────────────────────────────────────


def shared(asked: Asked) -> list[str]:
    """The counts of what threads share, for numbers of threads, and for the peers at one of them."""
    lines = ["| workload | malloc | threads | locked | locks | system calls |", "|---|---|---|---|---|---|"]
    library, *peers = with_a_file(tell_apart([open_library(name) for name in [asked.library, *asked.peers]]))
    rows = [(library, number) for number in asked.threads] + [(peer, asked.threads[len(asked.threads) // 2]) for peer in peers]
    files = {one.label: Path(one.measured or "").resolve() for one, _ in rows}
    known = {label: scaling.Instructions(file) for label, file in files.items()}
    for load in scaling.LOADS:
        for one, number in rows:
            if number < load.threads_least:
                continue
            events = scaling.measure(load, number, files[one.label], known[one.label], PROGRAMS)
            thousands = (load.operations(number, load.lengths[1]) - load.operations(number, load.lengths[0])) / 1000
            figures = " | ".join(f"{max(count, 0) / thousands:.1f}" for count in
                                 (events.locked, events.locks, events.system_calls))
            lines.append(f"| {load.name} ({load.operation}) | {one.label} | {number} | {figures} |")
            say(lines[-1])
    return lines + ["", today()]


# ── The command ─────────────────────────────────────────────────────────────────────────────────────


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def today() -> str:
    revision = scaling.output(["git", "-C", str(ROOT), "describe", "--always", "--dirty"]).strip()
    return f"Measured {datetime.date.today().isoformat()} at revision {revision}."


SECTIONS = {"workloads": workloads, "counts": counts, "scaling": shared}


def installed() -> list[str]:
    """The peers that this machine has."""
    def is_there(name: str) -> bool:
        try:
            return bool(find(name))
        except LibraryError:
            return False
    return [SYSTEM, *filter(is_there, PEERS)]


def arguments() -> tuple[Asked, list[str]]:
    parser = argparse.ArgumentParser(prog="performance.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("library", metavar="LIBRARY")
    parser.add_argument("peers", metavar="PEER", nargs="*")
    parser.add_argument("--also", metavar="LIBRARY", action="append", default=[], help="another composition of ours; may be repeated")
    parser.add_argument("--section", choices=SECTIONS, action="append", help="only this one; may be repeated")
    parser.add_argument("--threads", default="1,2,4,16,64", help="numbers of threads for scaling (%(default)s)")
    parser.add_argument("--budget", type=float, default=BUDGET, metavar="SECONDS", help="for all workloads (%(default).0f)")
    parser.add_argument("--record", default="", metavar="FILE", help="of a measurement of all workloads that was made before")
    options = parser.parse_args()
    try:
        threads = [int(number) for number in options.threads.split(",")]
    except ValueError:
        threads = [0]
    if min(threads) < 1:
        parser.error(f"--threads={options.threads}: numbers from 1 on, with commas between them")
    if not options.budget > 0:
        parser.error("--budget: seconds, more than 0")
    asked = Asked(options.library, options.also, options.peers or installed(), threads, options.budget, options.record)
    return asked, options.section or list(SECTIONS)


def main() -> int:
    asked, sections = arguments()
    try:
        for name in [asked.library, *asked.also, *asked.peers]:
            find(name)  # before an hour has gone by
        for name in sections:
            document.write(DOCUMENT, f"bench/performance.py --section {name}", SECTIONS[name](asked))
    except (CannotMeasure, LibraryError, callgrind.CountFailed, record.RecordError, document.DocumentError, OSError,
            subprocess.TimeoutExpired) as error:
        print(f"performance.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
