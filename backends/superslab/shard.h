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

/* Pages of pointers, indexed by owner id. A page is mapped under hak_extents_lock with the first id in it, before that id
 * is in any tag. */
extern struct hak_shard **shard_pages[(OWNERS_MOST + 1) / SHARDS_A_PAGE];
extern uint32_t shard_owners; /* the last id that was given out; atomic */

extern const struct superslab_lists shard_no_lists;

static inline struct hak_shard *shard_of(uint32_t tag)
{
    uint32_t owner = tag >> TAG_OWNER_SHIFT;

    return shard_pages[owner / SHARDS_A_PAGE][owner % SHARDS_A_PAGE];
}

/* Whether a tag is that of a slab of this shard. */
static inline bool shard_has(const struct hak_shard *shard, uint32_t tag)
{
    return (uint32_t)(tag - shard->tag) < HAK_CLASS_END;
}

/* Where a shard's empty slabs wait for their next use (core/rack.h). */
static inline unsigned shard_rack(const struct hak_shard *shard)
{
    return shard->tag >> TAG_OWNER_SHIFT;
}

/* Gives a shard an owner id. false: out of memory. */
bool shard_enter(struct hak_shard *shard);

/* Whether a shard has lists of its own. */
static inline bool shard_owns(const struct hak_shard *shard)
{
    return shard->lists != &shard_no_lists;
}

/* Gives a shard lists of its own, unless it has them. false: out of memory. */
bool shard_own(struct hak_shard *shard) hak_cold;

/* A new slab, which is on its class's list. NULL: out of memory. */
struct slab *open_new(struct hak_shard *shard, hak_class cls);

/* Takes blocks of the shard's open slabs: a whole closed chain, or the loose blocks of a few slabs, or fresh blocks. */
struct hak_chain open_take(struct hak_shard *shard, hak_class cls, size_t max);

/* Frees the extent of an empty slab. `clean`: its pages were purged.
 * pre: no other thread can reach the slab, QUEUED is clear */
void open_delete(struct hak_shard *shard, hak_class cls, struct slab *slab, bool clean);

/* Lets a slab without used blocks wait for the class to need it again. false: it must be deleted. */
bool open_keep_empty(struct hak_shard *shard, hak_class cls, struct slab *slab);

/* Deletes the slabs that wait, until so many granules have become free. */
void open_delete_empty(struct hak_shard *shard, size_t granules);

/* Puts a slab on its class's list, and takes it off. */
void open_first(struct hak_shard *shard, hak_class cls, struct slab *slab);
void open_last(struct hak_shard *shard, hak_class cls, struct slab *slab);
void open_remove(struct hak_shard *shard, hak_class cls, struct slab *slab);

/* A slab that had no free blocks in lists has some now. */
void open_filled(struct hak_shard *shard, hak_class cls, struct slab *slab, bool had);

/* Puts the first slab of a class, of which blocks were taken, where it belongs: slabs with free blocks in lists come first,
 * and an exhausted one leaves the list. */
void open_relist(struct hak_shard *shard, hak_class cls, struct slab *slab);

/* Tags all granules of a slab. */
void open_set_tags(const struct slab *slab, uint32_t tag);

/* Notes that free blocks of the slab come or go. */
static inline void open_touch(const struct hak_shard *shard, struct slab *slab)
{
    slab->touched_at = shard->ticked_at | 1;
}

#endif
