# SPDX-License-Identifier: MIT
"""Size classes cut to a program: what a table of classes wastes in a recording, and the tables that waste least.

A block of n bytes in a class of c wastes c - n for as long as it lives; what a table wastes is the mean of that over
the recording's time. The best table of k classes is found by dynamic programming: classes are sizes that blocks have,
rounded up to 16 bytes, and the powers of two, which every table has (site_scons/size_class.py). So no class reaches over a
power of two, and the cost of a class depends on the one before it alone.

More classes waste less inside blocks, but each has a page that is not full, and a batch in the cache of each thread that
uses it. Both are estimated from the curve of live blocks: a class has the pages that it had at most so far, and a thread
half a batch."""

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from . import library
from .library import TraceError

sys.path.append(str(Path(__file__).resolve().parent.parent.parent / "site_scons"))
import size_class  # noqa: E402

UNIT = 16  # classes are multiples of it, but for one of 8 bytes
PAGE = 4096
MOMENTS = 512  # at which live blocks are looked at
REFILL = 64  # blocks of a batch at most (CONFIG_REFILL_BATCH)


@dataclass
class Demand:
    """Blocks that are small, by the bytes that a class must have for them."""
    need: np.ndarray  # rounded up to the alignment, ascending and different
    time: np.ndarray  # how long blocks of that need lived, in units of the recording's whole time: the mean of live blocks
    bytes: np.ndarray  # the same of the bytes that were asked for
    live: np.ndarray  # [moment, need] → live blocks
    threads: np.ndarray  # threads that allocate blocks of that need
    users: "np.ndarray"  # [thread, need] → whether the thread does


@dataclass
class Cost:
    """Mean bytes over the recording's time."""
    waste: float  # inside blocks
    slabs: float  # pages that hold fewer live blocks than they did
    cache: float  # batches in caches

    @property
    def total(self):
        return self.waste + self.slabs + self.cache


def lives(one):
    """(event, begin, end) of each block, in ns; by counted events where the recording has no clock."""
    events, (order, _, block, _) = one.events, one.sorted
    position = np.empty(len(events), "i8")
    position[order] = np.arange(len(events))
    clock = np.empty(len(events), "i8")
    clock[order] = np.maximum.accumulate(events["time"][order].astype("i8"))
    if len(events) and clock.max() == clock.min():
        clock = position
    operation = events["operation"]
    own = block == np.arange(len(events))
    begun = np.flatnonzero(np.isin(operation, library.TAKES) & own)
    # A realloc that has failed gives the block back: of what happens to a block the last thing counts.
    changes = np.flatnonzero((block >= 0) & ~own & np.isin(operation, (*library.GIVES, library.RETRACT)))
    changes = changes[np.argsort(position[changes], kind="stable")]
    last = np.full(len(events), -1, "i8")
    last[block[changes]] = changes
    ending = last[begun]
    over = (ending >= 0) & np.isin(operation[np.maximum(ending, 0)], library.GIVES)
    end = np.where(over, clock[np.maximum(ending, 0)], clock.max(initial=0))
    return begun, clock[begun], end


def demand(one, largest=32768):
    """What the recording asks of size classes up to `largest` bytes."""
    events = one.events
    begun, begin, end = lives(one)
    size = events["size"][begun].astype("i8")
    aligned = events["operation"][begun] == library.ALIGNED
    align = np.where(aligned, np.left_shift(1, np.minimum(events["align"][begun], 40).astype("i8")), 1)
    need = -(-np.maximum(size, 1) // align) * align
    small = need <= largest
    if not small.any():
        raise TraceError(f"no block of up to {largest} bytes is allocated in the recording")
    start, stop = int(begin.min()), max(int(end.max()), int(begin.max()))
    whole = max(stop - start, 1)
    needs, index = np.unique(need[small], return_inverse=True)
    begin, end, size = begin[small] - start, end[small] - start, size[small]
    lived = np.maximum(end - begin, 0) / whole
    moments = (np.arange(MOMENTS) + 0.5) * whole / MOMENTS
    change = np.zeros((MOMENTS + 1, len(needs)))
    np.add.at(change, (np.searchsorted(moments, begin), index), 1)
    np.add.at(change, (np.searchsorted(moments, end), index), -1)
    names, thread = np.unique(events["thread"][begun][small], return_inverse=True)
    users = np.zeros((len(names), len(needs)), bool)
    users[thread, index] = True
    return Demand(needs, np.bincount(index, lived), np.bincount(index, lived * size), np.cumsum(change, 0)[:-1],
                  users.sum(0), users)


def waste(asked, table):
    """Mean bytes that are wasted inside blocks. Raises TraceError where the table has no class for one."""
    table = np.asarray(table)
    place = np.searchsorted(table, asked.need)
    if place.max() == len(table):
        raise TraceError(f"a table that ends at {table[-1]} bytes has no class for blocks of {asked.need[-1]}")
    return float((table[place] * asked.time - asked.bytes).sum())


def cost(asked, table):
    """All that a table costs."""
    inside = waste(asked, table)
    table = np.asarray(table)
    place = np.searchsorted(table, asked.need)
    used, starts = np.unique(place, return_index=True)
    size = table[used]
    live = np.add.reduceat(asked.live, starts, axis=1)
    most = np.maximum.accumulate(live, axis=0) * size
    slabs = float((-(-most // PAGE) * PAGE - live * size).mean(axis=0).sum())
    batch = size * np.maximum(1, np.minimum(REFILL, PAGE // size))
    threads = np.logical_or.reduceat(asked.users, starts, axis=1).sum(0)
    return Cost(inside, slabs, float((threads * batch / 2).sum()))


def candidates(needs, smallest, largest):
    """The sizes that a best table may have."""
    powers = [1 << n for n in range(smallest.bit_length() - 1, largest.bit_length())]
    rounded = -(-np.asarray(needs) // UNIT) * UNIT
    inside = rounded[(rounded >= smallest) & (rounded <= largest)]
    return np.unique(np.concatenate([inside, powers]).astype("i8"))


def best_tables(asked, smallest=16, largest=32768, most=size_class.CLASSES_MOST):
    """{k: table} of the k classes that waste least inside blocks, for each k that there can be."""
    sizes = candidates(asked.need, smallest, largest)
    upto = np.searchsorted(asked.need, sizes, side="right")
    time = np.concatenate([[0.0], np.cumsum(asked.time)])[upto]
    total = np.concatenate([[0.0], np.cumsum(asked.bytes)])[upto]
    powers = np.flatnonzero(sizes & (sizes - 1) == 0)
    # Between two powers: what class j costs after class i, for all i before j in the same stretch.
    stretches = []
    for low, high in zip(powers[:-1], powers[1:]):
        before, at = np.arange(low, high)[:, None], np.arange(low + 1, high + 1)[None, :]
        costs = sizes[at] * (time[at] - time[before]) - (total[at] - total[before])
        stretches.append((low, high, np.where(before < at, costs, np.inf)))
    least = np.full(len(sizes), np.inf)
    least[0] = sizes[0] * time[0] - total[0]
    came = []  # [k - 2][j] → the class before j in the best table of k classes that ends with j
    found = {}
    for count in range(1, min(most, len(sizes)) + 1):
        if np.isfinite(least[-1]):
            table, at = [], len(sizes) - 1
            for previous in reversed(came):
                table.append(int(sizes[at]))
                at = previous[at]
            found[count] = [int(sizes[at]), *reversed(table)]
        following, previous = np.full(len(sizes), np.inf), np.zeros(len(sizes), "i8")
        for low, high, costs in stretches:
            sums = least[low:high, None] + costs
            where = np.argmin(sums, axis=0)
            following[low + 1:high + 1] = sums[where, np.arange(high - low)]
            previous[low + 1:high + 1] = low + where
        least = following
        came.append(previous)
    return found


def halves(one):
    """The recording in two: what happens in the first half of its events, and in the second."""
    from . import cutting, recording

    # The clock is too coarse to cut by; events say exactly where the middle is.
    order = one.sorted[0]
    middle = (int(one.events["time"][order[:len(order) // 2]].max()) - one.begin_ns) / 1e9
    if not 0 < middle < one.seconds:
        raise TraceError("the recording has no two halves: its clock stands still")
    parts = []
    for begin, end in ((None, middle), (middle, None)):
        events, runs = cutting.cut(one, begin, end)
        parts.append(recording.Recording(recording.parts_of("a half", cutting.pack(events, runs, one.flags | library.CUT))))
    return parts
