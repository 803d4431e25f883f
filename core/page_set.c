/* SPDX-License-Identifier: MIT */
#include "core/page_set.h"

#include "core/trace.h"
#include "core/words.h"

size_t hak_slab_granules(size_t block_size)
{
    size_t granules = 1;

    for (;; granules++) {
        size_t size = granules * HAK_SLAB_GRANULE;
        if (size / block_size >= HAK_SLAB_BLOCKS_LEAST &&
            size % block_size <= size / HAK_SLAB_WASTE_PART)
            return granules;
    }
}

size_t hak_pages_cut(const struct hak_slab_shape *slab)
{
    return ((size_t)slab->cut * slab->block_size + os_page_size() - 1) / os_page_size();
}

uint32_t hak_first_in_page(const struct hak_slab_shape *slab, size_t page)
{
    size_t first = (page * os_page_size() + slab->block_size - 1) / slab->block_size;

    return first < slab->cut ? (uint32_t)first : slab->cut;
}

void hak_block_set_clear(const struct hak_slab_shape *slab, struct hak_block_set *set)
{
    hak_assert(slab->capacity <= HAK_SLAB_BLOCKS_MOST);
    hak_words_clear(set->words, (slab->capacity + 63u) / 64);
}

struct hak_page_set hak_free_pages(const struct hak_slab_shape *slab,
                                   const struct hak_block_set *free)
{
    struct hak_page_set pages;
    size_t bytes = os_page_size();
    size_t end = hak_pages_cut(slab);

    hak_assert(end <= HAK_SLAB_PAGES_MOST);
    hak_words_clear(pages.words, sizeof(pages.words) / sizeof(*pages.words));
    for (size_t page = 0; page < end; page++) {
        /* the blocks that overlap it */
        size_t first = page * bytes / slab->block_size;
        size_t after = ((page + 1) * bytes - 1) / slab->block_size + 1;
        if (hak_set_has_range(free->words, first, after < slab->cut ? after : slab->cut))
            hak_set_add(pages.words, page);
    }
    return pages;
}

bool hak_purge_range(void *base, size_t size)
{
    hak_trace(HAK_EVENT_PURGE, base, size);
    return os_purge(base, size);
}

unsigned hak_purge_pages(const struct hak_slab_shape *slab, const struct hak_page_set *set)
{
    size_t end = hak_pages_cut(slab);
    unsigned calls = 0;

    for (size_t page = 0; page < end; page++) {
        size_t first = page;
        while (page < end && hak_set_has(set->words, page))
            page++;
        if (page > first) {
            hak_purge_range(slab->base + first * os_page_size(), (page - first) * os_page_size());
            calls++;
        }
    }
    return calls;
}
