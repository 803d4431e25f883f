/* SPDX-License-Identifier: MIT */
/* The page map: which class of block lies at an address, for any address at all.
 *
 *   address   47 ──── 32 │ 31 ──── 16 │ 15 ──── 0
 *               in root     in leaf      in granule
 *
 *   root   ┌───┬───┬───┬─ …    one entry for 4 GiB: how far its leaf lies from the zero leaf. So an
 *          └─┬─┴─┬─┴───┴─      entry that is 0, as all are at first, stands for the zero leaf itself,
 *            │   └───────────► and no look-up has to test for a missing one
 *            ▼
 *   leaf   ┌─ tags ─────┬─ slabs ──────────────┐    tags are mapped with the first granule that they describe,
 *          │ 2 B each   │ 64 B each            │    slabs likewise, in parts of 64 KiB that describe 64 MiB;
 *          └────────────┴──────────────────────┘    never unmapped
 *
 * Where leaves lie is a choice of addresses (os_place), of which nothing is reserved.
 *
 * A granule's number is its address divided by its size, 64 KiB. The space (core/space.h) of plain mappings has whatever
 * addresses the kernel chose (mapping.c).
 *
 * invariant: a tag is TAG_NONE, or the granule is mapped by this back end
 * invariant: a granule of a slab has the class's code as its tag, and no other granule has
 * sync: tags are relaxed atomics, written by the thread whose extent it is; a description's `extent` as extents.h says,
 *       the rest belongs to the slab */
#ifndef HAK_MMAP_ONLY_PAGE_MAP_H
#define HAK_MMAP_ONLY_PAGE_MAP_H

#include "core/atomic.h"
#include "core/extents.h"

#define GRANULE_SHIFT HAK_GRANULE_SHIFT
#define GRANULE_SIZE  HAK_SLAB_GRANULE
#define ADDRESS_BITS  48

/* An extent is at most a half of all addresses long. Mapping costs one system call. */
#define SPACE_GRANULES_MOST ((size_t)1 << (ADDRESS_BITS - 1 - GRANULE_SHIFT))
#define SPACE_UNIT          1
#define SPACE_KEEPS_SPARES  false

#define ROOT_ENTRIES  ((size_t)1 << (ADDRESS_BITS - 32))
#define LEAF_GRANULES ((size_t)1 << (32 - GRANULE_SHIFT))

/* Beside these, a class's scaled value plus CODE_CLASS: taking that off gives the class, ready to use,
 * or a value that is none. */
#define TAG_NONE   0u
#define TAG_LARGE  0xffffu /* the first granule of a large block */
#define CODE_CLASS HAK_CLASS_SCALE

/* The description of a granule: for extents (core/extents.h), and as the first granule of a slab. */
struct slab {
    union {
        struct hak_extent_node extent;
        struct {                    /* while it is in use */
            uint64_t extent_in_use; /* the part of the node that remains */
            struct slab *next;      /* of the class's slabs with something to give */
            struct slab *previous;
            struct hak_block *free; /* the others of those that were cut, but for blank ones */
        };
    };
    uint32_t used; /* live, in caches, kept by shards, or being purged */
    uint32_t cut;  /* blocks [0, cut) have been given out at least once */
    uint32_t first;
    uint32_t
        touched_at; /* hak_clock_ms when free blocks last came or went, | 1; 0: pages are settled */
    uint32_t block_size;   /* bytes; constant while it is a slab */
    uint16_t capacity;     /* blocks; likewise */
    uint16_t blank_blocks; /* that begin in blank pages of the slab */
    uint16_t blank; /* of this granule, the pages that are blank; a bit each, every granule's own */
    uint16_t distance; /* granules back to the first of its slab; at every granule of a slab */
    bool listed;       /* on one of its class's lists */
    bool being_purged; /* off its list: the thread that purges its pages has its free blocks */
};

#define PART_GRANULES ((size_t)1024)
#define PARTS         (LEAF_GRANULES / PART_GRANULES)

struct leaf {
    uint16_t tags[LEAF_GRANULES];
    uint64_t parts; /* a bit each: mapped; a relaxed atomic, written under hak_extents_lock */
    _Alignas(64 << 10) struct slab slabs[LEAF_GRANULES]; /* pages are no larger */
};

struct page_map {
    intptr_t root[ROOT_ENTRIES];
    uint16_t zero[LEAF_GRANULES]; /* the tags of the zero leaf; never written */
};

extern struct page_map page_map;

/* Maps what describes all granules from one to another. Under hak_extents_lock. false: out of memory, and nothing
 * has changed. */
bool page_map_cover(size_t first, size_t last);

/* Bytes of the map, as far as it is mapped. Any thread may ask. */
size_t page_map_bytes(void);

/* pre: address < 2^ADDRESS_BITS */
static inline uint16_t *page_map_tag_at(const intptr_t *root, uintptr_t address)
{
    /* Pinned, so that the leaf's address is one addition and the tag's is part of the load. */
    uintptr_t tags =
        hak_pin((uintptr_t)root + (uintptr_t)atomic_load_relaxed(&root[address >> 32]));

    tags += __builtin_offsetof(struct page_map, zero);
    return (uint16_t *)tags + ((uint32_t)address >> GRANULE_SHIFT);
}

/* pre: granule < 2^(ADDRESS_BITS - GRANULE_SHIFT) */
static inline unsigned page_map_tag(size_t granule)
{
    return atomic_load_relaxed(page_map_tag_at(page_map.root, granule << GRANULE_SHIFT));
}

static inline struct leaf *page_map_leaf(size_t granule)
{
    uint16_t *tag = page_map_tag_at(page_map.root, granule << GRANULE_SHIFT);

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

/* pre: the granule's description is mapped, for these two */
static inline void page_map_set_tag(size_t granule, unsigned tag)
{
    atomic_store_relaxed(page_map_tag_at(page_map.root, granule << GRANULE_SHIFT), (uint16_t)tag);
}

static inline struct slab *page_map_slab(size_t granule)
{
    return &page_map_leaf(granule)->slabs[granule % LEAF_GRANULES];
}

static inline uint32_t granule_of(const void *address)
{
    return (uint32_t)((uintptr_t)address >> GRANULE_SHIFT);
}

static inline void *granule_address(size_t granule)
{
    return (void *)(granule << GRANULE_SHIFT);
}

/* ── as a space ──────────────────────────────────────────────────────────────────────────────── */

static inline void *space_address(uint32_t granule)
{
    return granule_address(granule);
}

static inline uint32_t space_granule(const void *address)
{
    return granule_of(address);
}

static inline struct hak_extent_node *space_node(uint32_t granule)
{
    return &page_map_slab(granule)->extent;
}

static inline bool space_has(uint32_t granule)
{
    return page_map_describes(granule) && space_node(granule)->state != HAK_NODE_INSIDE;
}

static inline uint32_t space_tag_of(const void *address)
{
    return (uintptr_t)address >> ADDRESS_BITS ? TAG_NONE : page_map_tag(granule_of(address));
}

static inline void space_set_tag(uint32_t granule, uint32_t tag)
{
    page_map_set_tag(granule, tag);
}

static inline uint32_t space_take_tag(uint32_t granule)
{
    uint16_t *tag = page_map_tag_at(page_map.root, (uintptr_t)granule << GRANULE_SHIFT);

    return atomic_exchange_acquire(tag, (uint16_t)TAG_NONE);
}

/* The start of a block has a tag; the slow search is for what is no such thing. */
static inline bool space_owns(const void *address)
{
    return space_tag_of(address) != TAG_NONE ||
           ((uintptr_t)address >> ADDRESS_BITS == 0 &&
            hak_extents_around(granule_of(address)) != HAK_NO_EXTENT);
}

static inline bool space_reaches(const void *address)
{
    return space_owns(address);
}

#endif
