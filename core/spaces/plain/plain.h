/* SPDX-License-Identifier: MIT */
/* Plain mappings: a space (core/space.h) of whatever addresses the kernel chooses. The page map describes them.
 *
 *   mmap ──► used ──► dirty ──► used again …
 *                       └─ due, or too many ──► munmap ──refused──► purged: clean
 *
 * THE LIMIT ON MAPPINGS. The kernel allows a process vm.max_map_count of them and fails every mmap, also the program's
 * own, beyond that. The kernel merges neighbours, so the space costs as many mappings as there are places where mapped
 * granules begin, and two for each block that was moved, as that merges with nothing. From 7/8 of the limit on, no extent
 * that has mapped neighbours on both sides is unmapped: it is purged and waits as a clean one. From 15/16 on, nothing
 * more is mapped. */
#ifndef HAK_SPACES_PLAIN_H
#define HAK_SPACES_PLAIN_H

#include "core/spaces/plain/page_map.h"

/* An extent is at most a half of all addresses long. */
#define SPACE_GRANULES_MOST ((size_t)1 << (ADDRESS_BITS - 1 - GRANULE_SHIFT))
#define SPACE_UNIT          1

static inline void *space_address(uint32_t granule)
{
    return (void *)((uintptr_t)granule << GRANULE_SHIFT);
}

static inline uint32_t space_granule(const void *address)
{
    return (uint32_t)((uintptr_t)address >> GRANULE_SHIFT);
}

static inline struct slab *space_slab(uint32_t granule)
{
    return page_map_slab(granule);
}

static inline struct hak_extent_node *space_node(uint32_t granule)
{
    return &page_map_slab(granule)->extent;
}

static inline uint32_t space_number(const struct slab *slab)
{
    return page_map_number(slab);
}

static inline char *space_base(const struct slab *slab)
{
    return space_address(page_map_number(slab));
}

static inline struct slab *space_step(const struct slab *slab, ptrdiff_t granules)
{
    return page_map_slab(page_map_number(slab) + (size_t)granules);
}

static inline bool space_has(uint32_t granule)
{
    return page_map_describes(granule) && space_node(granule)->state != HAK_NODE_INSIDE;
}

static inline uint32_t space_tag_of(const void *address)
{
    return (uintptr_t)address >> ADDRESS_BITS ? TAG_NONE : page_map_tag(space_granule(address));
}

static inline uint32_t space_tag_at(uint32_t granule)
{
    return atomic_load_acquire(page_map_tag_at(page_map.root, (uintptr_t)granule << GRANULE_SHIFT));
}

static inline void space_set_tag(uint32_t granule, uint32_t tag)
{
    space_tag *at = page_map_tag_at(page_map.root, (uintptr_t)granule << GRANULE_SHIFT);

    atomic_store_release(at, (space_tag)tag);
}

static inline uint32_t space_take_tag(uint32_t granule)
{
    space_tag *at = page_map_tag_at(page_map.root, (uintptr_t)granule << GRANULE_SHIFT);

    return atomic_exchange_acquire(at, (space_tag)TAG_NONE);
}

/* The start of a block has a tag; the slow search is for what is no such thing. */
static inline bool space_owns(const void *address)
{
    return space_tag_of(address) != TAG_NONE ||
           ((uintptr_t)address >> ADDRESS_BITS == 0 &&
            hak_extents_around(space_granule(address)) != HAK_NO_EXTENT);
}

static inline bool space_reaches(const void *address)
{
    return space_owns(address);
}

/* Constant once the heap exists. */
struct space_view {
    const intptr_t *root; /* of the page map */
    size_t bound;         /* ROOT_ENTRIES */
};

static inline void space_view_update(struct space_view *view)
{
    view->root = page_map.root;
    view->bound = ROOT_ENTRIES;
}

static inline bool space_view_reaches(const struct space_view *view, const void *address)
{
    return (uintptr_t)address >> 32 < view->bound;
}

static inline uint32_t space_view_tag(const struct space_view *view, const void *address)
{
    return atomic_load_relaxed(page_map_tag_at(view->root, (uintptr_t)address));
}

static inline void space_tick(uint32_t now)
{
    (void)now;
}

#endif
