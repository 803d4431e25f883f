# SPDX-License-Identifier: MIT
"""Instructions that an allocator executes for one operation of a workload, counted by callgrind.

Two runs of different length are counted; their difference, divided by the operations between them,
is free of everything that happens once. Counting is on within timed_loop only. What the workload's
own file executed (the loop, the calls, the jumps through its PLT) is taken off: the rest is the
allocator, with whatever it calls in other libraries.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Iterable, Mapping, Sequence

from .libraries import CLEAN_ENVIRONMENT, Library, command_line, how_it_ended

LIMIT_SECONDS = 120
PROGRAM_LIMIT_SECONDS = 900
LOOP = "timed_loop"


class CountFailed(Exception):
    """There is no count; the message says why."""


@dataclass(frozen=True)
class Load:
    name: str
    program: str
    short: tuple[int, ...]  # arguments of the two runs
    long: tuple[int, ...]
    operations: int  # by which the long run exceeds the short one


def loads(size: int = 64) -> dict[str, Load]:
    """What is counted, by name, with blocks of that size (but random's). Batches of 16 stay in a cache, those of
    1000 refill and flush it."""
    return {load.name: load for load in (
        Load("pair", "pair", (size, 10000), (size, 110000), 100000),
        Load("batch16", "batch", (16, 1000, size), (16, 7000, size), 96000),
        Load("batch1000", "batch", (1000, 20, size), (1000, 120, size), 100000),
        Load("random", "random_mixed", (50000, 1024, 12345), (150000, 1024, 12345), 100000),
    )}


@dataclass(frozen=True)
class Count:
    total: float  # instructions for one operation, all of them
    loop: float  # of which the workload's own
    served_by: tuple[str, ...]  # the functions that the loop called: "malloc in libc.so.6"

    @property
    def net(self) -> float:
        return self.total - self.loop


class Profile:
    """A callgrind file: instructions by file of the program, and the functions that the loop called."""

    _NAME = re.compile(r"\((\d+)\)(?: (.*))?")

    def __init__(self, lines: Iterable[str]) -> None:
        self.instructions: Counter[str] = Counter()  # ELF file -> its own instructions, without what it calls
        self.called: dict[str, str] = {}  # function -> ELF file, for the calls of the loop into other files
        self.entered: Counter[tuple[str, str]] = Counter()  # (ELF file, its function) -> calls from other files
        self._names: dict[tuple[str, str], str] = {}
        self._read(lines)

    def _name(self, space: str, text: str) -> str:
        """Names are written once, as "(7) name", and later only as "(7)"."""
        match = self._NAME.fullmatch(text)
        if not match:
            return text
        number, name = match.groups()
        if name is not None:
            self._names[space, number] = name
        return self._names[space, number]

    def _read(self, lines: Iterable[str]) -> None:
        here = function = called = called_file = None
        after_calls = False
        for line in lines:
            key, equals, text = line.rstrip("\n").partition("=")
            if equals and key == "ob":
                here = self._name("ob", text)
            elif equals and key == "fn":
                function, called_file = self._name("fn", text), None
            elif equals and key == "cob":
                called_file = self._name("ob", text)
            elif equals and key == "cfn":
                called = self._name("fn", text)
                if function and function.startswith(LOOP) and called_file:
                    self.called[called] = called_file
            elif equals and key == "calls":
                after_calls = True
                if called_file and called_file != here:
                    self.entered[called_file, str(called)] += int(text.split()[0])
            elif here and re.match(r"[0-9+*-]", line):
                # A line of cost: a position, then instructions. After calls= it is what the callee
                # cost, which is also counted in the callee.
                words = line.split()
                if not after_calls and len(words) > 1:
                    self.instructions[here] += int(words[1])
                after_calls, called_file = False, None


def _profile(command: Sequence[str], library: Library, collect: Sequence[str] = (),
             environment: Mapping[str, str] | None = None, limit: float = LIMIT_SECONDS) -> Profile:
    with tempfile.TemporaryDirectory(prefix="hakmem-callgrind-") as folder:
        file = os.path.join(folder, "out")
        valgrind = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={file}", *collect,
                    *command]
        environment = {**(environment or {}), **library.environment}
        shown = command_line(valgrind, environment)
        try:
            done = subprocess.run(valgrind, env={**CLEAN_ENVIRONMENT, **environment},
                                  stdin=subprocess.DEVNULL, capture_output=True, errors="replace",
                                  timeout=limit)
        except FileNotFoundError:
            raise CountFailed("valgrind is missing; `apt-get install valgrind`") from None
        except subprocess.TimeoutExpired:
            raise CountFailed(f"no end within {limit} s; to repeat: {shown}") from None
        if done.returncode:
            raise CountFailed(f"{how_it_ended(done.returncode, done.stderr)}; to repeat: {shown}")
        with open(file, encoding="utf-8", errors="replace") as lines:
            return Profile(lines)


def count(load: Load, library: Library, programs: str | Path) -> Count:
    program = os.path.join(os.path.realpath(programs), load.program)
    short, long = (_profile([program, *map(str, arguments)], library, [f"--toggle-collect={LOOP}*"])
                   for arguments in (load.short, load.long))
    difference = {file: (long.instructions[file] - short.instructions[file]) / load.operations
                  for file in long.instructions}
    # Which of its aliases a function is named by is valgrind's choice, so the name proves nothing;
    # but the loops call nothing save malloc and free, and the linker for the first call of each.
    served = {name: file for name, file in long.called.items()
              if not os.path.basename(file).startswith("ld-")}
    if not served or program not in difference:
        raise CountFailed(f"callgrind saw no call of malloc in {LOOP} of {program}; the workloads "
                          "must be built with symbols and without inlining that function")
    for name, file in served.items():
        if library.path:
            wanted = os.path.realpath(file) == os.path.realpath(library.path)
        else:
            wanted = os.path.basename(file).startswith("libc.so")
        if not wanted:
            raise CountFailed(f"{name} was served by {file}, not by {library.path or 'libc'}")
    return Count(sum(difference.values()), difference[program],
                 tuple(sorted(f"{name} in {os.path.basename(file)}"
                              for name, file in served.items())))


# The functions that hand out a block, by any of their names; valgrind chooses among aliases.
_ALLOCATION = re.compile(r"(hak_|rp|mi_|je_)?(malloc|calloc|realloc|reallocarray|aligned_alloc|memalign|posix_memalign"
                         r"|valloc|pvalloc)|operator new.*|_Zn[aw].*")


@dataclass(frozen=True)
class ProgramCount:
    allocations: int
    instructions: int  # that the library's own code executed, from its load to the end of the process

    @property
    def each(self) -> float:
        return self.instructions / self.allocations


def count_program(command: Sequence[str], library: Library,
                  environment: Mapping[str, str] | None = None) -> ProgramCount:
    """What an allocator executes in a whole run of a program, by the file that the instructions lie in: what it calls in
    others, as memcpy, is not counted."""
    if not library.measured:
        raise CountFailed("the system's malloc lies in one file with all of libc; name a library")
    profile = _profile(list(command), library, environment=environment, limit=PROGRAM_LIMIT_SECONDS)
    own = os.path.realpath(library.measured)
    file = next((file for file in profile.instructions if os.path.realpath(file) == own), "")
    calls = sum(number for (called_file, function), number in profile.entered.items()
                if called_file == file and _ALLOCATION.fullmatch(re.sub(r"'\d+$", "", function)))
    if not calls:
        raise CountFailed(f"callgrind saw no allocation of {library.path} by {command[0]}")
    return ProgramCount(calls, profile.instructions[file])
