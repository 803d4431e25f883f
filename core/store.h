/* SPDX-License-Identifier: MIT */
/* THE CONTRACT OF A STORE
 *
 * A store holds free blocks that all threads share. A policy that has one says so in its header, #define
 * FRONTEND_HAS_STORE, and brings the four functions; for all others core knows that there is nothing.
 *
 * A store has locks of HAK_RANK_STORE, which frontend_lock takes too; none of them is held when the back end is
 * called. Blocks of one thread's slabs get into another's cache through it: the policy's Kconfig entry selects
 * BLOCKS_EXCHANGED. */
#ifndef HAK_STORE_H
#define HAK_STORE_H

#include "core/frontend.h"

#ifdef FRONTEND_HAS_STORE

#define HAK_HAS_STORE true

/* How many blocks of the class the store holds. Any thread may ask.
 * sync:  takes HAK_RANK_STORE */
size_t store_held(hak_class cls);

/* Calls `visit` for each block that the store holds.
 * pre:   `visit` neither allocates nor frees
 * post:  where `visit` returned false, the rest of that batch was left out
 * sync:  takes HAK_RANK_STORE */
void store_walk(bool (*visit)(void *block, void *context), void *context);

/* A bounded amount of due work: blocks that were not needed of late go to the back end, by way of the shard.
 * pre:   a cold path of the shard's heap
 * post:  true: there is more of it
 * owner: the shard's owner; the purge thread, with the shard of a heap that no thread has
 * sync:  takes HAK_RANK_STORE, and as backend_return_chain */
bool store_upkeep(struct hak_shard *shard);

/* Gives all blocks to the back end, by way of the shard.
 * pre:   a cold path of the shard's heap
 * owner: the shard's owner
 * sync:  as store_upkeep */
void store_empty(struct hak_shard *shard);

#else

#define HAK_HAS_STORE false

static inline size_t store_held(hak_class cls)
{
    (void)cls;
    return 0;
}

static inline void store_walk(bool (*visit)(void *block, void *context), void *context)
{
    (void)visit;
    (void)context;
}

static inline bool store_upkeep(struct hak_shard *shard)
{
    (void)shard;
    return false;
}

static inline void store_empty(struct hak_shard *shard)
{
    (void)shard;
}

#endif

#endif
