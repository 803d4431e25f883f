/* SPDX-License-Identifier: MIT */
/* The slabs of this back end, each of which belongs to a shard, as core/slab.h needs them. */
#ifndef HAK_SUPERSLAB_SLAB_H
#define HAK_SUPERSLAB_SLAB_H

#include "core/backend.h"
#include "core/slab.h"

static inline char *slab_base(const struct slab *slab)
{
    return space_base(slab);
}

static inline uint32_t slab_tag(const struct slab *slab)
{
    return space_tag_at(space_number(slab));
}

static inline hak_class tag_class(uint32_t tag)
{
    return (uint32_t)((tag & TAG_CODE_MASK) - CODE_CLASS);
}

static inline struct slab *slab_granule(const struct slab *slab, size_t index)
{
    return space_step(slab, (ptrdiff_t)index);
}

static inline hak_class slab_class_at(const void *pointer)
{
    return tag_class(space_tag_of(pointer));
}

static inline struct slab *slab_granule_at(const void *pointer)
{
    return space_slab(space_granule(pointer));
}

static inline struct slab *slab_of(const void *block)
{
    struct slab *granule = slab_granule_at(block);

    return space_step(granule, -(ptrdiff_t)granule->distance);
}

static inline bool slab_has_linked(const struct slab *slab)
{
    return slab->loose_count > 0 || slab->closed.top != 0;
}

/* Only the owner calls the rest. */

/* The last of the first `count` blocks of a chain. */
struct hak_block *slab_nth(const struct slab *slab, struct hak_block *head, size_t count);

static inline void slab_close_loose(struct slab *slab)
{
    hak_chain_push(&slab->closed, (struct hak_chain){slab->loose, slab->loose_count});
    slab->loose = slab->loose_tail = NULL;
    slab->loose_count = 0;
}

/* Adds free blocks, first to last linked, to a slab's free ones. */
static inline void slab_add(struct slab *slab, hak_class cls, struct hak_chain chain,
                            struct hak_block *last)
{
    if (unlikely(slab->loose_count + chain.count > CONFIG_REFILL_BATCH) && slab->loose_count > 0 &&
        hak_stackable(cls))
        slab_close_loose(slab);
    last->next = slab->loose;
    if (unlikely(slab->loose == NULL))
        slab->loose_tail = last;
    slab->loose = chain.head;
    slab->loose_count += (uint32_t)chain.count;
}

/* Takes up to `max` loose blocks; blocks of the next closed chain; fresh blocks, a page's worth at most. Empty: there are
 * none. */
struct hak_chain slab_take_loose(struct slab *slab, size_t max, struct hak_block **last);
struct hak_chain slab_take_closed(struct slab *slab, size_t max);
struct hak_chain slab_cut(struct slab *slab, size_t max, struct hak_block **last);

/* Makes the blocks of one blank page free ones again. pre: blank_blocks > 0 */
void slab_recut(struct slab *slab, hak_class cls);

/* Purges the pages that only free blocks overlap; they are blank afterwards. Returns the number of system calls. */
unsigned slab_purge_pages(struct slab *slab);

/* Completes what a walk says of a slab: capacity, cut, free, purged. */
void slab_describe(const struct slab *slab, struct hak_extent *extent);

#endif
