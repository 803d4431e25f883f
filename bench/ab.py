#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Runs the workloads under two mallocs and says which is faster, by how much, and whether that is
real. See bench/README.md."""

import argparse
import datetime
import importlib.util
import os
import signal
import sys
from pathlib import Path

sys.dont_write_bytecode = True

from lab import libraries, machine, present, record, runs, workloads  # noqa: E402
from lab.comparison import Comparison  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
OK, ROW_FAILED, CANNOT_START, INTERRUPTED = 0, 1, 2, 130


def positive_seconds(text):
    value = float(text)
    if not 0 < value < 1e6:
        raise ValueError
    return value


positive_seconds.__name__ = "number of seconds"


def arguments():
    parser = argparse.ArgumentParser(
        prog="ab.py",
        description="Runs the workloads under library A and, by turns, under B, and prints the "
                    "ratio of their times with a 95 %% interval.",
        epilog="Exit status: 0; 1 if a workload failed; 2 if nothing could be measured; 130 after "
               "Ctrl-C, which prints what was measured until then.")
    parser.add_argument("a", metavar="A.so", nargs="?", help="the library to look at")
    parser.add_argument("b", metavar="B", nargs="?", default=libraries.SYSTEM,
                        help="another library, or \"system\", the default: what programs get "
                             "without a preloaded library")
    parser.add_argument("--budget", type=positive_seconds, default=60.0, metavar="SECONDS",
                        help="time to spend in all, 60 by default; under about 40 there may be "
                             "too few pairs to name a winner")
    parser.add_argument("--only", action="append", metavar="NAME", default=[],
                        help="a workload of --list, or what its name begins with; may be repeated")
    parser.add_argument("--list", action="store_true", help="list the workloads and stop")
    parser.add_argument("--limit", type=positive_seconds, default=runs.RUN_SECONDS,
                        metavar="SECONDS", help="a run that takes longer hangs (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the order of runs (%(default)s)")
    parser.add_argument("--programs", default=ROOT / "build" / "bench", metavar="FOLDER",
                        help="the built workloads (build/bench)")
    parser.add_argument("--output", default=ROOT / "build" / "ab", metavar="FOLDER",
                        help="where the record of each run goes, as JSON (build/ab)")
    options = parser.parse_args()
    if not options.list and not options.a:
        parser.error("which library? For one: build/default/libhakmem.so")
    return options


def fail(message):
    print(f"ab.py: {message}", file=sys.stderr)
    sys.exit(CANNOT_START)


def list_workloads():
    for workload in workloads.WORKLOADS:
        mark = " " if workload.default else "+"
        print(f"{mark} {workload.name:<18} {workload.about}")
    print("+ runs only when --only names it")


def prepare(options):
    """All that can be found wrong before the first run."""
    for module in ("numpy", "scipy"):
        if not importlib.util.find_spec(module):
            fail(f"{module} is missing; `apt-get install python3-{module}`, and run this with "
                 "/usr/bin/python3")
    try:
        chosen = workloads.select(options.only)
    except LookupError as error:
        fail(f"no workload begins with {error.args[0]!r}; --list shows all")
    runner = runs.Runner(options.programs, options.limit)
    missing = runner.missing(chosen)
    if missing:
        fail(f"{missing[0]} is not there; `scons ab` builds the workloads")
    try:
        a, b = libraries.tell_apart(libraries.open_library(options.a),
                                    libraries.open_library(options.b))
    except libraries.LibraryError as error:
        fail(error)
    return Comparison(a, b, chosen, runner, options.budget, options.seed, present.Progress())


def shown_path(path):
    """Relative to where the user is, if that is shorter."""
    return min(os.path.relpath(path), str(path), key=len)


def main():
    # A terminated run shows what it has, as an interrupted one does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    options = arguments()
    if options.list:
        list_workloads()
        return OK
    # One thread is enough for so few numbers, and idle threads of a numeric library are noise.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    started = datetime.datetime.now().astimezone()
    comparison = prepare(options)
    described = machine.describe()
    comparison.run()
    print("\n".join(present.table(comparison, described, present.wants_colour(sys.stdout))))
    try:
        print(f"record: {shown_path(record.write(comparison, described, started, options.output))}")
    except OSError as error:
        fail(f"the record cannot be written to {options.output}: {error.strerror}")
    if comparison.interrupted:
        return INTERRUPTED
    return ROW_FAILED if comparison.failed else OK


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(OK)
