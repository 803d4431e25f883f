# SPDX-License-Identifier: MIT
"""One run of one workload under one library."""

from __future__ import annotations

import glob
import hashlib
import os
import re
import signal
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Iterable, Sequence

from . import workloads
from .libraries import CLEAN_ENVIRONMENT, Library, NotServed, command_line, how_it_ended, not_served
from .programs import PORT_PLACE
from .workloads import Workload

RUN_SECONDS = 20  # the time limit of one run
OWN_SECONDS = 600  # of a program of the user's
START_SECONDS = 20  # until a server accepts a connection
STOP_SECONDS = 20  # from SIGTERM to its end
# A variable of random length in the environment of each run moves the stack: where things lie in
# memory decides on a few per cent, and one place is but one sample.
PADDING = "AB_PADDING"
MOST_PADDING = 4096


# What would make a program use another malloc than the one under test, or use it in another way.
NOT_INHERITED = re.compile(r"LD_PRELOAD|LD_DEBUG.*|GLIBC_TUNABLES|M?ALLOC_.*|.*MALLOC_.*|MALLOC_CONF|HAKMEM_.*")


def own_environment() -> dict[str, str]:
    """The user's, for the user's programs."""
    return {name: value for name, value in os.environ.items() if not NOT_INHERITED.fullmatch(name)}


class RunFailed(Exception):
    """The run gave no figure; the message says why in a few words, `command` repeats it."""

    def __init__(self, library: Library | None, what: str, command: str) -> None:
        super().__init__(f"{library.label}: {what}" if library else what)
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


def _pairs(line: str) -> dict[str, str]:
    """The key=value pairs of a line of data."""
    return dict(word.split("=", 1) for word in line.split() if "=" in word)


def _integral(samples: Sequence[tuple[int, int]], wall_seconds: float) -> float | None:
    """MiB times seconds; before the first sample memory is taken to grow evenly, after the last one
    to stay."""
    if len(samples) < FEWEST_SAMPLES:
        return None
    points = [(0, 0), *samples, (max(1000 * wall_seconds, samples[-1][0]), samples[-1][1])]
    area = sum((later - earlier) * (before + after) / 2
               for (earlier, before), (later, after) in zip(points, points[1:]))
    return area / 1000 / 1024


def _peak(data: dict[str, str], of_largest: int, samples: Sequence[tuple[int, int]]) -> int:
    """KiB. A program with children needs the memory of all of them at once, unless it says itself
    which of them counts."""
    try:
        return int(data["server_peak_rss_kib"])
    except (KeyError, ValueError):
        return max([of_largest, *(kib for _, kib in samples)])


def _latency(data: dict[str, str]) -> dict[str, float]:
    """The percentiles that the workload printed, if it did."""
    try:
        return {name: float(data[f"{name}_ns"]) for name in PERCENTILES if f"{name}_ns" in data}
    except ValueError:
        return {}


@dataclass(frozen=True)
class Ended:
    """What a run of `launch` has left."""
    stdout: str
    stderr: str
    measured: dict[str, str]
    samples: list[tuple[int, int]]
    client: "Client | None" = None


@dataclass(frozen=True)
class Client:
    """The program that drove a server."""
    seconds: float
    output: str


class Failure(Exception):
    """Why a run failed, in a few words."""


def _free_port() -> int:
    with socket.socket() as any_port:
        any_port.bind(("127.0.0.1", 0))
        number: int = any_port.getsockname()[1]
        return number


def _accepts(port: int) -> bool:
    """Whether somebody listens there, over IPv4 or IPv6."""
    for address in ("127.0.0.1", "::1"):
        try:
            with socket.create_connection((address, port), timeout=1):
                return True
        except OSError:
            pass
    return False


def _read(file: Any) -> str:
    file.seek(0)
    text: str = file.read().decode(errors="replace")
    return text


class Runner:
    """Runs workloads from a folder of built programs, or from private copies of them. What is running is ended
    by stop()."""

    def __init__(self, programs: str | Path, run_seconds: float | None = None, copies: Any = None) -> None:
        self.built = os.path.abspath(programs)
        self.programs: str = copies.programs if copies else self.built
        self.bench: str | Path = copies.bench if copies else workloads.BENCH
        self.known: Callable[[str], str] = copies.known if copies else str
        self.limit = run_seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._client: subprocess.Popen[bytes] | None = None

    def seconds(self, workload: Workload) -> float:
        """The time limit of a run."""
        return self.limit or (OWN_SECONDS if workload.own else RUN_SECONDS)

    def missing(self, chosen: Iterable[Workload]) -> list[str]:
        """The built programs that the chosen workloads need and that are not there."""
        needed = [os.path.join(self.built, "launch")]
        needed += [workload.filled([word], self.built)[0] for workload in chosen for word in workload.command
                   if word.startswith("{programs}/")]
        return [file for file in dict.fromkeys(needed)
                if not os.access(file, os.R_OK if file.endswith(".replay") else os.X_OK)]

    def filled(self, workload: Workload, words: Iterable[str]) -> list[str]:
        return workload.filled(words, self.programs, self.bench)

    def command(self, workload: Workload, library: Library, words: Sequence[str] = ()) -> str:
        """What to type to repeat a run, of other words than the workload's command if they are given."""
        shown = self.known(command_line(self.filled(workload, words or workload.command),
                                        {**library.environment, **workload.environment}))
        if not workload.own:
            return shown
        shown += f" <{command_line([workload.own.input], {})}" if workload.own.input else ""
        return shown + (f" & {command_line(workload.own.client, {})}" if workload.own.client else "")

    def set_up(self, workload: Workload) -> None:
        """What the user wants done once before all runs of a program. Raises RunFailed."""
        if workload.own and workload.own.setup:
            self._shell("SETUP", workload.own.setup, workload)

    def _shell(self, what: str, command: str, workload: Workload) -> None:
        assert workload.own
        try:
            done = subprocess.run(["/bin/sh", "-c", command], env={**own_environment(), **workload.environment},
                                  cwd=workload.own.folder, stdin=subprocess.DEVNULL, capture_output=True,
                                  text=True, errors="replace", timeout=self.seconds(workload))
        except subprocess.TimeoutExpired:
            raise RunFailed(None, f"{what}: no end within {self.seconds(workload):g} s", command) from None
        if done.returncode:
            raise RunFailed(None, f"{what}: {how_it_ended(done.returncode, done.stderr)}", command)

    def run(self, workload: Workload, library: Library, cpus: Iterable[int] | None = None, padding: int = 0) -> Run:
        """Runs it on those CPUs, or on all. Raises RunFailed."""
        return self._run(workload, library, cpus, {PADDING: "x" * padding} if padding else {})

    def first_run(self, workload: Workload, library: Library) -> Run:
        """Runs a program of the user's, and sees that the library serves it: there is no shorter run that would
        show it. Raises RunFailed."""
        if not library.path:
            return self.run(workload, library)  # "system" is whatever the program has
        with tempfile.TemporaryDirectory(prefix="hakmem-bindings-") as folder:
            made = self._run(workload, library, None, {"LD_DEBUG": "bindings", "LD_DEBUG_OUTPUT": f"{folder}/of"})
            reports = [Path(file).read_text(errors="replace") for file in glob.glob(f"{folder}/of.*")]
        try:
            not_served(library, workload.command[0], reports)
        except NotServed as error:
            raise RunFailed(library, self.known(str(error)), self.command(workload, library)) from None
        return made

    def _run(self, workload: Workload, library: Library, cpus: Iterable[int] | None, more: dict[str, str]) -> Run:
        shown = self.command(workload, library)
        if workload.own and workload.own.prepare:
            self._shell("PREPARE", workload.own.prepare, workload)
        try:
            ended = self._execute(workload, {**library.environment, **workload.environment, **more}, cpus)
            return self._figures(workload, ended)
        except Failure as error:
            raise RunFailed(library, self.known(str(error)), shown) from None

    def _figures(self, workload: Workload, ended: Ended) -> Run:
        measured, stdout = ended.measured, ended.stdout
        exit_status, killed = int(measured["exit"]), int(measured["signal"])
        stopped = ended.client is not None and (killed == signal.SIGTERM or exit_status == 128 + signal.SIGTERM)
        if (exit_status or killed) and not stopped:
            raise Failure(how_it_ended(-killed or exit_status, ended.stderr))
        wall = float(measured["wall_seconds"])
        data = _pairs(stdout) if not workload.own else {}
        seconds, ns_per_op, operations, metric = ended.client.seconds if ended.client else wall, None, None, None
        result = hashlib.sha256(stdout.encode()).hexdigest()[:16]
        if workload.measure == workloads.OWN_TIME:
            try:
                seconds, ns_per_op = float(data["seconds"]), float(data["ns_per_op"])
                operations, result = int(data["ops"]), data["checksum"]
            except (KeyError, ValueError):
                raise Failure(f"no line of data in {stdout[:60]!r}") from None
        if workload.own:
            said = ended.client.output if ended.client else f"{stdout}\n{ended.stderr}"
            result = hashlib.sha256(said.encode()).hexdigest()[:16] if workload.own.same_output else ""
            if workload.metric:
                try:
                    metric = workload.metric.read(said)
                except ValueError as error:
                    raise Failure(f"METRIC: {error}") from None
                seconds = 1 / metric if workload.metric.higher else metric
        if seconds <= 0:
            raise Failure("took no time at all: too little work to measure")
        return Run(seconds, ns_per_op, operations, result, wall, float(measured["user_seconds"]),
                   float(measured["system_seconds"]),
                   _peak(data, int(measured["peak_rss_kib"]), ended.samples),
                   _integral(ended.samples, wall),
                   int(measured["minor_faults"]), int(measured["major_faults"]),
                   int(measured["voluntary_switches"]), int(measured["involuntary_switches"]),
                   int(measured["threads"]), _latency(data), ended.samples, metric)

    def _execute(self, workload: Workload, settings: dict[str, str], cpus: Iterable[int] | None) -> Ended:
        """Starts the command through `launch`, in a process group of its own, so that Ctrl-C
        reaches only the runner, and a program that hangs can be ended with all its children."""
        own = workload.own
        port = (own.port or _free_port()) if own and own.client else 0
        command = [word.replace(PORT_PLACE, str(port)) if port else word
                   for word in self.filled(workload, workload.command)]
        launch = os.path.join(self.programs, "launch")
        pinned = ["-c", ",".join(map(str, sorted(cpus)))] if cpus else []
        if port and _accepts(port):
            raise Failure(f"port {port} is taken by another program")
        read_end, write_end = os.pipe()
        client = None
        with os.fdopen(read_end) as measurement, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            try:
                with open(own.input if own and own.input else os.devnull, "rb") as source:
                    self._process = subprocess.Popen(
                        [launch, str(write_end), *pinned, *(f"{n}={v}" for n, v in settings.items()), *command],
                        env=own_environment() if own else CLEAN_ENVIRONMENT, cwd=own.folder if own else None,
                        stdin=source, stdout=out, stderr=err, pass_fds=(write_end,), start_new_session=True)
            except OSError as error:
                raise Failure(f"{error.filename or launch}: {error.strerror}") from None
            finally:
                os.close(write_end)
            try:
                if own and port:
                    client = self._drive(workload, port, err)
                self._process.wait(self.seconds(workload))
            except subprocess.TimeoutExpired:
                raise Failure(f"no end within {self.seconds(workload):g} s") from None
            finally:
                self.stop()
            lines = measurement.read().splitlines()
            stdout, stderr = _read(out), _read(err)
        if not lines:
            raise Failure(f"launch failed: {stderr.strip()[:200]}")
        samples = [(int(milliseconds), int(kib))
                   for milliseconds, kib in (line.split() for line in lines[1:])]
        return Ended(stdout, stderr, _pairs(lines[0]), samples, client)

    def _drive(self, workload: Workload, port: int, err: Any) -> Client:
        """Waits for the server, runs its client, and tells the server to end. Raises Failure."""
        own = workload.own
        assert own and self._process
        end = time.monotonic() + START_SECONDS
        while not _accepts(port):
            if self._process.poll() is not None:
                lines = _read(err).split("\n")
                raise Failure(f"the server ended before it accepted a connection on port {port}: "
                              f"{next((line.strip() for line in reversed(lines) if line.strip()), 'it said nothing')}")
            if time.monotonic() > end:
                raise Failure(f"the server accepts no connection on port {port} within {START_SECONDS} s")
            time.sleep(0.01)
        with tempfile.TemporaryFile() as out:
            start = time.monotonic()
            self._client = subprocess.Popen([word.replace(PORT_PLACE, str(port)) for word in own.client],
                                            env={**own_environment(), **workload.environment}, cwd=own.folder,
                                            stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
                                            start_new_session=True)
            try:
                status = self._client.wait(self.seconds(workload))
            except subprocess.TimeoutExpired:
                raise Failure(f"the client: no end within {self.seconds(workload):g} s") from None
            seconds = time.monotonic() - start
            output = _read(out)
        if status:
            raise Failure(f"the client: {how_it_ended(status, output)}")
        if self._process.poll() is not None:
            raise Failure("the server ended before its client; it must stay in the foreground")
        self._end_server()
        return Client(seconds, output)

    def _end_server(self) -> None:
        """SIGTERM for the program that `launch` has started."""
        assert self._process
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        try:
            os.kill(int(children.read_text().split()[0]), signal.SIGTERM)
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            raise Failure(f"the server did not end within {STOP_SECONDS} s of SIGTERM") from None
        except (OSError, IndexError, ProcessLookupError):
            pass  # it is ending already

    def stop(self) -> None:
        """Ends the run with all its children, if there is one; what has ended by itself is gone
        already, but it may have left children behind."""
        for process in (self._client, self._process):
            if process is not None:
                try:
                    os.killpg(process.pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
                process.wait()
        self._client = self._process = None
