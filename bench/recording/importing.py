# SPDX-License-Identifier: MIT
"""Traces of other projects, as events.

None of these formats has a clock, and each is one list for all threads: the order of its lines is taken for the order
of events, a microsecond apart. What an allocator's log has in the wrong order (a block that is allocated before the
line of its free) `bench/trace check` then finds."""

import re

import numpy as np

from . import cutting, library
from .library import TraceError

STEP_NS = 1000


class Lines:
    """Collects events, line by line."""

    def __init__(self, file):
        self.file, self.number, self.rows, self.threads = file, 0, [], {}

    def fail(self, why):
        raise TraceError(f"{self.file}:{self.number}: {why}")

    def add(self, thread, operation, address, size=0, align=0):
        number = self.threads.setdefault(thread, len(self.threads))
        self.rows.append((address, size, 10**9 + STEP_NS * len(self.rows), number, operation, align))

    def allocate(self, thread, operation, address, size, align=0):
        if address:
            self.add(thread, operation, address, size, align)
        else:
            self.add(thread, library.REFUSED, 0, size, align)

    def resize(self, thread, old, new, size):
        if old:
            self.add(thread, library.GIVE, old)
        if new:
            self.add(thread, library.KEEP if new == old else library.TAKE, new, size)
        elif size and old:
            self.add(thread, library.RETRACT, old, size)
        elif size:
            self.add(thread, library.REFUSED, 0, size)

    def events(self):
        if not self.rows:
            raise TraceError(f"{self.file}: there is no event in it: is it of this format?")
        events = np.zeros(len(self.rows), library.EVENT)
        for name, column in zip(("address", "size", "time", "thread", "operation", "align"), zip(*self.rows)):
            events[name] = column
        ranks = np.arange(len(events))
        by_thread = np.argsort(events["thread"], kind="stable")
        return cutting._with_turns(events[by_thread], ranks[by_thread])

    def __iter__(self):
        try:
            with open(self.file, encoding="utf-8", errors="replace") as file:
                for self.number, line in enumerate(file, 1):
                    if line.strip():
                        yield line.strip()
        except OSError as error:
            raise TraceError(f"{self.file}: {error.strerror}") from None


def log2(lines, align):
    if align <= 0 or align & (align - 1):
        lines.fail(f"{align} is no alignment: it is not a power of two")
    return align.bit_length() - 1


MTRACE = re.compile(r"(?:@ .* )?([-+<>!]) (?:0x([0-9a-fA-F]+)|\(nil\))(?: 0x([0-9a-fA-F]+))?$")


def mtrace(file):
    """glibc's mtrace(3): `@ PROGRAM:[CALLER] + ADDRESS SIZE`, `-`, and `<` with `>` or `!` for realloc. It does not
    know threads."""
    lines, given = Lines(file), None
    for line in lines:
        if line.startswith("="):
            continue
        found = MTRACE.match(line)
        if not found:
            lines.fail(f"this is no line of mtrace's: {line[:60]}")
        sign, address, size = found[1], int(found[2] or "0", 16), int(found[3] or "0", 16)
        if sign == "+":
            lines.allocate(0, library.MALLOC, address, size)
        elif sign == "-" and address:
            lines.add(0, library.FREE, address)
        elif sign == "<":
            given = address
        elif sign == ">":
            if given is None:
                lines.fail("the end of a realloc (>) without its begin (<)")
            lines.resize(0, given, address, size)
            given = None
        elif sign == "!":
            given = None
            lines.resize(0, address, 0, size)
    return lines.events()


ANDROID = re.compile(r"(\d+): (\w+) (0x[0-9a-fA-F]+|0)((?: (?:0x[0-9a-fA-F]+|\d+))*)$")
ANDROID_ARGUMENTS = {"malloc": 1, "free": 0, "calloc": 2, "realloc": 2, "memalign": 2, "thread_done": 0}


def memory_replay(file):
    """Android's memory_replay: `THREAD: malloc ADDRESS SIZE`, `free ADDRESS`, `calloc ADDRESS COUNT SIZE`, `realloc
    NEW OLD SIZE`, `memalign ADDRESS ALIGNMENT SIZE`, `thread_done 0x0`; newer ones with two times behind."""
    lines = Lines(file)
    for line in lines:
        found = ANDROID.match(line)
        if not found or found[2] not in ANDROID_ARGUMENTS:
            lines.fail(f"this is no line of memory_replay's: {line[:60]}")
        thread, call, address = int(found[1]), found[2], int(found[3], 0)
        numbers = [int(word, 0) for word in found[4].split()]
        if len(numbers) - ANDROID_ARGUMENTS[call] not in (0, 2):
            lines.fail(f"{call} has {ANDROID_ARGUMENTS[call]} numbers behind its address, and may have two times")
        if call == "malloc":
            lines.allocate(thread, library.MALLOC, address, numbers[0])
        elif call == "calloc":
            lines.allocate(thread, library.CALLOC, address, numbers[0] * numbers[1])
        elif call == "memalign":
            lines.allocate(thread, library.ALIGNED, address, numbers[1], log2(lines, numbers[0]))
        elif call == "realloc":
            lines.resize(thread, numbers[0], address, numbers[1])
        elif call == "free" and address:
            lines.add(thread, library.FREE, address)
    return lines.events()


LOGALLOC = re.compile(r"(\d+) (?:(\d+) )?(\w+)\(([^)]*)\)(?:=(\S+))?$")


def logalloc(file):
    """Firefox' logalloc: `PROCESS [THREAD] malloc(SIZE)=ADDRESS` and so on, as logged or munged (#1 for addresses). Of
    several processes the one with most lines is taken."""
    lines = Lines(file)
    counts = {}
    for line in lines:
        counts[line.split(" ", 1)[0]] = counts.get(line.split(" ", 1)[0], 0) + 1
    process = max(counts, key=counts.get) if counts else ""

    def place(word):
        if word.startswith("#"):
            return int(word[1:]) * 16 + 0x10000 if word != "#0" else 0
        return 0 if word in ("", "(nil)", "0") else int(word, 16)

    def number(word):
        return int(word, 0)

    for line in lines:
        found = LOGALLOC.match(line)
        if not found:
            lines.fail(f"this is no line of logalloc's: {line[:60]}")
        if found[1] != process:
            continue
        thread, call, words = found[2] or found[1], found[3], [word.strip() for word in found[4].split(",")]
        try:
            result = place(found[5] or "")
            if call == "malloc":
                lines.allocate(thread, library.MALLOC, result, number(words[0]))
            elif call == "calloc":
                lines.allocate(thread, library.CALLOC, result, number(words[0]) * number(words[1]))
            elif call in ("memalign", "aligned_alloc", "posix_memalign"):
                lines.allocate(thread, library.ALIGNED, result, number(words[1]), log2(lines, number(words[0])))
            elif call == "valloc":
                lines.allocate(thread, library.ALIGNED, result, number(words[0]), 12)
            elif call == "realloc":
                lines.resize(thread, place(words[0]), result, number(words[1]))
            elif call == "free":
                if place(words[0]):
                    lines.add(thread, library.FREE, place(words[0]))
            elif not call.startswith("jemalloc_"):
                lines.fail(f"logalloc knows no {call}()")
        except (ValueError, IndexError):
            lines.fail(f"{call}() with other arguments than expected: {line[:60]}")
    return lines.events()


FORMATS = {"logalloc": logalloc, "memory_replay": memory_replay, "mtrace": mtrace}
