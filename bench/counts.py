#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Compares what malloc and free cost in instructions with what is recorded in bench/counts/, a file for each
configuration. See bench/README.md."""

import argparse
import concurrent.futures
import os
import re
import sys
from pathlib import Path

sys.dont_write_bytecode = True

from lab import libraries  # noqa: E402
from lab.callgrind import CountFailed, count, loads  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "bench" / "counts"
SIZES = (32, 64)
TOLERANCE = 0.02
COMPILER = re.compile(r" compiler (.*) flags ")
HEAD = """\
# Instructions for one malloc and one free, net of the loop that calls them. `scons counts-update` writes this.
"""


def counted():
    """What is counted, by the name that it has in a file. Only one load has sizes of its own."""
    return dict(sorted((load.name if load.name == "random" else f"{load.name}/{size}", load)
                       for size in SIZES for load in loads(size).values()))


def compiler_of(library):
    return COMPILER.search(library.identity)[1]


def major(compiler):
    """gcc (Debian 12.2.0-14) 12.2.0 → gcc 12: what makes code of its own."""
    name, *_, version = compiler.split()
    return f"{name.split('-')[0]} {version.split('.')[0]}"


def measure(library, programs):
    with concurrent.futures.ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        running = {name: pool.submit(count, load, library, programs) for name, load in counted().items()}
        return {name: round(one.result().net, 2) for name, one in running.items()}


def read(file):
    """The compiler and the counts of a file."""
    lines = [line.split(None, 1) for line in file.read_text().splitlines() if line and not line.startswith("#")]
    values = {name: value for name, value in lines}
    return values.pop("compiler"), {name: float(value) for name, value in values.items()}


def write(file, compiler, counts):
    lines = [f"{name:<14} {value:8.2f}\n" for name, value in counts.items()]
    file.parent.mkdir(exist_ok=True)
    file.write_text(f"{HEAD}compiler       {compiler}\n{''.join(lines)}")


def compare(recorded, counts):
    """A line for each count that has risen too far, and one for each that has fallen so far."""
    risen, fallen = [], []
    for name, now in counts.items():
        before = recorded.get(name)
        if before is None:
            risen.append(f"{name}: {now:.2f} instructions, and none are recorded")
        elif now > before * (1 + TOLERANCE):
            risen.append(f"{name}: {now:.2f} instructions, {before:.2f} are recorded: {now / before - 1:+.1%}")
        elif now < before * (1 - TOLERANCE):
            fallen.append(f"{name}: {now:.2f} instructions, {before:.2f} are recorded: {now / before - 1:+.1%}")
    return risen, fallen


def check(file, library, programs):
    """Whether the library is as good as its file says."""
    name = file.stem
    if not file.exists():
        print(f"{name}: skipped: nothing is recorded for it; `scons counts-update` does that")
        return True
    compiler, recorded = read(file)
    if major(compiler) != major(compiler_of(library)):
        print(f"{name}: skipped: recorded with {major(compiler)}, built with {major(compiler_of(library))}")
        return True
    counts = measure(library, programs)
    risen, fallen = compare(recorded, counts)
    for line in risen + fallen:
        print(f"{name}: {line}")
    if risen:
        print(f"{name}: more than {TOLERANCE:.0%} is a failure. If the change is worth it, `scons counts-update` "
              "records the new counts; commit them with it, and say why")
    elif fallen:
        print(f"{name}: `scons counts-update` records the progress, so that it stays")
    else:
        print(f"{name}: " + "  ".join(f"{load} {value:.2f}" for load, value in counts.items()))
    return not risen


def main():
    parser = argparse.ArgumentParser(
        prog="counts.py",
        description="Counts the instructions of a malloc and a free and compares them with bench/counts/NAME.txt, "
                    "where NAME is the folder that the library lies in.",
        epilog="Exit status: 0; 1 if a count has risen by more than 2 %; 2 if nothing could be counted.")
    parser.add_argument("libraries", metavar="build/NAME/libhakmem.so", nargs="+")
    parser.add_argument("--update", action="store_true", help="record instead of comparing")
    parser.add_argument("--programs", default=ROOT / "build" / "bench", metavar="FOLDER",
                        help="the built workloads (build/bench)")
    parser.add_argument("--recorded", type=Path, default=FOLDER, metavar="FOLDER", help="instead of bench/counts")
    options = parser.parse_args()

    passed = failed = 0
    for path in options.libraries:
        file = options.recorded / f"{Path(path).parent.name}.txt"
        try:
            library = libraries.open_library(path)
            if options.update:
                write(file, compiler_of(library), measure(library, options.programs))
                print(f"counts.py: {file}")
            elif check(file, library, options.programs):
                passed += 1
            else:
                failed += 1
        except (libraries.LibraryError, CountFailed) as error:
            print(f"counts.py: {error}", file=sys.stderr)
            return 2
    if not options.update:
        print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
