/* SPDX-License-Identifier: MIT */
/* A slab: a range that is cut into blocks of one class, and belongs to nobody. */
#ifndef HAK_MMAP_ONLY_SLAB_H
#define HAK_MMAP_ONLY_SLAB_H

#include "backends/mmap_only/page_map.h"
#include "core/backend.h"
#include "core/block_grid.h"
#include "core/page_set.h"

_Static_assert(enabled(CONFIG_REMOTE_FREE_KEEP),
               "no slab has an owner to whom a block could return");

_Static_assert(GRANULE_SIZE == HAK_SLAB_GRANULE, "as page_set.h has it");

#define SLAB_FREED_TWICE "freed twice"
#define SLAB_BAD_LINK    "a free block was written to"
#define SLAB_NOT_A_BLOCK "not the start of a block"

static inline unsigned slab_tag_at(const void *pointer)
{
    if ((uintptr_t)pointer >> ADDRESS_BITS != 0)
        return TAG_NONE;
    return page_map_tag(granule_of(pointer));
}

static inline hak_class tag_class(unsigned tag)
{
    return (uint32_t)(tag - CODE_CLASS);
}

static inline char *slab_base(const struct slab *slab)
{
    return granule_address(slab->first);
}

/* The slab of a small block. pre: its granule's tag is a class */
static inline struct slab *slab_of(const void *block)
{
    size_t granule = granule_of(block);

    return page_map_slab(granule - page_map_slab(granule)->distance);
}

static inline bool slab_on_grid(const struct slab *slab, const void *block)
{
    size_t offset = (size_t)((const char *)block - slab_base(slab));

    /* 32 bits, as a slab is no longer: that division is much the cheaper one. */
    return offset < (size_t)slab->capacity * slab->block_size &&
           (uint32_t)offset % slab->block_size == 0;
}

/* The slab of a block that came through a cache or a list: it must be a block of this class. */
static inline struct slab *slab_checked(const void *block, hak_class cls)
{
    if (unlikely(tag_class(slab_tag_at(block)) != cls))
        hak_fatal_pointer("free()", block, SLAB_BAD_LINK);
    struct slab *slab = slab_of(block);
    if (unlikely(!slab_on_grid(slab, block)))
        hak_fatal_pointer("free()", block, SLAB_NOT_A_BLOCK);
    return slab;
}

static inline struct hak_grid slab_grid_of(const struct slab *slab)
{
    return hak_grid_of(slab_base(slab), slab->block_size, slab->capacity);
}

static inline struct hak_slab_shape slab_shape(const struct slab *slab)
{
    return (struct hak_slab_shape){slab_base(slab), slab->block_size, slab->capacity, slab->cut};
}

static inline struct hak_block *slab_block_at(const struct hak_slab_shape *shape, uint32_t index)
{
    return (struct hak_block *)(void *)(shape->base + (size_t)index * shape->block_size);
}

/* Blocks on its list of free ones. */
static inline size_t slab_free_blocks(const struct slab *slab)
{
    return slab->cut - slab->used - slab->blank_blocks;
}

static inline bool slab_is_blank(const struct slab *slab, size_t page)
{
    const struct slab *granule = page_map_slab(slab->first + page / hak_pages_of_granule());

    return granule->blank >> page % hak_pages_of_granule() & 1;
}

static inline void slab_add_blank(const struct slab *slab, const struct hak_slab_shape *shape,
                                  uint64_t *set)
{
    for (size_t page = 0; slab->blank_blocks > 0 && page < hak_pages_cut(shape); page++)
        for (uint32_t i = hak_first_in_page(shape, page);
             slab_is_blank(slab, page) && i < hak_first_in_page(shape, page + 1); i++)
            hak_set_add(set, i);
}

#endif
