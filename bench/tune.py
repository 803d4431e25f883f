#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Finds the composition that serves a program best, by measuring: `scons tune PROGRAM="…"` or TRACE=….

doc/tuning.md tells the rest. Exit status: 0, whatever was found; 2 if nothing can be measured; 130 after Ctrl-C, after
which the same command goes on."""

import argparse
import datetime
import os
import random
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

sys.dont_write_bytecode = True
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT / "site_scons"))

from lab import engine, libraries, programs, runs, workloads  # noqa: E402
from recording import classes, recording, script  # noqa: E402
from recording.library import TraceError  # noqa: E402
from tuning import report  # noqa: E402
from tuning.far import Far  # noqa: E402
from tuning.journal import Journal, OtherSearch  # noqa: E402
from tuning.race import Failed, Goal  # noqa: E402
from tuning.search import Search  # noqa: E402
from tuning.space import Composer  # noqa: E402

import configuration  # noqa: E402
from refusal import Refusal  # noqa: E402

GOALS = ("time", "rss", "time*rss", "p999", "metric")
LIMIT = re.compile(r"(time|rss)<=([0-9]+(?:\.[0-9]+)?)")
BUDGET = re.compile(r"([0-9]+(?:\.[0-9]+)?)([smh]?)")
NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
HALF = "half"  # of TRACE=: the first is for the search, the second for the fresh measurement
TABLES = 5  # that a recording gives the search to choose from
BUILD_SECONDS = 600
RUN_SECONDS = 120


class CannotTune(Exception):
    """The message says why, and what would be right."""


def limits_of(text):
    found = []
    for word in filter(None, text.split(",")):
        match = LIMIT.fullmatch(word.strip())
        if not match or float(match[2]) <= 0:
            raise CannotTune(f"LIMIT={text}: write what it may be at most, by default's: rss<=1.05, or time<=1.1,rss<=0.9")
        found.append((match[1], float(match[2])))
    return tuple(found)


def seconds_of(text):
    match = BUDGET.fullmatch(text)
    value = float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]] if match else 0
    if value < 60:
        raise CannotTune(f"BUDGET={text}: write a time of a minute or more: 30m, 1800s or 2h")
    return value


def tables_of(one, largest=32768):
    """Size classes cut to the recording: the table at which the sum is least, and others with fewer and more classes."""
    asked = classes.demand(one, largest)
    tables = classes.best_tables(asked)
    best = min(tables, key=lambda count: classes.cost(asked, tables[count]).total)
    counts = sorted(tables, key=lambda count: abs(count - best))
    some = [best, *[counts[min(len(counts) - 1, step)] for step in (4, 9, 16, 26)]]
    return tuple(",".join(map(str, tables[count])) for count in dict.fromkeys(some))[:TABLES]


class Machine:
    """Builds compositions, and runs the workload with them."""

    def __init__(self, options, composer, workload):
        self.options, self.composer, self.workload = options, composer, workload
        self.folder = options.output
        self.programs = folder_of_programs(options)
        self.runner = runs.Runner(self.programs, options.run_limit)
        self.opened = {}
        self.cpus = sorted(os.sched_getaffinity(0))
        self.chance = random.Random()
        self.pinned = None

    def place(self, digest):
        return self.folder.parent / "builds" / digest / "libhakmem.so"

    def build(self, point):
        made = self.composer.configuration(point)
        place = self.place(made.digest)
        if place.is_file():
            return made.digest
        place.parent.mkdir(parents=True, exist_ok=True)
        file = place.parent / "config"
        file.write_text(made.text, encoding="utf-8")
        out = self.folder.parent / "scons"
        words = [shutil.which("scons") or "/usr/bin/scons", "-Q", f"-j{self.options.jobs}", f"O={out}", "CONFIG=local",
                 f"KCONFIG_CONFIG={file}", *([f"PLUGINS={self.options.plugins}"] if self.options.plugins else [])]
        environment = {name: value for name, value in os.environ.items() if name not in ("SCONSFLAGS", "KCONFIG_CONFIG")}
        try:
            done = subprocess.run(words, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT, text=True, errors="replace", timeout=BUILD_SECONDS)
        except subprocess.TimeoutExpired:
            raise Failed(f"its build takes more than {BUILD_SECONDS} s") from None
        (place.parent / "build.log").write_text(done.stdout, encoding="utf-8")
        if done.returncode:
            wrong = [line for line in done.stdout.splitlines() if "error" in line.lower()] or done.stdout.splitlines()[-1:] or ["?"]
            raise Failed(f"its build fails: {wrong[0].strip()[:200]}")
        shutil.copyfile(out / "local" / "libhakmem.so", f"{place}.new")
        os.replace(f"{place}.new", place)
        return made.digest

    def run(self, digest):
        try:
            if digest not in self.opened:
                self.opened[digest] = libraries.open_library(str(self.place(digest)))
            cpus = [self.chance.choice(self.cpus)] if self.pinned else None
            run = self.runner.run(self.workload, self.opened[digest], cpus, self.chance.randrange(1, runs.MOST_PADDING))
        except (runs.RunFailed, libraries.LibraryError) as error:
            raise Failed(str(error)[:300]) from None
        if self.pinned is None:
            self.pinned = run.threads == 1 and not (self.workload.own and self.workload.own.client)
        return self.figures(run)

    def figures(self, run):
        """What a race takes of a run."""
        figures = {"time": run.wall_seconds if self.workload.measure == workloads.METRIC else run.seconds,
                   "rss": float(run.peak_rss_kib)}
        if self.options.goal == "p999":
            figures["p999"] = run.latency_ns["p999"]
        if self.workload.measure == workloads.METRIC:
            figures["metric"] = run.seconds
        return figures


def folder_of_programs(options):
    """The programs that run, and the scripts of recordings beside them."""
    folder = options.output / "programs"
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("launch", "replay"):
        place = folder / name
        place.unlink(missing_ok=True)
        place.symlink_to(options.programs.resolve() / name)
    return folder


def replayed(options, name, one):
    """A recording as a workload."""
    file = folder_of_programs(options) / f"{name}.replay"
    file.write_bytes(script.words_of(one).astype("<u8").tobytes())
    command = ("{programs}/replay", f"{{programs}}/{file.name}", *(["--latency"] if options.goal == "p999" else []))
    return workloads.Workload(f"replay {name}", command, (*command, "--only=1000"), "a recording")


def the_workload(options):
    """(workload, the one of the fresh measurement, tables of size classes, whom it is for)."""
    if bool(options.program) == bool(options.trace):
        raise CannotTune('tune for what? scons tune PROGRAM="COMMAND", or TRACE=RECORDING (bench/record makes one)')
    if options.trace:
        one = recording.load_one(options.trace)
        name = Path(options.trace).name.split(".")[0][:11]
        subject = f"the recording {Path(options.trace).name}"
        if options.against == HALF:
            first, second = classes.halves(one)
            return (replayed(options, "first", first), replayed(options, "second", second), tables_of(first),
                    f"{subject} (found in its first half, measured in its second)")
        workload = other = replayed(options, name, one)
        if options.against:
            other = replayed(options, "other", recording.load_one(options.against))
            subject += f" (measured in {Path(options.against).name})"
        return workload, other, tables_of(one), subject
    if options.against:
        raise CannotTune("AGAINST= is another recording than TRACE=, which is not given")
    try:
        found = programs.asked(options.program, **{name: getattr(options, name) for name in
                                                  ("setup", "prepare", "input", "metric", "client", "port")})
    except ValueError as error:
        raise CannotTune(str(error)) from None
    if len(found) != 1:
        raise CannotTune(f"PROGRAM={options.program}: one program at a time can be tuned for")
    tables = tables_of(recording.load_one(options.classes)) if options.classes else ()
    return found[0], found[0], tables, f"`{options.program}`"


def hand_made(composer):
    return {file.name.removesuffix("_defconfig"): composer.point(file) for file in sorted((ROOT / "configs").glob("*_defconfig"))}


def tune(options):
    try:
        elsewhere = engine.make(options.engine, options.hosts)
    except engine.EngineError as error:
        raise CannotTune(str(error)) from None
    goal = Goal(options.goal, limits_of(options.limit))
    if options.goal == "metric" and not options.metric:
        raise CannotTune("GOAL=metric: METRIC= says which figure of the program's output that is")
    if options.goal == "p999" and not options.trace:
        raise CannotTune("GOAL=p999: a replay times its calls, so give TRACE=; or METRIC= and GOAL=metric for a program that says it itself")
    budget = seconds_of(options.budget)
    if not NAME.fullmatch(options.name):
        raise CannotTune(f"NAME={options.name}: small letters, digits and _, a letter first")
    target = ROOT / "configs" / f"{options.name}_defconfig"
    if target.exists() and not options.replace:
        raise CannotTune(f"NAME={options.name}: configs/{target.name} is there already: choose another name, or remove it")
    options.output = options.output / options.name
    workload, other, tables, subject = the_workload(options)
    base = ROOT / "configs" / "default_defconfig"
    plugins = configuration.plugin_root(ROOT, options.plugins)
    composer = Composer(ROOT, base, plugins, tables)
    settings = {"goal": options.goal, "limit": options.limit, "program": options.program,
                "trace": str(options.trace), "against": options.against, "metric": options.metric}
    journal = Journal(options.output / "journal.jsonl", settings)
    machine, fresh = Machine(options, composer, workload), Machine(options, composer, other)
    if missing := machine.runner.missing([workload]):
        raise CannotTune(f"{missing[0]} is not there; `scons tune` builds it")
    if workload.own and not elsewhere:
        machine.runner.set_up(workload)

    def built(digest):
        search.make(digest)
        return machine.place(digest)

    def far_of(one):
        return elsewhere and Far(elsewhere, one.workload, one.programs, options.run_limit, options.output, built, one.figures)
    say = lambda line: print(line, flush=True)
    search = Search(composer, hand_made(composer), journal, goal, budget, machine.build, machine.run, options.seed, say=say,
                    run_fresh=fresh.run, far=far_of(machine), far_fresh=far_of(fresh))
    began = time.monotonic()
    try:
        known = search.search()
        outcome = search.finish(*known)
    except KeyboardInterrupt:
        machine.runner.stop()
        print(f"\ninterrupted; all that was measured is kept in {journal.file}: the same command goes on", file=sys.stderr)
        return 130
    finally:
        journal.add("spent", seconds=time.monotonic() - began)
    text = report.paragraph(search, outcome, subject)
    (options.output / "page.html").write_text(report.page(search, outcome, subject, text), encoding="utf-8")
    print(f"\n{text}")
    if outcome.is_better:
        row = workload.name if workload is other and workload.name in {one.name for one in workloads.WORKLOADS} else ""
        made = report.defconfig(search, outcome, subject, row, datetime.date.today().isoformat())
        target.write_text(made, encoding="utf-8")
        print(f"configuration: configs/{target.name}")
    print(f"page: {options.output / 'page.html'}")
    return 0


def main():
    parser = argparse.ArgumentParser(prog="tune.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default="", metavar="COMMAND")
    parser.add_argument("--trace", default="", metavar="RECORDING")
    parser.add_argument("--against", default="", metavar="RECORDING",
                        help="of --trace: the recording that the fresh measurement takes, or `half`: the second half of its events, while "
                             "the search has the first")
    parser.add_argument("--classes", default="", metavar="RECORDING", help="of --program: where its size classes are taken from")
    for name in ("setup", "prepare", "input", "metric", "client", "port"):
        parser.add_argument(f"--{name}", default="", help="of --program, as of bench/ab.py")
    parser.add_argument("--goal", choices=GOALS, default="time")
    parser.add_argument("--limit", default="", metavar="rss<=1.05")
    parser.add_argument("--run-limit", type=float, default=RUN_SECONDS, metavar="SECONDS", help="a run that takes longer hangs")
    parser.add_argument("--budget", default="30m")
    parser.add_argument("--name", default="tuned")
    parser.add_argument("--replace", action="store_true", help="writes over the configuration of that name")
    parser.add_argument("--plugins", default="")
    parser.add_argument("--engine", default="", help="as of bench/ab.py: who runs what is built here")
    parser.add_argument("--hosts", default="", help="as of bench/ab.py")
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--programs", type=Path, default=ROOT / "build" / "bench")
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "tune")
    options = parser.parse_args()
    options.output = options.output.resolve()
    try:
        import optuna  # noqa: F401
    except ImportError:
        sys.exit("tune.py: python3-optuna is not installed (Debian: apt-get install python3-optuna)")
    try:
        return tune(options)
    except (CannotTune, TraceError, OtherSearch, engine.EngineError, Failed, Refusal, runs.RunFailed) as error:
        print(f"tune.py: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
