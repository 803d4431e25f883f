/* SPDX-License-Identifier: MIT */
/* Whether a thread is in a cold path of a heap.
 *
 * Without CONFIG_PURGE_THREAD only the owner enters a heap, and a flag that fork reads is enough. With it, the purge
 * thread enters heaps too whose owners are in no cold path. Then it is a lock, for which an owner may have to wait. */
#ifndef HAK_INSIDE_H
#define HAK_INSIDE_H

#include "core/atomic.h"
#include "core/lock.h"

#ifdef CONFIG_PURGE_THREAD

struct hak_inside {
    struct hak_lock lock;
    bool ticked; /* atomic; the owner has ticked since the purge thread's last pass */
};

static inline void hak_inside_init(struct hak_inside *inside)
{
    inside->lock.rank = HAK_RANK_INSIDE;
}

/* Nested, as a thread may be in its own heap and in one that it has claimed. */
static inline void hak_inside_enter(struct hak_inside *inside)
{
    hak_lock_nested(&inside->lock);
    atomic_fence_release();
}

static inline void hak_inside_leave(struct hak_inside *inside)
{
    atomic_fence_release();
    hak_unlock(&inside->lock);
}

static inline bool hak_is_inside(const struct hak_inside *inside)
{
    return atomic_load_relaxed(&inside->lock.state) != 0;
}

static inline void hak_inside_tick(struct hak_inside *inside)
{
    atomic_store_relaxed(&inside->ticked, true);
}

#else

struct hak_inside {
    bool taken; /* atomic */
};

static inline void hak_inside_init(struct hak_inside *inside)
{
    (void)inside;
}

static inline void hak_inside_enter(struct hak_inside *inside)
{
    atomic_store_relaxed(&inside->taken, true);
    atomic_fence_release();
}

static inline void hak_inside_leave(struct hak_inside *inside)
{
    atomic_fence_release();
    atomic_store_relaxed(&inside->taken, false);
}

static inline bool hak_is_inside(const struct hak_inside *inside)
{
    return atomic_load_relaxed(&inside->taken);
}

static inline void hak_inside_tick(struct hak_inside *inside)
{
    (void)inside;
}

#endif

#endif
