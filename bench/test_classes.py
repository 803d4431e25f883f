#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Tests of size classes cut to a recording: test_classes.py [BENCH] [unittest's names]

BENCH is the folder of the built workloads (build/bench)."""

import itertools
import os
import random
import re
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

sys.dont_write_bytecode = True
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

WORDS = sys.argv[1:]
if WORDS and Path(WORDS[0]).is_dir():
    os.environ["HAKMEM_BENCH_LIBRARIES"] = WORDS.pop(0)

import numpy as np  # noqa: E402
from recording import classes, cutting, library, recording  # noqa: E402
import testing  # noqa: E402

import size_class  # noqa: E402

HERE = Path(__file__).resolve().parent


def made(*events, flags=library.IMPORTED):
    """A recording of (thread, operation, address, size, time[, log2 of the alignment])."""
    array = np.zeros(len(events), library.EVENT)
    for place, event in zip(array, events):
        place["thread"], place["operation"], place["address"], place["size"], place["time"], place["align"] = (*event, 0)[:6]
    return recording.Recording(recording.parts_of("made", cutting.pack(array, [], flags)))


def asks(sizes, chance):
    """A demand of some sizes with weights by chance."""
    need = np.array(sorted(sizes))
    time = chance.uniform(0.1, 5, len(need))
    live = np.ones((classes.MOMENTS, len(need)))
    users = np.ones((1, len(need)), bool)
    return classes.Demand(need, time, time * need, live, users.sum(0), users)


class Best(unittest.TestCase):
    def test_is_the_least_of_all_tables(self):
        """Every table of k classes that there can be, tried one by one."""
        for seed in range(30):
            chance = random.Random(seed)
            largest, smallest = chance.choice([64, 128, 256]), chance.choice([8, 16])
            sizes = {chance.randint(1, largest) for _ in range(chance.randint(1, 9))}
            asked = asks(sizes, np.random.default_rng(seed))
            found = classes.best_tables(asked, smallest, largest)
            powers = {1 << n for n in range(3, 9) if smallest <= 1 << n <= largest}
            others = sorted(set(range(16, largest, 16)) - powers)
            for count in range(len(powers), min(len(powers) + 4, len(others) + len(powers)) + 1):
                least = min(classes.waste(asked, sorted(powers | set(more)))
                            for more in itertools.combinations(others, count - len(powers)))
                if count in found:
                    self.assertEqual(len(found[count]), count)
                    self.assertAlmostEqual(classes.waste(asked, found[count]), least, places=6)
                else:  # more classes than sizes that blocks have
                    self.assertAlmostEqual(classes.waste(asked, found[max(found)]), least, places=6)

    def test_every_table_is_one_that_the_build_takes(self):
        asked = asks(random.Random(3).sample(range(1, 32769), 700), np.random.default_rng(3))
        found = classes.best_tables(asked)
        self.assertEqual((min(found), max(found)), (12, size_class.CLASSES_MOST))
        wastes = [classes.waste(asked, table) for table in found.values()]
        for count, table in found.items():
            self.assertEqual(size_class.problems(table), [])
            self.assertEqual(len(table), count)
        self.assertEqual(wastes, sorted(wastes, reverse=True))

    def test_one_size_gets_a_class_of_its_own(self):
        asked = asks([1040], np.random.default_rng(1))
        found = classes.best_tables(asked)
        self.assertIn(1040, found[13])
        self.assertAlmostEqual(classes.waste(asked, found[13]), 0)
        self.assertGreater(classes.waste(asked, found[12]), 1000 * asked.time[0] - asked.bytes[0] % 1)


class Demands(unittest.TestCase):
    MALLOC, FREE = library.MALLOC, library.FREE

    def test_lifetimes_weigh(self):
        one = made((0, self.MALLOC, 0x1000, 100, 0), (0, self.MALLOC, 0x2000, 50, 250000), (0, self.FREE, 0x1000, 0, 500000),
                   (0, self.MALLOC, 0x3000, 10, 1000000))
        asked = classes.demand(one)
        self.assertEqual(asked.need.tolist(), [10, 50, 100])
        np.testing.assert_allclose(asked.time, [0, 0.75, 0.5], atol=0.01)
        np.testing.assert_allclose(asked.bytes, [0, 37.5, 50], atol=1)
        self.assertAlmostEqual(classes.waste(asked, [64, 128]), 0.75 * 14 + 0.5 * 28, delta=0.5)

    def test_a_realloc_ends_a_life_and_one_that_failed_does_not(self):
        give, keep, retract = library.GIVE, library.KEEP, library.RETRACT
        one = made((0, self.MALLOC, 0x1000, 100, 0), (0, give, 0x1000, 0, 200000), (0, keep, 0x1000, 30, 200000),
                   (0, give, 0x1000, 0, 400000), (0, retract, 0x1000, 5000, 400000), (0, self.FREE, 0x1000, 0, 800000),
                   (0, self.MALLOC, 0x2000, 16, 1000000))
        asked = classes.demand(one)
        self.assertEqual(asked.need.tolist(), [16, 30, 100])
        np.testing.assert_allclose(asked.time, [0, 0.6, 0.2], atol=0.01)

    def test_aligned_blocks_need_a_multiple_and_large_ones_no_class(self):
        one = made((0, library.ALIGNED, 0x1000, 100, 0, 6), (0, self.MALLOC, 0x10000, 32769, 0), (0, self.MALLOC, 0x2000, 1, 100000))
        asked = classes.demand(one)
        self.assertEqual(asked.need.tolist(), [1, 128])
        np.testing.assert_allclose(asked.bytes, [0, 100], atol=1)
        with self.assertRaisesRegex(library.TraceError, "no block of up to 32768 bytes"):
            classes.demand(made((0, self.MALLOC, 0x10000, 32769, 0)))

    def test_without_a_clock_events_are_the_time(self):
        one = made((0, self.MALLOC, 0x1000, 100, 0), (0, self.FREE, 0x1000, 0, 0), (0, self.MALLOC, 0x2000, 50, 0),
                   (0, self.MALLOC, 0x3000, 50, 0), (0, self.FREE, 0x2000, 0, 0))
        np.testing.assert_allclose(classes.demand(one).time, [3 / 4, 1 / 4])

    def test_pages_and_batches_cost(self):
        """One block of each of two sizes in two threads: a page each, and half a batch for each thread."""
        one = made((0, self.MALLOC, 0x1000, 64, 0), (1, self.MALLOC, 0x2000, 64, 0), (1, self.MALLOC, 0x3000, 128, 0),
                   (1, self.MALLOC, 0x5000, 16, 1000000))
        asked = classes.demand(one)
        found = classes.cost(asked, [16, 64, 128])
        self.assertAlmostEqual(found.slabs, 2 * 4096 - 2 * 64 - 128, delta=40)
        self.assertEqual(found.cache, (2 * 4096 + 4096 + 1024) / 2)
        self.assertLess(classes.cost(asked, [16, 128]).cache, found.cache)


class Command(unittest.TestCase):
    def run_it(self, *words):
        return subprocess.run([sys.executable, HERE / "classes", *map(str, words)], capture_output=True, text=True)

    def test_a_kept_recording_gets_a_table_that_the_build_takes(self):
        done = self.run_it(HERE / "traces/sqlite3.trace.zst", "--held-out", "--against", HERE / "traces/gcc.trace.zst")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        line, = re.findall(r'^CONFIG_CLASS_TABLE="(.*)"$', done.stdout, re.MULTILINE)
        self.assertEqual(size_class.table_problems(line, 16, 15), [])
        count = len(size_class.listed(line))
        self.assertRegex(done.stdout, rf"\n +{count} \* +[0-9.]+")
        self.assertIn(f"\n{count} classes, at which the sum is least:\n", done.stdout)
        self.assertRegex(done.stdout, r"the other half: live [0-9.]+ KiB; inside blocks ")
        self.assertRegex(done.stdout, r"gcc.trace.zst: live [0-9.]+ KiB; inside blocks ")

    def test_other_ends_of_the_table_come_with_their_options(self):
        done = self.run_it(HERE / "traces/redis.trace.zst", "--smallest", 8, "--small-max-log2", 12, "--classes", 20)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertIn('CONFIG_MIN_BLOCK_8=y\nCONFIG_SMALL_MAX_LOG2=12\nCONFIG_CLASS_TABLE="8,16,', done.stdout)

    def test_what_is_no_recording_is_refused(self):
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "no.trace"
            for content in (b"", b"no recording"):
                file.write_bytes(content)
                done = self.run_it(file)
                self.assertEqual((done.returncode, done.stdout), (1, ""))
                self.assertRegex(done.stderr, "^bench/classes: .*no.trace")
            done = self.run_it(HERE / "traces/redis.trace.zst", "--classes", 3)
            self.assertEqual(done.stderr, "bench/classes: --classes 3: there can be 12 to 95\n")

    def test_a_damaged_recording_is_refused(self):
        data = bytearray(recording.read_bytes(HERE / "traces/redis.trace.zst"))
        data[len(data) // 2] ^= 1
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "bad.trace"
            file.write_bytes(data)
            done = self.run_it(file)
            self.assertEqual(done.returncode, 1)
            self.assertRegex(done.stderr, r"bad.trace: .*`bench/trace check` shows all\n$")


if __name__ == "__main__":
    sys.exit(testing.run(__name__, WORDS, verbosity=2))
