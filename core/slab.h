/* SPDX-License-Identifier: MIT */
/* Slabs: what owned and shared ones have in common.
 *
 *   0 ────────────────────── cut ────────────── capacity
 *   │ used, free or blank blocks │ never used        │ (rest, too small for a block)
 *
 * A slab is an extent that is cut into blocks of one class: lazily, in order of address. The pages that only free blocks
 * overlap can be purged (core/page_set.h). The blocks that begin in such a page leave the lists of free blocks and the page
 * is *blank*: its blocks are cut again as if they had never been used.
 *
 * A back end defines struct slab, its description of a granule, includes this header, and defines the functions below that
 * have no body. The description of a slab's first granule has at least these members:
 *
 *   uint32_t block_size   bytes; constant while it is a slab
 *   capacity              blocks that fit in; likewise
 *   uint32_t cut          blocks [0, cut) have been used at some time
 *   uint32_t used         blocks that are neither free nor blank
 *   uint16_t blank_blocks blocks that begin in blank pages
 *   uint32_t touched_at   hak_clock_ms when free blocks last came or went, | 1; 0: the pages are settled
 *
 * and that of each of its granules `uint16_t blank`, a bit for each page of the granule, and `uint16_t distance`, granules
 * back to the first.
 *
 * invariant: free blocks + blank_blocks + used == cut <= capacity
 * sync: whatever keeps two threads from changing a slab at the same time; slab_on_grid may be called by any thread */
#ifndef HAK_SLAB_H
#define HAK_SLAB_H

#include "core/block_grid.h"
#include "core/block_list.h"
#include "core/page_set.h"

#define HAK_FREED_TWICE "freed twice"
#define HAK_NOT_A_BLOCK "not the start of a block"
#define HAK_BAD_LINK    "a free block was written to"

struct slab;

/* ── what the back end defines ───────────────────────────────────────────────────────────────── */

/* Where the first block lies. */
static inline char *slab_base(const struct slab *slab);

/* The description of one of the slab's granules. */
static inline struct slab *slab_granule(const struct slab *slab, size_t index);

/* The class of the small block around any pointer; a value >= HAK_CLASS_END if there is none. */
static inline hak_class slab_class_at(const void *pointer);

/* The description of the granule around a pointer. pre: slab_class_at(pointer) is a class */
static inline struct slab *slab_granule_at(const void *pointer);

/* The slab around a pointer. pre: likewise */
static inline struct slab *slab_of(const void *pointer);

/* ── the grid of blocks ──────────────────────────────────────────────────────────────────────── */

/* Whether a block of the slab begins at the pointer, which may be any. */
static inline bool slab_on_grid(const struct slab *slab, const void *pointer)
{
    size_t offset = (size_t)((const char *)pointer - slab_base(slab));

    /* 32 bits, as a slab is no longer: that division is much the cheaper one, and does both. */
    return offset <= UINT32_MAX && (uint32_t)offset % slab->block_size == 0 &&
           (uint32_t)offset / slab->block_size < slab->capacity;
}

/* A place in a slab. */
struct hak_slab_place {
    struct slab *slab;
    uint32_t offset; /* bytes from the first block */
};

/* Where a pointer lies. pre: slab_class_at(pointer) is a class */
static inline struct hak_slab_place hak_slab_place(const void *pointer)
{
    uint32_t granules = slab_granule_at(pointer)->distance;

    /* A granule is aligned to its size. */
    return (struct hak_slab_place){slab_of(pointer),
                                   granules * (uint32_t)HAK_SLAB_GRANULE +
                                       (uint32_t)((uintptr_t)pointer % HAK_SLAB_GRANULE)};
}

/* Whether a block begins there. */
static inline bool hak_slab_begins(struct hak_slab_place place)
{
    return place.offset % place.slab->block_size == 0 &&
           place.offset / place.slab->block_size < place.slab->capacity;
}

static inline struct hak_grid hak_slab_grid(const struct slab *slab)
{
    return hak_grid_of(slab_base(slab), slab->block_size, slab->capacity);
}

static inline struct hak_slab_shape hak_slab_shape(const struct slab *slab)
{
    return (struct hak_slab_shape){slab_base(slab), slab->block_size, slab->capacity, slab->cut};
}

static inline struct hak_block *hak_slab_block(const struct slab *slab, uint32_t index)
{
    return (struct hak_block *)(void *)(slab_base(slab) + (size_t)index * slab->block_size);
}

/* The slab of a block that came through a cache or a list. Anything but a block of this class stops the process. */
static inline struct slab *hak_slab_checked(const void *block, hak_class cls)
{
    if (unlikely(slab_class_at(block) != cls))
        hak_fatal_pointer("free()", block, HAK_BAD_LINK);
    struct hak_slab_place place = hak_slab_place(block);
    if (unlikely(!hak_slab_begins(place)))
        hak_fatal_pointer("free()", block, HAK_NOT_A_BLOCK);
    return place.slab;
}

/* The link of a free block. One that leaves the slab's grid stops the process. */
static inline struct hak_block *hak_slab_next(const struct slab *slab,
                                              const struct hak_block *block)
{
    if (unlikely(!slab_on_grid(slab, block->next)))
        hak_fatal_pointer("malloc()", block, HAK_BAD_LINK);
    return block->next;
}

/* Blocks of one slab, linked from the first to the last one. */
struct hak_slab_blocks {
    struct slab *slab;
    struct hak_chain chain;
    struct hak_block *last; /* its link leads nowhere */
};

/* Splits the first blocks that lie in one slab off a chain. What is no block of the class stops the process.
 * pre: the chain is not empty */
static inline struct hak_slab_blocks hak_slab_split(hak_class cls, struct hak_chain *chain)
{
    struct hak_block *block = chain->head;
    struct hak_slab_blocks same = {hak_slab_checked(block, cls), {block, 1}, block};

    while (--chain->count > 0) {
        chain->head = same.last->next;
        if (!slab_on_grid(same.slab, chain->head))
            break;
        same.last = chain->head;
        same.chain.count++;
    }
    return same;
}

/* ── cutting blocks ──────────────────────────────────────────────────────────────────────────── */

/* Fresh blocks are cut a page's worth at a time: a program that wants one block touches one page. */
#define HAK_CUT_BYTES ((size_t)4096)

/* Makes granules a slab without blocks. What depends on whose it is, the caller sets. */
static inline void hak_slab_begin(struct slab *slab, hak_class cls, size_t granules)
{
    slab->block_size = (uint32_t)hak_class_size(cls);
    slab->capacity = (uint16_t)(granules * HAK_SLAB_GRANULE / slab->block_size);
    slab->used = slab->cut = 0;
    slab->blank_blocks = 0;
    for (size_t i = 0; i < granules; i++) {
        slab_granule(slab, i)->distance = (uint16_t)i;
        slab_granule(slab, i)->blank = 0;
    }
}

/* Cuts up to `max` blocks, a page's worth at most; returns how many. The last of them is number cut - 1. */
static inline uint32_t hak_slab_cut(struct slab *slab, size_t max)
{
    size_t count = slab->block_size < HAK_CUT_BYTES ? HAK_CUT_BYTES / slab->block_size : 1;
    size_t left = slab->capacity - slab->cut;

    count = count < max ? count : max;
    count = count < left ? count : left;
    slab->cut += (uint32_t)count;
    return (uint32_t)count;
}

/* Links `count` blocks of `size` bytes, in order of address. pre: count > 0; *last: the last of them */
static inline struct hak_chain hak_slab_link(struct hak_block *first, size_t size, size_t count,
                                             struct hak_block **last)
{
    char *block = (char *)first;
    size_t left = count - 1;

    for (; left >= 8; left -= 8)
#pragma GCC unroll 8
        for (int n = 0; n < 8; n++, block += size)
            ((struct hak_block *)(void *)block)->next = (struct hak_block *)(void *)(block + size);
    for (; left > 0; left--, block += size)
        ((struct hak_block *)(void *)block)->next = (struct hak_block *)(void *)(block + size);
    *last = (struct hak_block *)(void *)block;
    (*last)->next = NULL;
    return (struct hak_chain){first, count};
}

/* ── blank pages ─────────────────────────────────────────────────────────────────────────────── */

static inline bool hak_slab_is_blank(const struct slab *slab, size_t page)
{
    size_t pages = hak_pages_of_granule();

    return slab_granule(slab, page / pages)->blank >> page % pages & 1;
}

/* Adds the numbers of the blocks that begin in blank pages to a set. */
static inline void hak_slab_add_blank(const struct slab *slab, uint64_t *set)
{
    struct hak_slab_shape shape = hak_slab_shape(slab);

    size_t in_granule = hak_pages_of_granule();
    size_t pages = slab->blank_blocks > 0 ? hak_pages_cut(&shape) : 0;

    for (size_t i = 0; i * in_granule < pages; i++)
        for (unsigned blank = slab_granule(slab, i)->blank; blank > 0; blank &= blank - 1) {
            size_t page = i * in_granule + (size_t)__builtin_ctz(blank);
            hak_set_add_range(set, hak_first_in_page(&shape, page),
                              hak_first_in_page(&shape, page + 1));
        }
}

/* Adds the numbers of a chain's blocks to a set, as far as its links stay on the grid. Returns the block whose link does
 * not; NULL: there is none. */
static inline const struct hak_block *hak_slab_add_chain(const struct slab *slab,
                                                         struct hak_chain chain, uint64_t *set)
{
    struct hak_grid grid = hak_slab_grid(slab);
    const struct hak_block *before = chain.head;
    const struct hak_block *block = chain.head;

    for (size_t left = chain.count; left > 0; left--) {
        uint64_t index = hak_grid_index(&grid, block);
        if (unlikely(index >= grid.blocks))
            return before;
        hak_set_add(set, index);
        before = block;
        block = block->next;
    }
    return NULL;
}

/* Makes the blocks of the first blank page fresh ones of the caller's; returns how many, and the number of the first.
 * pre: blank_blocks > 0 */
static inline uint32_t hak_slab_take_blank(struct slab *slab, uint32_t *first)
{
    struct hak_slab_shape shape = hak_slab_shape(slab);
    struct slab *granule = slab;
    size_t index = 0;

    while (granule->blank == 0)
        granule = slab_granule(slab, ++index);
    size_t page = index * hak_pages_of_granule() + (size_t)__builtin_ctz(granule->blank);
    granule->blank &= (uint16_t)(granule->blank - 1);
    *first = hak_first_in_page(&shape, page);
    uint32_t count = hak_first_in_page(&shape, page + 1) - *first;
    slab->blank_blocks -= (uint16_t)count;
    return count;
}

/* The pages of a set become blank. pre: the blocks that begin in them are on no list */
static inline void hak_slab_set_blank(struct slab *slab, const struct hak_page_set *pages)
{
    struct hak_slab_shape shape = hak_slab_shape(slab);
    size_t pages_of_granule = hak_pages_of_granule();

    for (size_t page = 0; page < hak_pages_cut(&shape); page++) {
        uint32_t blocks = hak_first_in_page(&shape, page + 1) - hak_first_in_page(&shape, page);
        if (blocks == 0 || !hak_set_has(pages->words, page) || hak_slab_is_blank(slab, page))
            continue;
        slab_granule(slab, page / pages_of_granule)->blank |=
            (uint16_t)(1u << page % pages_of_granule);
        slab->blank_blocks += (uint16_t)blocks;
    }
}

/* Links those free blocks that begin neither in a blank page nor in one of `pages`, in order of address, and hands them
 * to `add` as chains of up to `max` blocks of one page, the last ones first. */
static inline void hak_slab_relink(const struct slab *slab, const struct hak_block_set *free,
                                   const struct hak_page_set *pages, size_t max,
                                   void (*add)(void *context, struct hak_chain chain,
                                               struct hak_block *last),
                                   void *context)
{
    struct hak_slab_shape shape = hak_slab_shape(slab);

    for (size_t page = hak_pages_cut(&shape); page-- > 0;) {
        struct hak_chain chain = {NULL, 0};
        struct hak_block *last = NULL;
        uint32_t first = hak_first_in_page(&shape, page);
        if (hak_slab_is_blank(slab, page) || hak_set_has(pages->words, page))
            continue;
        for (uint32_t i = hak_first_in_page(&shape, page + 1); i-- > first;) {
            if (hak_set_has(free->words, i)) {
                struct hak_block *block = hak_slab_block(slab, i);
                block->next = chain.head;
                last = chain.count > 0 ? last : block;
                chain = (struct hak_chain){block, chain.count + 1};
            }
            if (chain.count > 0 && (chain.count == max || i == first)) {
                add(context, chain, last);
                chain = (struct hak_chain){NULL, 0};
            }
        }
    }
}

/* Bytes of the slab's pages that went back to the operating system: the blank ones, and those inside of longer blank
 * blocks, where no block begins. */
static inline size_t hak_slab_purged_bytes(const struct slab *slab)
{
    struct hak_slab_shape shape = hak_slab_shape(slab);
    struct hak_block_set blank;
    size_t pages = 0;

    if (slab->blank_blocks == 0)
        return 0;
    hak_block_set_clear(&shape, &blank);
    hak_slab_add_blank(slab, blank.words);
    struct hak_page_set inside = hak_free_pages(&shape, &blank);
    for (size_t page = 0; page < hak_pages_cut(&shape); page++)
        pages += hak_slab_is_blank(slab, page) || hak_set_has(inside.words, page);
    return pages * os_page_size();
}

/* Whether the slab is one of this class and counts its blank blocks right. Walks its pages. */
static inline bool hak_slab_valid(const struct slab *slab, hak_class cls)
{
    struct hak_slab_shape shape = hak_slab_shape(slab);
    uint32_t blank = 0;

    for (size_t page = 0; page < hak_pages_cut(&shape); page++)
        if (hak_slab_is_blank(slab, page))
            blank += hak_first_in_page(&shape, page + 1) - hak_first_in_page(&shape, page);
    return blank == slab->blank_blocks && slab->used <= slab->cut && slab->cut <= slab->capacity &&
           slab->block_size == hak_class_size(cls) && slab_class_at(slab_base(slab)) == cls;
}

#endif
