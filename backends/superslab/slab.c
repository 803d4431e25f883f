/* SPDX-License-Identifier: MIT */
/* The free blocks of one slab. Everything here is done by the slab's owner. */
#include "backends/superslab/slab.h"

/* Fresh blocks are cut a page's worth at a time: a program that wants one block touches one page. */
#define CUT_BYTES ((size_t)4096)

/* A slab is as long as gives this many blocks and wastes no more than one part in WASTE_PART. */
enum { BLOCKS_LEAST = 8, WASTE_PART = 8 };

size_t slab_granules(size_t block_size)
{
    size_t granules = 1;

    for (;; granules++) {
        size_t size = granules << GRANULE_SHIFT;
        if (size / block_size >= BLOCKS_LEAST && size % block_size <= size / WASTE_PART)
            return granules;
    }
}

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

/* The smallest page that any machine has; a granule's 16 bits suffice. */
#define PAGE_LEAST ((size_t)4096)

/* A set of blocks of one slab, or of its pages; slabs of several granules have few blocks. */
#define BLOCKS_MOST (GRANULE_SIZE / CONFIG_MIN_BLOCK)
#define PAGES_MOST                                                                                 \
    ((BLOCKS_LEAST << CONFIG_SMALL_MAX_LOG2) / PAGE_LEAST * 2 + GRANULE_SIZE / PAGE_LEAST)

struct block_set {
    uint64_t words[BLOCKS_MOST / 64];
};

struct page_set {
    uint64_t words[(PAGES_MOST + 63) / 64];
};

static void set_add(uint64_t *words, size_t member)
{
    words[member / 64] |= (uint64_t)1 << member % 64;
}

static bool set_has(const uint64_t *words, size_t member)
{
    return words[member / 64] >> member % 64 & 1;
}

static size_t pages_of_granule(void)
{
    return GRANULE_SIZE / os_page_size();
}

static bool is_blank(const struct slab *slab, size_t page)
{
    return slab[page / pages_of_granule()].blank >> page % pages_of_granule() & 1;
}

/* The first block that begins at or after the start of a page, of those that were ever cut. */
static uint32_t first_in(const struct slab *slab, size_t page)
{
    size_t first = (page * os_page_size() + slab->block_size - 1) / slab->block_size;

    return first < slab->cut ? (uint32_t)first : slab->cut;
}

static uint32_t index_of(const struct slab *slab, const void *block)
{
    return (uint32_t)((const char *)block - slab_base(slab)) / slab->block_size;
}

static struct hak_block *block_at(const struct slab *slab, uint32_t index)
{
    return (struct hak_block *)(void *)(slab_base(slab) + (size_t)index * slab->block_size);
}

static void add_chain(const struct slab *slab, struct hak_chain chain, struct block_set *set)
{
    for (struct hak_block *block = chain.head; chain.count > 0; chain.count--) {
        set_add(set->words, index_of(slab, block));
        if (chain.count > 1)
            block = slab_next(slab, block);
    }
}

/* The blocks that nobody has: in lists, in blank pages, or never cut. */
static void free_blocks(const struct slab *slab, struct block_set *set)
{
    size_t pages = (size_t)slab->run_granules * pages_of_granule();

    for (size_t i = 0; i < (slab->capacity + 63u) / 64; i++)
        set->words[i] = 0;
    add_chain(slab, (struct hak_chain){slab->loose, slab->loose_count}, set);
    for (hak_packed_chain packed = slab->closed.top; packed;) {
        struct hak_chain chain = hak_chain_unpack(packed);
        if (unlikely(!slab_on_grid(slab, chain.head)))
            hak_fatal_pointer("malloc()", chain.head, SLAB_BAD_LINK);
        packed = ((struct hak_chain_head *)chain.head)->below;
        add_chain(slab, chain, set);
    }
    for (size_t page = 0; slab->blank_pages > 0 && page < pages; page++)
        for (uint32_t i = first_in(slab, page);
             is_blank(slab, page) && i < first_in(slab, page + 1); i++)
            set_add(set->words, i);
    for (uint32_t i = slab->cut; i < slab->capacity; i++)
        set_add(set->words, i);
}

/* Whether every block that overlaps the page is free. */
static bool is_free_page(const struct slab *slab, const struct block_set *set, size_t page)
{
    size_t bytes = os_page_size();
    size_t end = ((page + 1) * bytes - 1) / slab->block_size;

    for (size_t i = page * bytes / slab->block_size; i <= end && i < slab->capacity; i++)
        if (!set_has(set->words, i))
            return false;
    return true;
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
                       const struct block_set *set)
{
    struct hak_chain chain = {NULL, 0};
    struct hak_block *last = NULL;

    for (uint32_t i = end; i-- > first;) {
        if (set && !set_has(set->words, i))
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
    struct slab *granule = slab;

    while (granule->blank == 0)
        granule++;
    size_t page =
        (size_t)(granule - slab) * pages_of_granule() + (size_t)__builtin_ctz(granule->blank);
    granule->blank &= (uint16_t)(granule->blank - 1);
    slab->blank_pages--;
    link_range(slab, cls, first_in(slab, page), first_in(slab, page + 1), NULL);
}

/* Purges the pages of the set in runs. Returns how many calls that took. What is refused stays in
 * memory, and is cut again all the same. */
static unsigned purge(const struct slab *slab, const struct page_set *set, size_t pages)
{
    unsigned calls = 0;

    for (size_t page = 0; page < pages; page++) {
        size_t first = page;
        while (page < pages && set_has(set->words, page))
            page++;
        if (page > first) {
            os_purge(slab_base(slab) + first * os_page_size(), (page - first) * os_page_size());
            calls++;
        }
    }
    return calls;
}

unsigned slab_purge_pages(struct slab *slab, hak_class cls)
{
    size_t bytes = os_page_size();
    size_t pages = ((size_t)slab->cut * slab->block_size + bytes - 1) / bytes;
    struct block_set blocks;
    struct page_set going = {{0}};
    bool any = false;

    if ((size_t)(slab->cut - slab->used) * slab->block_size < bytes)
        return 0;
    hak_assert(slab->capacity <= BLOCKS_MOST && pages <= PAGES_MOST);
    free_blocks(slab, &blocks);
    for (size_t page = 0; page < pages; page++) {
        if (!is_free_page(slab, &blocks, page))
            continue;
        set_add(going.words, page);
        any = any || !is_blank(slab, page);
    }
    if (!any)
        return 0;
    slab->loose = slab->loose_tail = NULL;
    slab->closed.top = 0;
    slab->loose_count = 0;
    for (size_t page = pages; page-- > 0;) {
        uint32_t first = first_in(slab, page);
        uint32_t end = first_in(slab, page + 1);
        if (is_blank(slab, page))
            continue;
        if (!set_has(going.words, page)) {
            link_range(slab, cls, first, end, &blocks);
        } else if (first < end) {
            slab[page / pages_of_granule()].blank |= (uint16_t)(1u << page % pages_of_granule());
            slab->blank_pages++;
        }
    }
    return purge(slab, &going, pages);
}

size_t slab_blank_blocks(const struct slab *slab)
{
    size_t pages = (size_t)slab->run_granules * pages_of_granule();
    size_t blocks = 0;

    for (size_t page = 0; page < pages; page++)
        if (is_blank(slab, page))
            blocks += first_in(slab, page + 1) - first_in(slab, page);
    return blocks;
}
