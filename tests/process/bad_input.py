# SPDX-License-Identifier: MIT
"""A pointer that is not a block: one line on stderr, and abort. Memory that is not there: ENOMEM."""

import re
import signal

from harness import Failure, once, test

# The argument `first` makes the misuse the process's first call, where the kind of pointer allows.
FOREIGN = [
    ["stack"], ["stack", "first"], ["global"], ["global", "first"], ["code"],
    ["mapping"], ["mapping", "first"], ["mapping-unreadable"], ["mapping-aligned"],
    ["wild"], ["wild", "first"], ["wild-small"], ["wild-kernel"], ["wild-all-ones"],
]  # fmt: skip
UNGIVEN = [["slab-not-given"], ["superslab-not-given"]]
INSIDE = [["large+16"], ["large+page"], ["large+granule"], ["large+half"], ["large+last"]]
FREED = [["large-freed"], ["large-freed-elsewhere"]]


def aborts(case, identity, function, kind, shown):
    """One misuse; what is wrong with the way it ended, or None."""
    result = case.run([case.program("misuse.c"), function, *kind], witness=False, status=None)
    told = result.stderr.decode("utf-8", "replace")
    pointer = result.stdout.decode().strip()
    wrong = []
    if result.status != -signal.SIGABRT:
        wrong.append(f"ended with {result.status}, not by SIGABRT")
    if not re.fullmatch(r"0x[0-9a-f]+", pointer):
        wrong.append("did not get as far as the misuse")
    if not told.startswith("hakmem: ") or told.count("\n") != 1 or not told.endswith("\n"):
        wrong.append("not one line that starts with 'hakmem: '")
    for what in (f"{shown}()", identity):
        if what not in told:
            wrong.append(f"the line lacks {what!r}")
    if not re.search(rf"(?<![0-9a-fx]){pointer}(?![0-9a-f])", told):
        wrong.append(f"the line lacks the pointer {pointer}")
    return f"{result.command}\n  {'; '.join(wrong)}\n  stderr: {told!r}" if wrong else None


def all_abort(case, function, kinds, shown=None):
    identity = case.identity()
    wrong = [aborts(case, identity, function, kind, shown or function) for kind in kinds]
    wrong = [text for text in wrong if text]
    if wrong:
        raise Failure(f"{len(wrong)} of {len(kinds)} misuses of {function} are wrong:\n" + "\n".join(wrong))


@test
def bad_free(case):
    """free of a pointer that is not a block says so in one line and aborts."""
    all_abort(case, "free", FOREIGN + UNGIVEN + INSIDE + FREED)


@test
def bad_realloc(case):
    """realloc of a pointer that is not a block says so in one line and aborts, whatever the size."""
    all_abort(case, "realloc", FOREIGN + UNGIVEN + INSIDE + FREED)
    all_abort(case, "realloc-to-0", [["stack"], *INSIDE[:1], *FREED], "realloc")
    all_abort(case, "reallocarray", [["stack"], *INSIDE[:1], *FREED], "realloc")


@once
@test
def bad_malloc_usable_size(case):
    """malloc_usable_size of a pointer that is not a block says so in one line and aborts."""
    all_abort(case, "malloc_usable_size", FOREIGN + UNGIVEN + INSIDE + FREED)


@once
@test
def bad_sized_free(case):
    """free_sized and free_aligned_sized of a pointer that is not a block do as free does."""
    for function in ("free_sized", "free_aligned_sized"):
        all_abort(case, function, [["stack"], ["mapping", "first"], *UNGIVEN, *INSIDE[:1], *FREED], "free")


@once
@test
def bad_delete(case):
    """operator delete of a pointer that is not a block does as free does, whose other name it is."""
    all_abort(case, "delete", [["stack"], ["mapping", "first"], *UNGIVEN, *INSIDE[:1], *FREED], "free")


@test
def out_of_memory(case):
    """What cannot be had is NULL and ENOMEM from every function, and the heap is whole."""
    result = case.run([case.program("out_of_memory.c")])
    case.check(result.stdout == b"refused, and whole\n", result.command, result.stdout)
    case.served(result)
