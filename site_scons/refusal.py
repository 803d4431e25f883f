# SPDX-License-Identifier: MIT
"""What ends a build before it has begun: its message says what to do."""

import sys


class Refusal(Exception):
    before = ""  # what is said first of all that are of its kind

    def end(self):
        sys.stderr.write(f"scons: {self.before}{self}\n")
        sys.exit(2)
