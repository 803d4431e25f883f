#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Tests of the workloads, of the A/B runner and of the instruction counter. They build what they
need with $CC into a temporary folder, and need no library under test."""

import io
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
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace

sys.dont_write_bytecode = True
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from lab import comparison, libraries, machine, present, record, runs, workloads  # noqa: E402
from lab.callgrind import Profile  # noqa: E402
from lab.estimate import Estimate, estimate  # noqa: E402

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
                          capture_output=True, timeout=120, **options)


def run_ab(*arguments, **options):
    return run_script("ab.py", "--programs", PROGRAMS, "--output", PROGRAMS / "ab", *arguments,
                      **options)


def short_workload(name="pair", command=("{programs}/pair", "72", "50000"), **more):
    return workloads.Workload(name, tuple(command), ("{programs}/pair", "72", "1"), "", **more)


def compare(a, b, *chosen, budget=5.0, limit=10.0):
    """A comparison of two libraries of SOURCES, or of the system's, that has been run."""
    opened = [libraries.open_library(LIBRARIES.get(name, name)) for name in (a, b)]
    result = comparison.Comparison(*libraries.tell_apart(*opened), chosen,
                                   runs.Runner(PROGRAMS, limit), budget, 1,
                                   present.Progress(io.StringIO()))
    result.run()
    return result


def lines_of(result):
    return present.table(result, machine.describe())


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

    def test_a_beside_itself_is_seldom_told_apart(self):
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


class Schedules(unittest.TestCase):
    def test_each_comes_first_as_often_as_the_other(self):
        for count in (10, 11, 40):
            made = comparison.orders(count, random.Random(count))
            self.assertEqual(len(made), count)
            self.assertLessEqual(abs(made.count("AB") - made.count("BA")), 1)

    def test_the_budget_binds_but_for_the_first_ten_pairs(self):
        made = comparison.Comparison(None, None, [short_workload()], None, 60.0, 1, None)
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
        result = compare("system", "system", short_workload(command=("{programs}/larson", "4")),
                         budget=0.1)
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


class Tables(unittest.TestCase):
    """Values of every size, in a table that was not measured."""

    def fake(self, rows, label="HAKMEM"):
        a = libraries.Library(label, "/some/where/libhakmem.so", "HAKMEM 1.2.3 " + "word " * 40,
                              "0" * 64)
        b = libraries.Library("system", None, "glibc 2.36", None)
        return SimpleNamespace(a=a, b=b, rows=rows, interrupted=True, seconds=59.9)

    def run_of(self, seconds, rss):
        return runs.Run(seconds, seconds * 1e6, "0", seconds, 0.0, 0.0, rss, 0, 0, 0, 0)

    def row(self, measure, ratio, seconds, rss, count=12):
        row = comparison.Row(short_workload("eighteen chars ok.", measure=measure))
        noise = random.Random(1)
        row.pairs = [(self.run_of(seconds * noise.uniform(0.9, 1.1), rss),
                      self.run_of(ratio * seconds * noise.uniform(0.9, 1.1), rss))
                     for _ in range(count)]
        return row

    def test_every_table_fits_its_width(self):
        rows = [self.row(measure, ratio, seconds, rss, count)
                for measure in (workloads.OWN_TIME, workloads.WALL_TIME)
                for ratio in (0.0004, 0.5, 1.0, 9.996, 99.96, 123456.0)
                for seconds in (1e-6, 0.0123, 12.3, 9999.0)
                for rss, count in ((900, 12), (99_000_000, 3), (1, 1))]
        failed = comparison.Row(short_workload(), failure="HAKMEM: " + "a long story " * 20,
                                command="x")
        failed.pairs = rows[0].pairs
        rows += [failed, comparison.Row(short_workload("not measured"))]
        for label in ("HAKMEM", "magazines"):
            for line in present.table(self.fake(rows, label), machine.describe()):
                if "to repeat" not in line:
                    self.assertLessEqual(len(line), present.WIDTH, line)

    def test_verdicts(self):
        def said(*arguments):
            return present.verdict(Estimate(*arguments))[0]
        self.assertEqual(said(12, 2.0, 1.9, 2.1, 0.1), "2.00x faster")
        self.assertEqual(said(12, 0.5, 0.4, 0.6, 0.1), "2.00x slower")
        self.assertEqual(said(12, 1.5, 0.9, 2.1, 0.1), "not told apart")
        self.assertEqual(said(9, 2.0, 1.9, 2.1, 0.1), "too few pairs")
        self.assertEqual(said(2, 2.0, None, None, 0.1), "too few pairs")

    def test_colour_changes_nothing_but_colour(self):
        fake = self.fake([self.row(workloads.OWN_TIME, 2.0, 1.0, 900)])
        plain = present.table(fake, machine.describe())
        painted = present.table(fake, machine.describe(), colour=True)
        self.assertNotIn("\033", "\n".join(plain))
        self.assertIn(present.GREEN, "\n".join(painted))
        self.assertEqual(plain, [re.sub("\033\\[[0-9]*m", "", line) for line in painted])


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
        self.assertEqual(library.label, "HAKMEM")
        self.assertEqual(library.identity, "hakmem 9.9.9 (of the test)")
        self.assertEqual(len(library.digest), 64)
        other = libraries.open_library(LIBRARIES["forward"])
        self.assertEqual(other.label, "forward")

    def test_the_system_says_its_version(self):
        self.assertRegex(libraries.open_library("system").identity, r"glibc \d")

    def test_equal_labels_are_told_apart(self):
        def label(*paths):
            return [library.label for library in libraries.tell_apart(
                *(libraries.Library("HAKMEM", path, "", None) for path in paths))]
        self.assertEqual(label("/b/default/x.so", "/b/hotmag/x.so"), ["default", "hotmag"])
        self.assertEqual(label("/b/default/x.so", "/b/default/x.so"), ["A", "B"])

    def test_what_serves_a_program_is_seen(self):
        library = libraries.open_library(LIBRARIES["forward"])
        libraries.check_served(library, [str(PROGRAMS / "pair"), "64", "1"], {})
        with self.assertRaises(libraries.LibraryError):
            libraries.check_served(libraries.open_library("system"),
                                   [str(PROGRAMS / "pair"), "64", "1"], library.environment)


class Comparisons(unittest.TestCase):
    def test_a_slow_library_is_found_slower(self):
        result = compare("slow", "system", short_workload())
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
        result = compare(library, "system", *chosen, short_workload(
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
        failure = self.failed_row("hang", short_workload(), limit=1)
        self.assertEqual(failure, "hang: no end within 1 s")
        self.assertLess(time.monotonic() - start, 15)

    def test_a_block_handed_out_twice_is_a_row(self):
        failure = self.failed_row("double", short_workload(
            command=("{programs}/batch", "10", "100", "1016")))
        self.assertRegex(failure, r"^double: its result is \w+, that of system is \w+$")

    def test_a_workload_that_says_nothing_is_a_row(self):
        result = compare("system", "system", short_workload(command=("/bin/echo", "hello")))
        self.assertIn("no line of data in 'hello", result.rows[0].failure)

    def test_a_workload_that_reports_an_error_is_a_row(self):
        result = compare("system", "system", short_workload(command=("{programs}/pair", "0")))
        self.assertIn("exit status 2", result.rows[0].failure)

    def test_children_of_a_run_that_hangs_are_ended_too(self):
        compare("system", "system", short_workload(command=("/bin/sh", "-c", "sleep 4321 & wait")),
                limit=1)
        time.sleep(0.2)
        running = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout
        self.assertNotIn("sleep 4321", running)

    def test_the_record_holds_every_run(self):
        result = compare("forward", "system", short_workload())
        data = json.loads(json.dumps(record.as_data(result, machine.describe(), datetime.now())))
        self.assertEqual(len(data["rows"][0]["pairs"]), result.rows[0].estimate().pairs)
        self.assertEqual({pair["order"] for pair in data["rows"][0]["pairs"]}, {"AB", "BA"})
        self.assertEqual(data["A"]["path"], LIBRARIES["forward"])


class CommandLine(unittest.TestCase):
    def test_in_a_pipe_it_is_quiet_and_plain(self):
        done = run_ab(LIBRARIES["named"], "--only", "random_mixed short", "--budget", "10")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(done.stderr, "")
        self.assertNotRegex(done.stdout, "[\033\r]")
        self.assertIn("hakmem 9.9.9 (of the test)", done.stdout)
        self.assertLessEqual(max(map(len, done.stdout.splitlines()[:-1])), present.WIDTH)
        path = done.stdout.splitlines()[-1].removeprefix("record: ")
        self.assertGreaterEqual(len(json.loads(Path(path).read_text())["rows"][0]["pairs"]), 10)
        self.assertEqual((PROGRAMS / "ab" / "latest.json").resolve(), Path(path).resolve())

    def on_a_terminal(self, *arguments, stop_at=None, stdout=None):
        """Starts the runner with a terminal as stderr, and as stdout if there is no other; sends it
        SIGINT when it has shown a text. Returns the process and what the terminal showed."""
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
                if stop_at and stop_at in shown:
                    process.send_signal(signal.SIGINT)
                    stop_at = None
        except OSError:
            pass  # the other side has ended
        os.close(ours)
        process.wait(timeout=30)
        return process, shown

    def test_on_a_terminal_it_shows_progress_and_colour(self):
        process, shown = self.on_a_terminal(LIBRARIES["slow"], "--only", "random_mixed short",
                                            "--budget", "10")
        self.assertEqual(process.returncode, 0)
        self.assertIn(b"s left: random_mixed short, pair", shown)
        self.assertIn(present.RED.encode(), shown)

    def test_ctrl_c_keeps_what_was_measured(self):
        with open(PROGRAMS / "interrupted", "w+", encoding="utf-8") as file:
            process, shown = self.on_a_terminal(LIBRARIES["forward"], "--only", "random_mixed",
                                                stop_at=b"long, pair 2", stdout=file)
            file.seek(0)
            stdout = file.read()
        self.assertEqual(process.returncode, 130, shown)
        self.assertIn("Interrupted", stdout)
        self.assertRegex(stdout, r"random_mixed long +1 ")
        self.assertNotIn(b"Traceback", shown)
        self.assertTrue(json.loads((PROGRAMS / "ab" / "latest.json").read_text())["interrupted"])

    def test_a_failed_row_gives_exit_status_1(self):
        done = run_ab(LIBRARIES["crash"], "--only", "random_mixed short", "--budget", "10")
        self.assertEqual(done.returncode, 1)
        self.assertIn("FAILED", done.stdout)

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


class WorkloadPrograms(unittest.TestCase):
    SMALL = {"pair": ["64", "1000"], "batch": ["10", "100"], "random_mixed": ["10000", "64", "1"],
             "larson": ["3", "3", "1000", "64"], "producer_consumer": ["100000", "64", "128"]}

    def run_program(self, name, *arguments, **environment):
        return subprocess.run([PROGRAMS / name, *arguments], capture_output=True, text=True,
                              timeout=30, env={**libraries.CLEAN_ENVIRONMENT, **environment})

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
                               PROGRAMS / "pair"], capture_output=True, text=True, timeout=30)
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


def main():
    suite = unittest.defaultTestLoader.loadTestsFromModule(sys.modules[__name__])
    result = unittest.TextTestRunner(verbosity=1).run(suite)
    failed = len(result.failures) + len(result.errors)
    sys.stderr.flush()
    print(f"{max(result.testsRun - failed, 0)} passed, {failed} failed")
    return 1 if failed or not result.testsRun else 0


if __name__ == "__main__":
    sys.exit(main())
