/* SPDX-License-Identifier: MIT */
/* A heap is a thread's state: the front end's cache and the back end's shard, side by side.
 *
 * A thread finds its heap through one pointer in initial-exec TLS. That pointer starts out at a
 * constant empty heap, in which every look-up fails and every list is empty, so that malloc and free
 * go to their cold paths by themselves and need no test for "initialised?". The cold path of malloc
 * attaches a heap; free never does.
 *
 *   no heap ── hak_heap_attach ──► attached ── thread exits ──► parked ── attach, claim ──► …
 *
 * When a thread ends, destructors may still allocate after its heap was parked. It then borrows a heap
 * for the length of one cold path, as nobody would tell it when to park that one.
 *
 * Heaps are never unmapped: a heap whose thread has ended is parked, with its slabs, and the next new
 * thread takes the one that was parked last. A thread that wants slabs may claim a parked heap; it is
 * that heap's owner until it releases it.
 *
 * invariant: a heap is attached to one thread, or parked, or claimed by one thread, or frozen
 * invariant: `inside` is taken while a thread is in a cold path of a heap that it owns
 *
 * fork: in the child the heaps of threads that are gone are parked if `inside` is free, though what
 * their caches held is lost; the others may be half-changed and are frozen: their blocks can be read
 * and freed, but nobody owns them any more. */
#ifndef HAK_HEAP_H
#define HAK_HEAP_H

#include "core/frontend.h"
#include "core/inside.h"

struct hak_heap {
    struct hak_shard shard; /* first: its first line is what free reads */
    struct hak_cache cache;

    /* the owner's */
    uint32_t cold_paths; /* atomic; counts, to tick now and then */
    bool armed;          /* the thread's end will detach it */
    bool borrowed;       /* the thread has ended: the end of this cold path detaches it */

    struct hak_inside inside; /* in a cold path; read by fork */

    /* under HAK_RANK_HEAPS */
    bool parked;
    struct hak_heap *parked_next;
    struct hak_heap *all_next; /* constant */
};

/* What a thread has before its first heap, and after its last; both are empty. */
extern const struct hak_heap hak_heap_empty;
extern const struct hak_heap hak_heap_ended;

/* Never written through while it points to the empty heap. */
extern _Thread_local struct hak_heap *hak_heap_mine
    __attribute__((tls_model("initial-exec"), visibility("hidden")));

static inline bool hak_heap_is_empty(const struct hak_heap *heap)
{
    return heap == &hak_heap_empty || heap == &hak_heap_ended;
}

/* Gives the calling thread a heap: a parked one, or a new one. NULL: out of memory; the thread still
 * has the empty heap. */
struct hak_heap *hak_heap_attach(void) hak_cold;

/* A heap that is attached to no thread: a parked one, or a new one. It is the caller's until he attaches it or
 * releases its shard. NULL: out of memory. */
struct hak_heap *hak_heap_take(void);

/* The first of all heaps, to be followed by `all_next`. */
struct hak_heap *hak_heap_all(void);

/* Takes all locks, in the order of their ranks, and releases them: what threads share stands still in between,
 * for fork and for statistics. The thread that has stopped the heaps may call what takes those locks; it
 * must not be stopping them already (hak_lock_is_forking). */
void hak_heap_stop(void);
void hak_heap_resume(void);

/* Registers the handlers of fork, unless that is done. It is called by the first constructor of the program or
 * library that we are part of, by the first thread that gets a heap, and before another library's handlers are
 * registered, whatever comes first: before then nobody forks while another thread holds a lock of ours.
 * Not to be called under a lock. */
void hak_heap_handle_forks(void);

/* Whether the handlers of fork are in place, and this thread does not just run them. */
bool hak_heap_knows_fork(void);

/* Opens and closes a cold path of this thread's heap. Leaving does overdue work now and then. */
void hak_heap_enter(struct hak_heap *heap);
void hak_heap_leave(struct hak_heap *heap);

#endif
