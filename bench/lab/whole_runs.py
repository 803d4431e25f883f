# SPDX-License-Identifier: MIT
"""What an allocator executes for an allocation over a whole run of a real program: which programs, and how each does
the same every time.

All instructions of the library's own file, from its load to the end of the process, are divided by the calls of
malloc, calloc, realloc, new and the like: what frees, refills, flushes and purges cost is in it. What the library
calls elsewhere (memset, memcpy) is not. A library that looks at the clock does a little more or less each time: under
callgrind a program runs some fifty times longer, so that what is due by time comes as much more often."""

import glob
import os
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, Iterable, Sequence

from .callgrind import ProgramCount, count_program
from .libraries import Library

Counts = dict[tuple[str, str], ProgramCount]  # by (program's name, library's label)

BENCH = Path(__file__).resolve().parent.parent
RECORDED = BENCH / "counts" / "programs.txt"
HEAD = """\
# Instructions of the library for an allocation, over whole runs of programs: `bench/instructions.py --program all
# --update build/default/libhakmem.so` writes this.
"""


@dataclass(frozen=True)
class Program:
    name: str
    command: tuple[str, ...]  # the first is a pattern of a file
    package: str = ""
    environment: dict[str, str] = field(default_factory=dict)

    def found(self) -> tuple[str, ...] | None:
        """The command as it is run here; None where the program is not installed."""
        files = [file for file in sorted(glob.glob(self.command[0])) if os.access(file, os.X_OK)]
        return (files[-1], *(word.replace("{bench}", str(BENCH)) for word in self.command[1:])) if files else None


# Every object a block of malloc, and hashes in the same order every time.
_PYTHON = {"PYTHONMALLOC": "malloc", "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}
_PERL = {"PERL_HASH_SEED": "0", "PERL_PERTURB_KEYS": "0"}

PROGRAMS = {program.name: program for program in (
    Program("perl", ("/usr/bin/perl", "{bench}/load_perl.pl", "2"), "perl", _PERL),
    Program("python3", ("/usr/bin/python3", "-s", "{bench}/load_python.py", "1"), "python3", _PYTHON),
    Program("lua", ("/usr/bin/lua5.4", "{bench}/load_lua.lua", "1"), "lua5.4"),
    Program("sqlite3", ("/usr/bin/sqlite3", ":memory:", ".read {bench}/load_sqlite.sql"), "sqlite3"),
    Program("cc1plus", ("/usr/lib/gcc/*/*/cc1plus", "-quiet", "-O2", "{bench}/load_cc1plus.cc", "-o", "/dev/null"),
            "g++"),
    Program("cmake", ("/usr/bin/cmake", "-P", "{bench}/load_cmake.cmake"), "cmake"),
)}


def chosen(words: Iterable[str]) -> list[Program]:
    """The programs that are asked for: by name, all of them, or a command of one's own."""
    programs: list[Program] = []
    for word in words:
        if word == "all":
            programs += PROGRAMS.values()
        elif word in PROGRAMS:
            programs.append(PROGRAMS[word])
        else:
            command = shlex.split(word)
            programs.append(Program(os.path.basename(command[0]), tuple(command)))
    return programs


def measure(libraries: Sequence[Library], programs: Iterable[Program], say: Callable[[str], None]) -> Counts:
    """The count of each program with each library, by (program's name, library's label)."""
    counts: Counts = {}
    for program in programs:
        command = program.found()
        if command is None:
            say(f"{program.name} is not there" + (f"; `apt-get install {program.package}`" if program.package else ""))
            continue
        for library in libraries:
            counts[program.name, library.label] = count_program(command, library, program.environment)
    return counts


def recorded(file: Path = RECORDED) -> dict[str, float]:
    if not file.exists():
        return {}
    lines = [line.split() for line in file.read_text().splitlines() if line and not line.startswith("#")]
    return {name: float(value) for name, value in lines}


def record(counts: Counts, file: Path = RECORDED) -> None:
    values = {**recorded(file), **{name: round(one.each, 1) for (name, _), one in counts.items()}}
    file.write_text(HEAD + "".join(f"{name:<14} {value:8.1f}\n" for name, value in sorted(values.items())))


def print_table(libraries: Sequence[Library], counts: Counts) -> None:
    before = recorded()
    print("instructions of the library for an allocation, over the whole run")
    print(f"{'':<10} {'allocations':>12} {'recorded':>10} " + " ".join(f"{one.label:>10}" for one in libraries))
    for name in dict.fromkeys(name for name, _ in counts):
        row = [counts[name, library.label] for library in libraries]
        print(f"{name:<10} {row[0].allocations:>12} {before.get(name, ''):>10} "
              + " ".join(f"{one.each:>10.2f}" for one in row))
