# SPDX-License-Identifier: MIT
"""New recordings from old ones: a slice of time, one file of many, one without addresses."""

import os
import subprocess

import numpy as np

from . import library
from .library import TraceError


def cut(recording, begin=None, end=None, most=None):
    """(events, runs) of a time slice, in seconds from the start, of at most so many events.

    Blocks that live when it begins are allocated at its start, by their threads, so that it has every block that
    is freed in it; a realloc is in it whole or not at all."""
    events, (order, _, block, _) = recording.events, recording.sorted
    position = np.empty(len(events), "i8")
    position[order] = np.arange(len(events))
    clock = np.maximum.accumulate(events["time"][order]) - np.uint64(recording.begin_ns)
    first = int(np.searchsorted(clock, (begin or 0) * 1e9))
    last = len(events) if end is None else int(np.searchsorted(clock, end * 1e9))
    last = min(last, first + most) if most else last
    if first >= last:
        raise TraceError(f"there is no event between {begin or 0} and {end} s: the recording has "
                         f"{recording.seconds:.3f} s")
    inside = (position >= first) & (position < last)
    takes, gives = (np.isin(events["operation"], kinds) for kinds in (library.TAKES, library.GIVES))

    # A block lives at the start when it was taken before and is given up later, or never.
    before = position < first
    end_of = np.full(len(events), -1, "i8")
    for_block = np.flatnonzero(gives & (block >= 0))
    for_block = for_block[np.argsort(position[for_block])]
    end_of[block[for_block]] = for_block  # the last one; a RETRACT gives the block back
    back = np.flatnonzero((events["operation"] == library.RETRACT) & (block >= 0))
    given_back = back[[end_of[block[index]] < 0 or position[end_of[block[index]]] < position[index]
                       for index in back]] if len(back) else back
    end_of[block[given_back]] = -1
    own = block == np.arange(len(events))
    living = np.flatnonzero(before & takes & own & ((end_of < 0) | (position[end_of] >= first)))
    prelude = events[living].copy()
    kinds = prelude["operation"]
    prelude["operation"] = np.where(np.isin(kinds, (library.TAKE, library.KEEP)), library.MALLOC, kinds)
    start = np.uint64(int(events["time"][order[first]]))
    prelude["time"] = start

    # A realloc that the cut goes through is left out: its block stays as it was, or is new.
    keep = inside & (block != library.IMPOSSIBLE)
    unknown = gives & (block == library.UNKNOWN)
    keep &= ~unknown
    middle = events[keep].copy()
    middle["time"] = np.maximum(middle["time"], start)
    kept = np.flatnonzero(keep)
    split = _split_reallocs(recording, keep)
    middle = middle[~np.isin(kept, split)]
    kept = kept[~np.isin(kept, split)]
    all_events = np.concatenate([prelude, middle])
    ranks = np.concatenate([position[living] - len(events), position[kept]])
    by_thread = np.lexsort((ranks, all_events["thread"]))
    return _with_turns(all_events[by_thread], ranks[by_thread]), recording.runs


def _split_reallocs(recording, keep):
    """Events of `keep` that are one half of a realloc whose other half is not in it."""
    operation, found = recording.events["operation"], []
    for begin, end in zip(recording.starts[:-1], recording.starts[1:]):
        inside = np.flatnonzero(keep[begin:end]) + int(begin)
        if not len(inside):
            continue
        kinds = operation[inside]
        halves = np.isin(kinds, (library.GIVE, library.KEEP, library.RETRACT))
        some = inside[halves]
        if len(some) and operation[some[0]] != library.GIVE:
            found.append(some[0])
        if len(some) and operation[some[-1]] == library.GIVE:
            behind = operation[some[-1] + 1:int(end)]
            halves = behind[np.isin(behind, (library.GIVE, library.KEEP, library.RETRACT, library.TAKE))]
            if len(halves) and halves[0] in (library.KEEP, library.RETRACT) and not np.any(
                    kinds[inside > some[-1]] == library.TAKE):
                found.append(some[-1])
    return np.array(found, "i8")


def _with_turns(events, ranks):
    """Events whose turns say their rank at their address, where several threads meet there."""
    events = events.copy()
    events["turn"] = 0
    by_address = np.lexsort((ranks, events["address"]))
    address, thread = events["address"][by_address], events["thread"][by_address]
    fresh = np.append(True, address[1:] != address[:-1])
    group = np.cumsum(fresh) - 1
    low, high = (function.reduceat(thread, np.flatnonzero(fresh)) for function in (np.minimum, np.maximum))
    shared = (low != high)[group] & (address != 0)
    rank = np.arange(len(events)) - np.flatnonzero(fresh)[group] + 1
    turns = np.zeros(len(events), "u8")
    turns[by_address[shared]] = rank[shared]
    events["turn"] = turns
    return events


def without_addresses(events, coarse=False):
    """The same with numbers in place of addresses, from the first block on, that keep what alignment asks for;
    `coarse` rounds sizes up to the next of eight steps in each power of two."""
    events = events.copy()
    places, first, index = np.unique(events["address"], return_index=True, return_inverse=True)
    align = np.zeros(len(places), "u8")
    np.maximum.at(align, index, events["align"].astype("u8"))
    odd = places & np.uint64(7)
    step = np.uint64(1) << np.maximum(align, np.uint64(4))
    fresh, at = np.zeros(len(places), "u8"), 0x10000
    for place in np.argsort(first, kind="stable"):
        if places[place] == 0:
            continue
        here = int(step[place])
        at = (at + here - 1) // here * here
        fresh[place] = at + int(odd[place])
        at += 16
    events["address"] = fresh[index]
    events["time"] -= events["time"].min() if len(events) else np.uint64(0)
    _, numbers = np.unique(events["thread"], return_inverse=True)
    events["thread"] = numbers
    if coarse:
        size = events["size"].astype("f8")
        step = 2.0 ** np.maximum(np.floor(np.log2(np.maximum(size, 1))) - 3, 0)
        rounded = (np.ceil(size / step) * step).astype("u8")
        asked = np.isin(events["operation"], (*library.TAKES, library.REFUSED))
        events["size"] = np.where(asked, rounded, events["size"])
    return events


def pack(events, runs, flags, process=0, start_ns=0, page=4096):
    """The bytes of one file with all threads in it."""
    out = []
    for thread in np.unique(events["thread"]):
        header = library.Header(flags=flags, process=process, thread=int(thread), page=page, start_ns=start_ns)
        out.append(library.encode(header, events[events["thread"] == thread], runs))
    return b"".join(out)


def write(path, data):
    """Writes a recording, packed if the name ends in .zst; it is never there by half."""
    if str(path).endswith(".zst"):
        try:
            done = subprocess.run(["zstd", "-19", "-q", "-c"], input=data, capture_output=True)
        except FileNotFoundError:
            raise TraceError(f"{path}: zstd packs it, and is not installed (Debian: apt-get install zstd)") from None
        if done.returncode:
            raise TraceError(f"{path}: {done.stderr.decode(errors='replace').strip()}")
        data = done.stdout
    elif not str(path).endswith(".trace"):
        raise TraceError(f"{path}: the name of a recording ends in .trace, or .trace.zst for a packed one")
    return write_whole(path, data)


def write_whole(path, data):
    """Writes a file that is never there by half."""
    temporary = f"{path}.{os.getpid()}"
    try:
        with open(temporary, "wb") as file:
            file.write(data)
        os.replace(temporary, path)
    except OSError as error:
        raise TraceError(f"{path}: {error.strerror}") from None
    return len(data)
