/* SPDX-License-Identifier: MIT */
/* Which pages of a slab could go back to the operating system.
 *
 *   blocks   │ a │ b │ free │ free │ free │ c │ …
 *   pages    │       0      │      1      │      2 …       page 1: only free blocks overlap it
 *
 * A page may go when every block that overlaps it is free; then the blocks that *begin* in it have to leave
 * the lists of free blocks, because their links go with it. It is for the back end to see to that, and to
 * hand them out again later as if they had never been used. */
#ifndef HAK_PAGE_SET_H
#define HAK_PAGE_SET_H

#include "core/os.h"

/* A slab is one granule, or as many as it takes to have this many blocks and to waste at most one part in so many. */
#define HAK_SLAB_GRANULE      ((size_t)65536)
#define HAK_SLAB_BLOCKS_LEAST 8
#define HAK_SLAB_WASTE_PART   8

/* The smallest page that any machine has; 16 bits suffice for those of a granule. */
#define HAK_PAGE_LEAST ((size_t)4096)

/* Slabs of several granules have few blocks. */
#define HAK_SLAB_BLOCKS_MOST (HAK_SLAB_GRANULE / CONFIG_MIN_BLOCK)
#define HAK_SLAB_PAGES_MOST                                                                        \
    ((HAK_SLAB_BLOCKS_LEAST << CONFIG_SMALL_MAX_LOG2) / HAK_PAGE_LEAST * 2 +                       \
     HAK_SLAB_GRANULE / HAK_PAGE_LEAST)

struct hak_block_set {
    uint64_t words[HAK_SLAB_BLOCKS_MOST / 64];
};

struct hak_page_set {
    uint64_t words[(HAK_SLAB_PAGES_MOST + 63) / 64];
};

/* The blocks of a slab, of which the first `cut` have been used at some time. */
struct hak_slab_shape {
    char *base;
    uint32_t block_size;
    uint32_t capacity;
    uint32_t cut;
};

static inline void hak_set_add(uint64_t *words, size_t member)
{
    words[member / 64] |= (uint64_t)1 << member % 64;
}

static inline bool hak_set_has(const uint64_t *words, size_t member)
{
    return words[member / 64] >> member % 64 & 1;
}

/* The bits of [first, end) that are in one word, which `first` is in. pre: first < end */
static inline uint64_t hak_set_mask(size_t first, size_t end)
{
    size_t left = end - first;

    return (left < 64 ? ((uint64_t)1 << left) - 1 : ~(uint64_t)0) << first % 64;
}

static inline void hak_set_add_range(uint64_t *words, size_t first, size_t end)
{
    for (; first < end; first = (first | 63) + 1)
        words[first / 64] |= hak_set_mask(first, end);
}

static inline bool hak_set_has_range(const uint64_t *words, size_t first, size_t end)
{
    for (; first < end; first = (first | 63) + 1)
        if (~words[first / 64] & hak_set_mask(first, end))
            return false;
    return true;
}

/* Granules that a slab of blocks of this size has. */
size_t hak_slab_granules(size_t block_size);

static inline size_t hak_pages_of_granule(void)
{
    return HAK_SLAB_GRANULE / os_page_size();
}

/* Pages that overlap blocks that have been used. */
size_t hak_pages_cut(const struct hak_slab_shape *slab);

/* The first block that begins at or after the start of a page, of those that were ever cut. */
uint32_t hak_first_in_page(const struct hak_slab_shape *slab, size_t page);

/* An empty set for the slab's blocks. */
void hak_block_set_clear(const struct hak_slab_shape *slab, struct hak_block_set *set);

static inline void hak_block_set_add(const struct hak_slab_shape *slab, struct hak_block_set *set,
                                     const void *block)
{
    hak_set_add(set->words, (uint32_t)((const char *)block - slab->base) / slab->block_size);
}

/* The pages that overlap free blocks only: those in the set, and those never cut. */
struct hak_page_set hak_free_pages(const struct hak_slab_shape *slab,
                                   const struct hak_block_set *free);

/* os_purge, recorded in the trace. */
bool hak_purge_range(void *base, size_t size);

/* Purges the pages of a set, neighbours together. Returns the number of system calls. Pages that the kernel refuses to
 * take stay in memory. */
unsigned hak_purge_pages(const struct hak_slab_shape *slab, const struct hak_page_set *set);

#endif
