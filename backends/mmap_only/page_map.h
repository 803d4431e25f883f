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
 *   leaf   ┌─ tags ─────┬─ ranges ─────────────┐    tags are mapped with the first granule that they describe,
 *          │ 2 B each   │ 64 B each            │    ranges likewise, in parts of 64 KiB that describe 64 MiB;
 *          └────────────┴──────────────────────┘    never unmapped
 *
 * Where leaves lie is a choice of addresses (os_place), of which nothing is reserved.
 *
 * A granule is 64 KiB. A *range* is some neighbouring granules that are mapped: a slab, a large block,
 * or free (mapping.h). Its first and last granule always have a tag, so that whoever maps or unmaps
 * knows what lies beside.
 *
 * invariant: a tag is TAG_NONE, or the granule is mapped by this back end
 * invariant: a granule of a slab has the class's code as its tag, and no other granule has
 * sync: tags are relaxed atomics, written under HAK_RANK_EXTENTS or by the thread that has taken the range; a range's
 *       fields belong to whoever has taken it, and to HAK_RANK_EXTENTS while it is free */
#ifndef HAK_MMAP_ONLY_PAGE_MAP_H
#define HAK_MMAP_ONLY_PAGE_MAP_H

#include "core/atomic.h"
#include "core/types.h"

#define GRANULE_SHIFT 16
#define GRANULE_SIZE  ((size_t)1 << GRANULE_SHIFT)
#define ADDRESS_BITS  48

#define ROOT_ENTRIES  ((size_t)1 << (ADDRESS_BITS - 32))
#define LEAF_GRANULES ((size_t)1 << (32 - GRANULE_SHIFT))

/* Beside these, a class's scaled value plus CODE_CLASS: taking that off gives the class, ready to use,
 * or a value that is none. */
#define TAG_NONE   0u
#define TAG_LARGE  0xffffu /* the first granule of a large block */
#define TAG_TAKEN  0xfffeu /* the last one; both ends of a range that is just changing hands */
#define TAG_FREE   0xfffdu /* both ends of a free range */
#define CODE_CLASS HAK_CLASS_SCALE

/* What is known of a range, kept at its first granule; `first` and `granules` at the last one of a free range,
 * too. */
struct slab {
    struct slab *next; /* of the class's slabs with something to give; free ranges of like length */
    struct slab *previous;
    union {
        struct {                    /* a slab, under its class's lock */
            struct hak_block *free; /* the others of those that were cut, but for blank ones */
            uint32_t used;          /* live, in caches, kept by shards, or with who purges */
            uint32_t cut;           /* blocks [0, cut) have been given out at least once */
        };
        struct { /* a free range that is dirty */
            struct slab *younger;
            struct slab *older;
        };
    };
    size_t first;      /* its first granule */
    uint32_t granules; /* length */
    union {
        uint32_t touched_at; /* a slab: hak_clock_ms when free blocks last came or went, | 1; 0: its
                                pages are settled */
        uint32_t freed_at;   /* a dirty range: when the oldest part of it was freed */
    };
    uint32_t block_size;   /* bytes; constant while it is a slab */
    uint16_t capacity;     /* blocks; likewise */
    uint16_t blank_blocks; /* that begin in blank pages of the slab */
    uint16_t blank; /* of this granule, the pages that are blank; a bit each, every granule's own */
    uint16_t distance; /* granules back to the first of its slab; at every granule of a slab */
    union {
        bool listed; /* a slab on one of its class's lists */
        bool hidden; /* a free range of which core dumps may leave something out */
    };
    union {
        bool
            being_purged; /* a slab taken off its list, whose free blocks somebody has to purge their pages */
        bool dirty; /* a free range whose pages hold memory */
    };
    bool zeroed; /* a free range that is not dirty and reads as zeros */
    bool moved;  /* a large block that the kernel has moved: its mapping joins no neighbour */
};

#define PART_GRANULES ((size_t)1024)
#define PARTS         (LEAF_GRANULES / PART_GRANULES)

struct leaf {
    uint16_t tags[LEAF_GRANULES];
    uint64_t parts; /* a bit each: mapped; under HAK_RANK_EXTENTS */
    _Alignas(64 << 10) struct slab slabs[LEAF_GRANULES]; /* pages are no larger */
};

struct page_map {
    intptr_t root[ROOT_ENTRIES];
    uint16_t zero[LEAF_GRANULES]; /* the tags of the zero leaf; never written */
};

extern struct page_map page_map;

/* Maps what describes all granules from one to another. Under HAK_RANK_EXTENTS. false: out of memory, and nothing has
 * changed. */
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

/* pre: the granule's leaf is there, for these two */
static inline void page_map_set_tag(size_t granule, unsigned tag)
{
    atomic_store_relaxed(page_map_tag_at(page_map.root, granule << GRANULE_SHIFT), (uint16_t)tag);
}

static inline struct slab *page_map_slab(size_t granule)
{
    uint16_t *tag = page_map_tag_at(page_map.root, granule << GRANULE_SHIFT);
    size_t index = granule % LEAF_GRANULES;
    struct leaf *leaf = (struct leaf *)(void *)(tag - index);

    return &leaf->slabs[index];
}

/* The range, free or not, in which a granule lies; NULL: none. Slow, for messages: it looks for where the
 * range begins. */
const struct slab *page_map_range_around(size_t granule);

static inline size_t granule_of(const void *address)
{
    return (uintptr_t)address >> GRANULE_SHIFT;
}

static inline void *granule_address(size_t granule)
{
    return (void *)(granule << GRANULE_SHIFT);
}

#endif
