/* SPDX-License-Identifier: MIT */
/* Counters of what moves between a cache and the back end. They are kept at refill and flush, never on
 * a hit; what a class has served since its thread began can be read off them within a batch.
 *
 * They are short, as each heap has them for each class: before one could overflow, all four are carried over to totals
 * that heaps share. */
#ifndef HAK_TRAFFIC_H
#define HAK_TRAFFIC_H

#include "core/atomic.h"
#include "core/types.h"

/* Of one class in one cache. owner: the heap's owner; others may read, and get what was true of late.
 * invariant: refills <= refilled, flushes <= flushed */
struct hak_traffic {
    uint32_t refills;  /* batches that came from the back end */
    uint32_t refilled; /* blocks in them */
    uint32_t flushes;  /* batches that went to the back end */
    uint32_t flushed;  /* blocks in them */
};

struct hak_traffic_total {
    uint64_t refills, refilled, flushes, flushed;
};

/* A counter that has got so far is carried over. */
#define HAK_TRAFFIC_MOST ((uint32_t)1 << 31)

/* Adds the counters of a class to its total and clears them. */
void hak_traffic_carry(struct hak_traffic *traffic, hak_class cls) hak_cold;

/* What all heaps have carried over of a class so far. Any thread may ask. */
struct hak_traffic_total hak_traffic_carried(hak_class cls);

/* pre: 0 < blocks < HAK_TRAFFIC_MOST; for these two */
static inline void hak_traffic_in(struct hak_traffic *traffic, hak_class cls, size_t blocks)
{
    uint32_t refilled = traffic->refilled + (uint32_t)blocks;

    atomic_store_relaxed(&traffic->refills, traffic->refills + 1);
    atomic_store_relaxed(&traffic->refilled, refilled);
    if (unlikely(refilled >= HAK_TRAFFIC_MOST))
        hak_traffic_carry(traffic, cls);
}

static inline void hak_traffic_out(struct hak_traffic *traffic, hak_class cls, size_t blocks)
{
    uint32_t flushed = traffic->flushed + (uint32_t)blocks;

    atomic_store_relaxed(&traffic->flushes, traffic->flushes + 1);
    atomic_store_relaxed(&traffic->flushed, flushed);
    if (unlikely(flushed >= HAK_TRAFFIC_MOST))
        hak_traffic_carry(traffic, cls);
}

#endif
