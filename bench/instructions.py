#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Counts the instructions that a malloc and a free cost, net of the loop that calls them. Unlike
times, counts repeat on any machine, so they serve as a check. See bench/README.md."""

import argparse
import glob
import json
import os
import sys
from pathlib import Path

sys.dont_write_bytecode = True

from lab import libraries, whole_runs  # noqa: E402
from lab.callgrind import CountFailed, count, loads  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
OK, TOO_MANY, FAILED = 0, 1, 2
JEMALLOC = "/usr/lib/*/libjemalloc.so.2"


def arguments():
    names = list(loads())
    parser = argparse.ArgumentParser(
        prog="instructions.py",
        description="Instructions for one malloc and one free, net of the loop, counted with "
                    "callgrind. Without --at-most the system's malloc and, where installed, "
                    "jemalloc are counted too: glibc 2.36 must come out at 129 for a pair of 64 "
                    "bytes, jemalloc 5.3.0 at 67 to 68, else the method is wrong.",
        epilog="Exit status: 0; 1 if a count is above --at-most; 2 if nothing could be counted.")
    parser.add_argument("libraries", metavar="LIBRARY", nargs="*",
                        help="a shared library, or \"system\"")
    parser.add_argument("--load", action="append", choices=names, default=[],
                        help="count this loop only; may be repeated")
    parser.add_argument("--program", action="append", default=[], metavar="NAME",
                        help="instead, count whole runs of a program: one of "
                             f"{', '.join(whole_runs.PROGRAMS)}, all of them, or a command; may be repeated")
    parser.add_argument("--update", action="store_true",
                        help="with --program and one library: record in bench/counts/programs.txt")
    parser.add_argument("--size", type=int, default=64, help="bytes of a block, but in random (64)")
    parser.add_argument("--at-most", type=float, metavar="N",
                        help="a check: every count must be N or fewer")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--programs", default=ROOT / "build" / "bench", metavar="FOLDER",
                        help="the built workloads (build/bench)")
    options = parser.parse_args()
    if not 8 <= options.size <= 2**30:
        parser.error("--size must be from 8 to 2^30")
    options.load = options.load or names
    if options.program:
        if not options.libraries or libraries.SYSTEM in options.libraries:
            parser.error("--program needs a library: the system's malloc lies in one file with all of libc")
        if options.update and len(options.libraries) > 1:
            parser.error("--update records one library")
    elif options.update:
        parser.error("--update is for --program; `scons counts-update` records the loops")
    elif options.at_most is None:
        options.libraries += [name for name in [libraries.SYSTEM, *glob.glob(JEMALLOC)]
                              if name not in options.libraries]
    elif not options.libraries:
        parser.error("--at-most needs a library to check")
    return options


def print_table(rows, names):
    print("instructions for one malloc + one free")
    print(f"{'':<10} " + " ".join(f"{name:>10}" for name in names))
    for library, counts in rows:
        print(f"{library.label:<10} " + " ".join(f"{counts[name].net:>10.2f}" for name in names))
    print("loop       " + " ".join(f"{rows[0][1][name].loop:>10.2f}" for name in names)
          + "  (taken off)")
    for library, counts in rows:
        hit = sorted({place for one in counts.values() for place in one.served_by})
        print(f"{library.label}: {library.identity}; {', '.join(hit)}")


def as_data(rows):
    return [{"label": library.label, "path": library.path, "identity": library.identity,
             "digest": library.digest,
             "counts": {name: {"net": round(one.net, 2), "loop": round(one.loop, 2),
                               "total": round(one.total, 2), "served_by": one.served_by}
                        for name, one in counts.items()}}
            for library, counts in rows]


def count_programs(options):
    """Whole runs. Returns the exit status."""
    opened = [libraries.open_library(name) for name in options.libraries]
    counts = whole_runs.measure(opened, whole_runs.chosen(options.program),
                              lambda line: print(f"instructions.py: {line}", file=sys.stderr))
    if not counts:
        return FAILED
    if options.json:
        json.dump([{"program": name, "label": label, "allocations": one.allocations, "instructions": one.instructions}
                   for (name, label), one in counts.items()], sys.stdout, indent=1)
        print()
    else:
        whole_runs.print_table(opened, counts)
    if options.update:
        whole_runs.record(counts)
    above = [f"{label}: {name} takes {one.each:.2f} instructions, {options.at_most:g} at most were allowed"
             for (name, label), one in counts.items() if options.at_most is not None and one.each > options.at_most]
    for line in above:
        print(line, file=sys.stderr)
    return TOO_MANY if above else OK


def main():
    options = arguments()
    if options.program:
        try:
            return count_programs(options)
        except (libraries.LibraryError, CountFailed) as error:
            print(f"instructions.py: {error}", file=sys.stderr)
            return FAILED
    chosen = loads(options.size)
    rows = []
    try:
        for name in options.libraries:
            library = libraries.open_library(name)
            for load in options.load:
                program = os.path.join(options.programs, chosen[load].program)
                if not os.access(program, os.X_OK):
                    raise CountFailed(f"{program} is not there; `scons ab` builds the workloads")
            rows.append((library, {load: count(chosen[load], library, options.programs)
                                   for load in options.load}))
    except (libraries.LibraryError, CountFailed) as error:
        print(f"instructions.py: {error}", file=sys.stderr)
        return FAILED
    if options.json:
        json.dump(as_data(rows), sys.stdout, indent=1)
        print()
    else:
        print_table(rows, options.load)
    if options.at_most is None:
        return OK
    above = [f"{library.path or library.label}: {load} takes {one.net:.2f} instructions, "
             f"{options.at_most:g} at most were allowed"
             for library, counts in rows for load, one in counts.items()
             if one.net > options.at_most]
    for line in above:
        print(line, file=sys.stderr)
    return TOO_MANY if above else OK


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
