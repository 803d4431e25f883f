# SPDX-License-Identifier: MIT
"""What threads share in an allocator: locked instructions, locks and system calls of its own code, counted by callgrind."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

from .callgrind import CountFailed
from .libraries import CLEAN_ENVIRONMENT

LIMIT = 600  # seconds for a run
LOCKS = ("hak_lock", "hak_lock_try", "hak_lock_nested", "pthread_mutex_lock", "pthread_mutex_trylock")
LOCKED = re.compile(r"\s*([0-9a-f]+):\s+(?:lock .*|xchg\s+.*\(.*)")
SYSCALL = re.compile(r"\s*([0-9a-f]+):\s+syscall")
FUNCTION = re.compile(r"[0-9a-f]+ <(.+)>:")
CLOCKS = ("kernel_clock",)  # asks the vDSO, which a program under valgrind has not


@dataclass(frozen=True)
class Load:
    """A workload, as its arguments for a number of threads and a length. Two lengths are run, and their difference
    is free of what happens once."""
    name: str
    operation: str
    arguments: Callable[[int, int], tuple]  # threads, length -> program, arguments
    operations: Callable[[int, int], int]
    lengths: tuple[int, int]
    threads_least: int = 1


def _handover(smallest: int, largest: int, bulk: int, order: int) -> Callable[[int, int], tuple]:
    return lambda threads, blocks: ("handover", blocks, smallest, largest, bulk, 2, threads // 2, threads // 2, order)


LOADS = (
    Load("handover 64 B", "a block", _handover(64, 64, 256, 0), lambda threads, blocks: blocks, (100000, 300000), 2),
    Load("handover strewn", "a block", _handover(64, 64, 256, 1), lambda threads, blocks: blocks, (100000, 300000), 2),
    Load("handover 1-16 KiB", "a block", _handover(1024, 16384, 32, 0), lambda threads, blocks: blocks,
         (20000, 60000), 2),
    Load("larson", "a replacement", lambda threads, generations: ("larson", threads, generations, 32000 // threads, 256),
         lambda threads, generations: generations * (32000 // threads) * threads, (2, 6)),
    Load("server", "a request", lambda threads, requests: ("server", threads, 200, requests // threads, 12),
         lambda threads, requests: requests // threads * threads, (6400, 19200)),
    Load("thread_churn", "a thread", lambda threads, all_of_them: ("thread_churn", all_of_them, threads, 100),
         lambda threads, all_of_them: all_of_them, (200, 600)),
)


@dataclass(frozen=True)
class Events:
    """What the library's own instructions did in one run."""
    locked: int
    locks: int
    system_calls: int

    def less(self, other: Events) -> Events:
        return Events(self.locked - other.locked, self.locks - other.locks, self.system_calls - other.system_calls)


class Instructions:
    """Which instructions of a library are locked, and which are system calls, by address."""

    def __init__(self, library: Path) -> None:
        text = output(["objdump", "-d", "--no-show-raw-insn", str(library)])
        self.locked: set[int] = set()
        self.system_calls: set[int] = set()
        function = ""
        for line in text.splitlines():
            if match := FUNCTION.match(line):
                function = match[1]
            elif match := LOCKED.match(line):
                self.locked.add(int(match[1], 16))
            elif (match := SYSCALL.match(line)) and function not in CLOCKS:
                self.system_calls.add(int(match[1], 16))


def output(command: list[str]) -> str:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, universal_newlines=True, check=False,
                          timeout=LIMIT)
    if done.returncode != 0:
        raise CountFailed(f"{' '.join(command)}: {done.stderr.strip()[-500:]}")
    return done.stdout


def events_of(lines: list[str], library: Path, known: Instructions) -> Events:
    """What a callgrind profile by instruction says of a library's own instructions. Between a line of calls= and
    the next one stands what the callee took, at the address of the call."""
    executed: Counter[int] = Counter()
    locks = 0
    here = callee = ""
    after_calls = False
    for line in lines:
        key, equals, text = line.partition("=")
        if equals and key == "ob":
            here = text
        elif equals and key == "cfn":
            callee = text
        elif equals and key == "calls":
            after_calls = True
            if here == str(library) and callee.split("@")[0].split("'")[0] in LOCKS:
                locks += int(text.split()[0])
        elif line.startswith("0x"):
            address, _, count = line.split()[:3]
            if here == str(library) and not after_calls:
                executed[int(address, 16)] += int(count)
            after_calls = False
    return Events(sum(executed[address] for address in known.locked), locks,
                  sum(executed[address] for address in known.system_calls))


def measure(load: Load, threads: int, library: Path, known: Instructions, programs: Path) -> Events:
    """Events for all operations by which the long run exceeds the short one."""
    results = []
    for length in load.lengths:
        program, *arguments = load.arguments(threads, length)
        with tempfile.TemporaryDirectory(prefix="hakmem-performance-") as folder:
            file = Path(folder) / "out"
            command = ["env", "-i", *[f"{name}={value}" for name, value in CLEAN_ENVIRONMENT.items()],
                       f"LD_PRELOAD={library}", "valgrind", "--tool=callgrind", "--dump-instr=yes", "--compress-pos=no",
                       "--compress-strings=no", "--fair-sched=yes", f"--callgrind-out-file={file}",
                       str(programs / program), *map(str, arguments)]
            output(command)
            results.append(events_of(file.read_text().splitlines(), library, known))
    return results[1].less(results[0])
