/* SPDX-License-Identifier: MIT */
/* The slabs of this back end, which all threads share, as core/slab.h needs them. */
#ifndef HAK_MMAP_ONLY_SLAB_H
#define HAK_MMAP_ONLY_SLAB_H

#include "core/backend.h"
#include "core/slab.h"

_Static_assert(enabled(CONFIG_REMOTE_FREE_KEEP),
               "no slab has an owner to whom a block could return");

static inline hak_class tag_class(unsigned tag)
{
    return (uint32_t)(tag - CODE_CLASS);
}

static inline char *slab_base(const struct slab *slab)
{
    return space_address(slab->first);
}

static inline struct slab *slab_granule(const struct slab *slab, size_t index)
{
    return space_slab(slab->first + (uint32_t)index);
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
    return space_slab(space_granule(block) - slab_granule_at(block)->distance);
}

/* Blocks on the slab's free list. */
static inline size_t slab_free_blocks(const struct slab *slab)
{
    return slab->cut - slab->used - slab->blank_blocks;
}

/* Completes what a walk says of a slab: capacity, cut, free, purged. */
void slab_describe(const struct slab *slab, struct hak_extent *extent);

#endif
