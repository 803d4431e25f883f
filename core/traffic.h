/* SPDX-License-Identifier: MIT */
/* Counters of what moves between a cache and the back end. They are kept at refill and flush, never on
 * a hit; what a class has served since its thread began can be read off them within a batch. */
#ifndef HAK_TRAFFIC_H
#define HAK_TRAFFIC_H

#include "core/atomic.h"
#include "core/types.h"

/* Of one class in one cache. owner: the heap's owner; others may read, and get what was true of late. */
struct hak_traffic {
    uint64_t refills;  /* batches that came from the back end */
    uint64_t refilled; /* blocks in them */
    uint64_t flushes;  /* batches that went to the back end */
    uint64_t flushed;  /* blocks in them */
};

static inline void hak_traffic_in(struct hak_traffic *traffic, size_t blocks)
{
    atomic_store_relaxed(&traffic->refills, traffic->refills + 1);
    atomic_store_relaxed(&traffic->refilled, traffic->refilled + blocks);
}

static inline void hak_traffic_out(struct hak_traffic *traffic, size_t blocks)
{
    atomic_store_relaxed(&traffic->flushes, traffic->flushes + 1);
    atomic_store_relaxed(&traffic->flushed, traffic->flushed + blocks);
}

#endif
