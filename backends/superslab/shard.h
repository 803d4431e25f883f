/* SPDX-License-Identifier: MIT */
/* What the files of this folder share of a shard: its owner id, and the lists of its slabs that have something to give
 * (open.c). */
#ifndef HAK_SUPERSLAB_SHARD_H
#define HAK_SUPERSLAB_SHARD_H

#include "backends/superslab/slab.h"
#include "core/backend.h"

#define OWNER_NONE    0u
#define OWNERS_MOST   ((1u << (32 - TAG_OWNER_SHIFT)) - 1)
#define SHARDS_A_PAGE 1024u

/* Pages of pointers, indexed by owner id; a page is mapped with the first id in it, under the the extents' lock, before the id is in any tag. */
extern struct hak_shard **shard_pages[(OWNERS_MOST + 1) / SHARDS_A_PAGE];
extern uint32_t shard_owners; /* the last id that was given out; atomic */

extern const struct superslab_lists shard_no_lists;

static inline struct hak_shard *shard_of(uint32_t tag)
{
    uint32_t owner = tag >> TAG_OWNER_SHIFT;

    return shard_pages[owner / SHARDS_A_PAGE][owner % SHARDS_A_PAGE];
}

/* Lets a shard's look-ups see the window as long as it is now. What a shard owns always lies in what it sees; of
 * the rest, its owner's frees come here and do this. */
static inline void shard_see_window(struct hak_shard *shard)
{
    shard->granules = window_granules();
}

static inline bool shard_has(const struct hak_shard *shard, uint32_t tag)
{
    return (uint32_t)(tag - shard->tag) < HAK_CLASS_END;
}

/* Gives a shard an id, under which others find it. false: out of memory. */
bool shard_enter(struct hak_shard *shard);

static inline bool shard_owns(const struct hak_shard *shard)
{
    return shard->lists != &shard_no_lists;
}

/* Sees to it that a shard can own slabs. false: out of memory. */
bool shard_own(struct hak_shard *shard) hak_cold;

/* A new slab, which is on its class's list. NULL: out of memory. */
struct slab *open_new(struct hak_shard *shard, hak_class cls);

/* Blocks of the shard's own slabs: a closed chain whole, or what loose blocks a few slabs have, or fresh blocks. */
struct hak_chain open_take(struct hak_shard *shard, hak_class cls, size_t max);

/* Gives an empty slab back. pre: it is nobody's but the caller's, and QUEUED is clear */
void open_delete(struct hak_shard *shard, hak_class cls, struct slab *slab, bool clean);

/* Puts a slab on its class's list, and takes it off. */
void open_first(struct hak_shard *shard, hak_class cls, struct slab *slab);
void open_last(struct hak_shard *shard, hak_class cls, struct slab *slab);
void open_remove(struct hak_shard *shard, hak_class cls, struct slab *slab);

/* A slab gets free blocks; `had` says whether it had some. */
void open_filled(struct hak_shard *shard, hak_class cls, struct slab *slab, bool had);

/* The first slab of a class has given: it stays first, or makes way for one that has free blocks in
 * lists, or leaves as it has nothing more. */
void open_relist(struct hak_shard *shard, hak_class cls, struct slab *slab);

void open_set_tags(const struct slab *slab, uint32_t tag);

/* Free blocks of the slab come or go. */
static inline void open_touch(const struct hak_shard *shard, struct slab *slab)
{
    slab->touched_at = shard->ticked_at | 1;
}

#endif
