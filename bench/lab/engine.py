# SPDX-License-Identifier: MIT
"""Who runs evaluations (evaluation.py) on other machines: GNU parallel over ssh, or Slurm.

    Engine.answers(bundle, asked)   ─►   Answer, Answer, None, Answer, …

An engine is given a bundle and a list of evaluations, and yields the answers as they come, in any order, with None now and
then so that its caller can look at the clock. drain() begins no more of them and lets those that run end; closing the
iterator ends all at once. An evaluation whose machine dies has no answer, and `lost` says why; nothing else comes of it.
Which machine takes which evaluation, and when, is left to the two programs. This module only sees to it that a machine
has one at a time.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Generator, Iterator, Sequence

from .evaluation import Answer, Evaluation
from .record import decode

LOCAL, PARALLEL, SLURM = "local", "parallel", "slurm"
ENGINES = (LOCAL, PARALLEL, SLURM)
LOOK_SECONDS = 0.2
ASK_SECONDS = 2.0  # between two questions to Slurm
UNANSWERED_SECONDS = 600.0  # of such questions: then no more is expected
REACH_SECONDS = 60  # of a host, for what is no measurement
MOST_ASKED = 1000  # at once: Slurm's MaxArraySize is 1001 unless its administrator says otherwise
# A host that is gone without a word is noticed within half a minute.
SSH = "ssh -o BatchMode=yes -o ConnectTimeout=10 -o ServerAliveInterval=10 -o ServerAliveCountMax=3"
# For an evaluation that is ended, with the milliseconds until the next signal: it ignores all but the first, and
# has eight seconds to remove its folder.
TERMINATION = "TERM,200,TERM,300,TERM,500,TERM,1000,TERM,2000,TERM,4000,KILL,25"
# What a host must have. A line of ours is known by its first word.
READY = "hakmem-ready"
LOOK_AT_HOST = (f"command -v rsync >/dev/null || echo {READY} rsync is not installed there; /usr/bin/python3 -c "
                "'import platform, sys; print(\"" + READY + "\", platform.machine() if sys.version_info >= (3, 11) else "
                "\"its /usr/bin/python3 is older than 3.11\")' || echo " + READY + " there is no /usr/bin/python3")


class EngineError(ValueError):
    """The engine cannot be used; the message says what to do."""


class Engine(ABC):
    """Runs evaluations on machines."""

    width = 1  # machines, as far as is known

    def __init__(self) -> None:
        self.lost: list[str] = []  # why evaluations have no answer

    def answers(self, bundle: Path, asked: Sequence[Evaluation]) -> Generator[Answer | None, None, None]:
        """The answers to what is asked. What is exchanged with the machines lies beside the bundle meanwhile."""
        folder = bundle.parent / secrets.token_hex(4)
        folder.mkdir()
        missing = {evaluation.number: evaluation for evaluation in asked}
        seen: dict[Path, int] = {}
        self._start(bundle, folder, asked)
        try:
            running = True
            while running and missing:
                running = self._running()
                for line in _new_lines(folder, seen):
                    answer: Answer = decode(Answer, json.loads(line))
                    missing.pop(answer.number, None)
                    yield answer
                yield None
                time.sleep(LOOK_SECONDS)
            self.lost += self._why(folder, missing)
        finally:
            self._stop()
            shutil.rmtree(folder, ignore_errors=True)

    @abstractmethod
    def _start(self, bundle: Path, folder: Path, asked: Sequence[Evaluation]) -> None:
        """Begins; the lines of JSON come to files in the folder whose names end in .out."""

    @abstractmethod
    def _running(self) -> bool:
        """Whether another answer may come. What is false once stays so."""

    @abstractmethod
    def drain(self) -> None:
        """Begins no further evaluation."""

    @abstractmethod
    def _stop(self) -> None:
        """Ends what is still there."""

    @abstractmethod
    def _why(self, folder: Path, missing: dict[int, Evaluation]) -> list[str]:
        """Why these have no answer, but for those that were never begun."""


def _new_lines(folder: Path, seen: dict[Path, int]) -> Iterator[str]:
    """Whole lines that were not there when the files were last `seen` up to these places."""
    for file in sorted(folder.glob("*.out")):
        with open(file, "rb") as stream:
            stream.seek(seen.get(file, 0))
            data = stream.read()
        data = data[:data.rfind(b"\n") + 1]
        seen[file] = seen.get(file, 0) + len(data)
        yield from (line for line in data.decode(errors="replace").splitlines() if line.startswith("{"))


def _last_line(file: Path) -> str:
    try:
        lines = [line.strip() for line in file.read_text(errors="replace").splitlines() if line.strip()]
    except OSError:
        return ""
    return lines[-1] if lines else ""


# ── GNU parallel ────────────────────────────────────────────────────────────────────────────────────


class Parallel(Engine):
    """Copies the bundle to each host, into a folder of its own in the user's home, which is removed at the end. What a host
    that is gone has begun or would have got, another one gets."""

    def __init__(self, hosts: str) -> None:
        super().__init__()
        self.hosts = hosts
        self.width = len(split_hosts(hosts))
        self.place = f".hakmem-{secrets.token_hex(8)}"
        self._process: subprocess.Popen[bytes] | None = None
        self._folder = Path()

    def _start(self, bundle: Path, folder: Path, asked: Sequence[Evaluation]) -> None:
        # On the host `:`, which is this one, nothing is copied, but the folder is the same as seen from here.
        os.makedirs(folder / self.place)
        os.link(bundle, folder / self.place / bundle.name)
        commands = folder / "commands"
        commands.write_text("".join(f"{one.command(bundle.name)}\n" for one in asked), encoding="utf-8")
        words = [*command_of_parallel(self.hosts), "--line-buffer", f"--retries={self.width + 1}", f"--termseq={TERMINATION}",
                 f"--workdir={self.place}", f"--basefile={folder / self.place}/./{bundle.name}",
                 f"--joblog={folder / 'log'}"]
        self._folder = folder
        with open(commands, "rb") as source, open(folder / "parallel.out", "wb") as out, open(folder / "err", "wb") as err:
            self._process = subprocess.Popen(words, cwd=folder, stdin=source, stdout=out, stderr=err, start_new_session=True)

    def _running(self) -> bool:
        assert self._process
        return self._process.poll() is None

    def drain(self) -> None:
        if self._process and self._process.poll() is None:
            self._process.send_signal(signal.SIGHUP)

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGKILL):
            if process.poll() is None:
                process.send_signal(number)
            try:
                process.wait(5)
                break
            except subprocess.TimeoutExpired:
                pass
        # Not --cleanup: what is ended does not do it.
        subprocess.run([*command_of_parallel(self.hosts), "--nonall", f"rm -rf {self.place}"], cwd=self._folder,
                       stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)

    def _why(self, folder: Path, missing: dict[int, Evaluation]) -> list[str]:
        """The last attempt at each, of the log, whose lines are: Seq Host Starttime JobRuntime Send Receive Exitval Signal
        Command."""
        ended: dict[int, str] = {}
        for line in (folder / "log").read_text(errors="replace").splitlines()[1:] if (folder / "log").exists() else []:
            cells = line.split("\t")
            number = int(cells[8].split()[-4])
            if number in missing:
                ended[number] = f"{cells[1]}: {'exit status ' + cells[6] if cells[7] == '0' else 'signal ' + cells[7]}"
        said = _last_line(folder / "err")
        return [f"{how} ({said})" if said else how for how in ended.values()]


def command_of_parallel(hosts: str) -> list[str]:
    """A host has one job at a time."""
    return ["parallel", "--will-cite", "--plain", f"--ssh={os.environ.get('PARALLEL_SSH') or SSH}", f"--sshlogin={hosts}", "--jobs=1"]


def split_hosts(hosts: str) -> list[str]:
    return [host.strip() for host in hosts.split(",") if host.strip()]


def _check_parallel(hosts: str) -> None:
    if not split_hosts(hosts):
        raise EngineError("ENGINE=parallel: on which machines? HOSTS=one,user@two names them, as ssh does")
    said = _said(["parallel", "--version"])
    if not said.startswith("GNU parallel"):
        raise EngineError("ENGINE=parallel: GNU parallel is not installed (Debian: parallel)")
    for program, package in (("ssh", "openssh-client"), ("rsync", "rsync")):
        if not shutil.which(program):
            raise EngineError(f"ENGINE=parallel: {program} is not installed (Debian: {package})")
    named = split_hosts(hosts)
    with ThreadPoolExecutor(len(named)) as pool:
        for host, problem in zip(named, pool.map(_problem_of, named)):
            if problem:
                raise EngineError(f"HOSTS={hosts}: {host} {problem}")


def _problem_of(host: str) -> str:
    """Why nothing can be measured on the host."""
    try:
        done = subprocess.run([*command_of_parallel(host), "--nonall", LOOK_AT_HOST], stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, errors="replace", timeout=REACH_SECONDS)
    except subprocess.TimeoutExpired:
        return f"does not answer within {REACH_SECONDS} s"
    found = [line.removeprefix(READY).strip() for line in done.stdout.splitlines() if line.startswith(READY)]
    if not found:
        lines = done.stderr.strip().splitlines()
        return (f"cannot be reached ({lines[-1] if lines else 'ssh says nothing'}): `ssh {host} true` must work without a "
                "password")
    here = os.uname().machine
    if found != [here]:
        return f"has another processor: {found[0]}, not {here}" if re.fullmatch(r"\w+", found[0]) else f"cannot be used: {found[0]}"
    return ""


# ── Slurm ───────────────────────────────────────────────────────────────────────────────────────────


class Slurm(Engine):
    """A job array, each evaluation alone on its node. The bundle and the answers are files that the nodes must see under
    the same path. sbatch takes its partition, account and the like from its own variables (SBATCH_PARTITION, …)."""

    SCRIPT = '#!/bin/sh\nexec /bin/sh -c "$(sed -n "$((SLURM_ARRAY_TASK_ID + 1))p" commands)"\n'

    def __init__(self) -> None:
        super().__init__()
        partition = [f"--partition={name}"] if (name := os.environ.get("SBATCH_PARTITION")) else []
        nodes = _said(["sinfo", "--noheader", "--Node", "--responding", "--format=%N", *partition]).split()
        self.width = max(1, len(set(nodes)))
        self._job = ""
        self._asked_at = self._answered_at = 0.0
        self._answer = True

    def _start(self, bundle: Path, folder: Path, asked: Sequence[Evaluation]) -> None:
        if len(asked) > MOST_ASKED:
            raise ValueError(f"more than {MOST_ASKED} evaluations at once")
        (folder / "commands").write_text("".join(f"{one.command(str(bundle))}\n" for one in asked), encoding="utf-8")
        words = ["sbatch", "--parsable", f"--array=0-{len(asked) - 1}", "--nodes=1", "--ntasks=1", "--exclusive", "--no-requeue",
                 "--job-name=hakmem", f"--chdir={folder}", "--output=%a.out", "--error=%a.err"]
        done = subprocess.run(words, input=self.SCRIPT, capture_output=True, text=True, errors="replace")
        if done.returncode:
            raise EngineError(f"ENGINE=slurm: {(done.stderr.strip().splitlines() or ['sbatch says nothing'])[-1]}")
        self._job = done.stdout.strip().split(";")[0]
        self._answer, self._answered_at = True, time.monotonic()

    def _running(self) -> bool:
        if self._answer and time.monotonic() >= self._asked_at + ASK_SECONDS:
            self._asked_at = time.monotonic()
            done = subprocess.run(["squeue", "--noheader", f"--jobs={self._job}"], capture_output=True, text=True, errors="replace")
            over = "Invalid job id" in done.stderr  # for so long that Slurm has forgotten it
            if not done.returncode or over:
                self._answered_at = self._asked_at
                self._answer = bool(done.stdout.strip()) and not over
            elif self._asked_at - self._answered_at >= UNANSWERED_SECONDS:
                raise EngineError(f"ENGINE=slurm: the cluster has not answered for {UNANSWERED_SECONDS / 60:g} minutes: "
                                  f"{(done.stderr.strip().splitlines() or ['squeue says nothing'])[-1]}")
        return self._answer

    def drain(self) -> None:
        self._cancel("--state=PENDING")

    def _cancel(self, *more: str) -> None:
        if self._job:
            subprocess.run(["scancel", "--quiet", *more, self._job], stdin=subprocess.DEVNULL, capture_output=True, check=False)

    def _stop(self) -> None:
        if self._answer:
            self._cancel()
        self._job = ""

    def _why(self, folder: Path, missing: dict[int, Evaluation]) -> list[str]:
        if not missing:
            return []
        commands = (folder / "commands").read_text(encoding="utf-8").splitlines()
        places = {str(place): int(line.split()[-4]) for place, line in enumerate(commands)}
        states = (line.split() for line in _said(["squeue", "--noheader", "--states=all", f"--jobs={self._job}",
                                                   "--format=%K %T %N"]).splitlines())
        return [f"{(node or ['no node'])[0]}: {state.lower().replace('_', ' ')}"
                + (f" ({said})" if (said := _last_line(folder / f"{place}.err")) else "")
                for place, state, *node in states if places.get(place) in missing and state != "CANCELLED"]


def _said(command: Sequence[str]) -> str:
    """What it prints; nothing where it is not installed or fails."""
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace")
    except OSError:
        return ""
    return done.stdout if not done.returncode else ""


def _check_slurm() -> None:
    missing = [program for program in ("sbatch", "squeue", "scancel", "sinfo") if not shutil.which(program)]
    if missing:
        raise EngineError(f"ENGINE=slurm: there is no {missing[0]} here: measure from a machine that submits jobs (Debian: "
                          "slurm-client)")
    done = subprocess.run(["sinfo", "--noheader"], stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace")
    if done.returncode or not done.stdout.strip():
        said = (done.stderr.strip().splitlines() or ["it knows no partition"])[-1]
        raise EngineError(f"ENGINE=slurm: the cluster cannot be asked: {said}")


# ── What was asked for ──────────────────────────────────────────────────────────────────────────────


def check(name: str, hosts: str) -> None:
    """Raises EngineError where ENGINE= or HOSTS= cannot be what is meant, or is not there."""
    if name and name not in ENGINES:
        raise EngineError(f"ENGINE={name}: an engine is one of {', '.join(ENGINES)}")
    if hosts and name != PARALLEL:
        raise EngineError(f"HOSTS={hosts}: it is ENGINE=parallel that takes hosts")
    if name == PARALLEL:
        _check_parallel(hosts)
    if name == SLURM:
        _check_slurm()


def make(name: str, hosts: str) -> Engine | None:
    """None for what is run here, by no engine. Raises EngineError."""
    check(name, hosts)
    return Parallel(hosts) if name == PARALLEL else Slurm() if name == SLURM else None
