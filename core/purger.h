/* SPDX-License-Identifier: MIT */
/* The purge thread (CONFIG_PURGE_THREAD): does due work in a process in which no thread runs cold paths. Without the
 * option, nothing here is compiled.
 *
 *   none ── malloc, when the process is large enough ──► passing ◄──────────┐
 *                                                          │ some passes    │ a cold path
 *                                                          ▼ after the last │
 *                                                         idle ─────────────┘
 *
 * A pass visits every heap whose owner has not ticked since the last one. The purge thread enters the heap as the owner
 * does (inside.h), and then has the shard to itself; it leaves the cache alone, as the hit paths use that at any time.
 * It never waits for an owner: a heap in use is left for the next pass. An owner waits for one step at most.
 *
 * fork stops the purge thread between two steps. The child has none until its malloc starts one.
 *
 * invariant: the purge thread is inside a heap, or has claimed one, only while it holds HAK_RANK_PURGE */
#ifndef HAK_PURGER_H
#define HAK_PURGER_H

#include "core/heap.h"

#ifdef CONFIG_PURGE_THREAD

enum { HAK_PURGER_NEWS, HAK_PURGER_NO_NEWS, HAK_PURGER_IDLE };

/* Whether there was a cold path since the purge thread's last pass. Atomic. */
extern uint32_t hak_purger_news;

void hak_purger_rouse(void) hak_cold;
void hak_purger_start(const struct hak_heap *heap) hak_cold;

/* After a cold path, which may have left memory to be given back. */
static inline void hak_purger_note(void)
{
    if (unlikely(atomic_load_relaxed(&hak_purger_news) != HAK_PURGER_NEWS))
        hak_purger_rouse();
}

/* The process's forks are handled: from now on it may have a purge thread. */
void hak_purger_allow(void);

/* Starts the purge thread if the process is large enough by now.
 * pre: called from malloc, after its cold path; `heap` is the one that the calling thread has, or had for this call */
extern bool hak_purger_started;

static inline void hak_purger_want(const struct hak_heap *heap)
{
    if (unlikely(!atomic_load_relaxed(&hak_purger_started)))
        hak_purger_start(heap);
}

/* A thread ends. After the main thread has, the purge thread checks whether it is the only one left. */
void hak_purger_thread_ends(void);

/* The lock under which the purge thread works, HAK_RANK_PURGE. */
void hak_purger_lock(void);
void hak_purger_unlock(void);
void hak_purger_fork_child(void);

#else

static inline void hak_purger_note(void)
{
}

static inline void hak_purger_want(const struct hak_heap *heap)
{
    (void)heap;
}

static inline void hak_purger_allow(void)
{
}

static inline void hak_purger_thread_ends(void)
{
}

static inline void hak_purger_lock(void)
{
}

static inline void hak_purger_unlock(void)
{
}

static inline void hak_purger_fork_child(void)
{
}

#endif

#endif
