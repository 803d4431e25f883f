/* SPDX-License-Identifier: MIT */
/* The free blocks of one slab. Only the slab's owner calls these functions. */
#include "backends/superslab/slab.h"

struct hak_block *slab_nth(const struct slab *slab, struct hak_block *head, size_t count)
{
    while (--count > 0)
        head = hak_slab_next(slab, head);
    return head;
}

/* Has the kernel give memory to the pages that blocks were just cut from and to the rest of the step of AHEAD bytes, unless
 * that was done when the step's first blocks were cut. */
static hak_cold void slab_populate(const struct slab *slab, uint32_t count)
{
    size_t end = (size_t)slab->cut * slab->block_size;
    size_t first = (end - (size_t)count * slab->block_size + AHEAD - 1) & -AHEAD;

    if (first < end)
        os_populate(slab_base(slab) + first, ((end + AHEAD - 1) & -AHEAD) - first);
}

struct hak_chain slab_cut(struct slab *slab, size_t max, struct hak_block **last)
{
    uint32_t count = hak_slab_cut(slab, max);

    if (count == 0)
        return (struct hak_chain){NULL, 0};
    if (unlikely(slab->ahead))
        slab_populate(slab, count);
    return hak_slab_link(hak_slab_block(slab, slab->cut - count), slab->block_size, count, last);
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
    slab->loose = hak_slab_next(slab, *last);
    (*last)->next = NULL;
    slab->loose_count -= (uint32_t)max;
    return (struct hak_chain){chain.head, max};
}

struct hak_chain slab_take_closed(struct slab *slab, size_t max)
{
    struct hak_chain chain = hak_chain_pop(&slab->closed);

    if (slab->closed.top && unlikely(!slab_on_grid(slab, hak_chain_unpack(slab->closed.top).head)))
        hak_fatal_pointer("malloc()", chain.head, HAK_BAD_LINK);
    if (chain.count > max) {
        struct hak_block *last = slab_nth(slab, chain.head, max);
        hak_chain_push(&slab->closed,
                       (struct hak_chain){hak_slab_next(slab, last), chain.count - max});
        last->next = NULL;
        chain.count = max;
    }
    return chain;
}

/* ── pages ───────────────────────────────────────────────────────────────────────────────────── */

void slab_recut(struct slab *slab, hak_class cls)
{
    uint32_t first;
    uint32_t left = hak_slab_take_blank(slab, &first);

    while (left > 0) {
        uint32_t count = left < CONFIG_REFILL_BATCH ? left : CONFIG_REFILL_BATCH;
        struct hak_block *last;
        left -= count;
        struct hak_block *block = hak_slab_block(slab, first + left);
        struct hak_chain chain = hak_slab_link(block, slab->block_size, count, &last);
        slab_add(slab, cls, chain, last);
    }
}

/* Adds the blocks of a chain to a set. A link that leaves the grid stops the process. */
static void slab_mark_free(const struct slab *slab, struct hak_chain chain, uint64_t *set)
{
    const struct hak_block *broken = hak_slab_add_chain(slab, chain, set);

    if (unlikely(broken != NULL))
        hak_fatal_pointer("malloc()", broken, HAK_BAD_LINK);
}

/* The free and the blank blocks. */
static void slab_free_blocks(const struct slab *slab, struct hak_block_set *set)
{
    struct hak_slab_shape shape = hak_slab_shape(slab);

    hak_block_set_clear(&shape, set);
    slab_mark_free(slab, (struct hak_chain){slab->loose, slab->loose_count}, set->words);
    for (hak_packed_chain packed = slab->closed.top; packed;) {
        struct hak_chain chain = hak_chain_unpack(packed);
        slab_mark_free(slab, chain, set->words);
        packed = ((struct hak_chain_head *)chain.head)->below;
    }
    hak_slab_add_blank(slab, set->words);
}

/* The fewest pages that are worth a purge. In a huge page, which the purge would split: a quarter of the slab. With
 * CONFIG_HUGE_PAGES_ALWAYS a slab's pages go only with the slab. */
static size_t slab_pages_worthwhile(const struct slab *slab)
{
    if (enabled(CONFIG_HUGE_PAGES_ALWAYS))
        return SIZE_MAX;
    if (space_is_huge(space_number(slab), slab->extent.granules))
        return slab->extent.granules * hak_pages_of_granule() / 4;
    return 1;
}

static void slab_add_relinked(void *context, struct hak_chain chain, struct hak_block *last)
{
    struct slab *slab = context;

    slab_add(slab, slab_class_at(chain.head), chain, last);
}

unsigned slab_purge_pages(struct slab *slab)
{
    struct hak_slab_shape shape = hak_slab_shape(slab);
    struct hak_block_set blocks;
    size_t page_size = os_page_size();
    size_t worthwhile = slab_pages_worthwhile(slab);
    size_t gained = 0;

    /* The pages that could go are those that free blocks in lists cover, give or take one at either end: a blank block may
     * reach into the first, and the rest of the last may never have been cut. */
    size_t linked = slab->cut - slab->used - slab->blank_blocks;
    size_t bytes = (linked + 1 - slab->cut) * slab->block_size + hak_pages_cut(&shape) * page_size;
    if (linked == 0 || bytes / page_size < worthwhile)
        return 0;
    slab_free_blocks(slab, &blocks);
    struct hak_page_set going = hak_free_pages(&shape, &blocks);
    for (size_t page = 0; page < hak_pages_cut(&shape) && gained < worthwhile; page++)
        gained += hak_set_has(going.words, page) && !hak_slab_is_blank(slab, page);
    if (gained < worthwhile)
        return 0;
    slab->loose = slab->loose_tail = NULL;
    slab->closed.top = 0;
    slab->loose_count = 0;
    hak_slab_relink(slab, &blocks, &going, CONFIG_REFILL_BATCH, slab_add_relinked, slab);
    hak_slab_set_blank(slab, &going);
    space_split_huge(space_number(slab), slab->extent.granules);
    return hak_purge_pages(&shape, &going);
}
