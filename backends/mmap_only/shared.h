/* SPDX-License-Identifier: MIT */
/* The slabs that all threads share: of each class, those that have something to give. */
#ifndef HAK_MMAP_ONLY_SHARED_H
#define HAK_MMAP_ONLY_SHARED_H

#include "backends/mmap_only/slab.h"
#include "core/atomic.h"
#include "core/lock.h"

/* The slabs of a class that have something to give. */
struct shared_class {
    _Alignas(HAK_CACHE_LINE) struct hak_lock lock;
    struct slab *filled; /* with free blocks */
    struct slab *blank;  /* with nothing but pages to cut */

    /* A round of upkeep visits every slab that is filled. */
    uint32_t round_at;       /* when the last one began; relaxed reads without the lock */
    struct slab *round_slab; /* the next one; relaxed reads without the lock */
    struct slab *trim_slab;  /* likewise of a trim, which leaves no slab for later */
};

extern struct shared_class shared_classes[HAK_CLASSES];

struct shared_class *shared_lock(hak_class cls);

/* Whether a slab has free, blank or fresh blocks. */
bool shared_has_something(const struct slab *slab);

/* Puts a slab on the list where it belongs, if on any; takes it off. */
void shared_list(struct shared_class *shared, struct slab *slab);
void shared_unlist(struct shared_class *shared, struct slab *slab);

/* A slab has got free blocks; `had` says whether it had some. An empty one goes from its list to *empty. One that
 * is being purged is on none, and not empty. */
void shared_relist(struct shared_class *shared, struct slab *slab, bool had, struct slab **empty);

/* A slab that is not listed yet. NULL: out of memory. */
struct slab *shared_new(hak_class cls);

/* Gives empty slabs, linked by `next` and listed nowhere, back. */
void shared_delete(struct slab *slab);

/* hak_clock_ms of the last tick, as near as slabs need it; relaxed atomic. */
extern uint32_t shared_clock;

/* Free blocks of the slab come or go. */
static inline void shared_touch(struct slab *slab)
{
    slab->touched_at = atomic_load_relaxed(&shared_clock) | 1;
}

#endif
