# SPDX-License-Identifier: MIT
"""Every invariant of a recording: (mistakes, notes), a line each."""

import numpy as np

from . import library

MOST = 20  # lines of one kind

WORDS = {
    library.NO_HEADER: "no recording starts here",
    library.VERSION: "version {value} of the format is not known here: update bench/recording",
    library.GARBAGE: "what stands where a chunk should begin is none",
    library.SHORT: "the file ends in the middle of a chunk, after {value} bytes of it",
    library.CHECKSUM: "chunk {value} is not what was written: its checksum is another; it is left out",
    library.EVENT_BAD: "an event that cannot be, first byte {value:#04x}; the rest of the chunk is left out",
    library.COUNT: "a chunk has {value} events, not as many as it says",
    library.MISSING: "chunks are missing before number {value}",
    library.OPEN: "a chunk was still being written to: its {value} events are there, without a checksum",
    library.UNUSED: "{value} bytes behind a chunk are not all zero",
}
NOTES = (library.OPEN,)


def _of_parts(recording):
    mistakes, notes = [], []
    for part in recording.parts:
        count = min(part.summary.problem_count, len(part.summary.problems))
        for problem in part.summary.problems[:count]:
            words = WORDS[problem.kind].format(value=problem.value)
            line = f"{part.source}: byte {part.offset + problem.offset}: {words}"
            (notes if problem.kind in NOTES else mistakes).append(line)
        if part.summary.problem_count > count:
            mistakes.append(f"{part.source}: {part.summary.problem_count - count} more like these")
    return mistakes, notes


def describe(recording, index):
    event = recording.events[index]
    return (f"event {index - int(recording.starts[list(recording.threads).index(event['thread'])])} of thread "
            f"{event['thread']}, {library.OPERATIONS[event['operation']]} of {event['address']:#x}")


def check(recording):
    mistakes, notes = _of_parts(recording)
    events = recording.events
    if not len(events):
        return mistakes, notes
    damaged = any(part.summary.damaged or part.summary.problem_count for part in recording.parts if any(
        problem.kind not in NOTES for problem in part.summary.problems[:part.summary.problem_count]))
    order, _, block, report = recording.sorted

    lost = int(events["size"][events["operation"] == library.LOST].sum())
    if lost:
        notes.append(f"{lost} events could not be written, as signals struck the recorder itself")
    if report.impossible:
        wrong = np.flatnonzero(block == library.IMPOSSIBLE)
        mistakes += [f"allocation and free do not alternate: {describe(recording, int(index))}"
                     for index in wrong[:MOST]]
        if len(wrong) > MOST:
            mistakes.append(f"{len(wrong) - MOST} more like these")
    if report.unknown:
        whole = not recording.flags & library.FORKED
        line = f"{report.unknown} frees of blocks that the recording does not have"
        notes.append(line + (", from before it began" if whole else ", of the process that it was forked from"))

    aligned = np.flatnonzero((events["operation"] == library.ALIGNED) & (events["align"] < 64))
    low = (np.uint64(1) << events["align"][aligned].astype("u8")) - np.uint64(1)
    astray = aligned[(events["address"][aligned] & low) != 0]
    mistakes += [f"a block is not aligned to 2^{events['align'][index]}: {describe(recording, int(index))}"
                 for index in astray[:MOST]]
    if not damaged and not report.impossible and not recording.flags & library.NUMBERED:
        count, first = library.overlaps(events, order, block)
        if count and len(recording.threads) == 1:
            mistakes.append(f"{count} blocks lie over live ones, as {describe(recording, first)}")
        elif count:
            notes.append(f"{count} blocks seem to lie over live ones of other threads: times are too coarse to "
                         "order events at different addresses")
    return mistakes, notes
