# SPDX-License-Identifier: MIT
"""A recording as a script for bench/replay: what each thread does, with numbers of slots in place of addresses.

  header   8 words: magic, version | threads << 32, slots, operations, checksum, 0, 0, 0
  threads  2 words each: the first operation, how many
  operations, 2 words each: kind | align << 8 | flags << 16 | slot << 32, value

A slot holds a block. A thread uses the slots of its own again, last in, first out. A block that another thread frees lies in
a slot that nothing else has ever lain in, so that the other thread sees whether it is there yet; it adopts the block
into a slot of its own. The thread that has the first event starts the others, each where its first event lies in the
recording's order. All numbers are little-endian words of 64 bits."""

import numpy as np

from . import checking, library
from .library import TraceError

MAGIC, VERSION = 0x3150_4B48, 1  # "HKP1"
MALLOC, CALLOC, ALIGNED, FREE, REALLOC, ADOPT, TOUCH, SPAWN, AT = range(9)
UNTOUCHED, CHECKED, GROWS = 1, 2, 4  # flags
STEP_NS = 100_000  # how much time passes at least between two notes of it
PAGE, LINE = 4096, 64  # a page's second line is written to
WORD = 8  # bytes that a block needs to be checked


def checksum(words):
    """Of all words, with 0 in place of the checksum."""
    words = words.astype("u8")
    with np.errstate(over="ignore"):
        return int(((words ^ (words >> np.uint64(32))) * (2 * np.arange(len(words), dtype="u8") + 1)).sum(dtype="u8"))


def _mates(one):
    """Of each GIVE the event of its thread that ends the realloc; -1: none."""
    operation, mates = one.events["operation"], np.full(len(one.events), -1, "i8")
    halves = np.isin(operation, (library.GIVE, library.KEEP, library.TAKE, library.RETRACT))
    for begin, end in zip(one.starts[:-1], one.starts[1:]):
        found = np.flatnonzero(halves[int(begin):int(end)]) + int(begin)
        first = found[:-1][(operation[found[:-1]] == library.GIVE) & (operation[found[1:]] != library.GIVE)]
        mates[first] = found[1:][(operation[found[:-1]] == library.GIVE) & (operation[found[1:]] != library.GIVE)]
    return mates


class _Thread:
    def __init__(self):
        self.words = []
        self.free = []  # slots
        self.noted = 0  # ns

    def say(self, kind, slot=0, value=0, align=0, flags=0):
        self.words.append(kind | align << 8 | flags << 16 | slot << 32)
        self.words.append(value)


def _touched(one, block):
    """{block: [(first page, pages), …]} where the recording says what of it was touched."""
    found = {}
    for index in np.flatnonzero((one.events["operation"] == library.TOUCHED) & (block >= 0)):
        at = int(one.events["runs"][index])
        pairs = one.runs[at + 1:at + 1 + 2 * int(one.runs[at])].reshape(-1, 2).tolist()
        page, runs = 0, []
        for untouched, touched in pairs:
            runs.append((page + untouched, touched))
            page += untouched + touched
        found[int(block[index])] = runs
    return found


def words_of(one):
    """The script of a recording, as an array of words. Raises TraceError unless every invariant of it holds."""
    mistakes, _ = checking.check(one)
    if mistakes:
        raise TraceError(f"it is not in order, and is not replayed: {mistakes[0]}; `bench/trace check` shows all")
    order, _, block, _ = one.sorted
    mates, touched = _mates(one), _touched(one, block)
    operation, size = one.events["operation"], one.events["size"]
    retracts = (mates >= 0) & (operation[mates] == library.RETRACT)
    _, thread = np.unique(one.events["thread"], return_inverse=True)
    gives = np.flatnonzero(np.isin(operation, library.GIVES) & (block >= 0) & ~retracts)
    crosses = np.zeros(len(one.events), bool)
    crosses[block[gives]] = thread[block[gives]] != thread[gives]

    # Plain lists: they are read one by one.
    operation, size, crosses, retracts = operation.tolist(), size.tolist(), crosses.tolist(), retracts.tolist()
    mates, thread, block = mates.tolist(), thread.tolist(), block.tolist()
    time, align = (one.events["time"] - np.uint64(one.begin_ns)).tolist(), one.events["align"].tolist()
    threads = [_Thread() for _ in one.threads]
    first = thread[int(order[0])]
    started = {first}
    slots, slot_of, has_mate = 0, {}, set()
    kinds = {library.CALLOC: CALLOC, library.ALIGNED: ALIGNED}

    def new_slot(mine, alone):
        nonlocal slots
        if mine.free and not alone:
            return mine.free.pop()
        slots += 1
        return slots - 1

    def take_over(mine, number, what):
        """The slot in which the thread has a block that it gives up."""
        slot = slot_of.pop(what)
        if crosses[what]:
            own = new_slot(mine, False)
            mine.say(ADOPT, own, slot)
            return own
        return slot

    def touch(mine, slot, index):
        """A block may lie elsewhere in its first page than it did: what would be written behind it is left out."""
        end = (size[index] - LINE - 1) // PAGE + 1
        for page, count in touched.get(index, ()):
            if min(page + count, end) > page:
                mine.say(TOUCH, slot, page << 32 | min(page + count, end) - page)

    for index in order.tolist():
        kind, number = operation[index], thread[index]
        mine = threads[number]
        if number not in started:
            started.add(number)
            threads[first].say(SPAWN, value=number)
        if time[index] - mine.noted >= STEP_NS:
            mine.noted = time[index]
            mine.say(AT, value=time[index])
        if kind in library.TAKES and index not in has_mate and kind != library.RETRACT:
            slot = slot_of[index] = new_slot(mine, crosses[index])
            exact = index in touched
            mine.say(kinds.get(kind, MALLOC), slot, size[index], align[index], UNTOUCHED if exact else 0)
            touch(mine, slot, index)
        elif kind in library.GIVES and block[index] >= 0 and not retracts[index]:
            what, mate = block[index], mates[index]
            slot = take_over(mine, number, what)
            if kind == library.FREE or mate < 0:
                mine.say(FREE, slot, size[what], flags=CHECKED if size[what] >= WORD else 0)
                mine.free.append(slot)
                continue
            has_mate.add(mate)
            flags = CHECKED if min(size[what], size[mate]) >= WORD else 0
            flags |= UNTOUCHED if mate in touched else GROWS if size[mate] > size[what] else 0
            mine.say(REALLOC, slot, size[mate], flags=flags)
            touch(mine, slot, mate)
            if crosses[mate]:
                alone = new_slot(mine, True)
                mine.say(ADOPT, alone, slot)
                mine.free.append(slot)
                slot = alone
            slot_of[mate] = slot

    table, at = [], 0
    for mine in threads[first:first + 1] + [other for number, other in enumerate(threads) if number != first]:
        table += [at, len(mine.words) // 2]
        at += len(mine.words) // 2
    # The first thread is number 0 of the script.
    renumber = {number: place for place, number in enumerate([first, *(n for n in range(len(threads)) if n != first)])}
    streams = []
    for number in renumber:
        words = np.array(threads[number].words, "u8").reshape(-1, 2)
        spawns = (words[:, 0] & np.uint64(255)) == SPAWN
        words[spawns, 1] = [renumber[int(other)] for other in words[spawns, 1]]
        streams.append(words.ravel())
    words = np.concatenate([np.array([MAGIC, VERSION | len(threads) << 32, slots, at, 0, 0, 0, 0, *table], "u8"), *streams])
    words[4] = checksum(words)
    return words
