# SPDX-License-Identifier: MIT
"""One run of one workload under one library."""

import hashlib
import os
import signal
import subprocess
from dataclasses import dataclass, field

from . import workloads
from .libraries import CLEAN_ENVIRONMENT, command_line, how_it_ended

RUN_SECONDS = 20  # the time limit of one run
# A variable of random length in the environment of each run moves the stack: where things lie in
# memory decides on a few per cent, and one place is but one sample.
PADDING = "AB_PADDING"
MOST_PADDING = 4096


class RunFailed(Exception):
    """The run gave no figure; the message says why in a few words, `command` repeats it."""

    def __init__(self, library, what, command):
        super().__init__(f"{library.label}: {what}")
        self.command = command


@dataclass(frozen=True)
class Run:
    seconds: float  # what is compared: the workload's own time, or elapsed time
    ns_per_op: float | None
    operations: int | None
    result: str  # must not depend on the allocator
    wall_seconds: float
    user_seconds: float
    system_seconds: float
    peak_rss_kib: int
    rss_mib_seconds: float | None  # resident memory integrated over time; None for too short a run
    minor_faults: int
    major_faults: int
    voluntary_switches: int
    involuntary_switches: int
    threads: int  # the most that were seen at once, of the program and its children together
    latency_ns: dict[str, float] = field(default_factory=dict)  # "p50", "p99", "p999", "max"
    rss: list[tuple[int, int]] = field(default_factory=list)  # (milliseconds, KiB)
    metric: float | None = None  # the figure of the program's own that is compared, as it printed it


FEWEST_SAMPLES = 5
PERCENTILES = ("p50", "p99", "p999", "max")


def _pairs(line):
    """The key=value pairs of a line of data."""
    return dict(word.split("=", 1) for word in line.split() if "=" in word)


def _integral(samples, wall_seconds):
    """MiB times seconds; before the first sample memory is taken to grow evenly, after the last one
    to stay."""
    if len(samples) < FEWEST_SAMPLES:
        return None
    points = [(0, 0), *samples, (max(1000 * wall_seconds, samples[-1][0]), samples[-1][1])]
    area = sum((later - earlier) * (before + after) / 2
               for (earlier, before), (later, after) in zip(points, points[1:]))
    return area / 1000 / 1024


def _peak(data, of_largest, samples):
    """KiB. A program with children needs the memory of all of them at once, unless it says itself
    which of them counts."""
    try:
        return int(data["server_peak_rss_kib"])
    except (KeyError, ValueError):
        return max([of_largest, *(kib for _, kib in samples)])


def _latency(data):
    """The percentiles that the workload printed, if it did."""
    try:
        return {name: float(data[f"{name}_ns"]) for name in PERCENTILES if f"{name}_ns" in data}
    except ValueError:
        return {}


class Runner:
    """Runs workloads from a folder of built programs, or from private copies of them. What is running is ended
    by stop()."""

    def __init__(self, programs, run_seconds=RUN_SECONDS, copies=None):
        self.built = os.path.abspath(programs)
        self.programs = copies.programs if copies else self.built
        self.bench = copies.bench if copies else workloads.BENCH
        self.known = copies.known if copies else str
        self.run_seconds = run_seconds
        self._process = None

    def missing(self, chosen):
        """The built programs that the chosen workloads need and that are not there."""
        needed = [os.path.join(self.built, "launch")]
        needed += [workload.filled(workload.command, self.built)[0] for workload in chosen
                   if workload.command[0].startswith("{programs}")]
        return [program for program in dict.fromkeys(needed) if not os.access(program, os.X_OK)]

    def filled(self, workload, words):
        return workload.filled(words, self.programs, self.bench)

    def command(self, workload, library, words=None):
        """What to type to repeat a run, of other words than the workload's command if they are given."""
        return self.known(command_line(self.filled(workload, words or workload.command),
                                       {**library.environment, **workload.environment}))

    def run(self, workload, library, cpus=None, padding=0):
        """Runs it on those CPUs, or on all. Raises RunFailed."""
        command = self.filled(workload, workload.command)
        settings = {**library.environment, **workload.environment}
        shown = self.command(workload, library)
        if padding:
            settings[PADDING] = "x" * padding
        stdout, stderr, measured, samples = self._execute(command, settings, library, shown, cpus)

        exit_status, killed = int(measured.pop("exit")), int(measured.pop("signal"))
        if exit_status or killed:
            raise RunFailed(library, self.known(how_it_ended(-killed or exit_status, stderr)), shown)
        wall = float(measured["wall_seconds"])
        data = _pairs(stdout)
        seconds, ns_per_op, operations = wall, None, None
        result = hashlib.sha256(stdout.encode()).hexdigest()[:16]
        if workload.measure == workloads.OWN_TIME:
            try:
                seconds, ns_per_op = float(data["seconds"]), float(data["ns_per_op"])
                operations, result = int(data["ops"]), data["checksum"]
            except (KeyError, ValueError):
                raise RunFailed(library, f"no line of data in {stdout[:60]!r}", shown) from None
        if seconds <= 0:
            raise RunFailed(library, "took no time at all: too little work to measure", shown)
        return Run(seconds, ns_per_op, operations, result, wall, float(measured["user_seconds"]),
                   float(measured["system_seconds"]),
                   _peak(data, int(measured["peak_rss_kib"]), samples),
                   _integral(samples, wall),
                   int(measured["minor_faults"]), int(measured["major_faults"]),
                   int(measured["voluntary_switches"]), int(measured["involuntary_switches"]),
                   int(measured["threads"]), _latency(data), samples)

    def _execute(self, command, settings, library, shown, cpus):
        """Starts the command through `launch`, in a process group of its own, so that Ctrl-C
        reaches only the runner, and a program that hangs can be ended with all its children."""
        launch = os.path.join(self.programs, "launch")
        pinned = ["-c", ",".join(map(str, sorted(cpus)))] if cpus else []
        read_end, write_end = os.pipe()
        with os.fdopen(read_end) as measurement:
            try:
                self._process = subprocess.Popen(
                    [launch, str(write_end), *pinned, *(f"{n}={v}" for n, v in settings.items()),
                     *command],
                    env=CLEAN_ENVIRONMENT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE, errors="replace", text=True, pass_fds=(write_end,),
                    start_new_session=True)
            except OSError as error:
                raise RunFailed(library, f"{launch}: {error.strerror}", shown) from None
            finally:
                os.close(write_end)
            try:
                stdout, stderr = self._process.communicate(timeout=self.run_seconds)
            except subprocess.TimeoutExpired:
                raise RunFailed(library, f"no end within {self.run_seconds:g} s", shown) from None
            finally:
                self.stop()
            lines = measurement.read().splitlines()
        if not lines:
            raise RunFailed(library, f"launch failed: {stderr.strip()[:200]}", shown)
        samples = [(int(milliseconds), int(kib))
                   for milliseconds, kib in (line.split() for line in lines[1:])]
        return stdout, stderr, _pairs(lines[0]), samples

    def stop(self):
        """Ends the run with all its children, if there is one; what has ended by itself is gone
        already, but it may have left children behind."""
        process, self._process = self._process, None
        if process is None:
            return
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.communicate()
