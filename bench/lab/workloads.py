# SPDX-License-Identifier: MIT
"""The table of workloads: what is run, and what of it is compared."""

from dataclasses import dataclass, field
from pathlib import Path

BENCH = Path(__file__).resolve().parent.parent

OWN_TIME = "own time"  # the workload times its loop and prints ns_per_op
WALL_TIME = "wall time"  # from before the program's start to after its end


@dataclass(frozen=True)
class Workload:
    """One row of the table.

    In commands, {programs} stands for the folder of the built workloads and {bench} for this one.
    The probe is a short run of the same program, to see which malloc serves it.
    """
    name: str  # at most 18 characters: it is a column
    command: tuple[str, ...]
    probe: tuple[str, ...]
    about: str
    measure: str = OWN_TIME
    environment: dict[str, str] = field(default_factory=dict)
    default: bool = True
    pairs_in_block: int = 1  # more for a run so short that one alone says little

    def filled(self, words, programs):
        return [word.format(programs=programs, bench=BENCH) for word in words]


def _built(name, program, arguments, probe, about, **more):
    program = f"{{programs}}/{program}"
    return Workload(name, (program, *arguments.split()), (program, *probe.split()), about, **more)


def _python(*arguments):
    return ("/usr/bin/python3", "-s", "-S", *arguments)


WORKLOADS = (
    _built("random_mixed short", "random_mixed", "100000 1024 12345", "10 10 1",
           "random replacement, 1024 blocks of 16-527 B alive, 100 000 times, from cold",
           pairs_in_block=3),
    _built("random_mixed long", "random_mixed", "20000000 1024 12345", "10 10 1",
           "the same, 20 million times"),
    _built("larson 4 threads", "larson", "4", "1 1 1 1",
           "a server: threads replace random blocks of an array, then pass it on"),
    _built("pair 64 B", "pair", "64 20000000", "64 1",
           "malloc and free of the same block at once"),
    Workload("python3", _python("{bench}/load_python.py"), _python("-c", "pass"),
             "a real program, PYTHONMALLOC=malloc: JSON, dictionaries, strings, objects",
             measure=WALL_TIME, environment={"PYTHONMALLOC": "malloc", "PYTHONHASHSEED": "0"}),
    _built("batch 16", "batch", "16 1000000", "16 1",
           "16 blocks of 64 B allocated, then freed in the same order", default=False),
    _built("batch 1000", "batch", "1000 20000", "16 1",
           "1000 blocks of 64 B allocated, then freed in the same order", default=False),
    _built("random_mixed 64k", "random_mixed", "5000000 65536 12345", "10 10 1",
           "random replacement with 65 536 blocks alive: cache misses", default=False),
    _built("producer_consumer", "producer_consumer", "10000000", "128",
           "one thread allocates blocks of 64 B, another frees them", default=False),
)


def select(patterns):
    """The workloads whose name, or program, is or begins with one of the patterns; the default ones
    without a pattern. Raises LookupError for a pattern that matches none."""
    if not patterns:
        return [workload for workload in WORKLOADS if workload.default]
    chosen = set()
    for pattern in patterns:
        found = [workload.name for workload in WORKLOADS if workload.name.startswith(pattern)]
        if not found:
            raise LookupError(pattern)
        chosen.update([pattern] if pattern in found else found)
    return [workload for workload in WORKLOADS if workload.name in chosen]
