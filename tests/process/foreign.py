# SPDX-License-Identifier: MIT
"""Blocks of another allocator: those of libc's own malloc."""

import signal

from harness import once, test


def variant(case, choice):
    """The library of this build with another choice of what becomes of foreign pointers."""
    return case.build.variant(f"foreign-{choice}", "CONFIG_FOREIGN_", [f"CONFIG_FOREIGN_{choice.upper()} 1"])


def works(case, choice, *more):
    command = [case.program("foreign.c", libraries=("-ldl",)), choice, *more]
    result = case.run(command, library=[variant(case, choice)], witness=False)
    case.check(result.stdout == b"foreign blocks came and went\n", result.command, result.stdout, result.stderr)


@once
@test
def foreign_aborts(case):
    """A block from libc stops the process with a line that names the call."""
    library = variant(case, "abort")
    for call in ("free", "realloc", "malloc_usable_size"):
        command = [case.program("foreign.c", libraries=("-ldl",)), "abort", call]
        result = case.run(command, library=[library], witness=False, status=-signal.SIGABRT)
        told = result.stderr.decode()
        case.check(told.startswith(f"hakmem: {call}(): invalid pointer 0x"), result.command, told)


@once
@test
def foreign_forwarded(case):
    """With FOREIGN_FORWARD blocks from libc are freed and resized by libc, also when its names lead elsewhere."""
    works(case, "forward")
    works(case, "forward", case.shared_object("deepbind_plugin.cpp"))


@once
@test
def foreign_ignored(case):
    """With FOREIGN_IGNORE blocks from libc stay as they are."""
    works(case, "ignore")
