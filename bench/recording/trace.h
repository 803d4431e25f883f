/* SPDX-License-Identifier: MIT */
/* Reads and writes recordings (core/record_format.h): for bench/trace, which calls it through ctypes, and for what
 * replays one. Nothing here prints. Indices count events from 0. */
#ifndef HAKMEM_TRACE_H
#define HAKMEM_TRACE_H

#include <stddef.h>
#include <stdint.h>

struct trace_event {
    uint64_t address; /* 0 where the operation has none */
    uint64_t size;    /* bytes asked for; of LOST how many events; of TOUCHED how many pages */
    uint64_t
        time; /* CLOCK_MONOTONIC in ns, of the last look at the clock: the event was not earlier */
    uint32_t thread; /* as recorded */
    uint32_t runs;   /* TOUCHED: where its runs begin in the array of runs: how many, then pairs */
    uint64_t turn;   /* of a TURN before it; 0: none */
    uint8_t operation; /* enum hak_record_operation: never GAP, SWITCH, ODD or TURN */
    uint8_t align;     /* log2 */
    uint8_t unused[6];
};

enum trace_trouble {
    TRACE_NO_HEADER = 1, /* what is there is no recording */
    TRACE_VERSION,       /* value: the version, which is not known */
    TRACE_GARBAGE,       /* where a chunk should be */
    TRACE_SHORT,         /* the file ends in the middle of a chunk */
    TRACE_CHECKSUM,      /* what a chunk holds is not what was written */
    TRACE_EVENT,         /* an event that cannot be; value: its first byte */
    TRACE_COUNT,         /* a chunk has another number of events than it says; value: how many */
    TRACE_MISSING,       /* chunks are missing before this one; value: its number */
    TRACE_OPEN,          /* no mistake: a chunk that was being written to; value: events in it */
    TRACE_UNUSED,        /* bytes that should be zero are not */
};

struct trace_problem {
    uint64_t offset; /* in the data */
    uint64_t value;
    uint32_t kind; /* enum trace_trouble */
    uint32_t thread;
};

enum { TRACE_PROBLEMS = 64 };

struct trace_summary {
    uint64_t events, runs;               /* decoded; words in the array of runs */
    uint64_t chunks, open_chunks, bytes; /* `bytes` of events and headers */
    uint64_t damaged;                    /* chunks left out */
    uint64_t begin_ns, end_ns;
    double
        ns_per_tick; /* in: 0, or what to take where a chunk does not tell; out: of the last one that did */
    uint32_t last;          /* 1: the end was written: the thread did not die in the middle */
    uint32_t problem_count; /* may be more than there is room for */
    struct trace_problem problems[TRACE_PROBLEMS];
};

/* Decodes a file, or several put one behind the other. With events NULL counts only; `summary` is filled in either
 * way. `runs` may be NULL too. The data is written to (checksums are computed in place): a private mapping will do. */
void trace_decode(uint8_t *data, size_t size, struct trace_event *events, uint32_t *runs,
                  struct trace_summary *summary);

struct trace_header {
    uint32_t flags, process, parent, image, part, page, thread, unused;
    uint64_t start_ns;
};

/* What the header at the start of the data says. 0: there is none. */
int trace_read_header(const uint8_t *data, size_t size, struct trace_header *header);

/* Writes one thread's events as a file: how many bytes it takes; `out` may be NULL to learn that. The events' times
 * must not fall. */
size_t trace_encode(const struct trace_header *header, const struct trace_event *events,
                    size_t count, const uint32_t *runs, uint8_t *out);

enum { TRACE_UNKNOWN = -1, TRACE_IMPOSSIBLE = -2 };

struct trace_order_report {
    uint64_t unknown; /* frees of blocks that the recording does not have */
    uint64_t
        impossible; /* events where allocations and frees do not alternate, or that wait for each other */
    uint64_t first;     /* the first of these */
    uint64_t transfers; /* frees by another thread than the one that allocated */
    uint64_t late;      /* events that wait for another thread's, although their time is earlier */
};

/* Puts all threads' events into an order that keeps each thread's own order and, at each address, that of turns;
 * what these leave open is ordered by time. events[starts[t] .. starts[t + 1]) are those of the t-th of `threads`
 * threads. order[] gets the indices in that order; after[i] the index of the event that event i comes right after
 * at its address, if several threads had events there (UINT32_MAX: none); block[i] the index of the allocation that
 * a free, GIVE or TOUCHED is about (TRACE_UNKNOWN: not in the recording), for others i itself or the block that a
 * RETRACT gives back, and TRACE_IMPOSSIBLE. 0: out of memory, or 2^31 events. */
int trace_order(const struct trace_event *events, const uint64_t *starts, uint32_t threads,
                uint32_t *order, uint32_t *after, int32_t *block,
                struct trace_order_report *report);

/* How many allocations lie over a block that lives, in the order that was found; *first is one. UINT64_MAX: out of
 * memory. */
uint64_t trace_overlaps(const struct trace_event *events, const uint32_t *order,
                        const int32_t *block, uint64_t count, uint64_t *first);

#endif
