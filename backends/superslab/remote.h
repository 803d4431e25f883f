/* SPDX-License-Identifier: MIT */
/* Remote frees, and slabs whose owners sleep or have ended: the protocol of slab.h. */
#ifndef HAK_SUPERSLAB_REMOTE_H
#define HAK_SUPERSLAB_REMOTE_H

#include "backends/superslab/slab.h"
#include "core/backend.h"

/* The blocks on a slab's remote word. */
static inline struct hak_chain remote_unpack(const struct slab *slab, uint64_t word)
{
    size_t count = (uint32_t)word >> REMOTE_COUNT_SHIFT;

    if (count == 0)
        return (struct hak_chain){NULL, 0};
    return (struct hak_chain){
        (struct hak_block *)(void *)(slab_base(slab) + (word >> REMOTE_HEAD_SHIFT)), count};
}

/* Pushes a chain of blocks of one slab onto its remote word: `push` and `asleep` of slab.h. */
void remote_push(struct slab *slab, struct hak_chain chain, struct hak_block *tail);

/* Adds a chain of blocks of one slab of another shard to the batch for that slab. */
void remote_add(struct hak_shard *shard, struct slab *slab, struct hak_chain chain,
                struct hak_block *last);

/* Pushes all batches of a shard. */
void remote_send_all(struct hak_shard *shard);

/* Takes the blocks that other threads have freed of this shard's slabs. Returns whether any slab was queued. */
bool remote_collect(struct hak_shard *shard);

/* Searches the next few owner ids for a shard whose owner sleeps, and purges its complete slabs. */
void remote_tend_sleepers(struct hak_shard *shard);

/* Adopts slabs of a class from parked heaps. Returns whether there were any. */
bool remote_adopt(struct hak_shard *shard, hak_class cls);

#endif
