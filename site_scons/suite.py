# SPDX-License-Identifier: MIT
"""Runs the tests that were built, all of them, each in bounded time, and sums up."""

import atexit
import concurrent.futures
import io
import itertools
import os
import re
import select
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from typing import TextIO

from refusal import Refusal

# The groups of tests in the order in which they run.
GROUPS = (
    "unit", "policy", "backend", "contract", "faults", "checked", "sanitized", "smoke", "library", "counts", "build", "bench",
    "model", "process", "portable",
)
# What has not ended by then hangs: many times what the longest of them takes on a busy machine. No limit is there to
# show that something is fast; such tests count instructions or calls.
PROGRAM_SECONDS = 3600
TEST_SECONDS = 900  # of one Criterion test
# Criterion programs: worth running with each compiler.
CRITERION = {"unit", "policy", "backend", "contract", "faults", "checked"}
# Criterion forks in ways that the sanitizers do not bear: their builds have plain programs.
SANITIZED = {"sanitized"}
# For platforms on which the others do not run.
PORTABLE = {"portable"}
# A few minutes' worth of the above, for configurations that nobody has chosen with care.
SMOKE = {"smoke"}
ALL = set(GROUPS) - SANITIZED - SMOKE - PORTABLE
# What depends on which front end and back end there are: run for each pair of them.
PAIR = {"contract", "library", "counts"}
# What depends on the one alone, or on the other: once for each policy and back end, and for each pair in the matrix.
OF_POLICY = {"policy", "faults", "checked", "process"}
OF_BACKEND = {"backend", "faults", "checked", "process"}
# Of this the matrix runs for each pair what no one plug-in shows for all.
OF_PAIR_IN_MATRIX = {"process"}
# Programs of the contract that are about one of the two: once for each policy, or each back end, or both. The others run
# for each pair.
ABOUT = {
    "test_backend": {"backend"},
    "test_cache_bound": {"policy"},
    "test_decay": {"policy", "backend"},
    "test_frontend": {"policy"},
    "test_huge_pages": {"backend"},
    "test_large": {"backend"},
    "test_out_of_memory": {"policy", "backend"},
}
# A unit test that includes this stands on no back end of a build: it has another one, or a part that back ends include.
WITHOUT_BACKEND = re.compile(r'#include "(tests/fake/fake_backend\.h|core/extents\.c)"')
# What may differ with the compiler.
COMPILER = CRITERION - {"unit", "faults", "checked"}
# Programs of one thread or two, for which it does not matter how long they take: they run side by side. What the others start keeps all
# processors busy, or must have them for itself.
SIDE_BY_SIDE = CRITERION | SANITIZED | PORTABLE | SMOKE | {"library", "counts", "bench"}
# What a configuration's file of counts is for.
COUNTED = {"library", "counts"}

SYNTHESIS = "[====] Synthesis: Tested: {} | Passing: {} | Failing: {} | Crashing: {}"  # as Criterion says it
SUM = SYNTHESIS + " | Skipped: {}"
SYNTHESIS_LINE = re.compile(re.escape(SYNTHESIS).replace(r"\{\}", r"(\d+)"))
SKIPPED_LINE = re.compile(r"\[SKIP\] ")
SCRIPT_LINE = re.compile(r"(\d+) passed, (\d+) failed(?:, (\d+) skipped)?")
# Criterion tells of skipped tests only to those who want to hear of all. Of the rest this is not shown.
CRITERION_SAYS_ALL = "--verbose=1"
CRITERION_NOISE = re.compile(r"\[(RUN |PASS)\] |\[----\] Criterion v|\[====\] Running ")
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@dataclass
class Test:
    group: str
    name: str
    build: str  # the build's folder, for the reader
    command: "list[str]"
    needs: list  # SCons nodes that must be built before
    says: str = ""  # a program that counts nothing: what it says (a pattern) when it passes,
    fails: bool = False  # and whether it then fails: a twin with a mistake that must be found

    def __str__(self) -> str:
        return f"{self.build}: {self.group}/{self.name}"


@dataclass
class Tally:
    """What has run. All in one sum, which is the last that the build says."""

    tested: int = 0
    passed: int = 0
    failed: int = 0
    crashing: int = 0
    skipped: int = 0  # none of those tested; each has said why
    notes: "list[str]" = field(default_factory=list)  # a line for each program that did not pass

    def add(self, other: "Tally") -> None:
        self.tested += other.tested
        self.passed += other.passed
        self.failed += other.failed
        self.crashing += other.crashing
        self.skipped += other.skipped
        self.notes += other.notes

    def show(self) -> None:
        print()
        for note in self.notes:
            print(f"NOT PASSED  {note}")
        print(SUM.format(self.tested, self.passed, self.failed, self.crashing, self.skipped), flush=True)


def wraps(text: str) -> "list[str]":
    """The linker's flags for a test in which __wrap_NAME stands for a function of the library: kernel_CALL, hak_NAME."""
    return [f"-Wl,--wrap={call}" for call in sorted(set(re.findall(r"__wrap_((?:kernel|hak)_\w+)", text)))]


def is_run(program: str, new: "set[str]") -> bool:
    """Whether a build runs a program of the contract that has these new: a policy, a back end."""
    return program not in ABOUT or bool(ABOUT[program] & new)


def selected(tests: "list[Test]", only: str) -> "list[Test]":
    """The tests that ONLY names, by group or program. Raises Refusal for a name that is neither."""
    wanted = [word for word in only.split(",") if word]
    names = {test.name for test in tests}
    for word in wanted:
        if word not in GROUPS and word not in names:
            raise Refusal(
                f"ONLY={word}: there is no such test. Groups: {', '.join(GROUPS)}; programs: {', '.join(sorted(names))}"
            )
    chosen = [test for test in tests if not wanted or test.group in wanted or test.name in wanted]
    return sorted(chosen, key=lambda test: GROUPS.index(test.group))


class Interrupted(Exception):
    """Somebody wants the build to stop."""


def watch_signals() -> int:
    """A file descriptor that becomes readable when SCons gets a signal. SCons itself only starts nothing
    new then; and what runs here is in sessions of its own, so that Ctrl-C does not reach it."""
    readable, writable = os.pipe()
    os.set_blocking(writable, False)
    signal.set_wakeup_fd(writable, warn_on_full_buffer=False)
    return readable


@dataclass
class Rounds:
    """How often all of them run (REPEAT=), and what the first round makes of chance; others count on from it."""

    most: int = 1
    seed: int = 1

    def seed_of(self, number: int) -> int:
        return self.seed + number - 1


def wanted_rounds(repeat: str, seed: str) -> Rounds:
    """What REPEAT and SEED ask for. Raises Refusal for what is no number."""
    for name, value in (("REPEAT", repeat or "1"), ("SEED", seed or "1")):
        if not value.isdecimal() or int(value) < 1:
            raise Refusal(f"{name}={value}: this is a number from 1 on")
    return Rounds(int(repeat or 1), int(seed or 1))


def run_all(tests: "list[Test]", signals: int, jobs: int = 1, rounds: Rounds = Rounds()) -> int:
    """Runs every test, whatever becomes of the others; of several rounds all, up to the first in which one does not
    pass. Returns 0 if all have passed, as SCons wants it."""
    tally = Tally()
    # SCons says things after its last action; the sum shall come after them.
    atexit.register(tally.show)
    try:
        if rounds.most == 1:
            run_round(Run(signals, rounds.seed), tests, tally, jobs)
        else:
            repeat(tests, signals, tally, jobs, rounds)
    except Interrupted:
        tally.notes.append("interrupted: not all tests have run")
    return 1 if tally.notes else 0


def repeat(tests: "list[Test]", signals: int, tally: Tally, jobs: int, rounds: Rounds) -> None:
    """Says what a round came to, and what a program said only if it did not pass."""
    for number in range(1, rounds.most + 1):
        start, before = time.monotonic(), tally.tested
        seed = rounds.seed_of(number)
        run_round(Run(signals, seed, quiet=True), tests, tally, jobs)
        took, tested = time.monotonic() - start, tally.tested - before
        if tally.notes:
            print(f"== REPEAT: {number - 1} of {rounds.most} rounds passed, then round {number} (SEED={seed}) did not")
            return
        print(f"== round {number} of {rounds.most}, SEED={seed}: {tested} passed, {took:.1f} s", flush=True)
    print(f"== REPEAT: {rounds.most} of {rounds.most} rounds passed", flush=True)


@dataclass
class Run:
    """How the programs of one round run."""

    signals: int
    seed: int
    quiet: bool = False  # a program that passes says nothing, and none begins after one that does not

    def is_over(self, tally: Tally) -> bool:
        return self.quiet and bool(tally.notes)


def run_round(how: Run, tests: "list[Test]", tally: Tally, jobs: int) -> None:
    for together, some in itertools.groupby(tests, lambda test: jobs > 1 and test.group in SIDE_BY_SIDE):
        if together or how.quiet:
            run_side_by_side(how, list(some), tally, jobs if together else 1)
            continue
        for test in some:
            run(how, test, tally, sys.stdout)


def run_side_by_side(how: Run, tests: "list[Test]", tally: Tally, jobs: int) -> None:
    """Some at once. What a test says is shown when it ends."""
    end = threading.Lock()

    def run_one(test: Test) -> None:
        if how.is_over(tally):
            return
        said, own = io.StringIO(), Tally()
        try:
            run(how, test, own, said)
        finally:
            with end:
                if own.notes or not how.quiet:
                    sys.stdout.write(said.getvalue())
                    sys.stdout.flush()
                tally.add(own)

    pool = concurrent.futures.ThreadPoolExecutor(jobs)
    try:
        for done in [pool.submit(run_one, test) for test in tests]:
            done.result()
    finally:
        pool.shutdown(cancel_futures=True)


def run(how: Run, test: Test, tally: Tally, out: TextIO) -> None:
    print(f"\n== {test}", file=out, flush=True)
    start = time.monotonic()
    chance = {"HAKMEM_TEST_SEED": str(how.seed)}
    status, lines = execute(test.command, PROGRAM_SECONDS, how.signals, out, chance)
    print(f"== {test}: {time.monotonic() - start:.1f} s", file=out, flush=True)

    counts = count(test, status, lines)
    tally.add(counts)
    if counts.failed:
        described = describe(status, PROGRAM_SECONDS)
        command = " ".join([*(f"{name}={value}" for name, value in chance.items()), *test.command])
        tally.notes.append(f"{test}: {described}; to repeat: {command}")


def count(test: Test, status: "int | None", lines: "list[str]") -> Tally:
    """What a program said that it has tested."""
    if test.says:
        said = any(re.search(test.says, line) for line in lines)
        passed = said and status is not None and (status != 0) == test.fails
        return Tally(tested=1, passed=1) if passed else Tally(tested=1, failed=1)

    counts = Tally()
    counted = False
    for line in lines:
        if match := SYNTHESIS_LINE.search(line):
            counts.tested, counts.passed, counts.failed, counts.crashing = map(int, match.groups())
            counted = True
        elif SKIPPED_LINE.match(line):
            counts.skipped += 1
        elif match := SCRIPT_LINE.fullmatch(line):
            passed, failed, skipped = (int(number or 0) for number in match.groups())
            counts = Tally(tested=passed + failed, passed=passed, failed=failed, skipped=skipped)
            counted = True
    if not counted or (status != 0 and counts.failed == 0) or counts.tested + counts.skipped == 0:
        # It ended before it could count, or it failed in a way that it does not count, or nothing is in it. Criterion
        # itself counts a crash as a failure too.
        counts.add(Tally(tested=1, failed=1, crashing=1))
    return counts


def describe(status: "int | None", seconds: int) -> str:
    if status is None:
        return f"still running after {seconds} s"
    if status < 0:
        return f"killed by {signal.Signals(-status).name}"
    return f"exit status {status}"


def execute(
    command: "list[str]", seconds: int, signals: int, out: TextIO, environment: "dict[str, str]"
) -> "tuple[int | None, list[str]]":
    """Runs a command, with more in its environment, and shows its output as it comes. Its exit status, None if it
    took too long, and its lines. Nothing that it started outlives it."""
    process = subprocess.Popen(
        command,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,
    )
    lines: "list[str]" = []

    def read() -> None:
        for line in process.stdout:
            plain = COLOUR.sub("", line.rstrip("\n"))
            lines.append(plain)
            if not CRITERION_NOISE.match(plain):
                out.write(line)
                out.flush()

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        status = wait(process, seconds, signals)
    finally:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait()
    reader.join(10)
    return status, lines


def wait(process: subprocess.Popen, seconds: int, signals: int) -> "int | None":
    """The exit status, or None after so many seconds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            return process.wait(0.2)
        except subprocess.TimeoutExpired:
            if select.select([signals], [], [], 0)[0]:
                raise Interrupted from None
    return None
