# SPDX-License-Identifier: MIT
"""What the processor does for one operation: cycles, instructions, branches, cache misses.

From `perf stat` where the kernel has counters, which virtual machines often lack; else, when asked
for, from cachegrind, which simulates a processor with its first-level cache and a branch predictor.
A simulation has no cycles, and its misses are those of a simple model: they repeat, but they are
not this machine's.

Start and end of the program are taken off: a run of the probe, which does next to nothing, is
counted too, and the difference is divided by the operations between the two. Where operations are
not known, the figure is that of a whole run.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Mapping, Sequence

from .libraries import CLEAN_ENVIRONMENT, Library, command_line, how_it_ended
from .workloads import BENCH, Workload

PERF, SIMULATION = "perf", "cachegrind"
SECONDS, PROBE_SECONDS = 60, 15  # the time limits of a counted run
NAMES = ("cycles", "instructions", "branches", "branch_misses", "l1_misses")
EVENTS = {
    "cycles": "cycles",
    "instructions": "instructions",
    "branches": "branches",
    "branch-misses": "branch_misses",
    "L1-dcache-load-misses": "l1_misses",
}


class CountFailed(Exception):
    """There are no counts; the message says why."""


@dataclass(frozen=True)
class Counted:
    source: str  # PERF or SIMULATION
    per: str  # "operation" or "run"
    values: dict[str, float | None]  # of NAMES; None: not available

    @property
    def instructions_per_cycle(self) -> float | None:
        cycles, instructions = self.values["cycles"], self.values["instructions"]
        return instructions / cycles if cycles and instructions is not None else None


def _run(command: Sequence[str], environment: Mapping[str, str], limit: float) -> str:
    shown = command_line(command, {})
    try:
        done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL,
                              capture_output=True, errors="replace", timeout=limit)
    except FileNotFoundError:
        raise CountFailed(f"{command[0]} is missing") from None
    except subprocess.TimeoutExpired:
        raise CountFailed(f"no end within {limit:g} s; to repeat: {shown}") from None
    if done.returncode:
        raise CountFailed(f"{how_it_ended(done.returncode, done.stderr)}; to repeat: {shown}")
    return done.stdout


def parse_perf(text: str) -> dict[str, float | None]:
    """{name: count} of what `perf stat -x,` wrote; None for what the kernel cannot count."""
    counts = dict.fromkeys(NAMES)
    for line in text.splitlines():
        fields = line.split(",")
        # An event may carry what it was restricted to: "cycles:u".
        name = EVENTS.get(fields[2].split(":")[0]) if len(fields) > 2 else None
        if name and re.fullmatch(r"[0-9.]+", fields[0]):
            counts[name] = float(fields[0])
    return counts


def parse_cachegrind(text: str) -> dict[str, float | None]:
    """{name: count} of a cachegrind file."""
    names = re.search(r"^events: (.*)$", text, re.MULTILINE)
    sums = re.search(r"^summary: (.*)$", text, re.MULTILINE)
    if not names or not sums:
        raise CountFailed("cachegrind's file has no summary")
    count = dict(zip(names[1].split(), map(float, sums[1].split())))
    return {
        "cycles": None,
        "instructions": count["Ir"],
        "branches": count["Bc"] + count["Bi"],
        "branch_misses": count["Bcm"] + count["Bim"],
        "l1_misses": count["D1mr"] + count["D1mw"],
    }


def _with_perf(command: Sequence[str], settings: Mapping[str, str],
               limit: float) -> tuple[dict[str, float | None], str]:
    with tempfile.TemporaryDirectory(prefix="hakmem-perf-") as folder:
        file = os.path.join(folder, "out")
        # The library belongs in the program, not in perf.
        stdout = _run(["perf", "stat", "-x,", "-o", file, "-e", ",".join(EVENTS), "--",
                       "/usr/bin/env", *(f"{n}={v}" for n, v in settings.items()), *command],
                      CLEAN_ENVIRONMENT, limit)
        with open(file, encoding="utf-8", errors="replace") as text:
            return parse_perf(text.read()), stdout


def _simulated(command: Sequence[str], settings: Mapping[str, str],
               limit: float) -> tuple[dict[str, float | None], str]:
    with tempfile.TemporaryDirectory(prefix="hakmem-cachegrind-") as folder:
        # One file for each process.
        stdout = _run(["valgrind", "--tool=cachegrind", "--cache-sim=yes", "--branch-sim=yes",
                       "--trace-children=yes", f"--cachegrind-out-file={folder}/%p", *command],
                      {**CLEAN_ENVIRONMENT, **settings}, limit)
        files = [os.path.join(folder, name) for name in os.listdir(folder)]
        if not files:
            raise CountFailed(f"cachegrind says nothing of {command[0]}")
        processes = []
        for file in files:
            with open(file, encoding="utf-8", errors="replace") as text:
                processes.append(parse_cachegrind(text.read()))
    return {name: None if name == "cycles" else sum(one[name] or 0.0 for one in processes)
            for name in NAMES}, stdout


def _perf_counts() -> bool:
    try:
        counts, _ = _with_perf(["/bin/true"], {}, PROBE_SECONDS)
    except (CountFailed, OSError):
        return False
    return any(value is not None for value in counts.values())


def available_source(simulate: bool) -> tuple[str | None, str]:
    """Where counts come from on this machine: PERF, else SIMULATION if it is wanted and there, else
    None; and why."""
    if shutil.which("perf") and _perf_counts():
        return PERF, "perf, this machine's own counters"
    why = ("this kernel gives no hardware counters" if shutil.which("perf")
           else "perf is not installed (Debian: linux-perf)")
    if not simulate:
        return None, f"{why}; COUNTERS=yes (--counters) simulates them with cachegrind"
    if not shutil.which("valgrind"):
        return None, f"{why}, and valgrind is not installed (Debian: valgrind)"
    return SIMULATION, f"cachegrind, a simulation: {why}"


def _operations(stdout: str) -> int | None:
    found = re.search(r"\bops=(\d+)", stdout)
    return int(found[1]) if found else None


def count(workload: Workload, library: Library, programs: str | Path, source: str,
          bench: str | Path = BENCH) -> Counted:
    """Raises CountFailed."""
    settings = {**library.environment, **workload.environment}
    counter = _with_perf if source == PERF else _simulated
    short, said_short = counter(workload.filled(workload.probe, programs, bench), settings,
                                PROBE_SECONDS)
    command = workload.simulated if source == SIMULATION else ()
    long, said_long = counter(workload.filled(command or workload.command, programs, bench), settings,
                              SECONDS)
    before, after = _operations(said_short), _operations(said_long)
    if before is None or after is None or after <= before:
        return Counted(source, "run", long)
    # What happens hardly ever in an operation may happen more often in the short run.
    operations = after - before

    def each(whole: float | None, start: float | None) -> float | None:
        return None if whole is None or start is None else max(0.0, (whole - start) / operations)
    return Counted(source, "operation", {name: each(long[name], short[name]) for name in NAMES})
