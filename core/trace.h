/* SPDX-License-Identifier: MIT */
/* The trace ring: the last events on cold paths, of all threads. A process that the library stops prints it. Without
 * CONFIG_TRACE each function here is empty.
 *
 * Any thread may record, also in a signal handler: an event takes the next number with one atomic addition, and the
 * place that belongs to the number. Nothing is allocated and no lock is taken. A thread that prints while others
 * record leaves out the events that are being overwritten. */
#ifndef HAK_TRACE_H
#define HAK_TRACE_H

#include "core/types.h"

enum hak_event {
    HAK_EVENT_MALLOC,     /* what the cache had: NULL is a miss */
    HAK_EVENT_FREE,       /* what free was given, whatever becomes of it */
    HAK_EVENT_REFILL,     /* the cache had none */
    HAK_EVENT_LAST_TRY,   /* no memory: the second attempt, after a trim */
    HAK_EVENT_LARGE,      /* a block above the largest class */
    HAK_EVENT_FLUSH,      /* the cache had no room */
    HAK_EVENT_FREE_OTHER, /* to the back end: large, another thread's, or no block */
    HAK_EVENT_RESIZE,     /* realloc where the block lies */
    HAK_EVENT_MOVE,       /* realloc by moving pages */
    HAK_EVENT_COPY,       /* realloc by copying */
    HAK_EVENT_TRIM,       /* cache, store and shard give back all they hold */
    HAK_EVENT_PURGE,      /* pages went back to the operating system */
    HAK_EVENT_ATTACH,     /* a thread got a heap */
    HAK_EVENT_DETACH,     /* a thread gives its heap up */
    HAK_EVENTS,
};

void hak_trace_record(enum hak_event event, const void *pointer, size_t size) hak_cold;
void hak_trace_write(void) hak_cold;

/* `size` in bytes; 0 where it is not known. */
static inline void hak_trace(enum hak_event event, const void *pointer, size_t size)
{
    if (enabled(CONFIG_TRACE))
        hak_trace_record(event, pointer, size);
}

/* For the two hot paths. */
static inline void hak_trace_hit(enum hak_event event, const void *pointer)
{
    if (enabled(CONFIG_TRACE_HITS))
        hak_trace_record(event, pointer, 0);
}

/* Writes the ring to stderr, the oldest event first. */
static inline void hak_trace_print(void)
{
    if (enabled(CONFIG_TRACE))
        hak_trace_write();
}

#endif
