/* SPDX-License-Identifier: MIT */
/* The purge thread (CONFIG_PURGE_THREAD): gives back what is overdue in a process in which no thread makes
 * slow-path calls. Without the option, nothing here is compiled.
 *
 *   none ── malloc, when the process is large enough ──► passing ◄──────────┐
 *                                                          │ some passes    │ a cold path
 *                                                          ▼ after the last │
 *                                                         idle ─────────────┘
 *
 * A pass visits every heap whose owner has not ticked since the last one. It enters the heap as the owner
 * does (inside.h), and so is the only one at the shard; the owner's cache it leaves alone, as the hit paths
 * use that at any time. It waits for nobody: a heap that is in use is left for the next pass. So an owner
 * waits for a step, and nobody for him.
 *
 * fork stops it between two steps and has no such thread in the child, where malloc starts one when it is
 * needed again.
 *
 * invariant: the purge thread is inside a heap, or has claimed one, only while it holds HAK_RANK_PURGE */
#ifndef HAK_PURGER_H
#define HAK_PURGER_H

#include "core/heap.h"

#ifdef CONFIG_PURGE_THREAD

enum { HAK_PURGER_NEWS, HAK_PURGER_NO_NEWS, HAK_PURGER_IDLE };

/* What the purge thread is told: whether there was a cold path since its last pass. Atomic. */
extern uint32_t hak_purger_news;

void hak_purger_rouse(void) hak_cold;
void hak_purger_start(const struct hak_heap *heap) hak_cold;

/* After something that may leave memory to be given back. */
static inline void hak_purger_note(void)
{
    if (unlikely(atomic_load_relaxed(&hak_purger_news) != HAK_PURGER_NEWS))
        hak_purger_rouse();
}

/* On the cold paths of malloc, outside of the heap: starts the thread if there should be one by now. free does
 * not, as it is called where no thread can be made: by libc itself, under the locks of its stacks.
 * pre: the heap that the calling thread has, or had for this call */
extern bool hak_purger_started;

static inline void hak_purger_want(const struct hak_heap *heap)
{
    if (unlikely(!atomic_load_relaxed(&hak_purger_started)))
        hak_purger_start(heap);
}

/* A thread ends. If that is the main thread, the purge thread looks from then on whether it is the last. */
void hak_purger_thread_ends(void);

void hak_purger_fork_prepare(void);
void hak_purger_fork_parent(void);
void hak_purger_fork_child(void);

#else

static inline void hak_purger_note(void)
{
}

static inline void hak_purger_want(const struct hak_heap *heap)
{
    (void)heap;
}

static inline void hak_purger_thread_ends(void)
{
}

static inline void hak_purger_fork_prepare(void)
{
}

static inline void hak_purger_fork_parent(void)
{
}

static inline void hak_purger_fork_child(void)
{
}

#endif

#endif
