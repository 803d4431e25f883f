#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Tests of the workloads, of the A/B runner and of the instruction counter. They build what they
need with $CC into a temporary folder, and need no library under test."""

import csv
import hashlib
import fcntl
import io
import itertools
import json
import math
import os
import pty
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest
import unittest.mock
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

sys.dont_write_bytecode = True
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import ab  # noqa: E402
from lab import comparison, copies, counters, export, libraries, machine, matrix, present, record, runs, verdict, workloads  # noqa: E402
from lab import whole_runs  # noqa: E402
from lab.callgrind import Profile, ProgramCount  # noqa: E402
from lab.estimate import Estimate, estimate, estimate_apart, holm  # noqa: E402
import testing  # noqa: E402

BENCH = Path(__file__).resolve().parent
AB = [sys.executable, str(BENCH / "ab.py")]
CC = os.environ.get("CC", "cc").split()
PROGRAMS = None  # the folder of the built workloads; set when the tests begin
LIBRARIES = {}  # name -> a library built from SOURCES

# Libraries to preload. The first is a malloc as good as the system's, as it is the system's.
SOURCES = {
    "forward": """
        #include <stddef.h>
        void *__libc_malloc(size_t); void __libc_free(void *);
        void *malloc(size_t size) { return __libc_malloc(size); }
        void free(void *block) { __libc_free(block); }""",
    "slow": """
        #include <stddef.h>
        void *__libc_malloc(size_t); void __libc_free(void *);
        void *malloc(size_t size)
        {
            for (volatile int i = 0; i < 100; i++) ;
            return __libc_malloc(size);
        }
        void free(void *block) { __libc_free(block); }""",
    # Hands the same block out again and again.
    "double": """
        #include <stddef.h>
        void *__libc_malloc(size_t);
        void *malloc(size_t size)
        {
            static _Alignas(16) char block[1024];
            return size == 1016 ? block : __libc_malloc(size);
        }
        void free(void *block) { (void)block; }""",
    # Lives through short programs, crashes in longer ones.
    "crash": """
        #include <stddef.h>
        #include <stdio.h>
        #include <unistd.h>
        #include <stdlib.h>
        void *__libc_malloc(size_t); void __libc_free(void *);
        void *malloc(size_t size)
        {
            static int calls;
            if (++calls == 1000) {
                static const char why[] = "crash: the thousandth block\\n";
                if (write(2, why, sizeof(why) - 1) >= 0)
                    abort();
            }
            return __libc_malloc(size);
        }
        void free(void *block) { __libc_free(block); }""",
    "hang": """
        #include <stddef.h>
        void *__libc_malloc(size_t); void __libc_free(void *);
        void *malloc(size_t size)
        {
            static volatile int calls;
            while (++calls == 1000)
                calls--;
            return __libc_malloc(size);
        }
        void free(void *block) { __libc_free(block); }""",
    "nothing": "int hakmem_provides_no_malloc;",
    "dies": """
        #include <stdlib.h>
        __attribute__((constructor)) static void start(void) { abort(); }""",
    "named": """
        #include <stddef.h>
        #include <stdlib.h>
        #include <unistd.h>
        void *__libc_malloc(size_t);
        void *malloc(size_t size) { return __libc_malloc(size); }
        __attribute__((constructor)) static void start(void)
        {
            static const char line[] = "hakmem 9.9.9 (of the test)\\n";
            if (getenv("HAKMEM_VERSION") && write(2, line, sizeof(line) - 1) < 0)
                abort();
        }""",
}


def setUpModule():
    global PROGRAMS
    PROGRAMS = Path(tempfile.mkdtemp(prefix="hakmem-bench-"))
    flags = ["-O2", "-g", "-Wall", "-Wextra", "-Werror", "-fno-builtin", "-pthread"]
    for source in BENCH.glob("*.c"):
        subprocess.run([*CC, "-std=gnu17", *flags, str(source), "-o", PROGRAMS / source.stem],
                       check=True)
    for name, text in SOURCES.items():
        library = PROGRAMS / f"lib{name}.so"
        subprocess.run([*CC, "-O1", "-fPIC", "-fno-builtin", "-shared", "-x", "c", "-", "-o",
                        library], input=text, text=True, check=True)
        LIBRARIES[name] = str(library)


def tearDownModule():
    shutil.rmtree(PROGRAMS)


def run_script(script, *arguments, **options):
    return subprocess.run([sys.executable, str(BENCH / script), *map(str, arguments)], text=True,
                          capture_output=True, timeout=600, **options)


def run_ab(*arguments, **options):
    return run_script("ab.py", "--programs", PROGRAMS, "--output", PROGRAMS / "ab", *arguments,
                      **options)


def short_workload(name="pair", command=("{programs}/pair", "72", "50000"), **more):
    return workloads.Workload(name, tuple(command), ("{programs}/pair", "72", "1"), "", **more)


def time_by_looks():
    """In place of comparison's `time`: each look at it takes 50 ms, so that a budget is a number of runs, on a
    busy machine as on any other."""
    looks = itertools.count()
    return mock.patch.object(comparison, "time", SimpleNamespace(monotonic=lambda: 0.05 * next(looks)))


def compare(names, *chosen, budget=2.0, limit=600.0):
    """A comparison of libraries of SOURCES, or of the system's, that has been run."""
    opened = [libraries.open_library(LIBRARIES.get(name, name)) for name in names.split()]
    a, *others = libraries.tell_apart(opened)
    result = comparison.Comparison(a, others, chosen, runs.Runner(PROGRAMS, limit), budget, 1,
                                   present.Progress(io.StringIO()))
    with time_by_looks():
        result.run()
    return result


def data_of(result):
    """As it comes back from a file."""
    return stored(record.as_data(result, machine.describe(), datetime.now()))


def stored(made):
    """As it comes back from a file."""
    return record.decode(record.Record, json.loads(json.dumps(asdict(made))))


def lines_of(result):
    return present.table(data_of(result))


class Estimates(unittest.TestCase):
    def noise(self, generator, count, scale=0.03):
        """Times as they are on a shared machine: now and then a run takes much longer."""
        return [math.exp(generator.gauss(0, scale)) * (generator.choice((1.3, 2)) if
                generator.random() < 0.05 else 1) for _ in range(count)]

    def test_constant_ratio_is_found_exactly(self):
        found = estimate([1.0, 2.0, 3.0] * 4, [2.0, 4.0, 6.0] * 4)
        self.assertEqual(found.pairs, 12)
        for value in (found.ratio, found.low, found.high):
            self.assertAlmostEqual(value, 2.0, places=6)
        self.assertAlmostEqual(found.spread, 0.0)
        self.assertEqual(found.faster, "A")

    def test_known_data_give_the_known_interval(self):
        logs = [0.31, 0.27, 0.35, 0.29, 0.33, 0.25, 0.30, 0.28, 0.36, 0.26, 0.32, 0.30]
        found = estimate([1.0] * 12, [math.exp(value) for value in logs])
        # Student's interval of the mean without the lowest and the highest: 0.3010 ± 0.0244.
        self.assertAlmostEqual(math.log(found.ratio), 0.3010, places=4)
        self.assertAlmostEqual(math.log(found.high), 0.3010 + 0.0244, delta=0.003)
        self.assertAlmostEqual(math.log(found.low), 0.3010 - 0.0244, delta=0.003)

    def test_the_same_data_give_the_same_interval(self):
        times = self.noise(random.Random(3), 14), self.noise(random.Random(4), 14)
        self.assertEqual(estimate(*times), estimate(*times))

    def test_exchanging_a_and_b_gives_the_reciprocal(self):
        a, b = self.noise(random.Random(5), 15), self.noise(random.Random(6), 15)
        found, turned = estimate(a, b), estimate(b, a)
        self.assertAlmostEqual(found.ratio, 1 / turned.ratio)
        self.assertAlmostEqual(found.low, 1 / turned.high)

    def test_one_run_that_was_disturbed_changes_little(self):
        a, b = [1.0, 1.01, 0.99, 1.02] * 3, [1.1, 1.12, 1.09, 1.11] * 3
        disturbed = estimate([20.0] + a[1:], b)
        self.assertAlmostEqual(disturbed.ratio, estimate(a, b).ratio, delta=0.01)
        self.assertEqual(disturbed.faster, "A")

    def test_few_pairs_name_no_winner(self):
        for count in range(1, 10):
            self.assertIsNone(estimate([1.0] * count, [3.0 + i / 100 for i in range(count)]).faster)
        self.assertIsNone(estimate([], []))

    def test_no_bound_lies_beyond_all_pairs_and_on_the_wrong_side_of_one(self):
        found = estimate([1.0] * 10, [1.0] * 8 + [1.5, 1.6])
        self.assertLessEqual(found.high, 1.6)
        self.assertEqual(found.low, 1.0)

    def test_p_is_below_five_per_cent_just_where_the_interval_excludes_one(self):
        generator = random.Random(9)
        seen = set()
        for _ in range(60):
            found = estimate(self.noise(generator, 12),
                             [1.02 * value for value in self.noise(generator, 12)])
            self.assertEqual(found.p <= 0.05, found.faster is not None, found)
            seen.add(found.faster)
        self.assertEqual(seen, {None, "A"})

    def test_holm_corrects_for_the_number_of_rows(self):
        self.assertEqual(holm([0.01]), [0.01])
        for found, expected in zip(holm([0.04, 0.01, 0.03]), [0.06, 0.03, 0.06]):
            self.assertAlmostEqual(found, expected)
        self.assertEqual(holm([0.01, None, 0.9]), [0.03, None, 1.0])
        self.assertEqual(holm([]), [])

    def test_an_a_a_test_seldom_shows_a_difference(self):
        # 5 in 100 are expected to claim something; 11 or more would be as rare as 1 in 100.
        generator = random.Random(7)
        found = [estimate(self.noise(generator, 12), self.noise(generator, 12)).faster
                 for _ in range(100)]
        self.assertLessEqual(100 - found.count(None), 10)

    def test_eight_per_cent_are_found_in_twenty_pairs(self):
        generator = random.Random(8)
        found = sum(estimate(self.noise(generator, 20),
                             [1.08 * value for value in self.noise(generator, 20)]).faster == "A"
                    for _ in range(20))
        self.assertGreaterEqual(found, 18)


class Requirements(unittest.TestCase):
    def test_what_is_not_installed_is_a_row_that_says_so_and_no_failure(self):
        absent = replace(short_workload("absent"), needs=(("no-such-program", "no-such-package"),))
        result = compare("system system", absent, short_workload())
        data = data_of(result)
        self.assertFalse(result.failed)
        self.assertEqual(data.rows[0].pairs, 0)
        self.assertGreaterEqual(data.rows[1].pairs, 10)
        self.assertIn("absent             needs no-such-program: apt-get install no-such-package",
                      present.table(data))


class Promises(unittest.TestCase):
    """What bench/selftest.py shows with programs, here with times that are made up: the same rules
    of when to stop and what to claim."""

    ROWS, MOST = 5, 30

    def times(self, generator, scale):
        """Endless times of A and B: noise, a slow drift, and now and then something that disturbs."""
        drift = 0.0
        while True:
            drift += generator.normal(0, 0.002)
            spike = generator.random(2) < 0.03
            logs = drift + generator.normal(0, scale, 2) + spike * generator.uniform(0.1, 0.7, 2)
            yield [math.exp(value) for value in logs]

    def measured(self, generator, scale, slower=1.0):
        """A row as a comparison would have left it."""
        row = comparison.Row(short_workload(), None)
        for a, b in self.times(generator, scale):
            row.add((SimpleNamespace(seconds=a), SimpleNamespace(seconds=slower * b)), "AB", 0.02)
            if row.narrow or len(row.pairs) == self.MOST:
                return row

    def estimates(self, count, scales, slower=1.0):
        import numpy

        generator = numpy.random.default_rng(20)
        return [self.measured(generator, scales[i % len(scales)], slower).estimate()
                for i in range(count)]

    def test_of_a_hundred_comparisons_of_a_with_itself_at_most_ten_claim_a_difference(self):
        found = self.estimates(100, (0.003, 0.01, 0.03))
        self.assertLessEqual(sum(one.faster is not None for one in found), 10)
        self.assertLess(min(one.pairs for one in found), self.MOST)

    def test_two_per_cent_are_found_in_eight_of_ten(self):
        found = self.estimates(10, (0.01, 0.02), 1.02)
        self.assertGreaterEqual(sum(one.faster == "A" for one in found), 8)

    def test_of_a_hundred_headlines_about_a_and_itself_at_most_ten_claim_anything(self):
        found = self.estimates(100 * self.ROWS, (0.004, 0.008, 0.012))
        claims = 0
        for first in range(0, len(found), self.ROWS):
            rows = [SimpleNamespace(time=record.Measured(1.0, 1.0, one))
                    for one in found[first:first + self.ROWS]]
            record.correct(rows)
            claims += any(row.claimed for row in rows)
        self.assertLessEqual(claims, 10)
        # Without the correction it would be about a quarter.
        self.assertGreater(sum(one.faster is not None for one in found), 10)


class Schedules(unittest.TestCase):
    def rounds(self, others, count):
        """The orders in which a comparison with that many others runs them, 0 being A."""
        orders = []

        class Recorder:
            programs = "/"

            def run(self, workload, library, cpus, padding):
                orders[-1].append(library)
                return SimpleNamespace(result="", seconds=1.0)
        made = comparison.Comparison(0, range(1, others + 1), [short_workload()], Recorder(), 1, 7,
                                     None)
        for _ in range(count):
            orders.append([])
            made._round(made.trials[0], made.trials[0].rows)
        return orders, made

    def test_each_comes_first_as_often_as_the_other(self):
        for others in (1, 4):
            orders, made = self.rounds(others, 40)
            for row in made.rows:
                self.assertEqual(row.orders.count("AB"), row.orders.count("BA"))
            self.assertGreater(len({tuple(order) for order in orders}), 1)
            for order in orders:
                self.assertEqual(sorted(order), list(range(others + 1)))

    def test_a_row_is_done_when_its_interval_is_narrow_wherever_it_lies(self):
        for ratio in (1.0, 1.5):
            row = comparison.Row(short_workload(), None)
            for index in range(20):
                noise = 1 + 0.001 * (index % 3)
                row.add((SimpleNamespace(seconds=1.0), SimpleNamespace(seconds=ratio * noise)),
                        "AB", 0.02)
                self.assertEqual(row.narrow, index >= 9)
            wide = comparison.Row(short_workload(), None)
            for index in range(20):
                wide.add((SimpleNamespace(seconds=1.0),
                          SimpleNamespace(seconds=ratio * (1 + index % 2))), "AB", 0.02)
            self.assertFalse(wide.narrow)

    def test_the_budget_binds_but_for_the_first_ten_pairs(self):
        made = comparison.Comparison(None, [None], [short_workload()], None, 60.0, 1, None)
        row = made.rows[0]

        def wanted(pairs, spent):
            row.pairs = [None] * pairs
            return made.wants_pair(row, 1.0, spent)
        self.assertTrue(wanted(0, 0.0))
        self.assertTrue(wanted(9, 89.0))
        self.assertFalse(wanted(9, 91.0))
        self.assertTrue(wanted(10, 58.9))
        self.assertFalse(wanted(10, 59.1))
        self.assertFalse(wanted(comparison.MOST_PAIRS, 0.0))
        row.failure = "crashed"
        self.assertFalse(wanted(0, 0.0))

    def test_a_short_budget_ends_in_time(self):
        result = compare("system system", short_workload(command=("{programs}/pair", "64",
                                                                  "30000000")), budget=0.05)
        self.assertLess(len(result.rows[0].pairs), 10)
        self.assertIn("not measured", "\n".join(lines_of(result)))


class Selections(unittest.TestCase):
    def names(self, *patterns):
        return [workload.name for workload in workloads.select(patterns)]

    def test_without_a_pattern_the_default_rows_are_chosen(self):
        self.assertEqual(self.names(), ["random_mixed short", "random_mixed long",
                                        "larson 4 threads", "pair 64 B", "python3"])

    def test_a_pattern_chooses_by_beginning_and_an_exact_name_alone(self):
        self.assertEqual(self.names("batch"), ["batch 16", "batch 1000"])
        self.assertEqual(self.names("batch 16", "larson"), ["larson 4 threads", "batch 16"])
        self.assertRaises(LookupError, workloads.select, ["nonsense"])

    def test_names_fit_their_column_and_are_unique(self):
        names = [workload.name for workload in workloads.WORKLOADS]
        self.assertEqual(len(names), len(set(names)))
        self.assertLessEqual(max(map(len, names)), 18)

    def test_braces_of_a_command_are_its_own(self):
        workload = short_workload(command=("{programs}/awk", "{}", "{print $1}", "-I{bench}", "{"))
        self.assertEqual(workload.filled(workload.command, Path("/p{bench}")),
                         ["/p{bench}/awk", "{}", "{print $1}", f"-I{BENCH}", "{"])


class Options(unittest.TestCase):
    def test_help_shows_each_per_cent_sign_once(self):
        for script in ("ab.py", "counts.py", "defconfigs.py", "instructions.py", "selftest.py"):
            said = run_script(script, "--help").stdout
            self.assertIn("usage", said, script)
            self.assertNotIn("%%", said, script)
        self.assertIn("95 % intervals", " ".join(run_script("ab.py", "--help").stdout.split()))

    def test_the_lock_of_builds_is_let_go(self):
        """It is this test's, which keeps it unless somebody unlocks it."""
        with tempfile.NamedTemporaryFile() as file, open(file.name) as mine, open(file.name) as other:
            fcntl.flock(mine, fcntl.LOCK_EX)
            run_ab("--only", "pair 64 B", "--budget", "0.1s", "--lock", mine.fileno(), LIBRARIES["forward"], pass_fds=[mine.fileno()])
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def test_ill_formed_numbers_and_names_are_one_line(self):
        for option, message in (
            ("--width=x", "argument --width: 'x' is not a number of per cent: 2 or 2%"),
            ("--width=0", "argument --width: '0' is not a number of per cent: 2 or 2%"),
            ("--budget=nan", "argument --budget: 'nan' is not a number of seconds: 60 or 60s"),
            ("--only={}", "no workload begins with '{}'; bench/ab.py --list shows all"),
        ):
            done = run_script("ab.py", "no.so", option)
            self.assertEqual(done.returncode, 2)
            self.assertTrue(done.stderr.endswith(f": {message}\n"), done.stderr)


def scaled(row, b, factor):
    """The row of another library that takes that many times as long."""
    def slower(run):
        return replace(run, seconds=run.seconds * factor, ns_per_op=run.ns_per_op and run.ns_per_op * factor)
    return replace(row, b=b, pairs=[(run_a, slower(run_b)) for run_a, run_b in row.pairs])


FACTORS = (1.3, 0.7, 1.02, 2.5, 0.95)  # of the second of the others and of those that follow


def invented(rows, *labels, sweep=None):
    """The data of a comparison that was not made. Rows are those of the first of the others; of the
    rest, each takes another part of its time."""
    identity = "HAKMEM 1.2.3 " + "word " * 40
    a, *others = [libraries.Library(label, f"/some/where/{label}.so", identity, hashlib.sha256(label.encode()).hexdigest(),
                                    {"CONFIG_BOTH": "1", f"CONFIG_{label.upper()}": "32"})
                  for label in labels]
    trials = [comparison.Trial(row.workload, [row, *(scaled(row, b, FACTORS[index % len(FACTORS)])
                                                     for index, b in enumerate(others[1:]))])
              for row in rows]
    for row in rows:
        row.b = others[0]
    for trial in trials[::2]:
        values = dict.fromkeys(counters.NAMES, 12.3) | {"cycles": None}
        trial.counters = {label: counters.Counted(counters.SIMULATION, "operation", values)
                          for label in labels}
    made = SimpleNamespace(
        a=a, others=others, trials=trials, budget=60.0, width=0.02, seed=1, interrupted=True,
        seconds=59.9, rows=[trial.rows[b] for b in range(len(others)) for trial in trials],
        runner=runs.Runner("/the/programs"), enough_budget=lambda: 95.0, machines={}, lost=[])
    return stored(record.as_data(made, machine.describe(), datetime.now(), sweep=sweep))


def invented_row(name, measure=workloads.OWN_TIME, ratio=1.0, seconds=1.0, rss=900, count=12):
    """Values of every size."""
    noise = random.Random(1)

    def run(scale):
        time = scale * seconds * noise.uniform(0.9, 1.1)
        return runs.Run(
            time, None if measure == workloads.WALL_TIME else time * 1e6, 1000, "0", time, 0.0, 0.0,
            rss, time * rss, 0, 0, int(time), 3, 1,
            {"p50": 20.0 * scale, "p99": 300.0, "p999": 1e4 * scale, "max": 1e9},
            [(10 * i, int(rss * (1 - 0.9 ** i))) for i in range(40)])
    row = comparison.Row(short_workload(name, measure=measure), None)
    row.pairs = [(run(1.0), run(ratio)) for _ in range(count)]
    row.orders, row.rounds = ["AB"] * count, list(range(count))
    return row


class Tables(unittest.TestCase):
    """Values of every size, in a table that was not measured."""

    def test_every_table_fits_its_width(self):
        rows = [invented_row("eighteen chars ok.", measure, ratio, seconds, rss, count)
                for measure in (workloads.OWN_TIME, workloads.WALL_TIME)
                for ratio in (0.0004, 0.5, 1.0, 9.996, 99.96, 123456.0)
                for seconds, rss, count in ((1e-6, 900, 12), (0.0123, 99_000_000, 3), (12.3, 1, 1),
                                            (9999.0, 12345678, 12))]
        failed = invented_row("failed")
        failed.failure, failed.command = "HAKMEM: " + "a long story " * 20, "x"
        rows += [failed, comparison.Row(short_workload("not measured"), None)]
        for labels in (("default", "system"), ("default+CONFIG_CACHE_BYTES=32768", "system", "b")):
            for line in present.table(invented(rows, *labels)):
                if "to repeat" not in line:
                    self.assertLessEqual(len(line), present.WIDTH, line)

    def test_verdicts(self):
        def said(pairs, low, ratio, high, claimed):
            found = Estimate(pairs, ratio, low, high, 0.1)
            return verdict.verdict(SimpleNamespace(failure=None, pairs=pairs, claimed=claimed, skipped=None,
                                                   time=record.Measured(1.0, ratio, found, "ns"))).words
        self.assertEqual(said(12, 1.9, 2.0, 2.1, "A"), "2.00x faster")
        self.assertEqual(said(12, 1.9, 2.0, 2.1, None), "2.00x faster?")
        self.assertEqual(said(12, 0.4, 0.5, 0.6, "B"), "2.00x slower")
        self.assertEqual(said(12, 0.9, 1.5, 2.1, None), "no significant difference")
        self.assertEqual(said(9, 1.9, 2.0, 2.1, None), "too few pairs")
        self.assertEqual(said(2, None, 2.0, None, None), "too few pairs")

    def test_the_headline_says_what_holds_for_all_rows_together(self):
        data = invented([invented_row("fast", ratio=2.0), invented_row("slow", ratio=0.5),
                         invented_row("same")], "ours", "theirs")
        claim, corrected = verdict.headline(data)
        self.assertEqual(claim, "ours is faster than theirs in 1 of 3 workloads (fast) and slower "
                         "in 1 (slow).")
        self.assertIn("Corrected for 3 rows with Holm", corrected)
        self.assertEqual(verdict.headline(invented([invented_row("same")], "a", "b"))[0],
                         "No significant difference between a and b on 1 workload.")

    def test_colour_changes_nothing_but_colour(self):
        data = invented([invented_row("fast", ratio=2.0)], "ours", "theirs")
        plain, painted = present.table(data), present.table(data, colour=True)
        self.assertNotIn("\033", "\n".join(plain))
        self.assertIn(present.GREEN, "\n".join(painted))
        self.assertEqual(plain, [re.sub("\033\\[[0-9]*m", "", line) for line in painted])


class Counters(unittest.TestCase):
    def test_what_perf_writes_is_read(self):
        counts = counters.parse_perf(
            "# started on Mon\n\n2000,,cycles:u,90,100.00,,\n4000,,instructions:u,90,100.00,2.0,\n"
            "<not supported>,,branches,0,100.00,,\n<not counted>,,branch-misses,0,0.00,,\n"
            "17,,L1-dcache-load-misses:u,90,50.00,,\n")
        self.assertEqual(counts, {"cycles": 2000, "instructions": 4000, "branches": None,
                                  "branch_misses": None, "l1_misses": 17})
        counted = counters.Counted(counters.PERF, "run", counts)
        self.assertEqual(counted.instructions_per_cycle, 2.0)

    def test_perf_counts_an_operation_without_the_start(self):
        """A perf that knows two counters."""
        fake = PROGRAMS / "fake" / "perf"
        fake.parent.mkdir(exist_ok=True)
        fake.write_text("""#!/bin/sh
            while [ "$1" != -- ]; do [ "$1" = -o ] && file=$2; shift; done
            shift
            said=$("$@"); ops=${said#*ops=}; ops=${ops%% *}
            printf '%d,,instructions:u,1,100.00,,\\n<not supported>,,cycles,0,0.00,,\\n' \
                $((1000 + 7 * ${ops:-0})) >"$file"
            printf '%s\\n' "$said"
        """)
        fake.chmod(0o755)
        before = counters.CLEAN_ENVIRONMENT["PATH"], os.environ["PATH"]
        os.environ["PATH"] = counters.CLEAN_ENVIRONMENT["PATH"] = f"{fake.parent}:{before[0]}"
        try:
            source, why = counters.available_source(False)
            counted = counters.count(short_workload(), libraries.open_library("system"), PROGRAMS,
                                     source)
        finally:
            counters.CLEAN_ENVIRONMENT["PATH"], os.environ["PATH"] = before
        self.assertEqual((source, counted.per), (counters.PERF, "operation"))
        self.assertIn("perf", why)
        self.assertAlmostEqual(counted.values["instructions"], 7)
        self.assertIsNone(counted.values["cycles"])

    @unittest.skipUnless(shutil.which("valgrind"), "valgrind is not installed")
    def test_a_simulation_repeats_and_has_no_cycles(self):
        counted = [counters.count(short_workload(), libraries.open_library("system"), PROGRAMS,
                                  counters.SIMULATION).values for _ in range(2)]
        self.assertAlmostEqual(counted[0]["instructions"], counted[1]["instructions"], delta=1)
        self.assertTrue(20 < counted[0]["instructions"] < 1000, counted)
        self.assertTrue(1 < counted[0]["branches"] < 200, counted)
        self.assertIsNone(counted[0]["cycles"])

    def test_what_cannot_be_counted_is_not_available_and_never_zero(self):
        data = invented([invented_row("one")], "ours", "theirs")
        lines = [line for line in present.table(data) if line.endswith("12.3")]
        self.assertEqual(len(lines), 2)
        for line in lines:
            self.assertRegex(line, r" (ours|theirs) +n/a +n/a +12.3 +12.3")


class Libraries(unittest.TestCase):
    def refused(self, path):
        with self.assertRaises(libraries.LibraryError) as caught:
            libraries.open_library(str(path))
        return str(caught.exception)

    def test_a_file_that_is_no_library_is_refused(self):
        self.assertIn("cannot be preloaded: invalid ELF header", self.refused("/etc/passwd"))

    def test_a_missing_file_is_refused_with_what_builds_it(self):
        self.assertIn("scons", self.refused("/no/such/libhakmem.so"))

    def test_a_path_that_ld_preload_cannot_name_is_refused(self):
        spaced = PROGRAMS / "lib with space.so"
        shutil.copy(LIBRARIES["forward"], spaced)
        self.assertIn("space", self.refused(spaced))

    def test_a_library_without_malloc_is_refused(self):
        message = self.refused(LIBRARIES["nothing"])
        self.assertIn("takes no effect", message)
        self.assertIn("libc.so", message)

    def test_a_library_that_dies_at_start_is_refused_with_the_command(self):
        message = self.refused(LIBRARIES["dies"])
        self.assertIn("SIGABRT", message)
        self.assertIn(f"LD_PRELOAD={LIBRARIES['dies']}", message)

    def test_the_library_is_asked_what_it_is(self):
        library = libraries.open_library(LIBRARIES["named"])
        self.assertEqual(library.label, "named")
        self.assertEqual(library.identity, "hakmem 9.9.9 (of the test)")
        self.assertEqual(len(library.digest), 64)
        other = libraries.open_library(LIBRARIES["forward"])
        self.assertEqual(other.label, "forward")

    def test_the_system_says_its_version(self):
        self.assertRegex(libraries.open_library("system").identity, r"glibc \d")

    def test_equal_labels_are_told_apart(self):
        def labels(*paths):
            return [library.label for library in libraries.tell_apart(
                libraries.Library("x", path, "", None) for path in paths)]
        self.assertEqual(labels("/b/default/x.so", "/b/keep/x.so"), ["default", "keep"])
        self.assertEqual(labels("/b/default/x.so", "/b/default/x.so"),
                         ["default (1)", "default (2)"])
        self.assertEqual(labels(None, "/b/keep/x.so", None), ["x (1)", "keep", "x (3)"])

    def test_what_serves_a_program_is_seen(self):
        library = libraries.open_library(LIBRARIES["forward"])
        libraries.check_served(library, [str(PROGRAMS / "pair"), "64", "1"], {})
        with self.assertRaises(libraries.LibraryError):
            libraries.check_served(libraries.open_library("system"),
                                   [str(PROGRAMS / "pair"), "64", "1"], library.environment)


class Comparisons(unittest.TestCase):
    def test_a_slow_library_is_found_slower(self):
        result = compare("slow system", short_workload())
        found = result.rows[0].estimate()
        self.assertEqual(found.faster, "B")
        self.assertLess(found.high, 0.5)
        self.assertIn("x slower", "\n".join(lines_of(result)))
        self.assertFalse(result.failed)
        for run_a, run_b in result.rows[0].pairs:
            # What the runner itself needs must not show in the memory of what it runs.
            self.assertLess(run_a.peak_rss_kib, 8192)
            self.assertLess(run_b.peak_rss_kib, 8192)

    def failed_row(self, library, *chosen, **options):
        """The first row fails, the second one goes on."""
        result = compare(f"{library} system", *chosen, short_workload(
            "sound", command=("{programs}/pair", "64", "100")), **options)
        lines = "\n".join(lines_of(result))
        self.assertTrue(result.failed)
        self.assertIsNone(result.rows[1].failure)
        self.assertGreaterEqual(len(result.rows[1].pairs), 10)
        self.assertIn("FAILED", lines)
        self.assertIn(f"to repeat: LD_PRELOAD={LIBRARIES[library]} {PROGRAMS}/", lines)
        return result.rows[0].failure

    def test_a_crash_is_a_row_with_the_last_words(self):
        failure = self.failed_row("crash", short_workload())
        self.assertEqual(failure, "crash: killed by SIGABRT: crash: the thousandth block")

    def test_a_hang_is_a_row(self):
        start = time.monotonic()
        failure = self.failed_row("hang", short_workload(), limit=15)
        self.assertEqual(failure, "hang: no end within 15 s")
        self.assertLess(time.monotonic() - start, 600, "the program would hang for ever")

    def test_a_block_handed_out_twice_is_a_row(self):
        failure = self.failed_row("double", short_workload(
            command=("{programs}/batch", "10", "100", "1016")))
        self.assertRegex(failure, r"^double: its result is \w+, that of system is \w+$")

    def test_a_workload_that_says_nothing_is_a_row(self):
        result = compare("system system", short_workload(command=("/bin/echo", "hello")))
        self.assertIn("no line of data in 'hello", result.rows[0].failure)

    def test_a_workload_that_reports_an_error_is_a_row(self):
        result = compare("system system", short_workload(command=("{programs}/pair", "0")))
        self.assertIn("exit status 2", result.rows[0].failure)

    def test_children_of_a_run_that_hangs_are_ended_too(self):
        start = time.monotonic()
        compare("system system", short_workload(command=("/bin/sh", "-c", "sleep 4321 & wait")),
                limit=1)
        while "sleep 4321" in subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout:
            self.assertLess(time.monotonic() - start, 600)
            time.sleep(0.2)

    def test_the_record_holds_every_run(self):
        result = compare("forward system", short_workload())
        data = data_of(result)
        row = data.rows[0]
        self.assertEqual(len(row.runs), result.rows[0].estimate().pairs)
        self.assertEqual({pair.order for pair in row.runs}, {"AB", "BA"})
        self.assertEqual(data.A.path, LIBRARIES["forward"])
        for key in ("kernel", "cpu", "governor", "huge_pages", "load"):
            self.assertIsNotNone(getattr(row.machine, key))
        self.assertEqual(row.B.identity, libraries.open_library("system").identity)

    def test_several_others_are_rows_of_their_own(self):
        result = compare("forward system slow", short_workload())
        data = data_of(result)
        self.assertEqual([row.B.label for row in data.rows], ["system", "slow"])
        self.assertEqual(data.rows[1].claimed, "A")
        self.assertIn("faster than slow in 1 of 1", " ".join(verdict.headline(data)))

    def test_what_fails_among_several_ends_its_own_rows_only(self):
        data = data_of(compare("forward crash system", short_workload()))
        self.assertEqual([bool(row.failure) for row in data.rows], [True, False])
        self.assertGreaterEqual(data.rows[1].pairs, 10)
        data = data_of(compare("crash forward system", short_workload()))
        self.assertEqual([bool(row.failure) for row in data.rows], [True, True])

    def test_one_thread_gets_one_processor_and_several_get_all(self):
        # The second must run long enough to be looked at while it does, on a busy machine too.
        result = compare("system system", short_workload(),
                         short_workload(command=("{programs}/larson", "2", "1", "8000000")),
                         budget=0.5)
        self.assertEqual([trial.pinned for trial in result.trials], [True, False])

    def test_a_run_stays_on_the_processors_that_it_is_given(self):
        cpu = max(os.sched_getaffinity(0))
        shown = short_workload(command=("/usr/bin/python3", "-c", "import os; print('ops=1 seconds=1 "
                               "ns_per_op=1 checksum=' + str(sorted(os.sched_getaffinity(0))))"))
        run = runs.Runner(PROGRAMS).run(shown, libraries.open_library("system"), [cpu])
        self.assertEqual(run.result, f"[{cpu}]")

    def test_the_environment_has_another_size_each_time(self):
        shown = short_workload(command=("/usr/bin/python3", "-c", "import os; print('ops=1 seconds=1 "
                               "ns_per_op=1 checksum=' + str(len(os.environ['AB_PADDING'])))"))
        run = runs.Runner(PROGRAMS).run(shown, libraries.open_library("system"), None, 123)
        self.assertEqual(run.result, "123")
        paddings = []

        class Recorder:
            def run(self, workload, library, cpus, padding):
                paddings.append(padding)
                return SimpleNamespace(result="", seconds=1.0)
        made = comparison.Comparison(0, [1], [short_workload()], Recorder(), 1, 7, None)
        for _ in range(10):
            made._round(made.trials[0], made.trials[0].rows)
        self.assertGreater(len(set(paddings)), 15)

    def test_memory_is_sampled_while_a_program_runs(self):
        # A child that holds 40 MiB for some seconds: many times as long as ten samples take.
        code = "import time; block = b'x' * (40 << 20); time.sleep(3)"
        held = workloads.Workload("held", ("/bin/sh", "-c", f'/usr/bin/python3 -c "{code}"; true'),
                                  ("/bin/true",), "", measure=workloads.WALL_TIME)
        run = runs.Runner(PROGRAMS).run(held, libraries.open_library("system"))
        self.assertGreater(len(run.rss), 10)
        self.assertTrue(45 < run.peak_rss_kib / 1024 < 80, run.peak_rss_kib)
        self.assertTrue(40 * 0.3 < run.rss_mib_seconds < 80 * run.wall_seconds, run.rss_mib_seconds)

    def test_a_run_too_short_to_be_sampled_has_no_memory_over_time(self):
        with mock.patch.object(runs, "FEWEST_SAMPLES", 10**9):  # as no run is so short on a busy machine
            data = data_of(compare("system system", short_workload()))
        self.assertIsNone(data.rows[0].measures["rss_seconds"])
        self.assertIn("n/a", "\n".join(present.table(data)))

    def test_latencies_are_taken_from_the_line_of_data(self):
        said = "ops=9 seconds=1 ns_per_op=1 checksum=0 p50_ns=20 p99_ns=300 p999_ns=4000 max_ns=50000"
        data = data_of(compare("system system", short_workload(command=("/bin/echo", said))))
        measures = data.rows[0].measures
        self.assertEqual([measures[name].A for name in runs.PERCENTILES], [20, 300, 4000, 50000])
        self.assertRegex("\n".join(present.table(data)), r"20\.0ns +20\.0ns +300ns")


class CommandLine(unittest.TestCase):
    def test_in_a_pipe_it_is_quiet_and_plain(self):
        done = run_ab(LIBRARIES["named"], "--only", "random_mixed short", "--width", "0.5", "--budget", "20")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(done.stderr, "")
        self.assertNotRegex(done.stdout, "[\033\r]")
        self.assertIn("hakmem 9.9.9 (of the test)", done.stdout)
        *lines, said_record, said_page = done.stdout.splitlines()
        self.assertLessEqual(max(map(len, lines)), present.WIDTH)
        path = said_record.removeprefix("record: ")
        self.assertGreaterEqual(json.loads(Path(path).read_text())["rows"][0]["pairs"], 10)
        self.assertIn("</html>", Path(said_page.removeprefix("page: ")).read_text())
        again = run_script("ab.py", "--report", path)
        self.assertEqual((again.returncode, again.stderr), (0, ""))
        self.assertEqual(again.stdout.splitlines()[:-2], lines)
        self.assertEqual((PROGRAMS / "ab" / "latest.json").resolve(), Path(path).resolve())

    def on_a_terminal(self, *arguments, stop_at=None, stdout=None):
        """Starts the runner with a terminal as stderr, and as stdout if there is no other; sends it
        SIGINT when it has shown a pattern. Returns the process and what the terminal showed."""
        ours, theirs = pty.openpty()
        environment = {**os.environ, "TERM": "xterm"}
        environment.pop("NO_COLOR", None)
        process = subprocess.Popen(
            [*AB, "--programs", PROGRAMS, "--output", PROGRAMS / "ab", *arguments], stdin=theirs,
            stdout=stdout or theirs, stderr=theirs, env=environment)
        os.close(theirs)
        shown = b""
        try:
            while chunk := os.read(ours, 65536):
                shown += chunk
                if stop_at and re.search(stop_at, shown):
                    process.send_signal(signal.SIGINT)
                    stop_at = None
        except OSError:
            pass  # the other side has ended
        os.close(ours)
        process.wait(timeout=600)
        return process, shown

    def test_on_a_terminal_it_shows_progress_and_colour(self):
        # Ten pairs are enough for so wide an interval, and there is time for them on a busy machine.
        process, shown = self.on_a_terminal(LIBRARIES["slow"], "--only", "random_mixed short",
                                            "--width", "0.5", "--budget", "60")
        self.assertEqual(process.returncode, 0)
        self.assertIn(b"s left: random_mixed short, pair", shown)
        self.assertIn(present.RED.encode(), shown)

    def test_ctrl_c_keeps_what_was_measured(self):
        with open(PROGRAMS / "interrupted", "w+", encoding="utf-8") as file:
            process, shown = self.on_a_terminal(LIBRARIES["forward"], "--only",
                                                "random_mixed short", "--width", "0.001",
                                                stop_at=rb", pair ([3-9]|\d\d)", stdout=file)
            file.seek(0)
            stdout = file.read()
        self.assertEqual(process.returncode, 130, shown)
        self.assertIn("Interrupted", stdout)
        self.assertRegex(stdout, r"random_mixed short +\d+ ")
        self.assertNotIn(b"Traceback", shown)
        self.assertTrue(json.loads((PROGRAMS / "ab" / "latest.json").read_text())["interrupted"])

    def test_a_failed_row_gives_exit_status_1(self):
        done = run_ab(LIBRARIES["forward"], LIBRARIES["crash"], "system", "--only", "random_mixed short",
                      "--budget", "3")
        self.assertEqual(done.returncode, 1)
        self.assertIn("FAILED", done.stdout)

    def test_where_nothing_was_measured_the_exit_status_is_2(self):
        done = run_ab(LIBRARIES["crash"], "--only", "random_mixed short", "--budget", "3")
        self.assertEqual(done.returncode, 2, done.stderr)
        self.assertIn("Nothing was measured.", done.stdout)
        self.assertNotIn("significant difference between", done.stdout)

    def test_what_cannot_start_gives_exit_status_2_and_one_line(self):
        for arguments, expected in ((["/etc/passwd"], "cannot be preloaded"),
                                    ([LIBRARIES["forward"], "--only", "nonsense"], "--list"),
                                    ([LIBRARIES["forward"], "--programs", "/nowhere"], "scons ab")):
            done = run_ab(*arguments)
            self.assertEqual(done.returncode, 2)
            self.assertIn(expected, done.stderr)
            self.assertEqual(done.stderr.count("\n"), 1)
            self.assertEqual(done.stdout, "")

    def test_bad_arguments_are_refused(self):
        for arguments in ([], ["x", "--budget", "0"], ["x", "--budget", "soon"],
                          ["x", "--limit", "nan"]):
            done = run_ab(*arguments)
            self.assertEqual(done.returncode, 2)
            self.assertIn("usage:", done.stderr)

    def test_list_names_every_workload(self):
        done = run_ab("--list")
        self.assertEqual(done.returncode, 0)
        for workload in workloads.WORKLOADS:
            self.assertIn(workload.name, done.stdout)
        self.assertLessEqual(max(map(len, done.stdout.splitlines())), present.WIDTH)


class PrivateCopies(unittest.TestCase):
    """What is measured is a copy, so that a build in the middle changes nothing."""

    def setUp(self):
        self.folder = Path(tempfile.mkdtemp(prefix="hakmem original ", dir=PROGRAMS))
        self.library = self.folder / "libchanging.so"
        shutil.copy(LIBRARIES["forward"], self.library)

    def replace_by(self, name):
        """As a linker does: a new file under the old name."""
        shutil.copy(LIBRARIES[name], self.folder / "new")
        os.replace(self.folder / "new", self.library)

    def overwrite_by(self, name):
        """As cp does: other content in the same file."""
        with open(self.library, "r+b") as file:
            file.truncate(0)
            file.write(Path(LIBRARIES[name]).read_bytes())

    def measured(self, change):
        """The data of a comparison in whose middle something happens, and who served the runs after it."""
        with copies.Copies() as private:
            chosen = [short_workload()]
            private.take_programs(PROGRAMS, chosen)
            opened = [private.open_library(str(self.library)), private.open_library("system")]
            runner = runs.Runner(PROGRAMS, 10, private)
            made = comparison.Comparison(opened[0], opened[1:], chosen, runner, 600.0, 1,
                                         present.Progress(io.StringIO()), 5.0)
            add, served = comparison.Row.add, []

            def add_and_change(row, *arguments):
                add(row, *arguments)
                if len(row.pairs) == 5:
                    change(private)
                served.append(libraries.malloc_served_by(runner.filled(chosen[0], chosen[0].probe),
                                                         opened[0].environment))
            comparison.Row.add = add_and_change
            try:
                made.run()
            finally:
                comparison.Row.add = add
            data = record.as_data(made, machine.describe(), datetime.now(), "", None, private.spoiled, private.replaced)
        self.assertFalse(Path(private.folder).exists())
        return data, served

    def test_replacing_the_library_in_the_middle_is_harmless_and_noticed(self):
        for change in (self.replace_by, self.overwrite_by):
            data, served = self.measured(lambda _, change=change: change("slow"))
            self.assertEqual(data.rows[0].failure, None)
            self.assertGreaterEqual(len(served), 10)
            self.assertEqual(len({tuple(sorted(files)) for files in served}), 1)
            self.assertEqual((data.spoiled, data.replaced), ([], [str(self.library)]))
            self.assertEqual(data.A.digest, copies.digest(LIBRARIES["forward"]))
            self.assertIn("replaced during the measurement", verdict.warnings(data)[0])
            shutil.copy(LIBRARIES["forward"], self.library)

    def test_a_workload_that_is_built_meanwhile_is_harmless_and_noticed(self):
        program = PROGRAMS / "pair"
        before = program.read_bytes()
        try:
            data, _ = self.measured(lambda _: (program.unlink(), program.write_bytes(b"#!/bin/false\n")))
        finally:
            program.write_bytes(before)
            program.chmod(0o755)
        self.assertIsNone(data.rows[0].failure)
        self.assertEqual((data.spoiled, data.replaced), ([], [str(program)]))

    def test_what_happens_to_the_copy_itself_spoils_the_measurement(self):
        def spoil(private):
            copy = next(Path(private.folder).glob("0/*.so"))
            copy.unlink()
            shutil.copy(LIBRARIES["slow"], copy)
        data, _ = self.measured(spoil)
        self.assertEqual(data.spoiled, [str(self.library)])
        self.assertIn("Warning: changed during the measurement", present.table(data)[0])

    def test_what_is_not_copied_is_watched(self):
        with copies.Copies() as private:
            private.open_library("system")
            self.assertTrue(any("libc.so" in file for file in private._watched), private._watched)
            mine = self.folder / "helper"
            mine.write_text("1")
            private.watch(str(mine))
            self.assertEqual(private.spoiled, [])
            mine.write_text("2")
            self.assertEqual(private.spoiled, [str(mine)])

    def test_a_library_that_needs_another_one_in_its_folder_gets_a_copy_of_that_too(self):
        helper, user = self.folder / "libhelper.so", self.folder / "libuser.so"
        forward = SOURCES["forward"].replace("*malloc(size_t size) {", "*malloc(size_t size) { helper();")
        for text, out, more in (("void helper(void) {}", helper, ["-Wl,-soname,libhelper.so"]),
                                ("void helper(void);" + forward, user, [str(helper), "-Wl,-rpath,$ORIGIN"])):
            subprocess.run([*CC, "-O1", "-fPIC", "-fno-builtin", "-shared", "-x", "c", "-", "-x", "none", *more, "-o", out],
                           input=text, text=True, check=True)
        with copies.Copies() as private:
            opened = private.open_library(str(user))
            libraries.check_served(opened, [str(PROGRAMS / "pair"), "64", "1"], {})
            helper.write_bytes(b"")
            self.assertEqual((private.spoiled, private.replaced), ([], [str(helper)]))

    def test_copies_lie_where_ld_preload_can_name_them(self):
        spaced = self.folder / "a b"
        spaced.mkdir()
        with unittest.mock.patch.object(tempfile, "tempdir", str(spaced)), copies.Copies() as private:
            self.assertNotRegex(private.folder, r"[\s:]")
            opened = private.open_library(str(self.library))
            libraries.check_served(opened, [str(PROGRAMS / "pair"), "64", "1"], {})

    def test_messages_name_the_original(self):
        shutil.copy(LIBRARIES["dies"], self.library)
        with copies.Copies() as private:
            with self.assertRaises(libraries.LibraryError) as caught:
                private.open_library(str(self.library))
            self.assertIn(str(self.library), str(caught.exception))
            self.assertNotIn(private.folder, str(caught.exception))
            private.take_programs(PROGRAMS, [short_workload()])
            runner = runs.Runner(PROGRAMS, 10, private)
            self.assertTrue(runner.command(short_workload(), libraries.open_library("system"))
                            .startswith(f"{PROGRAMS}/pair "))


class TooFewPairs(unittest.TestCase):
    def run_by_a_clock(self, budget, seconds):
        """A comparison of workloads whose runs take so long by a clock that only they move."""
        now = [0.0]

        class Stepper:
            programs = "/"

            def run(self, workload, library, cpus=None, padding=0):
                now[0] += seconds[workload.name]
                return runs.Run(1.0, None, None, "", seconds[workload.name], 0.0, 0.0, 1, None, 0, 0, 0, 0, 1)

            def filled(self, workload, words):
                return list(words)

            def stop(self):
                pass
            known = str
        chosen = [short_workload(name, pairs_in_block=1 if seconds[name] > 0.1 else 3) for name in seconds]
        system = libraries.Library("system", None, "", None)
        made = comparison.Comparison(system, [replace(system, label="b")], chosen, Stepper(), budget, 1,
                                     present.Progress(io.StringIO()))
        made._first_run = made.runner.run
        with unittest.mock.patch.object(comparison, "time", SimpleNamespace(monotonic=lambda: now[0])):
            made.run()
        return data_of(made)

    def test_the_budget_that_is_named_is_enough(self):
        seconds = {"long": 2.0, "short": 0.03, "middle": 0.5}
        data = self.run_by_a_clock(8.0, seconds)
        self.assertTrue(0 < data.rows[0].pairs < 10, data.rows[0].pairs)
        said = " ".join(verdict.headline(data))
        named = re.search(r"Too few pairs in long.*: BUDGET=(\d+)s would do", said)
        self.assertTrue(named, said)
        # Warm-up, and ten blocks of two runs each, with a fifth more.
        exact = 2 * 2.53 + 1.2 * 10 * 2 * (2.0 + 0.5 + 3 * 0.03)
        self.assertTrue(exact <= int(named[1]) < exact + 5, (exact, said))
        again = self.run_by_a_clock(float(named[1]), seconds)
        self.assertTrue(all(verdict.enough(row) for row in again.rows))
        self.assertNotIn("Too few", " ".join(verdict.headline(again)))

    def test_the_budget_counts_every_round_of_a_block(self):
        made = comparison.Comparison(None, [None], [short_workload("long"), short_workload("short", pairs_in_block=3)],
                                     None, 60.0, 1, None)
        long, short = made.trials
        long.rounds, long.spent, short.rounds, short.spent = 2, 4.0, 6, 0.6
        made.warm_up_seconds = 3.0
        self.assertAlmostEqual(made.enough_budget(), 3 + comparison.BUDGET_MARGIN * 10 * (2.0 + 3 * 0.1))
        long.rows[0].failure = "crashed"
        self.assertAlmostEqual(made.enough_budget(), 3 + comparison.BUDGET_MARGIN * 4 * 3 * 0.1)
        long.rows[0].failure, long.rounds, long.seconds = None, 0, 0.0
        self.assertIsNone(made.enough_budget())

    def test_with_three_pairs_nothing_is_called_equal(self):
        data = invented([invented_row("few", count=3)], "a", "b")
        data.interrupted = False
        said = verdict.headline(data)
        self.assertEqual(said[0], "Too few pairs in few (1 of 1 row), so that nothing can be said there: "
                         "BUDGET=95s would do.")
        self.assertEqual(said[-1], "No row has enough pairs for a claim.")
        self.assertNotIn("significant", " ".join(said))
        self.assertIn("too few pairs", "\n".join(present.table(data)))
        self.assertEqual(ab.status_of(data), ab.OK)
        data.enough_budget = 30.0  # less than what was not enough
        self.assertIn("BUDGET=90s would do", " ".join(verdict.headline(data)))

    def test_where_all_rows_crashed_there_is_no_claim_and_an_error(self):
        crashed = invented_row("one", count=0)
        crashed.failure, crashed.command = "b: killed by SIGSEGV", "x"
        data = invented([crashed], "a", "b")
        data.interrupted = False
        self.assertEqual(verdict.headline(data)[:2], ["Nothing was measured.", "Failed: one (1 of 1 row)."])
        self.assertEqual(ab.status_of(data), ab.CANNOT_START)


class Builds(unittest.TestCase):
    """Two builds that differ in more than was asked for."""

    BUILT = "hakmem 0.1.0 unified/superslab revision {} config 0123456789ab compiler {} flags {}"

    def warned(self, a, b, labels=("a", "b")):
        data = invented([invented_row("one")], *labels)
        data.A, data.others = (replace(data.A, identity=self.BUILT.format(*a)),
                               [replace(data.others[0], identity=self.BUILT.format(*b))])
        return verdict.warnings(data)

    def test_compiler_flags_and_revision_are_compared(self):
        same = ("aaaaaaaaaaaa", "gcc (Debian 12.2.0-14) 12.2.0", "111111111111")
        self.assertEqual(self.warned(same, same), [])
        for index, (other, what) in enumerate((("bbbbbbbbbbbb", "revision aaaaaaaaaaaa vs bbbbbbbbbbbb"),
                                               ("clang 14", "compiler gcc (Debian 12.2.0-14) 12.2.0 vs clang 14"),
                                               ("222222222222", "flags 111111111111 vs 222222222222"))):
            changed = [*same]
            changed[index] = other
            self.assertEqual(self.warned(same, changed),
                             [f"Warning: a and b differ in more than their configuration: {what}."])

    def test_a_revision_that_was_asked_for_is_no_warning_but_its_compiler_is(self):
        said = self.warned(("a", "gcc 12", "1"), ("b", "gcc 13", "1"), ("default", "default@v0.1"))
        self.assertEqual(said, ["Warning: default and default@v0.1 differ in more than their configuration: "
                                "compiler gcc 12 vs gcc 13."])

    def test_the_warning_stands_at_the_top(self):
        data = invented([invented_row("one")], "a", "b")
        data.A, data.others[0] = (replace(library, identity=self.BUILT.format(revision, "gcc", "1"))
                                  for library, revision in zip((data.A, data.others[0]), "ab"))
        self.assertTrue(present.table(data)[0].startswith("Warning: a and b differ in more"))

    def test_equal_files_are_called_so(self):
        data = invented([invented_row("one")], "a", "b")
        self.assertEqual(verdict.warnings(data), [])
        data.others = [replace(data.others[0], digest=data.A.digest)]
        self.assertEqual(verdict.warnings(data), ["Note: a and b are the same file, byte by byte."])


class Matrices(unittest.TestCase):
    def test_ratios_are_of_the_time_of_a_and_the_best_is_marked(self):
        data = invented([invented_row("slower", ratio=2.0), invented_row("faster", ratio=0.5)], "a", "b", "c")
        lines = matrix.matrix(data)
        self.assertEqual([line.workload for line in lines], ["slower", "faster"])
        for line, b, best in zip(lines, (2.0, 0.5), (0, 1)):
            self.assertAlmostEqual(line.cells[1].ratio / b, 1, delta=0.1)
            self.assertAlmostEqual(line.cells[2].ratio / (b * FACTORS[0]), 1, delta=0.1)
            self.assertEqual([index for index, cell in enumerate(line.cells) if cell.best], [best])

    def test_those_that_do_not_differ_significantly_are_best_together(self):
        row = invented_row("same", ratio=0.5)
        data = invented([row], "a", "b", "c", "d", "e")
        # c takes 1.3, d 0.7, e 1.02 times as long as b; make c as fast as d.
        for pair, model in zip(data.rows[1].runs, data.rows[2].runs):
            pair.B = replace(pair.B, seconds=model.B.seconds)
        data.rows[1].measures = data.rows[2].measures
        cells = matrix.matrix(data)[0].cells
        self.assertEqual([cell.best for cell in cells], [False, False, True, True, False])

    def test_what_has_no_figure_says_why(self):
        failed, few = invented_row("failed"), invented_row("few", count=3)
        failed.failure, failed.command = "b: no", "x"
        lines = matrix.matrix(invented([failed, few, invented_row("sound")], "a", "b", "c"))
        self.assertEqual([line.cells[1].why_not for line in lines], ["failed", "too few pairs", None])
        self.assertFalse(any(cell.best for line in lines[:2] for cell in line.cells))
        means, over = matrix.geometric_means(lines)
        self.assertEqual(over, 1)
        self.assertAlmostEqual(means[2], lines[2].cells[2].ratio)

    def test_the_terminal_shows_it_before_the_sections(self):
        data = invented([invented_row("one", ratio=2.0)], "ours", "b", "c")
        lines = present.table(data)
        header = next(index for index, line in enumerate(lines) if re.search(r"workload +ours +b +c$", line))
        self.assertRegex(lines[header + 1], r"^one +1\.00\* +[12]\.\d+ +[23]\.\d+$")
        self.assertLess(header, next(index for index, line in enumerate(lines) if "ours (A) vs b (B)" in line))
        self.assertFalse(any("multiples" in line for line in present.table(invented([invented_row("one")], "a", "b"))))


class Exports(unittest.TestCase):
    def setUp(self):
        failed = invented_row("failed")
        failed.failure, failed.command = "b: killed, by | SIGABRT", "x"
        self.data = invented([invented_row("one", ratio=2.0), failed], "a", "b", "c")

    def test_the_summary_has_a_line_for_each_measure(self):
        lines = list(csv.DictReader(io.StringIO(export.summary_csv(self.data))))
        first = lines[0]
        estimate_ = self.data.rows[0].measures["time"].estimate
        self.assertEqual((first["workload"], first["library"], first["measure"], first["unit"]), ("one", "b", "time", "ns"))
        self.assertEqual(float(first["ratio_to_A"]), estimate_.ratio)
        self.assertEqual(float(first["high"]), estimate_.high)
        self.assertIn("faster", first["verdict_on_A"])
        self.assertEqual([line["failure"] for line in lines if line["workload"] == "failed"], ["b: killed, by | SIGABRT"] * 2)
        self.assertIn("peak_rss", {line["measure"] for line in lines})

    def test_the_runs_have_a_line_for_each_run(self):
        lines = list(csv.DictReader(io.StringIO(export.runs_csv(self.data))))
        self.assertEqual(len(lines), 2 * 3 * 12)  # workloads, libraries, rounds: A's serve both others
        of_b = [float(line["seconds"]) for line in lines if (line["workload"], line["library"]) == ("one", "b")]
        self.assertEqual(of_b, [pair.B.seconds for pair in self.data.rows[0].runs])

    def test_the_markdown_has_tables_whose_rows_have_equal_numbers_of_cells(self):
        text = export.markdown(self.data)
        tables = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
        self.assertEqual(len(tables), 3)  # the matrix, and one for each of the others
        for table in tables:
            self.assertEqual(len({len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}), 1, table)
        self.assertIn("| one | **1.00** |", text)


class TwoRecords(unittest.TestCase):
    def store(self, name, a, ratio, change=1.0, workload="one", seed=1):
        """A record of A vs a control that takes `change` times as long as it did."""
        generator = random.Random(seed)
        row = invented_row(workload, ratio=ratio)
        row.pairs = [(replace(run_a, seconds=change * generator.uniform(0.98, 1.02), ns_per_op=None),
                      replace(run_b, seconds=change * ratio * generator.uniform(0.98, 1.02), ns_per_op=None))
                     for run_a, run_b in row.pairs]
        data = invented([row], a, "control")
        data.A = replace(data.A, digest=hashlib.sha256(name.encode()).hexdigest())
        data.interrupted = False
        path = PROGRAMS / f"{name}.json"
        path.write_text(json.dumps(asdict(data)))
        return str(path)

    def test_two_records_are_compared_without_a_run(self):
        data = record.compare(self.store("old", "then", 1.0), self.store("new", "now", 1.0, 1.5, seed=2))
        self.assertEqual((data.A.label, data.others[0].label), ("then", "now"))
        found = data.rows[0].measures["time"].estimate
        self.assertAlmostEqual(found.ratio, 1.5, delta=0.02)
        self.assertTrue(found.low < 1.5 < found.high)
        said = " ".join(verdict.warnings(data))
        self.assertIn("measured at different times", said)
        self.assertIn("Warning: the control, control, which both measured, took 1.5", said)
        self.assertIn("the machine has changed", said)

    def test_a_control_that_stayed_is_said_too(self):
        data = record.compare(self.store("old", "then", 1.0), self.store("new", "now", 1.0, seed=2))
        self.assertIn("Note: the control, control", " ".join(verdict.warnings(data)))
        self.assertIsNone(data.rows[0].measures["time"].estimate.faster)

    def test_equal_labels_get_their_time_and_another_library_can_be_named(self):
        old, new = self.store("old", "same", 1.0), self.store("new", "same", 2.0, seed=2)
        data = record.compare(old, new)
        self.assertEqual(len({data.A.label, data.others[0].label}), 2)
        data = record.compare(f"{old}#control", f"{new}#control")
        self.assertAlmostEqual(data.rows[0].measures["time"].estimate.ratio, 2.0, delta=0.1)
        with self.assertRaisesRegex(record.RecordError, "there is no 'nobody' in it; it has same, control"):
            record.compare(old, f"{new}#nobody")

    def test_other_work_under_the_same_name_is_no_comparison(self):
        old, new = self.store("old", "then", 1.0), self.store("new", "now", 1.0)
        data = json.loads(Path(new).read_text())
        data["rows"][0]["command"][-1] = "60000"
        Path(new).write_text(json.dumps(data))
        self.assertEqual(record.compare(old, new).rows[0].failure, "the two records ran other work under this name")
        with self.assertRaisesRegex(record.RecordError, "no workload in common"):
            record.compare(old, self.store("new", "now", 1.0, workload="two"))

    def test_the_command_makes_a_page_and_no_record(self):
        old, new = self.store("old", "then", 1.0), self.store("new", "now", 1.5, seed=2)
        done = run_script("ab.py", "--report", old, new, "--output", PROGRAMS / "two", "--export-markdown", PROGRAMS / "x.md")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertEqual(sorted(path.name for path in (PROGRAMS / "two").iterdir()),
                         ["old-vs-new.csv", "old-vs-new.html", "old-vs-new.md", "old-vs-new.runs.csv"])
        self.assertIn("# then vs now", (PROGRAMS / "x.md").read_text())
        self.assertLessEqual(max(len(line) for line in done.stdout.splitlines()[:-1]), present.WIDTH)

    def test_who_reads_no_further_is_no_failure(self):
        old, new = self.store("old", "then", 1.0), self.store("new", "now", 1.5, seed=2)
        process = subprocess.Popen([*AB, "--report", old, new, "--output", PROGRAMS / "closed"], stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, text=True)
        process.stdout.close()
        self.assertEqual((process.stderr.read(), process.wait(60)), ("", 0))
        process.stderr.close()

    def test_intervals_of_unpaired_runs_hold_the_truth(self):
        generator = random.Random(11)
        missed = 0
        for _ in range(100):
            a, b = ([math.exp(generator.gauss(0, 0.03)) for _ in range(15)] for _ in range(2))
            found = estimate_apart(a, [1.1 * value for value in b], 999)
            missed += not found.low <= 1.1 <= found.high
        self.assertLessEqual(missed, 10)

    def test_a_record_of_the_format_before_can_be_read(self):
        path = Path(self.store("old", "then", 1.0))
        data = json.loads(path.read_text())
        data["format"] = 2
        for name in ("enough_budget", "root", "sweep", "spoiled", "replaced"):
            del data[name]
        del data["apart"]
        for row in data["rows"]:
            del row["metric"], row["measures"]["wall"]
            for pair in row["runs"]:
                del pair["round"], pair["A"]["metric"], pair["B"]["metric"]
        path.write_text(json.dumps(data))
        self.assertIn("then", present.table(record.read(path))[0])
        self.assertEqual([pair.round for pair in record.read(path).rows[0].runs], list(range(12)))

    def test_a_damaged_record_is_one_line(self):
        path = Path(self.store("old", "then", 1.0))
        data = json.loads(path.read_text())
        del data["rows"][0]["pairs"]
        path.write_text(json.dumps(data))
        done = run_script("ab.py", "--report", path)
        self.assertEqual(done.returncode, 2)
        self.assertRegex(done.stderr, r"\Aab.py: \S+old.json is a damaged record \(.*pairs.*\); measure anew[^\n]*\n\Z")


class WorkloadPrograms(unittest.TestCase):
    SMALL = {"pair": ["64", "1000"], "batch": ["10", "100"], "random_mixed": ["10000", "64", "1"],
             "larson": ["3", "3", "1000", "64"], "producer_consumer": ["100000", "64", "128"]}

    def run_program(self, name, *arguments, **environment):
        return subprocess.run([PROGRAMS / name, *arguments], capture_output=True, text=True,
                              timeout=600, env={**libraries.CLEAN_ENVIRONMENT, **environment})

    def test_each_prints_one_line_of_data(self):
        for name, small in self.SMALL.items():
            done = self.run_program(name, *small)
            self.assertEqual((done.returncode, done.stderr), (0, ""))
            self.assertRegex(done.stdout, rf"^workload={name} ops=\d+ ns_per_op=\d+\.\d+ "
                                          r"seconds=\d+\.\d+ checksum=[0-9a-f]{16}[^\n]*\n$")

    def test_the_checksum_depends_on_the_arguments_and_not_on_the_allocator(self):
        for name, small in self.SMALL.items():
            sums = [re.search(r"checksum=(\w+)", self.run_program(name, *small, **more).stdout)[1]
                    for more in ({}, {}, {"LD_PRELOAD": LIBRARIES["slow"]})]
            self.assertEqual(len(set(sums)), 1, name)
            other = self.run_program(name, *[str(2 * int(small[0]))], *small[1:]).stdout
            if name != "pair":
                self.assertNotIn(sums[0], other)

    def test_mistakes_are_refused_with_the_usage(self):
        for name in self.SMALL:
            for arguments in (["x"], ["-1"], ["0"], ["1"] * 9, ["99999999999999999999"], [""],
                              ["1 "]):
                done = self.run_program(name, *arguments)
                self.assertEqual((done.returncode, done.stdout), (2, ""), (name, arguments))
                self.assertIn(f"usage: {name}", done.stderr)
            self.assertEqual(self.run_program(name, "--help").returncode, 0)
        self.assertEqual(self.run_program("larson", "1", "1", "1", "1", "100", "50").returncode, 2)
        self.assertEqual(self.run_program("producer_consumer", "1000", "64", "1000").returncode, 2)

    def test_running_out_of_memory_gives_no_figure(self):
        done = subprocess.run(["/bin/sh", "-c", "ulimit -v 100000; exec \"$0\" 1099511627776 1",
                               PROGRAMS / "pair"], capture_output=True, text=True, timeout=600)
        self.assertEqual((done.returncode, done.stdout), (3, ""))
        self.assertIn("returned NULL", done.stderr)

    def test_malloc_and_free_are_not_optimised_away(self):
        calls = subprocess.run(["objdump", "-d", "--no-show-raw-insn", PROGRAMS / "pair"],
                               capture_output=True, text=True).stdout
        loop = calls.split("<timed_loop>:")[1].split("\n\n")[0]
        self.assertIn("malloc", loop)
        self.assertIn("free", loop)

    def test_launch_passes_on_how_the_program_ended(self):
        def measured(*arguments):
            read_end, write_end = os.pipe()
            subprocess.run([PROGRAMS / "launch", str(write_end), *arguments], pass_fds=(write_end,),
                           stderr=subprocess.DEVNULL)
            os.close(write_end)
            with os.fdopen(read_end) as line:
                return line.read()
        self.assertIn("exit=7 signal=0", measured("WHAT=7", "/bin/sh", "-c", "exit $WHAT"))
        self.assertIn("exit=0 signal=9", measured("/bin/sh", "-c", "kill -9 $$"))
        self.assertIn("exit=127", measured("/no/such/program"))
        self.assertEqual(measured(), "")


class Instructions(unittest.TestCase):
    PROFILE = """\
ob=(1) /x/pair
fl=(1) /x/pair.c
fn=(1) timed_loop
10 6
cob=(2) /x/liba.so
cfi=(2) ???
cfn=(2) malloc
calls=3 0
+1 90
cob=(2)
cfn=(3) free
calls=3 0
* 30
+2 8
ob=(2)
fl=(2)
fn=(2)
0 60
cfn=(4) cold
calls=1 0
0 30
fn=(3)
0 30
fn=(4)
0 30
"""

    def test_a_profile_is_read(self):
        profile = Profile(self.PROFILE.splitlines(keepends=True))
        self.assertEqual(profile.instructions, {"/x/pair": 14, "/x/liba.so": 120})
        self.assertEqual(profile.called, {"malloc": "/x/liba.so", "free": "/x/liba.so"})
        self.assertEqual(profile.entered, {("/x/liba.so", "malloc"): 3, ("/x/liba.so", "free"): 3})

    @unittest.skipUnless(shutil.which("valgrind"), "valgrind is not installed")
    def test_counts_repeat_and_the_check_works(self):
        def counted(*arguments):
            return run_script("instructions.py", "--programs", PROGRAMS, "--load", "pair",
                              *arguments)
        first, again = (json.loads(counted("--json", LIBRARIES["forward"]).stdout)
                        for _ in range(2))
        self.assertEqual(first, again)
        net = {row["label"]: row["counts"]["pair"]["net"] for row in first}
        # Two functions that pass the call on cost a few instructions, and not nothing.
        self.assertTrue(1 < net["forward"] - net["system"] < 30, net)
        self.assertEqual(counted("--at-most", "1000", LIBRARIES["forward"]).returncode, 0)
        done = counted("--at-most", "3", LIBRARIES["forward"])
        self.assertEqual(done.returncode, 1)
        self.assertIn("3 at most were allowed", done.stderr)
        self.assertEqual(counted("--at-most", "3", LIBRARIES["nothing"]).returncode, 2)

    @unittest.skipUnless(shutil.which("valgrind"), "valgrind is not installed")
    def test_whole_programs_are_counted(self):
        def counted(*arguments):
            return run_script("instructions.py", "--program", "/bin/ls /", *arguments)
        row, = json.loads(counted("--json", LIBRARIES["forward"]).stdout)
        self.assertEqual((row["program"], row["label"]), ("ls", "forward"))
        self.assertGreater(row["allocations"], 0)
        # Each call is passed on, which costs a few instructions, and not nothing.
        self.assertTrue(1 < row["instructions"] / row["allocations"] < 100, row)
        done = counted("--at-most", "1", LIBRARIES["forward"])
        self.assertEqual(done.returncode, 1)
        self.assertIn("1 at most were allowed", done.stderr)
        for arguments in (("system",), (), ("--update", LIBRARIES["forward"], LIBRARIES["nothing"])):
            self.assertIn("error: --", counted(*arguments).stderr)
        self.assertIn("error: --update is for --program",
                      run_script("instructions.py", "--update", LIBRARIES["forward"]).stderr)

    def test_what_is_recorded_of_programs_is_read_again(self):
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "programs.txt"
            self.assertEqual(whole_runs.recorded(file), {})
            whole_runs.record({("lua", "a"): ProgramCount(10, 555)}, file)
            whole_runs.record({("perl", "a"): ProgramCount(10, 600)}, file)
            self.assertEqual(whole_runs.recorded(file), {"lua": 55.5, "perl": 60.0})


if __name__ == "__main__":
    sys.exit(testing.run(__name__))
