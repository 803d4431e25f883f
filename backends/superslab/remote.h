/* SPDX-License-Identifier: MIT */
/* Blocks of others' slabs on their way to them, and slabs of threads that sleep or have ended: the protocol of slab.h. */
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

/* Adds a chain of another's blocks, all of one slab, to the batch for that slab. */
void remote_add(struct hak_shard *shard, struct slab *slab, struct hak_chain chain,
                struct hak_block *last);

/* Pushes all batches of a shard. */
void remote_send_all(struct hak_shard *shard);

/* Takes what others have freed of this shard's slabs. Returns whether there was anything. */
bool remote_collect(struct hak_shard *shard);

/* Looks for a sleeping thread's shard among the next few ids, and purges its complete slabs. */
void remote_tend_sleepers(struct hak_shard *shard);

/* Makes slabs of a class of an ended thread's shard this shard's own. Returns whether there were any. */
bool remote_adopt(struct hak_shard *shard, hak_class cls);

#endif
