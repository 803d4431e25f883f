#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Tests the laboratory itself: whether it claims differences where there are none, and finds one
that was made on purpose. See doc/laboratory.md.

What was done is kept in build/ab/selftest.json; run again, the test goes on where it ended. Exit
status: 0 if all promises hold, 1 if one does not, 2 if nothing can be tested, 130 after Ctrl-C."""

import argparse
import datetime
import json
import math
import os
import random
import shlex
import statistics
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

sys.dont_write_bytecode = True
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from lab import copies, document, libraries, machine, present, record, runs  # noqa: E402
from lab.comparison import Comparison  # noqa: E402
from lab.estimate import ENOUGH_PAIRS, estimate  # noqa: E402
from lab.workloads import Workload  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
MARK = "scons ab-selftest"

COMPARISONS, FALSE_CLAIMS = 100, 10
REPORTS, FALSE_HEADLINES = 100, 10
SLOWED, FOUND = 10, 8
SLOWDOWN = 0.02
# Seconds. A comparison that gets fewer than ten pairs in that time is made again.
COMPARISON_BUDGET, REPORT_BUDGET, SLOWED_BUDGET = 4.0, 8.0, 30.0
CALIBRATION_BUDGET, CALIBRATION_SPIN = 20.0, 4000
MOST_REPETITIONS = 3  # of all that is planned, before the machine is too busy

# Between malloc and the library: nothing but a counter and, at every 64th call, a loop. The control
# has the loop too, with 0 rounds, so that the two differ in one number.
SPINNING = """
#include <stddef.h>

void *library_malloc(size_t size);

static volatile unsigned rounds = ROUNDS;

__attribute__((visibility("default"))) void *malloc(size_t size)
{
    static unsigned calls;

    if (__builtin_expect(++calls % 64 == 0, 0))
        for (unsigned i = rounds; i; i--)
            __asm__ volatile("");
    return library_malloc(size);
}
"""


def built(name, program, arguments):
    command = (f"{{programs}}/{program}", *arguments.split())
    return Workload(name, command, (command[0], *("1" for _ in range(len(command) - 1))), "")


# Short ones, so that many comparisons take bounded time.
WORKLOADS = (
    built("pair", "pair", "64 3000000"),
    built("random_mixed", "random_mixed", "1000000 1024 12345"),
    built("batch", "batch", "1000 1000"),
    built("batch small", "batch", "16 60000"),
    built("random_mixed 16k", "random_mixed", "500000 16384 12345"),
    built("pair 400 B", "pair", "400 3000000"),
)
SLOWED_WORKLOAD = built("random_mixed", "random_mixed", "2000000 1024 12345")


class CannotTest(Exception):
    pass


def arguments():
    parser = argparse.ArgumentParser(prog="selftest.py", description=__doc__.split("\n\n")[0])
    parser.add_argument("library", metavar="LIBRARY.so", help="a build")
    parser.add_argument("archive", metavar="LIBRARY.a", help="the same, static, to be slowed down")
    parser.add_argument("--programs", default=ROOT / "build" / "bench", metavar="FOLDER")
    parser.add_argument("--output", default=ROOT / "build" / "ab", type=Path, metavar="FOLDER")
    parser.add_argument("--share", type=float, default=1.0, metavar="PART",
                        help="do only this part of it, to try the test itself (1)")
    parser.add_argument("--fresh", action="store_true", help="forget what was done before")
    parser.add_argument("--document", type=Path, metavar="FILE",
                        help="write the result into this file, between its two marks")
    options = parser.parse_args()
    if not 0 < options.share <= 1:
        parser.error("--share must be above 0 and at most 1")
    return options


def run_tool(*command, **more):
    try:
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, **more)
    except OSError as error:
        raise CannotTest(f"{command[0]}: {error.strerror}") from None
    if done.returncode:
        raise CannotTest(f"{shlex.join(map(str, command))} fails: {done.stderr.strip()}")


def slowed_library(private, archive, folder, name, rounds):
    """A build of the archive's library whose malloc does that many rounds of nothing now and then."""
    place = folder / name
    place.mkdir(parents=True, exist_ok=True)
    renamed = place / "library.a"
    run_tool("objcopy", "--redefine-sym", "malloc=library_malloc", archive, renamed)
    run_tool("gcc", "-shared", "-fPIC", "-O2", "-fno-builtin-malloc", f"-DROUNDS={rounds}", "-x",
             "c", "-", "-x", "none", "-Wl,--whole-archive", renamed, "-Wl,--no-whole-archive",
             "-Wl,-z,nodelete", "-o", place / "libhakmem.so", input=SPINNING)
    return private.open_library(str(place / "libhakmem.so"))


class Test:
    """What was done, kept in a file after each step."""

    def __init__(self, options, private):
        self.options = options
        self.file = options.output / "selftest.json"
        self.progress = present.Progress()
        self.private = private
        self.runner = runs.Runner(options.programs, 60, private)
        missing = self.runner.missing(WORKLOADS)
        if missing:
            raise CannotTest(f"{missing[0]} is not there; `scons ab-selftest` builds it")
        private.take_programs(options.programs, (*WORKLOADS, SLOWED_WORKLOAD))
        self.library = private.open_library(options.library)
        self.done = {"library": self.library.digest, "machine": asdict(machine.describe()),
                     "comparisons": [], "reports": [], "slowed": [], "rounds": None, "short": 0,
                     "seconds": 0.0}
        if self.file.exists() and not options.fresh:
            kept = json.loads(self.file.read_text())
            if kept.get("library") == self.library.digest:
                self.done = kept

    def save(self):
        self.file.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.file.with_suffix(f".{os.getpid()}")
        temporary.write_text(json.dumps(self.done, indent=1) + "\n")
        os.replace(temporary, self.file)

    def wanted(self, kind, count):
        return max(0, math.ceil(count * self.options.share) - len(self.done[kind]))

    def say(self, text):
        self.progress.clear()
        print(text, flush=True)

    def compare(self, a, b, chosen, budget, seed):
        """A comparison that was made, or None if it got too few pairs."""
        made = Comparison(*libraries_of(a, b), chosen, self.runner, budget, seed,
                          present.Progress(open(os.devnull, "w", encoding="utf-8")))
        made.run()
        self.done["seconds"] += made.seconds
        if made.interrupted:
            raise KeyboardInterrupt
        for row in made.rows:
            if row.failure:
                raise CannotTest(f"{row.workload.name}: {row.failure}; to repeat: {row.command}")
        if any(len(row.pairs) < ENOUGH_PAIRS for row in made.rows):
            self.done["short"] += 1
            if self.done["short"] > MOST_REPETITIONS * (COMPARISONS + REPORTS + SLOWED):
                raise CannotTest("the machine is too busy: hardly any comparison gets ten pairs")
            return None
        return made

    def repeat(self, kind, count, step, title):
        """Does a step until there are as many results as wanted."""
        generator = random.Random(f"{kind} {len(self.done[kind])} {self.done['short']}")
        while missing := self.wanted(kind, count):
            self.progress.say(f"{title}: {missing} to go")
            result = step(generator.randrange(1 << 30))
            if result is not None:
                self.done[kind].append(result)
            self.save()
        self.say(f"{title}: done")

    def one_comparison(self, seed):
        workload = WORKLOADS[len(self.done["comparisons"]) % len(WORKLOADS)]
        made = self.compare(self.library, self.library, [workload], COMPARISON_BUDGET, seed)
        return made and summary(made.rows[0])

    def one_report(self, seed):
        made = self.compare(self.library, self.library, WORKLOADS, REPORT_BUDGET, seed)
        if not made:
            return None
        data = record.as_data(made, machine.Machine(**self.done["machine"]), datetime.datetime.now())
        return {"claimed": [row.workload for row in data.rows if row.claimed],
                "rows": [summary(row) for row in made.rows]}

    def one_slowed(self, seed):
        if self.done["rounds"] is None:
            self.calibrate()
        made = self.compare(self.slow(0), self.slow(self.done["rounds"]), [SLOWED_WORKLOAD],
                            SLOWED_BUDGET, seed)
        return made and {**summary(made.rows[0]), "logs": [
            round(math.log(b.seconds / a.seconds), 5) for a, b in made.rows[0].pairs]}

    def slow(self, rounds):
        name = f"rounds-{rounds}"
        return slowed_library(self.private, self.options.archive, self.options.output / "selftest", name, rounds)

    def calibrate(self):
        """How many rounds make the workload 2 % slower: as many as follow from what a great many
        cost, which can be measured well."""
        while True:
            made = self.compare(self.slow(0), self.slow(CALIBRATION_SPIN), [SLOWED_WORKLOAD],
                                CALIBRATION_BUDGET, 1)
            if made:
                break
        slower = made.rows[0].estimate().ratio - 1
        if slower < 5 * SLOWDOWN:
            raise CannotTest(f"{CALIBRATION_SPIN} rounds make the workload only {slower:.1%} slower")
        self.done["rounds"] = max(1, round(CALIBRATION_SPIN * SLOWDOWN / slower))
        self.done["calibration"] = {"rounds": CALIBRATION_SPIN, "ratio": 1 + slower}
        self.save()

    def run(self):
        self.repeat("slowed", SLOWED, self.one_slowed, "2 % slower on purpose")
        self.repeat("comparisons", COMPARISONS, self.one_comparison, "A/A test")
        self.repeat("reports", REPORTS, self.one_report, "A/A test of whole reports")


def libraries_of(a, b):
    return replace(a, label="A"), [replace(b, label="B")]


def summary(row):
    found = row.estimate()
    return {"workload": row.workload.name, "pairs": found.pairs, "ratio": round(found.ratio, 5),
            "low": round(found.low, 5), "high": round(found.high, 5), "p": found.p,
            "faster": found.faster}


def promises(done):
    """[(what, count, of how many, "at most" or "at least", limit, kept), …]"""
    claims = sum(one["faster"] is not None for one in done["comparisons"])
    headlines = sum(bool(one["claimed"]) for one in done["reports"])
    found = sum(one["faster"] == "A" for one in done["slowed"])
    return [
        ("A/A test: comparisons that claim a difference", claims, len(done["comparisons"]),
         "at most", FALSE_CLAIMS, claims <= FALSE_CLAIMS),
        (f"A/A test: reports of {len(WORKLOADS)} rows whose headline claims anything",
         headlines, len(done["reports"]), "at most", FALSE_HEADLINES,
         headlines <= FALSE_HEADLINES),
        ("2 % slower on purpose: comparisons that find it", found, len(done["slowed"]), "at least",
         FOUND, found >= FOUND),
    ]


def complete(done):
    return (len(done["comparisons"]) >= COMPARISONS and len(done["reports"]) >= REPORTS
            and len(done["slowed"]) >= SLOWED)


def report(done, library):
    """The lines for the document."""
    lines = ["| what | found | of | promised | |", "|---|---|---|---|---|"]
    for what, count, of, bound, limit, kept in promises(done):
        lines.append(f"| {what} | {count} | {of} | {bound} {limit} | "
                     f"{'kept' if kept else '**not kept**'} |")
    singles = [row["pairs"] for row in done["comparisons"]]
    rows = [row for one in done["reports"] for row in one["rows"]]
    outside = sum(row["faster"] is not None for row in rows)
    lines.append("")
    if singles:
        widths = [math.log(row["high"] / row["low"]) for row in done["comparisons"]]
        lines.append(f"The comparisons took {min(singles)} to {max(singles)} pairs; half of their "
                     f"intervals were narrower than {100 * statistics.median(widths):.1f} %.")
    if rows:
        lines.append(f"Of the {len(rows)} rows of the reports, {outside} had an interval without 1 "
                     f"({outside / len(rows):.1%}); the correction is what keeps them out of the "
                     "headlines.")
    logs = [value for one in done["slowed"] for value in one["logs"]]
    if logs:
        pooled = estimate([1.0] * len(logs), [math.exp(value) for value in logs])
        ratios = ", ".join(f"{one['ratio']:.3f}" for one in done["slowed"])
        lines.append(f"The ratios that were found for the slowed build: {ratios}. All "
                     f"{len(logs)} pairs together: {pooled.ratio:.4f} ({pooled.low:.4f} to "
                     f"{pooled.high:.4f}).")
    if done["short"]:
        lines.append(f"{done['short']} comparisons got fewer than ten pairs, as others used the "
                     "machine, and were made again.")
    described = done["machine"]
    lines += ["", f"{datetime.date.today()}, {done['seconds'] / 60:.0f} minutes, on "
              f"{described['kernel']}, {described['cpu']}, {described['cpus']} CPUs, governor "
              f"{described['governor']}, huge pages {described['huge_pages']}, load "
              f"{described['load']} when it began. The library: `{library.identity}`."]
    return lines


def main():
    options = arguments()
    try:
        with copies.Copies() as private:
            test = Test(options, private)
            test.run()
            if private.spoiled:
                raise CannotTest(f"changed during the measurement: {', '.join(private.spoiled)}; use --fresh")
        lines = report(test.done, test.library)
        print("\n".join(lines))
        if options.document and complete(test.done):
            document.write(options.document, MARK, lines)
    except (CannotTest, libraries.LibraryError, document.DocumentError) as error:
        print(f"selftest.py: {error}", file=sys.stderr)
        return 2
    return 0 if all(kept for *_, kept in promises(test.done)) or options.share < 1 else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("\nselftest.py: interrupted; the same command goes on from here", file=sys.stderr)
        sys.exit(130)
