# SPDX-License-Identifier: MIT
"""The table of workloads: the command of each, and which of its figures is compared."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Iterable, Sequence

BENCH = Path(__file__).resolve().parent.parent
PLACE = re.compile(r"\{(?:programs|bench)\}")

OWN_TIME = "own time"  # the workload times its loop and prints ns_per_op
WALL_TIME = "wall time"  # from before the program's start to after its end; of a server, its client's
METRIC = "metric"  # a figure that the program prints

# What else a workload's line of data gives.
LATENCY = "latency"  # p50_ns p99_ns p999_ns max_ns (some may be missing), timer_ns
RSS = "rss"  # rss_ms and rss_kib, lists of the same length: resident memory at chosen moments

# Where Debian has the programs, and where the runs find them.
PATH = "/usr/bin:/bin"


@dataclass(frozen=True)
class Metric:
    """A figure that a program prints, which is compared in place of its time."""
    title: str
    pattern: str  # a regular expression whose group is the figure, or json: and the path of a field
    higher: bool = False  # is better
    unit: str = ""

    def read(self, text: str) -> float:
        """The figure in a program's output; the last one, if there are several. Raises ValueError."""
        found = _field(text, self.pattern.removeprefix("json:")) if self.pattern.startswith("json:") else (
            [match[1] for match in re.finditer(self.pattern, text)] or [None])[-1]
        if found is None:
            raise ValueError(f"{self.pattern!r} is not in the output")
        try:
            value = float(str(found).replace(",", ""))
        except ValueError:
            raise ValueError(f"{self.pattern!r} gives {found!r}, which is no number") from None
        if not 0 < value < float("inf"):
            raise ValueError(f"{self.pattern!r} gives {found}; only a figure above 0 can be compared")
        return value


def _field(text: str, path: str) -> Any:
    """The field of the output, or of its last line, that is JSON; None if there is none."""
    for part in [text, *reversed(text.splitlines())]:
        try:
            value = json.loads(part)
        except ValueError:
            continue
        for name in path.split("."):
            if isinstance(value, list) and name.isdigit() and int(name) < len(value):
                value = value[int(name)]
            elif isinstance(value, dict):
                value = value.get(name)
            else:
                value = None
        if value is not None and not isinstance(value, (dict, list)):
            return value
    return None


@dataclass(frozen=True)
class Own:
    """How a program of the user's is run: in its folder, with the user's environment."""
    folder: str
    setup: str = ""  # a shell command, once before all runs
    prepare: str = ""  # another one, before each run
    input: str = ""  # the file that is the program's standard input
    client: tuple[str, ...] = ()  # drives the program, which is a server
    port: int = 0  # that the server opens; 0: a free one, put in place of {port}
    same_output: bool = False  # A and B must print the same


@dataclass(frozen=True)
class Workload:
    """One row of the table.

    In commands, {programs} stands for the folder of the built workloads and {bench} for this one.
    The probe is a short run of the same program, to see which malloc serves it.

    A workload may need programs that a machine does not have. They are in `needs`, each with the
    Debian package that brings it; what missing() returns is to be shown in the workload's row, and
    the others go on.
    """
    name: str  # at most 18 characters: it is a column
    command: tuple[str, ...]
    probe: tuple[str, ...]
    about: str
    measure: str = OWN_TIME
    environment: dict[str, str] = field(default_factory=dict)
    default: bool = True
    pairs_in_block: int = 1  # more for a run so short that one alone says little
    needs: tuple[tuple[str, str], ...] = ()  # (program, package): shown in the row if it is missing
    gives: tuple[str, ...] = ()  # LATENCY, RSS
    tags: tuple[str, ...] = ()  # groups that can be chosen together
    simulated: tuple[str, ...] = ()  # a shorter run, for a simulated processor; else the command
    metric: Metric | None = None
    own: Own | None = None  # of a program of the user's

    def filled(self, words: Iterable[str], programs: str | Path, bench: str | Path = BENCH) -> list[str]:
        if self.own:
            return list(words)
        # These two words alone are replaced: other braces belong to the program.
        folders = {"{programs}": programs, "{bench}": bench}
        return [PLACE.sub(lambda place: str(folders[place[0]]), word) for word in words]

    def missing(self, path: str = PATH) -> list[tuple[str, str]]:
        """The programs of `needs` that are not installed, as (program, package)."""
        return [(program, package) for program, package in self.needs
                if not shutil.which(program, path=path)]


def _built(name: str, program: str, arguments: str, probe: str, about: str, **more: Any) -> Workload:
    program = f"{{programs}}/{program}"
    if "simulated" in more:
        more["simulated"] = (program, *more["simulated"].split())
    if "--latency" in arguments:
        more["gives"] = (LATENCY, *more.get("gives", ()))
    return Workload(name, (program, *arguments.split()), (program, *probe.split()), about, **more)


def _python(*arguments: str) -> tuple[str, ...]:
    return ("/usr/bin/python3", "-s", "-S", *arguments)


def _replayed(name: str, about: str, threads: bool = False) -> Workload:
    """A kept recording (bench/traces)."""
    return _built(f"replay {name}", "replay", f"{{programs}}/{name}.replay", f"{{programs}}/{name}.replay --only=1000",
                  f"{about}: its mallocs and frees alone", default=False, pairs_in_block=3,
                  tags=("replays", *(("threads",) if threads else ())), simulated=f"{{programs}}/{name}.replay")


def _installed(name: str, command: Iterable[str], probe: Iterable[str], about: str, *needs: tuple[str, str],
               **more: Any) -> Workload:
    """A program of the system's, measured from outside."""
    more = {"measure": WALL_TIME, "default": False, "tags": ("programs",), **more}
    return Workload(name, tuple(command), tuple(probe), about, needs=needs, **more)


# Each run takes a tenth of a second to one second on two cores, so that two configurations can be
# compared on all rows within a quarter of an hour.
WORKLOADS = (
    _built("random_mixed short", "random_mixed", "100000 1024 12345", "10 10 1",
           "random replacement, 1024 blocks of 16-527 B alive, 100 000 times, from cold",
           pairs_in_block=3, tags=("small",)),
    _built("random_mixed long", "random_mixed", "20000000 1024 12345 --latency", "10 10 1",
           "the same, 20 million times", tags=("small",),
           simulated="1000000 1024 12345"),
    _built("larson 4 threads", "larson", "4", "1 1 1 1",
           "a server: threads replace random blocks of an array, then pass it on",
           tags=("threads",),
           simulated="4 2 20000"),
    _built("pair 64 B", "pair", "64 20000000", "64 1",
           "malloc and free of the same block at once", tags=("small",),
           simulated="64 1000000"),
    Workload("python3", _python("{bench}/load_python.py"), _python("-c", "pass"),
             "a real program, PYTHONMALLOC=malloc: JSON, dictionaries, strings, objects",
             measure=WALL_TIME, environment={"PYTHONMALLOC": "malloc", "PYTHONHASHSEED": "0"},
             needs=(("python3", "python3"),), tags=("programs",)),
    _built("batch 16", "batch", "16 1000000", "16 1",
           "16 blocks of 64 B allocated, then freed in the same order", default=False,
           tags=("small",),
           simulated="16 50000"),
    _built("batch 1000", "batch", "1000 20000", "16 1",
           "1000 blocks of 64 B allocated, then freed in the same order", default=False,
           tags=("small",),
           simulated="1000 1000"),
    _built("random_mixed 64k", "random_mixed", "5000000 65536 12345 --latency", "10 10 1",
           "random replacement with 65 536 blocks alive: cache misses", default=False,
           tags=("small",),
           simulated="1000000 65536 12345"),
    _built("producer_consumer", "producer_consumer", "10000000", "128",
           "one thread allocates blocks of 64 B, another frees them", default=False,
           tags=("threads",),
           simulated="500000"),

    _built("tiny_hot", "tiny_hot", "20000000 32 12345 --latency", "10",
           "bursts of up to 32 blocks of 8-64 B, freed in reverse", default=False, tags=("small",),
           simulated="1000000 32 12345"),
    _built("pair 1000 B", "pair", "1000 10000000", "64 1",
           "malloc and free of one block of 1000 B", default=False, tags=("small",),
           simulated="1000 1000000"),
    _built("pair 16 KiB", "pair", "16384 20000000", "64 1",
           "malloc and free of one block of 16 KiB", default=False, tags=("large",),
           simulated="16384 1000000"),
    _built("reverse 10", "batch", "10 1000000 64 1", "16 1",
           "10 blocks of 64 B allocated, then freed in reverse", default=False, tags=("small",),
           simulated="10 50000 64 1"),
    _built("reverse 1000", "batch", "1000 20000 64 1", "16 1",
           "1000 blocks of 64 B allocated, then freed in reverse", default=False, tags=("small",),
           simulated="1000 1000 64 1"),
    _built("shuffled 1000", "batch", "1000 10000 64 2", "16 1",
           "1000 blocks of 64 B allocated, then freed at random", default=False, tags=("small",),
           simulated="1000 1000 64 2"),
    _built("in order 10000", "batch", "10000 1500 64 0", "16 1",
           "10 000 blocks of 64 B allocated, then freed in the same order", default=False,
           tags=("small",),
           simulated="10000 100 64 0"),
    _built("shuffled 10000", "batch", "10000 800 64 2", "16 1",
           "10 000 blocks of 64 B allocated, then freed at random", default=False, tags=("small",),
           simulated="10000 100 64 2"),
    _built("mid_large_mt", "mid_large_mt", "4 40000 64 8192 131072 12345 --latency=40000",
           "1 1 1", "4 threads replace random blocks of 8-128 KiB", default=False,
           tags=("threads", "large"),
           simulated="4 4000 64 8192 131072 12345"),
    _built("vm_mixed", "vm_mixed", "25000 64 18 12345 --latency=5000", "1 1",
           "random replacement of blocks from 16 B to 4 MiB, every page written", default=False,
           tags=("large",),
           simulated="2000 64 18 12345"),
    _built("large first page", "large", "100000 4 1073741824 12345 --latency", "1 1",
           "random replacement of blocks of 1-64 MiB, one word written", default=False,
           tags=("large",),
           simulated="5000 4 1073741824 12345"),
    _built("large all pages", "large", "30 4 4096 12345", "1 1 1048576",
           "the same, every page written", default=False, tags=("large",),
           simulated="3 4 4096 12345"),
    _built("buffers", "buffers", "250 16 5242880 26214400 12345", "1 1 8 8",
           "random replacement of 16 blocks of 5-25 MiB, every page written", default=False,
           tags=("large", "memory"),
           simulated="20 16 5242880 26214400 12345"),
    _built("buffers in turn", "buffers", "500 1 1048576 33554432 12345", "1 1 8 8",
           "one block of 1-32 MiB at a time, every page written", default=False,
           tags=("large",),
           simulated="20 1 1048576 33554432 12345"),
    _built("realloc_growth", "realloc_growth", "40000 16 25 1048576 12345 --latency=5000", "1 1",
           "16 arrays grow in turn, by a quarter each time, up to 1 MiB", default=False,
           tags=("large",),
           simulated="4000 16 25 1048576 12345"),
    _built("calloc", "calloc", "150000 256 14 12345 --latency=20000", "1 1",
           "random replacement of zeroed blocks from 16 B to 256 KiB", default=False,
           tags=("large",),
           simulated="10000 256 14 12345"),
    _built("aligned", "aligned", "2000000 512 9 12345 --latency", "1 1",
           "aligned_alloc at 16 to 4096 B, blocks of 16 B to 4 KiB", default=False,
           tags=("small",),
           simulated="200000 512 9 12345"),
    _built("chase", "chase", "5000000 3000000 1500 12345", "1 2 0",
           "a walk at random through 3 million blocks of 64-127 B", default=False,
           tags=("large",),
           simulated="100000 100000 0 12345"),
    _built("producers 2:2", "producer_consumer", "2000000 64 1024 2 2", "128",
           "two threads allocate blocks of 64 B, two others free them", default=False,
           tags=("threads",),
           simulated="200000 64 1024 2 2"),
    _built("producers 1:3", "producer_consumer", "2000000 64 1024 1 3", "128",
           "one thread allocates blocks of 64 B, three others free them", default=False,
           tags=("threads",),
           simulated="200000 64 1024 1 3"),
    _built("handover 64 B", "handover", "2000000 64 64 4096 25 2 2 0", "128",
           "two threads allocate blocks of 64 B in bulk, two others free them", default=False,
           tags=("threads",),
           simulated="200000 64 64 4096 2 2 2 0"),
    _built("handover strewn", "handover", "1000000 64 64 4096 4 2 2 1", "128",
           "the same, freed in random order", default=False,
           tags=("threads",),
           simulated="200000 64 64 4096 2 2 2 1"),
    _built("handover 1-16 KiB", "handover", "300000 1024 16384 256 4 2 2 0", "128",
           "the same with blocks of 1-16 KiB, in the order of allocation", default=False,
           tags=("threads",),
           simulated="20000 1024 16384 256 2 2 2 0"),
    _built("sharing active", "false_sharing", "2 600000 200 8 0", "1 1 1",
           "two threads write to small blocks of their own: in one cache line?", default=False,
           tags=("threads",),
           simulated="2 3000 200 8 0"),
    _built("sharing passive", "false_sharing", "2 600000 200 8 1", "1 1 1",
           "the same after each has freed one of two neighbours", default=False,
           tags=("threads",),
           simulated="2 3000 200 8 1"),
    _built("thread_churn", "thread_churn", "4000 4 100 12345", "1 1 1",
           "4000 threads, 4 at once, 100 blocks each", default=False, tags=("threads",),
           simulated="400 4 100 12345"),
    _built("fragmentation", "fragmentation", "150000 0 12345", "10",
           "150 000 small blocks, nine in ten replaced by larger ones; memory by phases",
           default=False, gives=(RSS,), tags=("memory",),
           simulated="15000 0 12345"),
    _built("episodes", "episodes", "200 2097152 8 11 5 12345", "2 10000",
           "a small program whose sizes of blocks change from episode to episode, 2 MiB alive",
           default=False, tags=("memory",),
           simulated="20 2097152 8 11 5 12345"),
    _built("server", "server", "2 5000 100000 48 12345 --latency=20000", "1 1 1 1",
           "two threads, 10 000 sessions of mixed lifetimes, memory over time", default=False,
           gives=(RSS,), tags=("threads", "memory"),
           simulated="2 500 10000 48 12345"),

    _replayed("gcc", "recorded: the C compiler"),
    _replayed("lld", "recorded: a linker with 5 threads", threads=True),
    _replayed("python3", "recorded: python3, PYTHONMALLOC=malloc"),
    _replayed("redis", "recorded: redis-server under redis-benchmark"),
    _replayed("sqlite3", "recorded: the sqlite3 shell"),

    _installed("redis", ("/usr/bin/python3", "{bench}/load_redis.py", "10000"),
               ("/usr/bin/python3", "{bench}/load_redis.py", "--probe"),
               "redis-server (it alone is preloaded) under redis-benchmark",
               ("python3", "python3"), ("redis-server", "redis-server"),
               ("redis-benchmark", "redis-tools"), measure=OWN_TIME, gives=(LATENCY,)),
    _installed("gcc", ("/usr/bin/gcc", "-O2", "-S", "-o", "-", "{bench}/server.c"),
               ("/usr/bin/gcc", "-S", "-x", "c", "-o", "/dev/null", "/dev/null"),
               "the C compiler on one of the workloads, -O2", ("gcc", "gcc")),
    _installed("sqlite3", ("/usr/bin/sqlite3", "-batch", ":memory:",
                           ".read {bench}/load_sqlite.sql"),
               ("/usr/bin/sqlite3", "-batch", ":memory:", "SELECT 1;"),
               "the sqlite3 shell: 68 000 rows in memory, indexes, joins, JSON",
               ("sqlite3", "sqlite3")),
    _installed("lua", ("/usr/bin/lua5.4", "{bench}/load_lua.lua"),
               ("/usr/bin/lua5.4", "-e", "print(1)"),
               "the Lua interpreter: strings, tables, closures, a tree", ("lua5.4", "lua5.4")),
)


def _matching(pattern: str, known: Sequence[Workload]) -> list[str]:
    """The names that a pattern stands for."""
    if pattern.startswith("@"):
        return [workload.name for workload in known
                if pattern == "@all" and not workload.own or pattern[1:] in workload.tags]
    names = [workload.name for workload in known]
    return [pattern] if pattern in names else [n for n in names if n.startswith(pattern)]


def select(patterns: Iterable[str], own: Sequence[Workload] = ()) -> list[Workload]:
    """The workloads whose name is, or else begins with, one of the patterns; @TAG stands for those
    of a group, @all for all of the laboratory's. Without a pattern, the default ones. `own` are further
    ones that can be named. Raises LookupError for a pattern that matches none."""
    known = [*WORKLOADS, *own]
    if not patterns:
        return [workload for workload in WORKLOADS if workload.default]
    chosen: set[str] = set()
    for pattern in patterns:
        found = _matching(pattern, known)
        if not found:
            raise LookupError(pattern)
        chosen.update(found)
    return [workload for workload in known if workload.name in chosen]
