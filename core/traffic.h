/* SPDX-License-Identifier: MIT */
/* The batches that move between caches and the back end, and counters of them.
 *
 * A policy gets and gives batches through the four functions below, which call the back end's and count. The counters
 * lie next to the shard. They are kept at refill and flush, never on a hit; what a class has served since its heap
 * began can be read off them within a batch.
 *
 * They are short, as each heap has them for each class: before one could overflow, all four are carried over to
 * totals that heaps share. */
#ifndef HAK_TRAFFIC_H
#define HAK_TRAFFIC_H

#include "core/atomic.h"
#include "core/backend.h"

/* Of one class of one heap. owner: the heap's owner; any other thread that reads them gets what was true of late.
 * invariant: refills <= refilled, flushes <= flushed */
struct hak_traffic {
    uint32_t refills;  /* batches that came from the back end */
    uint32_t refilled; /* blocks in them */
    uint32_t flushes;  /* batches that went to the back end */
    uint32_t flushed;  /* blocks in them */
};

_Static_assert(sizeof(struct hak_traffic) == HAK_CLASS_SCALE, "a scaled class is its offset");

/* A shard and its counters, as they lie in a heap: every shard that a policy is called with is in one. */
struct hak_counted_shard {
    struct hak_shard shard;
    struct hak_traffic traffic[HAK_CLASSES];
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

static inline struct hak_traffic *hak_traffic_of(struct hak_shard *shard, hak_class cls)
{
    struct hak_counted_shard *counted = hak_container_of(shard, struct hak_counted_shard, shard);

    return (struct hak_traffic *)(void *)((char *)counted->traffic + cls);
}

/* As backend_refill_chain and backend_return_chain, and counted; also for caches that are arrays. pre, of the returns: a block
 * at least */

static inline struct hak_chain hak_refill_chain(struct hak_shard *shard, hak_class cls, size_t max)
{
    struct hak_chain chain = backend_refill_chain(shard, cls, max);

    if (likely(chain.count > 0))
        hak_traffic_in(hak_traffic_of(shard, cls), cls, chain.count);
    return chain;
}

static inline struct hak_chain hak_refill_used(struct hak_shard *shard, hak_class cls, size_t max)
{
    struct hak_chain chain = backend_refill_used(shard, cls, max);

    if (chain.count > 0)
        hak_traffic_in(hak_traffic_of(shard, cls), cls, chain.count);
    return chain;
}

static inline void hak_return_chain(struct hak_shard *shard, hak_class cls, struct hak_chain chain)
{
    hak_traffic_out(hak_traffic_of(shard, cls), cls, chain.count);
    backend_return_chain(shard, cls, chain);
}

/* Returns how many blocks came into out[0 .. max-1]. */
static inline size_t hak_refill_array(struct hak_shard *shard, hak_class cls, void **out,
                                      size_t max)
{
    struct hak_chain chain = hak_refill_chain(shard, cls, max);

    hak_chain_spread(chain, cls, out);
    return chain.count;
}

static inline void hak_return_array(struct hak_shard *shard, hak_class cls, void *const *in,
                                    size_t count)
{
    hak_return_chain(shard, cls, hak_chain_of(in, count));
}

#endif
