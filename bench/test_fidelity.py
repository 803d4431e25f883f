#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Tests of what bench/fidelity.py computes: test_fidelity.py [unittest's names]"""

import math
import subprocess
import sys
import unittest
from pathlib import Path

sys.dont_write_bytecode = True

import numpy as np  # noqa: E402
from scipy import stats  # noqa: E402
import testing  # noqa: E402

import fidelity  # noqa: E402

HERE = Path(__file__).resolve().parent


class Tau(unittest.TestCase):
    def test_is_kendalls(self):
        chance = np.random.default_rng(1)
        for _ in range(50):
            first, second = chance.integers(0, 6, 12), chance.integers(0, 6, 12)
            self.assertAlmostEqual(fidelity.tau(first, second, 1e-9), stats.kendalltau(first, second)[0])

    def test_what_differs_by_little_is_no_order(self):
        self.assertEqual(fidelity.tau([0.0, 0.001, 1.0], [0.001, 0.0, 1.0], 0.01), 1.0)
        self.assertLess(fidelity.tau([0.0, 0.001, 1.0], [0.001, 0.0, 1.0]), 1.0)
        self.assertTrue(math.isnan(fidelity.tau([0.0, 0.001], [0.0, 0.5], 0.01)))


class Interval(unittest.TestCase):
    def blocks(self, chance, order, noise):
        return np.array(order) + chance.normal(0, noise, (20, len(order)))

    def test_a_true_order_is_found_and_a_wrong_one_too(self):
        chance = np.random.default_rng(2)
        order = np.arange(8) / 10
        same = fidelity.interval(self.blocks(chance, order, 0.02), self.blocks(chance, order, 0.02), 0.01)
        self.assertGreater(same[1], 0.8)
        other = fidelity.interval(self.blocks(chance, order, 0.02), self.blocks(chance, order[::-1], 0.02), 0.01)
        self.assertLess(other[2], -0.8)

    def test_noise_has_no_order(self):
        chance = np.random.default_rng(3)
        _, low, high = fidelity.interval(self.blocks(chance, np.zeros(8), 0.3), self.blocks(chance, np.zeros(8), 0.3), 0.0)
        self.assertTrue(low < 0 < high)


class Table(unittest.TestCase):
    def test_says_order_and_peaks(self):
        chance = np.random.default_rng(4)
        order = np.arange(5) / 5
        figures = {("gcc", replays): {name: order + chance.normal(0, 0.001, (4, 5)) + (math.log(0.5) if replays else 0)
                                      for name in ("time", "rss")} for replays in (False, True)}
        lines = fidelity.table(figures, ["gcc"], list("abcde"))
        self.assertRegex(lines[2], r"^\| gcc \| 4 \| 1\.00 \(1\.00 – 1\.00\) \| 1\.00 \(1\.00 – 1\.00\) \| 0\.50 – 0\.50 \|$")
        self.assertEqual(lines[-1], "Mallocs: a, b, c, d, e.")

    def test_what_is_not_there_has_its_message(self):
        done = subprocess.run([sys.executable, HERE / "fidelity.py", "/nothing.so"], capture_output=True, text=True)
        self.assertEqual(done.returncode, 2)
        self.assertRegex(done.stderr, r"^fidelity.py: .*/nothing.so: no such file")


if __name__ == "__main__":
    sys.exit(testing.run(__name__, sys.argv[1:], verbosity=2))
