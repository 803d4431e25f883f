#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Runs the workloads under two mallocs or more and says which is faster, by how much, and whether
that is real. See bench/README.md."""

import argparse
import datetime
import fcntl
import importlib.util
import os
import re
import signal
import sys
import textwrap
import time
from pathlib import Path

sys.dont_write_bytecode = True

from lab import copies, counters, engine, export, libraries, machine, page, present, programs, record, runs  # noqa: E402
from lab import spread, verdict, wishes, workloads  # noqa: E402
from lab.comparison import NARROW, Comparison  # noqa: E402
from lab.estimate import estimate  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
OK, ROW_FAILED, CANNOT_START, INTERRUPTED = 0, 1, 2, 130
# Seconds: of the default rows, of each row that was asked for, and of all rows together.
BUDGET, ROW_BUDGET, MOST_BUDGET = 60.0, 20.0, 750.0
COUNT_BUDGET = 240.0


PROGRAM_OPTIONS = {
    "setup": "a shell command, once before all runs",
    "prepare": "a shell command before each run",
    "input": "the file that is its standard input",
    "metric": "[lower:|higher:]REGEX with one group, or [lower:|higher:]json:FIELD: the figure of its output that is "
              "compared, in place of its time",
    "client": "a command that drives the program, which is a server: that is started, and ended by SIGTERM",
    "port": "that the server opens; without it {port} in both commands is a free one",
}


def form(parse):
    """A type for argparse, which shows the message of no other error."""
    def checked(text):
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None
    return checked


def arguments():
    parser = argparse.ArgumentParser(
        prog="ab.py",
        description="Runs the workloads under library A and, interleaved, under each of the others, "
                    "and prints the ratios of their times with 95 % intervals. A library is a "
                    "path, or one of: " + ", ".join([libraries.SYSTEM, *libraries.PEERS]) + ".",
        epilog="Exit status: 0; 1 if a workload failed or a file changed during the measurement; 2 if nothing "
               "could be measured; 130 after Ctrl-C, which shows what was measured until then.")
    parser.add_argument("a", metavar="A", nargs="?", help="the library to look at")
    parser.add_argument("others", metavar="B", nargs="*",
                        help="those that it is compared with; without any, \"system\": what programs "
                             "get without a preloaded library")
    parser.add_argument("--budget", type=form(wishes.seconds), metavar="SECONDS",
                        help=f"time to spend in all; by default {BUDGET:.0f} for the default rows, "
                             f"else {ROW_BUDGET:.0f} a row, {MOST_BUDGET:.0f} at most. Under about "
                             "40 there may be too few pairs to name a winner")
    parser.add_argument("--width", type=form(wishes.per_cent), default=NARROW, metavar="PERCENT",
                        help="a row whose interval is this narrow gets no more pairs "
                             f"({100 * NARROW:g}%%)")
    parser.add_argument("--only", action="append", metavar="NAME", default=[],
                        help="a workload of --list, or what its name begins with, or all; may be "
                             "repeated")
    parser.add_argument("--program", metavar="COMMAND", default="",
                        help="a program of your own as the workload; several with a semicolon between them")
    for name, about in PROGRAM_OPTIONS.items():
        parser.add_argument(f"--{name}", metavar=name.upper(), default="", help=f"of --program: {about}")
    parser.add_argument("--workloads", metavar="FILE", type=Path,
                        help=f"more workloads that --only can name, as TOML ({programs.FILE} of this folder, if there is one)")
    parser.add_argument("--counters", action="store_true",
                        help="simulate the processor's counters where the kernel has none")
    parser.add_argument("--list", action="store_true", help="list the workloads and stop")
    parser.add_argument("--report", metavar="RECORD", nargs="+",
                        help="measure nothing: show a record again, and make its page; of two records, compare A of "
                             "the first with A of the second (or RECORD#NAME, another library in it)")
    parser.add_argument("--sweep", metavar="CONFIG_X",
                        help="the option whose values the libraries differ in: the page has curves over it")
    parser.add_argument("--export-csv", metavar="FILE", help="write the summary there, too")
    parser.add_argument("--export-markdown", metavar="FILE", help="write the tables there, too")
    parser.add_argument("--limit", type=form(wishes.seconds), metavar="SECONDS",
                        help=f"a run that takes longer hangs ({runs.RUN_SECONDS}; {runs.OWN_SECONDS} of --program)")
    parser.add_argument("--engine", metavar="ENGINE", default="",
                        help=f"who runs it: {', '.join(engine.ENGINES)}; the first one, unless said otherwise, is this machine")
    parser.add_argument("--hosts", metavar="HOST,HOST", default="", help="of --engine=parallel: machines, as ssh names them")
    parser.add_argument("--seed", type=int, default=1, help="of the order of runs (%(default)s)")
    parser.add_argument("--lock", type=int, metavar="FD",
                        help="unlock this file when all that is measured has been copied: `scons ab` keeps other "
                             "builds away until then")
    parser.add_argument("--programs", default=ROOT / "build" / "bench", metavar="FOLDER",
                        help="the built workloads (build/bench)")
    parser.add_argument("--output", default=ROOT / "build" / "ab", metavar="FOLDER",
                        help="where the record of each run goes, as JSON, and the page (build/ab)")
    options = parser.parse_args()
    if not options.list and not options.a and not options.report:
        parser.error("which library? For one: build/default/libhakmem.so")
    if options.report and len(options.report) > 2:
        parser.error("--report takes one record, or two to compare")
    options.others = options.others or [libraries.SYSTEM]
    return options


def fail(message):
    print(f"ab.py: {message}", file=sys.stderr)
    sys.exit(CANNOT_START)


def own_workloads(options):
    """Those of the user's file."""
    try:
        if options.workloads:
            return programs.read(options.workloads)
        return programs.read(programs.FILE) if os.path.isfile(programs.FILE) else []
    except ValueError as error:
        fail(error)


def list_workloads(own):
    for workload in [*workloads.WORKLOADS, *own]:
        mark = " " if workload.default else "+"
        print("\n".join(textwrap.wrap(workload.about, present.WIDTH, initial_indent=f"{mark} {workload.name:<18} ",
                                      subsequent_indent=" " * 21)))
    groups = sorted({tag for workload in [*workloads.WORKLOADS, *own] for tag in workload.tags})
    print("\n".join(textwrap.wrap("+ runs when --only (WORKLOADS=) names it, or its group: all "
                                  + " ".join(f"@{group}" for group in groups), present.WIDTH, subsequent_indent="  ")))


def need(*modules):
    for module in modules:
        if not importlib.util.find_spec(module):
            fail(f"{module} is missing; `apt-get install python3-{module}`, and run this with "
                 "/usr/bin/python3")


def chosen_workloads(options):
    """Those that are named, and the programs of the command line; both only if both are asked for."""
    own = own_workloads(options)
    try:
        asked = programs.asked(options.program, **{name: getattr(options, name) for name in PROGRAM_OPTIONS})
        return ([] if asked and not options.only else wishes.chosen(options.only, own)) + asked
    except ValueError as error:
        fail(error)


def budget_of(options, rows):
    if options.budget:
        return options.budget
    if not options.only and not options.program:
        # With several others each row takes longer.
        return min(MOST_BUDGET, BUDGET * (1 + len(options.others)) / 2)
    return min(MOST_BUDGET, max(BUDGET, ROW_BUDGET * rows))


def prepare(options, private, far):
    """All that can be found wrong before the first run. `far` is the engine, if there is one."""
    chosen = chosen_workloads(options)
    runner = runs.Runner(options.programs, options.limit, private)
    missing = runner.missing(chosen)
    if missing:
        fail(f"{missing[0]} is not there; `scons ab` builds the workloads")
    try:
        private.take_programs(options.programs, chosen)
        a, *others = libraries.tell_apart([private.open_library(name) for name in [options.a, *options.others]])
    except libraries.LibraryError as error:
        fail(error)
    except OSError as error:
        fail(f"{error.filename or private.folder} cannot be copied: {error.strerror}")
    budget = budget_of(options, len(chosen) * len(others))
    # How long a program of the user's takes is not known before it has run.
    stretch = MOST_BUDGET if not options.budget and any(workload.own for workload in chosen) else 0.0
    usual = a, others, chosen, runner, budget, options.seed, present.Progress(), options.width, stretch
    try:
        return spread.Spread(*usual, far, private, options.output) if far else Comparison(*usual)
    except OSError as error:
        fail(f"{error.filename or options.output} cannot be written: {error.strerror}")


def shown_path(path):
    """Relative to where the user is, if that is shorter."""
    return min(os.path.relpath(path), str(path), key=len)


def count(comparison, source):
    """Counts each workload under each library once; what cannot be counted, or not in time, is left
    out."""
    end = time.monotonic() + COUNT_BUDGET
    for trial in comparison.trials:
        for library in (comparison.a, *comparison.others):
            left = end - time.monotonic()
            comparison.progress.say(f"{trial.workload.name}: counting under {library.label}", left)
            if trial.live() and left > 0 and not trial.workload.own:
                try:
                    trial.counters[library.label] = counters.count(
                        trial.workload, library, comparison.runner.programs, source, comparison.runner.bench)
                except counters.CountFailed:
                    pass


def measure(options):
    started = datetime.datetime.now().astimezone()
    try:
        far = engine.make(options.engine, options.hosts)
        if far and options.counters:
            fail("COUNTERS=yes: one machine's counters are counted without ENGINE=")
        private = copies.Copies()
    except (libraries.LibraryError, engine.EngineError) as error:
        fail(error)
    with private:
        comparison = prepare(options, private, far)
        if options.lock is not None:
            fcntl.flock(options.lock, fcntl.LOCK_UN)
            os.close(options.lock)
        # Ctrl-C in the middle of an import would leave half a module behind.
        estimate([1.0] * 10, [1.0, 2.0] * 5)
        described = machine.describe()
        source, counted = (None, "not counted on several machines") if far else counters.available_source(options.counters)
        try:
            comparison.run((lambda made: count(made, source)) if source else None)
        except engine.EngineError as error:
            fail(error)
        spoiled, replaced = ([shown_path(path) for path in paths] for paths in (private.spoiled, private.replaced))
        data = record.as_data(comparison, described, started, counted, options.sweep, spoiled, replaced)
    return data, lambda: record.write(data, started, options.output)


def stored(options):
    """The data of a record, or of two, and the path that names what is made of it."""
    try:
        if len(options.report) == 1:
            return record.read(options.report[0]), lambda: options.report[0]
        data = record.compare(*options.report)
    except record.RecordError as error:
        fail(error)
    # Of a record that this program has named, when it was made is enough.
    stems = [Path(path.partition("#")[0]).stem for path in options.report]
    name = "-vs-".join(re.sub(r"^(\d{8}-\d{6})-.*", r"\1", stem) for stem in stems)
    os.makedirs(options.output, exist_ok=True)
    return data, lambda: os.path.join(options.output, f"{name}.json")


def write_all(data, path, options):
    """The page and the exports of a record, each named as it is; says where they are."""
    base = re.sub(r"(\.json)?$", "", os.path.realpath(path), count=1)
    page.write(data, f"{base}.html")
    texts = {ending: make(data) for ending, make in export.FILES}
    places = [(f"{base}.{ending}", text) for ending, text in texts.items()]
    places += [(file, texts[ending]) for file, ending in ((options.export_csv, "csv"), (options.export_markdown, "md"))
               if file]
    for file, text in places:
        Path(file).write_text(text, encoding="utf-8")
    if not options.report:
        for ending in ("html", *texts):
            record.link(f"{base}.{ending}", f"latest.{ending}")
    print(f"page: {shown_path(base + '.html')}")


def status_of(data):
    if data.interrupted:
        return INTERRUPTED
    if not verdict.measured(data):
        return CANNOT_START
    return ROW_FAILED if data.spoiled or any(row.failure for row in data.rows) else OK


def main():
    # A terminated run shows what it has, as an interrupted one does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) == signal.SIG_DFL:  # not under nohup
        signal.signal(signal.SIGHUP, signal.default_int_handler)
    options = arguments()
    if options.list:
        list_workloads(own_workloads(options))
        return OK
    # One thread is enough for so few numbers, and idle threads of a numeric library are noise.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    need("numpy", "scipy", "matplotlib", "jinja2")
    if options.report:
        data, write = stored(options)
    else:
        data, write = measure(options)
    print("\n".join(present.table(data, present.wants_colour(sys.stdout))), flush=True)
    try:
        path = write()
        if len(options.report or []) != 2:
            print(f"record: {shown_path(path)}")
        write_all(data, path, options)
    except BrokenPipeError:
        raise
    except OSError as error:
        fail(f"the record or its page cannot be written: {error.filename or options.output}: {error.strerror}")
    return status_of(data)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(OK)
