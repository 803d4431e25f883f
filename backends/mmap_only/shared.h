/* SPDX-License-Identifier: MIT */
/* The slabs that all threads share, listed by class while they have free, blank or fresh blocks. */
#ifndef HAK_MMAP_ONLY_SHARED_H
#define HAK_MMAP_ONLY_SHARED_H

#include "backends/mmap_only/slab.h"
#include "core/atomic.h"
#include "core/lock.h"

/* The lists of a class. */
struct shared_class {
    _Alignas(HAK_CACHE_LINE) struct hak_lock lock;
    struct slab *filled; /* with free blocks */
    struct slab *blank;  /* with blank or fresh blocks only */

    /* A round of upkeep (core/upkeep.h) visits every slab on `filled`. */
    uint32_t round_at;       /* when the last one began; relaxed reads without the lock */
    struct slab *round_slab; /* the next one; relaxed reads without the lock */
    struct slab *trim_slab;  /* likewise of a trim, which skips no slab */
};

extern struct shared_class shared_classes[HAK_CLASSES];

/* Locks the lists of a class. */
struct shared_class *shared_lock(hak_class cls);

/* Whether a slab has free, blank or fresh blocks. */
bool shared_has_something(const struct slab *slab);

/* Puts a slab on the list that its blocks call for, if any; takes it off its list. */
void shared_list(struct shared_class *shared, struct slab *slab);
void shared_unlist(struct shared_class *shared, struct slab *slab);

/* Moves a slab to the right list after blocks came back; `had`: it had free ones before. An empty slab goes to *empty, linked
 * by `next`. A slab that is being purged is on no list, and never empty. */
void shared_relist(struct shared_class *shared, struct slab *slab, bool had, struct slab **empty);

/* A new slab, on no list yet. NULL: out of memory. */
struct slab *shared_new(hak_class cls);

/* Frees the extents of empty slabs that are linked by `next` and on no list. */
void shared_delete(struct slab *slab);

/* hak_clock_ms of the last tick of any thread; relaxed atomic. */
extern uint32_t shared_clock;

/* Notes that free blocks of the slab come or go. */
static inline void shared_touch(struct slab *slab)
{
    slab->touched_at = atomic_load_relaxed(&shared_clock) | 1;
}

#endif
