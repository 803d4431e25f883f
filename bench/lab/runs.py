# SPDX-License-Identifier: MIT
"""One run of one workload under one library."""

import hashlib
import os
import signal
import subprocess
from dataclasses import dataclass

from . import workloads
from .libraries import CLEAN_ENVIRONMENT, command_line, how_it_ended

RUN_SECONDS = 20  # the time limit of one run


class RunFailed(Exception):
    """The run gave no figure; the message says why in a few words, `command` repeats it."""

    def __init__(self, library, what, command):
        super().__init__(f"{library.label}: {what}")
        self.command = command


@dataclass(frozen=True)
class Run:
    seconds: float  # what is compared: the workload's own time, or elapsed time
    ns_per_op: float | None
    result: str  # must not depend on the allocator
    wall_seconds: float
    user_seconds: float
    system_seconds: float
    peak_rss_kib: int
    minor_faults: int
    major_faults: int
    voluntary_switches: int
    involuntary_switches: int


def _pairs(line):
    """The key=value pairs of a line of data."""
    return dict(word.split("=", 1) for word in line.split() if "=" in word)


class Runner:
    """Runs workloads from a folder of built programs. What is running is ended by stop()."""

    def __init__(self, programs, run_seconds=RUN_SECONDS):
        self.programs = os.path.abspath(programs)
        self.run_seconds = run_seconds
        self._process = None

    def missing(self, chosen):
        """The programs that the chosen workloads need and that are not there."""
        needed = [os.path.join(self.programs, "launch")]
        needed += [workload.filled(workload.command, self.programs)[0] for workload in chosen]
        return [program for program in dict.fromkeys(needed) if not os.access(program, os.X_OK)]

    def run(self, workload, library):
        command = workload.filled(workload.command, self.programs)
        settings = {**library.environment, **workload.environment}
        shown = command_line(command, settings)
        stdout, stderr, measured = self._execute(command, settings, library, shown)

        exit_status, killed = int(measured.pop("exit")), int(measured.pop("signal"))
        if exit_status or killed:
            raise RunFailed(library, how_it_ended(-killed or exit_status, stderr), shown)
        wall = float(measured["wall_seconds"])
        seconds, ns_per_op = wall, None
        result = hashlib.sha256(stdout.encode()).hexdigest()[:16]
        if workload.measure == workloads.OWN_TIME:
            data = _pairs(stdout)
            try:
                seconds, ns_per_op = float(data["seconds"]), float(data["ns_per_op"])
                result = data["checksum"]
            except (KeyError, ValueError):
                raise RunFailed(library, f"no line of data in {stdout[:60]!r}", shown) from None
        if seconds <= 0:
            raise RunFailed(library, "took no time at all: too little work to measure", shown)
        return Run(seconds, ns_per_op, result, wall, float(measured["user_seconds"]),
                   float(measured["system_seconds"]), int(measured["peak_rss_kib"]),
                   int(measured["minor_faults"]), int(measured["major_faults"]),
                   int(measured["voluntary_switches"]), int(measured["involuntary_switches"]))

    def _execute(self, command, settings, library, shown):
        """Starts the command through `launch`, in a process group of its own, so that Ctrl-C
        reaches only the runner, and a program that hangs can be ended with all its children."""
        launch = os.path.join(self.programs, "launch")
        read_end, write_end = os.pipe()
        with os.fdopen(read_end) as measurement:
            try:
                self._process = subprocess.Popen(
                    [launch, str(write_end), *(f"{n}={v}" for n, v in settings.items()), *command],
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
            measured = _pairs(measurement.read())
        if not measured:
            raise RunFailed(library, f"launch failed: {stderr.strip()[:200]}", shown)
        return stdout, stderr, measured

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
