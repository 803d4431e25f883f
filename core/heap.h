/* SPDX-License-Identifier: MIT */
/* A heap is a thread's part of the allocator: the front end's cache and the back end's shard, side by side. This file
 * has the heaps themselves; which thread has which, and when, is thread.h's.
 *
 *   take ──► attached to a thread ──► release: parked ──► take, claim ──► …
 *
 * Heaps are never unmapped: a heap whose thread has ended is parked, with its slabs, and the next new
 * thread takes the one that was parked last. A thread that wants slabs may claim a parked heap; it is
 * that heap's owner until it releases it.
 *
 * invariant: a heap is attached to one thread, or parked, or claimed by one thread, or frozen
 * invariant: `inside` is taken while a thread is in a cold path of a heap that it owns
 *
 * In a forked child the heaps of threads that are gone are parked if `inside` is free, though what
 * their caches held is lost; the others may be half-changed and are frozen: their blocks can be read
 * and freed, but no thread owns them any more. */
#ifndef HAK_HEAP_H
#define HAK_HEAP_H

#include "core/inside.h"
#include "core/store.h"

struct hak_heap {
    union {
        struct hak_shard shard; /* first: its first line is what free reads */
        struct hak_counted_shard counted;
    };
    struct hak_cache cache;

    /* the owner's */
    uint32_t cold_paths; /* atomic; counts, to tick now and then */
    bool armed;          /* the thread's end will detach it (thread.h) */
    bool borrowed;       /* the thread has ended: the end of this cold path detaches it */

    struct hak_inside inside; /* in a cold path; read by fork */

    /* under HAK_RANK_HEAPS */
    bool parked;
    struct hak_heap *parked_next; /* a relaxed atomic, read as a hint without the lock */
    struct hak_heap *all_next;    /* constant */
};

/* What a thread has before its first heap, and after its last; both are empty: every look-up fails in them and every
 * list is empty, so that malloc and free go to their cold paths by themselves and need no test for "initialised?". */
extern const struct hak_heap hak_heap_empty;
extern const struct hak_heap hak_heap_ended;

/* Likewise, at each step of a cache line: a thread that frees without a heap counts on this row (thread.h). */
enum { HAK_FREES_TO_ARM = 16, HAK_FREES_TO_ATTACH = 32 };
struct hak_heap_row {
    struct hak_heap first;
    char steps[HAK_FREES_TO_ATTACH][HAK_CACHE_LINE];
};
extern const struct hak_heap_row hak_heap_row;

/* The calling thread's heap. Never written through while it points to an empty one. */
extern _Thread_local struct hak_heap *hak_heap_mine
    __attribute__((tls_model("initial-exec"), visibility("hidden")));

static inline bool hak_heap_is_empty(const struct hak_heap *heap)
{
    return heap == &hak_heap_empty || heap == &hak_heap_ended ||
           (uintptr_t)heap - (uintptr_t)&hak_heap_row < sizeof(hak_heap_row);
}

/* Cold paths between two ticks. */
enum { HAK_TICK_EVERY = 16 };

/* A heap that is attached to no thread: a parked one, or a new one. It is the caller's until it is released.
 * NULL: out of memory.
 * sync: takes HAK_RANK_HEAPS */
struct hak_heap *hak_heap_take(void);

/* The first of all heaps, to be followed by `all_next`. */
struct hak_heap *hak_heap_all(void);

/* The lock of the list of heaps, HAK_RANK_HEAPS. */
void hak_heap_lock(void);
void hak_heap_unlock(void);

/* In a forked child: parks the heaps of all threads but this one's, which are no more, unless they were in a cold path.
 * pre: the lock is held; `mine` is the heap of this thread */
void hak_heap_park_others(const struct hak_heap *mine);

/* The due work of front end and back end. */
void hak_heap_tick(struct hak_heap *heap) hak_cold;

/* Opens a cold path of a heap.
 * pre: the caller owns the heap and is in no cold path of it */
static inline void hak_heap_enter(struct hak_heap *heap)
{
    hak_inside_enter(&heap->inside);
}

/* Closes a cold path. Does due work now and then: returns whether it did. */
static inline bool hak_heap_leave(struct hak_heap *heap)
{
    bool ticks = (heap->cold_paths + 1) % HAK_TICK_EVERY == 0;

    atomic_store_relaxed(&heap->cold_paths, heap->cold_paths + 1);
    if (unlikely(ticks))
        hak_heap_tick(heap);
    hak_assert_expensive(frontend_valid(&heap->cache));
    hak_assert_expensive(backend_valid(&heap->shard));
    hak_inside_leave(&heap->inside);
    return ticks;
}

#endif
