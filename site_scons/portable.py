# SPDX-License-Identifier: MIT
"""Platforms that are tested from here though this machine is another: `scons portable`."""

from typing import NamedTuple

import toolchain


class Platform(NamedTuple):
    """What makes programs for it, and what runs them."""

    cc: str
    ar: str
    runner: "list[str]"  # of an emulator; empty: none is needed
    packages: str  # Debian's
    without: "set[str]"  # tests of what the emulator lacks

    def require(self) -> None:
        """Raises Refusal if a tool is not here."""
        for variable, command in (("CC", self.cc), ("AR", self.ar), ("emulator", " ".join(self.runner[:1]))):
            if command:
                toolchain.require(variable, command, self.packages)


# What is known of qemu-user 7.2, which Debian 12 has:
# - It dies of its own assertions when a process forks while other threads run and the child makes threads
#   (test_fork), and ignores limits on the address space (test_out_of_memory).
# - Its mremap and mprotect go through where the kernel would refuse, and MREMAP_DONTUNMAP takes the old place away
#   (test_os, which looks at just that; moved blocks get fresh memory at their old place anyway).
# - What memory a process has is partly the emulator's, and time passes faster than it works: tests of huge pages and
#   of what goes back in time (test_huge_pages, test_decay) fail there now and then.
PLATFORMS = [
    Platform("musl-gcc", "ar", [], "musl-tools", set()),
    Platform(
        "aarch64-linux-gnu-gcc",
        "aarch64-linux-gnu-ar",
        ["qemu-aarch64", "-L", "/usr/aarch64-linux-gnu"],
        "gcc-aarch64-linux-gnu libc6-dev-arm64-cross qemu-user",
        {"test_fork", "test_out_of_memory", "test_os", "test_huge_pages", "test_decay"},
    ),
]
