/* SPDX-License-Identifier: MIT */
/* The free blocks of one slab. Everything here is done by the slab's owner. */
#include "backends/superslab/slab.h"

#include "backends/superslab/dense.h"

/* Fresh blocks are cut a page's worth at a time: a program that wants one block touches one page. */
#define CUT_BYTES ((size_t)4096)

static void close_loose(struct slab *slab)
{
    hak_chain_push(&slab->closed, (struct hak_chain){slab->loose, slab->loose_count});
    slab->loose = slab->loose_tail = NULL;
    slab->loose_count = 0;
}

struct hak_block *slab_nth(const struct slab *slab, struct hak_block *head, size_t count)
{
    while (--count > 0)
        head = slab_next(slab, head);
    return head;
}

void slab_add(struct slab *slab, hak_class cls, struct hak_chain chain, struct hak_block *last)
{
    if (slab->loose_count > 0 && slab->loose_count + chain.count > CONFIG_REFILL_BATCH &&
        hak_stackable(cls))
        close_loose(slab);
    last->next = slab->loose;
    if (slab->loose == NULL)
        slab->loose_tail = last;
    slab->loose = chain.head;
    slab->loose_count += (uint32_t)chain.count;
}

/* How many of at most `max` fresh blocks are cut at once. */
static size_t cut_count(const struct slab *slab, size_t max)
{
    size_t count = slab->block_size < CUT_BYTES ? CUT_BYTES / slab->block_size : 1;

    count = count < max ? count : max;
    return count < slab->capacity - slab->cut ? count : slab->capacity - slab->cut;
}

struct hak_chain slab_cut(struct slab *slab, size_t max, struct hak_block **last)
{
    size_t size = slab->block_size;
    size_t count = cut_count(slab, max);
    char *base = slab_base(slab) + slab->cut * size;

    if (count == 0)
        return (struct hak_chain){NULL, 0};
    slab->cut += (uint32_t)count;
    char *end = base + (count - 1) * size;
    for (char *block = base; block < end; block += size)
        ((struct hak_block *)(void *)block)->next = (struct hak_block *)(void *)(block + size);
    *last = (struct hak_block *)(void *)end;
    return (struct hak_chain){(struct hak_block *)(void *)base, count};
}

size_t slab_cut_array(struct slab *slab, void **out, size_t max)
{
    size_t count = cut_count(slab, max);

    slab->cut += (uint32_t)count;
    char *block = slab_base(slab) + (size_t)slab->cut * slab->block_size;
    for (size_t i = 0; i < count; i++)
        out[i] = block -= slab->block_size;
    return count;
}

struct hak_chain slab_take_loose(struct slab *slab, size_t max, struct hak_block **last)
{
    struct hak_chain chain = {slab->loose, slab->loose_count};

    if (chain.count <= max) {
        *last = slab->loose_tail;
        slab->loose = slab->loose_tail = NULL;
        slab->loose_count = 0;
        return chain;
    }
    *last = slab_nth(slab, chain.head, max);
    slab->loose = slab_next(slab, *last);
    (*last)->next = NULL;
    slab->loose_count -= (uint32_t)max;
    return (struct hak_chain){chain.head, max};
}

struct hak_chain slab_take_closed(struct slab *slab, size_t max)
{
    struct hak_chain chain = hak_chain_pop(&slab->closed);

    if (slab->closed.top && unlikely(!slab_on_grid(slab, hak_chain_unpack(slab->closed.top).head)))
        hak_fatal_pointer("malloc()", chain.head, SLAB_BAD_LINK);
    if (chain.count > max) {
        struct hak_block *last = slab_nth(slab, chain.head, max);
        hak_chain_push(&slab->closed, (struct hak_chain){slab_next(slab, last), chain.count - max});
        last->next = NULL;
        chain.count = max;
    }
    return chain;
}

/* ── pages ───────────────────────────────────────────────────────────────────────────────────── */

static struct hak_slab_shape shape_of(const struct slab *slab)
{
    return (struct hak_slab_shape){slab_base(slab), slab->block_size, slab->capacity, slab->cut};
}

static size_t pages_of(const struct slab *slab)
{
    return slab->run_granules * hak_pages_of_granule();
}

static bool is_blank(const struct slab *slab, size_t page)
{
    return slab[page / hak_pages_of_granule()].blank >> page % hak_pages_of_granule() & 1;
}

static struct hak_block *block_at(const struct slab *slab, uint32_t index)
{
    return (struct hak_block *)(void *)(slab_base(slab) + (size_t)index * slab->block_size);
}

void slab_add_blank(const struct slab *slab, uint64_t *set)
{
    struct hak_slab_shape shape = shape_of(slab);

    for (size_t page = 0; slab->blank_pages > 0 && page < pages_of(slab); page++)
        for (uint32_t i = hak_first_in_page(&shape, page);
             is_blank(slab, page) && i < hak_first_in_page(&shape, page + 1); i++)
            hak_set_add(set, i);
}

static void add_chain(const struct slab *slab, const struct hak_slab_shape *shape,
                      struct hak_chain chain, struct hak_block_set *set)
{
    for (struct hak_block *block = chain.head; chain.count > 0; chain.count--) {
        hak_block_set_add(shape, set, block);
        if (chain.count > 1)
            block = slab_next(slab, block);
    }
}

/* The blocks that nobody has: in lists or in blank pages. */
static void free_blocks(const struct slab *slab, const struct hak_slab_shape *shape,
                        struct hak_block_set *set)
{
    hak_block_set_clear(shape, set);
    add_chain(slab, shape, (struct hak_chain){slab->loose, slab->loose_count}, set);
    for (hak_packed_chain packed = slab->closed.top; packed;) {
        struct hak_chain chain = hak_chain_unpack(packed);
        if (unlikely(!slab_on_grid(slab, chain.head)))
            hak_fatal_pointer("malloc()", chain.head, SLAB_BAD_LINK);
        packed = ((struct hak_chain_head *)chain.head)->below;
        add_chain(slab, shape, chain, set);
    }
    slab_add_blank(slab, set->words);
}

static void link_free(struct slab *slab, hak_class cls, struct hak_chain *chain,
                      struct hak_block *last)
{
    if (chain->count > 0)
        slab_add(slab, cls, *chain, last);
    *chain = (struct hak_chain){NULL, 0};
}

/* Links those blocks of [first, end) that are in the set, in order of address, as free ones. */
static void link_range(struct slab *slab, hak_class cls, uint32_t first, uint32_t end,
                       const struct hak_block_set *set)
{
    struct hak_chain chain = {NULL, 0};
    struct hak_block *last = NULL;

    for (uint32_t i = end; i-- > first;) {
        if (set && !hak_set_has(set->words, i))
            continue;
        struct hak_block *block = block_at(slab, i);
        block->next = chain.head;
        last = chain.count > 0 ? last : block;
        chain = (struct hak_chain){block, chain.count + 1};
        if (chain.count == CONFIG_REFILL_BATCH)
            link_free(slab, cls, &chain, last);
    }
    link_free(slab, cls, &chain, last);
}

void slab_recut(struct slab *slab, hak_class cls)
{
    struct hak_slab_shape shape = shape_of(slab);
    struct slab *granule = slab;

    while (granule->blank == 0)
        granule++;
    size_t page =
        (size_t)(granule - slab) * hak_pages_of_granule() + (size_t)__builtin_ctz(granule->blank);
    granule->blank &= (uint16_t)(granule->blank - 1);
    slab->blank_pages--;
    link_range(slab, cls, hak_first_in_page(&shape, page), hak_first_in_page(&shape, page + 1),
               NULL);
}

/* Fewer pages than this are not worth a purge: in a huge page, a quarter of the slab. Where all are huge, a slab's
 * pages go only with the slab. */
static size_t pages_worthwhile(const struct slab *slab)
{
    if (enabled(CONFIG_HUGE_PAGES_ALWAYS))
        return SIZE_MAX;
    return dense_is_huge((uint32_t)(slab - window.slabs), slab->run_granules) ? pages_of(slab) / 4
                                                                              : 1;
}

unsigned slab_purge_pages(struct slab *slab, hak_class cls)
{
    struct hak_slab_shape shape = shape_of(slab);
    size_t pages = hak_pages_cut(&shape);
    struct hak_block_set blocks;
    size_t worthwhile = pages_worthwhile(slab);
    size_t gained = 0;

    if ((size_t)(slab->cut - slab->used) * slab->block_size / os_page_size() < worthwhile)
        return 0;
    free_blocks(slab, &shape, &blocks);
    struct hak_page_set going = hak_free_pages(&shape, &blocks);
    for (size_t page = 0; page < pages && gained < worthwhile; page++)
        gained += hak_set_has(going.words, page) && !is_blank(slab, page);
    if (gained < worthwhile)
        return 0;
    slab->loose = slab->loose_tail = NULL;
    slab->closed.top = 0;
    slab->loose_count = 0;
    for (size_t page = pages; page-- > 0;) {
        uint32_t first = hak_first_in_page(&shape, page);
        uint32_t end = hak_first_in_page(&shape, page + 1);
        if (is_blank(slab, page))
            continue;
        if (!hak_set_has(going.words, page)) {
            link_range(slab, cls, first, end, &blocks);
        } else if (first < end) {
            slab[page / hak_pages_of_granule()].blank |=
                (uint16_t)(1u << page % hak_pages_of_granule());
            slab->blank_pages++;
        }
    }
    dense_split((uint32_t)(slab - window.slabs), slab->run_granules);
    return hak_purge_pages(&shape, &going);
}

size_t slab_blank_blocks(const struct slab *slab)
{
    struct hak_slab_shape shape = shape_of(slab);
    size_t blocks = 0;

    for (size_t page = 0; page < pages_of(slab); page++)
        if (is_blank(slab, page))
            blocks += hak_first_in_page(&shape, page + 1) - hak_first_in_page(&shape, page);
    return blocks;
}
