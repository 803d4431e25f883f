#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Tests of the workloads: each in a short run, under the system's malloc and under others.

    test_workloads.py PROGRAMS [LIBRARY]

PROGRAMS is the folder of the built workloads, LIBRARY one more to preload.
"""

import contextlib
import glob
import io
import os
import re
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

sys.dont_write_bytecode = True

from lab import libraries, runs, workloads  # noqa: E402
import load_redis  # noqa: E402
import testing  # noqa: E402

BENCH = Path(__file__).resolve().parent
ROOT = BENCH.parent
PROGRAMS = BENCH.parent / "build" / "bench"
LIBRARIES = {"system": ""}
LIMIT = 600

# Short runs. The first argument may be doubled, which must change the checksum.
SHORT = {
    "aligned": "3000 64 9 1 --latency=500",
    "batch": "10 100",
    "buffers": "30 4 65536 4194304 1 --latency=20",
    "calloc": "2000 32 12 1 --latency=500",
    "chase": "3000 1000 0 1",
    "episodes": "6 100000 4 9 10 1",
    "false_sharing": "2 500 10 8 1",
    "fragmentation": "3000 1 1",
    "handover": "20000 64 64 500 2 2 3",
    "large": "30 3 1048576 1 --latency=20",
    "larson": "3 3 1000 64",
    "mid_large_mt": "3 300 8 8192 131072 1 --latency=300",
    "pair": "64 1000",
    "producer_consumer": "20000 64 128 2 3",
    "random_mixed": "10000 64 1 --latency=1000",
    "realloc_growth": "3000 8 25 65536 1 --latency=500",
    "server": "2 200 3000 10 1 --latency=500",
    "thread_churn": "30 3 40 1",
    "tiny_hot": "5000 16 1 --latency=500",
    "vm_mixed": "500 16 17 1 --latency=100",
}
# Other arguments of the same programs that take another way through them.
VARIANTS = (
    ("batch", "10 100 64 1"), ("batch", "1000 5 64 2"), ("producer_consumer", "20000 64 128 1 1"),
    ("producer_consumer", "1000 64 1024 3 1"), ("false_sharing", "3 500 10 64 0"),
    ("handover", "3000 8 4000 64 3 1 1 1 7"), ("large", "5 2 4096 1"), ("buffers", "30 1 1048576 2097152 1"),
    ("server", "3 50 500 7 1"), ("thread_churn", "2 5 3 1"),
)
LINE = re.compile(r"workload=(\w+) ops=\d+ ns_per_op=\d+\.\d+ seconds=\d+\.\d+ "
                  r"checksum=([0-9a-f]{16})( \w+=[\d.,]+)*\n")
PERCENTILES = ("p50_ns", "p99_ns", "p999_ns", "max_ns")


def setUpModule():
    if found := glob.glob("/usr/lib/*-linux-gnu/libjemalloc.so.2"):
        LIBRARIES["jemalloc"] = found[0]


def run(command, library="", limit=LIMIT, **environment):
    settings = {**libraries.CLEAN_ENVIRONMENT, **environment}
    if library:
        settings["LD_PRELOAD"] = library
    return subprocess.run([str(word) for word in command], capture_output=True, text=True,
                          timeout=limit, env=settings, stdin=subprocess.DEVNULL)


def run_built(name, arguments, library=""):
    return run([PROGRAMS / name, *arguments.split()], library)


def figures(line):
    return dict(word.split("=", 1) for word in line.split())


def head(source):
    return source.read_text().split("*/")[1]


class Built(unittest.TestCase):
    def sources(self):
        # replay takes a file: bench/test_replay.py.
        return [source for source in sorted(BENCH.glob("*.c")) if source.stem not in ("launch", "replay")]

    def test_each_workload_is_tested_here_and_has_a_row(self):
        names = {source.stem for source in self.sources()}
        self.assertEqual(names, set(SHORT))
        programs = {Path(row.command[0]).name for row in workloads.WORKLOADS}
        self.assertEqual(names - programs, set())

    def test_each_head_says_what_how_and_who_wins(self):
        plugins = {folder.name for kind in ("policies", "backends")
                   for folder in (ROOT / kind).iterdir() if folder.is_dir()}
        others = {"glibc", "jemalloc", "tcmalloc", "mimalloc", "hakmem"}
        for source in self.sources():
            text = head(source)
            self.assertIn(f"/* {source.stem}: ", text)
            for word in ("stresses:", "arguments:", "operation:", "wins:"):
                self.assertIn(f" * {word} ", text, source)
            found = {name for name in plugins | others
                     if re.search(rf"\b{name}\b", source.read_text(), re.IGNORECASE)}
            self.assertEqual(found, set(), source)

    def test_each_prints_one_line_of_data_whatever_serves_it(self):
        for name, arguments in (*SHORT.items(), *VARIANTS):
            sums = {}
            for label, library in LIBRARIES.items():
                done = run_built(name, arguments, library)
                self.assertEqual((done.returncode, done.stderr), (0, ""), (name, label))
                match = LINE.fullmatch(done.stdout)
                self.assertTrue(match, (name, label, done.stdout))
                self.assertEqual(match[1], name)
                sums[label] = match[2]
            self.assertEqual(len(set(sums.values())), 1, (name, arguments, sums))

    def test_threads_do_not_change_the_checksum_from_run_to_run(self):
        for name in ("handover", "larson", "mid_large_mt", "producer_consumer", "server", "thread_churn"):
            sums = {figures(run_built(name, SHORT[name]).stdout)["checksum"] for _ in range(4)}
            self.assertEqual(len(sums), 1, name)

    def test_the_checksum_depends_on_the_work(self):
        for name, arguments in SHORT.items():
            if name == "pair":
                continue  # its first argument is the size
            first, *rest = arguments.split()
            other = " ".join([str(2 * int(first)), *rest])
            self.assertNotEqual(figures(run_built(name, arguments).stdout)["checksum"],
                                figures(run_built(name, other).stdout)["checksum"], name)

    def test_latencies_rise_and_are_printed_on_request_alone(self):
        for name, arguments in SHORT.items():
            given = figures(run_built(name, arguments).stdout)
            if "--latency" not in arguments:
                self.assertNotIn("p50_ns", given)
                done = run_built(name, "--latency")
                self.assertEqual(done.returncode, 2)
                self.assertIn("no such option", done.stderr)
                continue
            values = [float(given[key]) for key in PERCENTILES]
            # The longest is exact, the others are the middles of their buckets.
            self.assertTrue(all(low <= 1.04 * high for low, high in zip(values, values[1:])), given)
            self.assertGreater(values[0], 0)
            self.assertGreaterEqual(values[0], 0.5 * float(given["timer_ns"]), given)
            without = run_built(name, re.sub(r" --latency=\d+", "", arguments))
            self.assertNotIn("p50_ns", figures(without.stdout))
            # The samples come after what is timed, and change nothing of it.
            self.assertEqual(figures(without.stdout)["checksum"], given["checksum"])

    def test_memory_over_time_is_plausible(self):
        for name, points in (("fragmentation", 5), ("server", 10)):
            given = figures(run_built(name, SHORT[name]).stdout)
            moments = [int(word) for word in given["rss_ms"].split(",")]
            sizes = [int(word) for word in given["rss_kib"].split(",")]
            self.assertEqual((len(moments), len(sizes)), (points, points))
            self.assertEqual(moments, sorted(moments))
            self.assertTrue(all(100 < size < 10**6 for size in sizes), sizes)
        # Phase 3 has more in use than phase 1, in every allocator.
        given = figures(run_built("fragmentation", "40000").stdout)
        dirty = [int(word) for word in given["dirty_kib"].split(",")]
        self.assertEqual(len(dirty), 4)
        self.assertGreater(dirty[0], 40000 * 200 // 1024)
        self.assertGreater(dirty[2], 36000 * 500 // 1024)

    def test_mistakes_are_refused_with_the_usage(self):
        for name in SHORT:
            for arguments in (["x"], ["-1"], ["0"], ["1"] * 9, ["99999999999999999999"], [""],
                              ["1 "], ["--nonsense"], ["--latency="], ["--latency=x"], ["--"]):
                done = run([PROGRAMS / name, *arguments])
                self.assertEqual((done.returncode, done.stdout), (2, ""), (name, arguments))
                self.assertIn(f"usage: {name}", done.stderr)
            done = run_built(name, "--help")
            self.assertEqual(done.returncode, 0)
            self.assertIn(f"usage: {name} [", done.stdout)
        for name, arguments in (("mid_large_mt", "1 1 1 100 50"), ("larson", "1 1 1 1 100 50"),
                                ("producer_consumer", "1000 64 1000")):
            self.assertEqual(run_built(name, arguments).returncode, 2)

    def test_a_calloc_that_does_not_clear_and_an_address_that_is_not_aligned_are_seen(self):
        source = """
            #include <stddef.h>
            #include <string.h>
            void *__libc_malloc(size_t);
            void *calloc(size_t count, size_t size)
            {
                void *block = __libc_malloc(count * size);
                return block ? memset(block, size == 8 && count >= 100, count * size) : block;
            }
            void *aligned_alloc(size_t alignment, size_t size)
            {
                (void)alignment;
                return __libc_malloc(size);
            }"""
        with tempfile.TemporaryDirectory() as folder:
            library = os.path.join(folder, "libwrong.so")
            compiler = os.environ.get("CC", "cc").split()
            subprocess.run([*compiler, "-fPIC", "-fno-builtin", "-shared", "-x", "c", "-", "-o",
                            library], input=source, text=True, check=True)
            for name in ("calloc", "aligned"):
                sums = {figures(run_built(name, SHORT[name], preload).stdout)["checksum"]
                        for preload in ("", library)}
                self.assertEqual(len(sums), 2, name)


class Rows(unittest.TestCase):
    def test_names_are_short_and_unique(self):
        names = [row.name for row in workloads.WORKLOADS]
        self.assertEqual(len(names), len(set(names)))
        self.assertLessEqual(max(map(len, names)), 18)

    def test_every_row_can_be_called(self):
        """The arguments of each row are ones that its program takes: those of one too many alone
        make it stop before it works."""
        for row in workloads.WORKLOADS:
            command = row.filled(row.command, PROGRAMS)
            if "{programs}" not in row.command[0]:
                continue
            done = run([*command, "--nonsense"])
            self.assertEqual(done.returncode, 2)
            self.assertIn('"--nonsense" is not expected', done.stderr, row.name)

    def test_what_a_row_gives_is_asked_for(self):
        for row in workloads.WORKLOADS:
            asked = any(word.startswith("--latency") for word in row.command)
            if "{programs}" in row.command[0]:
                self.assertEqual(workloads.LATENCY in row.gives, asked, row.name)

    def test_a_missing_program_is_named_with_its_package(self):
        row = next(row for row in workloads.WORKLOADS if row.name == "lua")
        self.assertEqual(row.missing(path="/nowhere"), [("lua5.4", "lua5.4")])
        self.assertEqual(workloads.WORKLOADS[0].missing(path="/nowhere"), [])


    def test_rows_can_be_chosen_by_group(self):
        chosen = workloads.select(["@memory", "pair 64 B"])
        self.assertEqual([row.name for row in chosen], ["pair 64 B", "buffers", "fragmentation", "episodes", "server"])
        self.assertEqual(len(workloads.select(["@all"])), len(workloads.WORKLOADS))
        self.assertRaises(LookupError, workloads.select, ["@nonsense"])


class RealPrograms(unittest.TestCase):
    def rows(self):
        """The rows whose programs are installed."""
        return [row for row in workloads.WORKLOADS if row.needs and not row.missing()]

    def test_the_malloc_of_each_is_the_one_that_is_asked_for(self):
        for row in self.rows():
            command = row.filled(row.probe, PROGRAMS)
            for label in ("system", "jemalloc"):
                if label in LIBRARIES:
                    path = LIBRARIES[label] or None
                    libraries.check_served(libraries.Library(label, path, "", None), command,
                                           row.environment)

    def test_each_says_the_same_whatever_serves_it(self):
        for row in self.rows():
            command = row.filled(row.command, PROGRAMS)
            if row.name == "redis":
                command = [*command[:-1], "10000"]
            if row.name == "python3":
                command.append("1")
            said = {}
            for label, library in LIBRARIES.items():
                done = run(command, library, **row.environment)
                self.assertEqual(done.returncode, 0, (row.name, label, done.stderr))
                said[label] = done.stdout
                if row.measure == workloads.OWN_TIME:
                    self.assertRegex(done.stdout, LINE)
                    said[label] = figures(done.stdout)["checksum"]
            self.assertTrue(all(said.values()), row.name)
            self.assertEqual(len(set(said.values())), 1, row.name)

    def test_the_redis_driver_leaves_nothing_behind_and_refuses_mistakes(self):
        driver = ["/usr/bin/python3", BENCH / "load_redis.py"]
        for arguments in (["x"], ["0"], ["1", "2"]):
            done = run([*driver, *arguments])
            self.assertEqual(done.returncode, 2 if not self.redis_is_missing() else 3)
            self.assertIn("load_redis.py", done.stderr)
        if self.redis_is_missing():
            return
        with tempfile.TemporaryDirectory() as folder:
            done = run([*driver, "10000"], TMPDIR=folder)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertEqual(os.listdir(folder), [])
        processes = run(["/bin/ps", "-eo", "args"]).stdout
        self.assertNotIn(folder, processes)

    def test_the_redis_driver_says_what_is_too_short_to_be_timed(self):
        self.assertEqual(load_redis.seconds_of([{"rps": "1000"}, {"rps": "500"}], 1000), 3)
        said = io.StringIO()
        with contextlib.redirect_stderr(said), self.assertRaises(SystemExit):
            load_redis.seconds_of([{"rps": "inf"}, {"rps": "500"}], 1000)
        self.assertIn("ask for more", said.getvalue())

    def redis_is_missing(self):
        return any(row.missing() for row in workloads.WORKLOADS if row.name == "redis")


def main():
    global PROGRAMS
    if len(sys.argv) > 1:
        PROGRAMS = Path(sys.argv[1]).resolve()
    if len(sys.argv) > 2:
        LIBRARIES["library"] = os.path.abspath(sys.argv[2])
    if runs.Runner(PROGRAMS).missing([]):
        sys.exit(f"{PROGRAMS} has no built workloads; `scons workloads` builds them")
    return testing.run(__name__)


if __name__ == "__main__":
    sys.exit(main())
