# SPDX-License-Identifier: MIT
"""What a recording says of its program, as plain numbers."""

from dataclasses import dataclass

import numpy as np

from . import library

POINTS = 400  # of a curve


@dataclass
class Measures:
    operations: "dict[str, int]"
    requested: int  # bytes
    curve: "tuple[np.ndarray, np.ndarray]"  # seconds, live bytes
    peak: int
    live_at_end: int  # bytes
    blocks_at_end: int
    sizes: "tuple[np.ndarray, np.ndarray, np.ndarray]"  # up to so many bytes: allocations, bytes
    lifetimes: "tuple[np.ndarray, np.ndarray]"  # up to so many seconds: blocks
    lifetimes_bytes: "tuple[np.ndarray, np.ndarray]"  # up to so many bytes allocated meanwhile: blocks
    transfers: int
    freed: int
    moved: int  # reallocs
    grown_in_place: int
    touched: "tuple[int, int]"  # pages, of those of large blocks that were looked at


def _binned(values, weights=None):
    """([upper edge, …], [count, …]) in powers of two, 0 and 1 in the first."""
    if not len(values):
        return np.zeros(0), np.zeros(0)
    bins = np.ceil(np.log2(np.maximum(values, 1))).astype(int)
    counts = np.bincount(bins, weights=weights, minlength=1)
    return 2.0 ** np.arange(len(counts)), counts


def measure(recording):
    events, (order, _, block, report) = recording.events, recording.sorted
    operation, size, time = events["operation"], events["size"].astype("i8"), events["time"].astype("i8")
    takes = np.isin(operation, library.TAKES) & (block >= 0)
    fresh = takes & (operation != library.RETRACT)
    gives = np.isin(operation, library.GIVES) & (block >= 0)
    owner = np.where(block >= 0, block, 0)

    change = np.where(takes, size[owner], 0) - np.where(gives, size[owner], 0)
    live = np.cumsum(change[order])
    clock = np.maximum.accumulate(time[order]) - recording.begin_ns
    edges = np.linspace(0, max(int(clock[-1]), 1), POINTS)
    # The most of each interval: between the two events of a realloc its block is in neither.
    place = np.searchsorted(clock, edges, side="left").clip(0, len(clock) - 1)

    # A realloc in place and one that failed end no life.
    free = operation == library.FREE
    ended = free & (block >= 0)
    born = owner[ended]
    allocated = np.zeros(len(events), "i8")
    allocated[order] = np.cumsum(np.where(fresh, size, 0)[order])
    lives = (time[ended] - time[born]).clip(0) / 1e9
    edges_ns, counts = _binned(lives * 1e9)
    taken_back = np.bincount(owner[gives], minlength=len(events)) - np.bincount(
        owner[takes & (operation == library.RETRACT)], minlength=len(events))
    alive = fresh & (taken_back <= 0)
    kinds = np.bincount(operation, minlength=len(library.OPERATIONS))
    touched = operation == library.TOUCHED
    pages = size[owner[touched & (block >= 0)]] // max(recording.header.page, 1)
    of_sizes = _binned(size[fresh]), _binned(size[fresh], size[fresh].astype(float))
    return Measures(
        operations={name: int(count) for name, count in zip(library.OPERATIONS, kinds) if count},
        requested=int(size[fresh].sum()),
        curve=(edges / 1e9, np.maximum.reduceat(live, place)),
        peak=int(live.max(initial=0)),
        live_at_end=int(size[alive].sum()),
        blocks_at_end=int(alive.sum()),
        sizes=(*of_sizes[0], of_sizes[1][1]),
        lifetimes=(edges_ns / 1e9, counts),
        lifetimes_bytes=_binned((allocated[ended] - allocated[born]).clip(0)),
        transfers=int(report.transfers),
        freed=int((free & (block >= 0)).sum()),
        moved=int((operation == library.TAKE).sum()),
        grown_in_place=int((operation == library.KEEP).sum()),
        touched=(int(size[touched & (block >= 0)].sum()), int(pages.sum())),
    )
