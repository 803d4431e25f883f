/* SPDX-License-Identifier: MIT */
/* Whether somebody is in a cold path of a heap.
 *
 * Only a heap's owner enters it, so that a flag is enough, for fork to read. With CONFIG_PURGE_THREAD the
 * purge thread also enters heaps of others, while those are in no cold path: then it is a lock, which
 * the owner finds taken when he comes back too soon. */
#ifndef HAK_INSIDE_H
#define HAK_INSIDE_H

#include "core/atomic.h"
#include "core/lock.h"

#ifdef CONFIG_PURGE_THREAD

struct hak_inside {
    struct hak_lock lock;
    bool ticked; /* atomic; its owner has ticked since the purge thread last looked */
};

static inline void hak_inside_init(struct hak_inside *inside)
{
    inside->lock.rank = HAK_RANK_INSIDE;
}

/* A thread may be in a heap of its own and in one that it has claimed. */
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
