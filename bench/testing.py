# SPDX-License-Identifier: MIT
"""How the test programs of this folder run, and the line that each ends with: `scons test` sums these up."""

import sys
import unittest
from typing import Iterable


def run(module: str, names: Iterable[str] = (), verbosity: int = 1) -> int:
    """Runs the tests of a module, or those of these names, and returns the exit status."""
    loader, tests = unittest.defaultTestLoader, sys.modules[module]
    suite = loader.loadTestsFromNames(names, tests) if names else loader.loadTestsFromModule(tests)
    result = unittest.TextTestRunner(verbosity=verbosity, stream=sys.stdout).run(suite)
    failed, skipped = len(result.failures) + len(result.errors), len(result.skipped)
    print(f"{max(result.testsRun - failed - skipped, 0)} passed, {failed} failed, {skipped} skipped")
    return 1 if failed or not result.testsRun else 0
