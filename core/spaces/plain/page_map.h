/* SPDX-License-Identifier: MIT */
/* The page map: a tag and a description for each granule, wherever in the address space it lies.
 *
 *   address   47 ──── 32 │ 31 ──── 16 │ 15 ──── 0
 *               in root     in leaf      in granule
 *
 *   root   ┌───┬───┬───┬─ …    one entry for 4 GiB: how far its leaf lies from the zero leaf. So an
 *          └─┬─┴─┬─┴───┴─      entry that is 0, as all are at first, stands for the zero leaf itself,
 *            │   └───────────► and no look-up has to test for a missing one
 *            ▼
 *   leaf   ┌─ tags ─────┬─ slabs ──────────────┐    tags are mapped with the first granule that they describe,
 *          │ space_tag  │ struct slab          │    slabs likewise, in parts that describe 64 MiB;
 *          └────────────┴──────────────────────┘    never unmapped
 *
 * Where leaves lie is a choice of addresses (os_place), of which nothing is reserved.
 *
 * A granule's number is its address divided by its size, 64 KiB.
 *
 * invariant: a tag is TAG_NONE, or the granule is mapped by this space
 * sync: tags are relaxed atomics, written by the thread whose extent it is; the root is written under hak_extents_lock */
#ifndef HAK_SPACES_PAGE_MAP_H
#define HAK_SPACES_PAGE_MAP_H

#include "core/atomic.h"
#include "core/extents.h"
#include "core/space_slabs.h"

#define GRANULE_SHIFT HAK_GRANULE_SHIFT
#define GRANULE_SIZE  HAK_SLAB_GRANULE
#define ADDRESS_BITS  48

#define ROOT_ENTRIES  ((size_t)1 << (ADDRESS_BITS - 32))
#define LEAF_GRANULES ((size_t)1 << (32 - GRANULE_SHIFT))

#define PART_GRANULES ((size_t)1024)
#define PARTS         (LEAF_GRANULES / PART_GRANULES)

struct leaf {
    space_tag tags[LEAF_GRANULES];
    uint64_t parts; /* a bit each: mapped; a relaxed atomic, written under hak_extents_lock */
    _Alignas(64 << 10) struct slab slabs[LEAF_GRANULES]; /* pages are no larger */
};

struct page_map {
    intptr_t root[ROOT_ENTRIES];
    space_tag zero[LEAF_GRANULES]; /* the tags of the zero leaf; never written */
};

extern struct page_map page_map;

/* Maps what describes all granules from one to another. Under hak_extents_lock. false: out of memory, and nothing
 * has changed. */
bool page_map_cover(size_t first, size_t last);

/* Bytes of the map, as far as it is mapped. Any thread may ask. */
size_t page_map_bytes(void);

/* pre: address < 2^ADDRESS_BITS */
static inline space_tag *page_map_tag_at(const intptr_t *root, uintptr_t address)
{
    /* Pinned, so that the leaf's address is one addition and the tag's is part of the load. */
    uintptr_t tags =
        hak_pin((uintptr_t)root + (uintptr_t)atomic_load_relaxed(&root[address >> 32]));

    tags += __builtin_offsetof(struct page_map, zero);
    return (space_tag *)tags + ((uint32_t)address >> GRANULE_SHIFT);
}

/* pre: granule < 2^(ADDRESS_BITS - GRANULE_SHIFT) */
static inline uint32_t page_map_tag(size_t granule)
{
    return atomic_load_relaxed(page_map_tag_at(page_map.root, granule << GRANULE_SHIFT));
}

static inline struct leaf *page_map_leaf(size_t granule)
{
    space_tag *tag = page_map_tag_at(page_map.root, granule << GRANULE_SHIFT);

    return (struct leaf *)(void *)(tag - granule % LEAF_GRANULES);
}

/* Whether the granule's description is mapped. */
static inline bool page_map_describes(size_t granule)
{
    return atomic_load_relaxed(&page_map.root[granule / LEAF_GRANULES]) != 0 &&
           atomic_load_relaxed(&page_map_leaf(granule)->parts) >>
                   granule % LEAF_GRANULES / PART_GRANULES &
               1;
}

/* pre: the granule's description is mapped */
static inline struct slab *page_map_slab(size_t granule)
{
    return &page_map_leaf(granule)->slabs[granule % LEAF_GRANULES];
}

/* The granule that a description describes. */
uint32_t page_map_number(const struct slab *slab);

#endif
