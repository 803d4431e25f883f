/* SPDX-License-Identifier: MIT */
/* Kept chains, upkeep, and what upkeep does to a slab, over one slab in plain memory and without a back end. */
#include <criterion/criterion.h>
#include <string.h>

#include "core/backend.h"
#include "core/page_set.h"
#include "tests/contract/death.h"
#include "tests/fake/fake_backend.h"

/* As many as a slab of the largest class has, and more. */
enum { GRANULES = HAK_SLAB_PAGES_MOST * HAK_PAGE_LEAST / HAK_SLAB_GRANULE + 1 };

struct slab {
    uint32_t block_size, cut, used, touched_at;
    uint16_t capacity, blank_blocks, blank, distance;
};

#include "core/slab.h"

static _Alignas(HAK_SLAB_GRANULE) char memory[GRANULES * HAK_SLAB_GRANULE];
static struct slab slabs[GRANULES];
static hak_class class_here;

static inline char *slab_base(const struct slab *slab)
{
    return memory + (size_t)(slab - slabs) * HAK_SLAB_GRANULE;
}

static inline struct slab *slab_granule(const struct slab *slab, size_t index)
{
    return &slabs[slab - slabs + (ptrdiff_t)index];
}

static inline hak_class slab_class_at(const void *pointer)
{
    return (size_t)((const char *)pointer - memory) < sizeof(memory) ? class_here : HAK_CLASS_END;
}

static inline struct slab *slab_granule_at(const void *pointer)
{
    return &slabs[(size_t)((const char *)pointer - memory) / HAK_SLAB_GRANULE];
}

static inline struct slab *slab_of(const void *pointer)
{
    return slab_granule_at(pointer) - slab_granule_at(pointer)->distance;
}

/* Where blocks go that are no longer kept. */
static struct hak_chain sorted;
#define kept_sort sort_into_sorted
#include "core/kept.h"
#include "core/upkeep.h"

void sort_into_sorted(struct hak_shard *shard, hak_class cls, struct hak_chain chain)
{
    (void)shard, (void)cls;
    sorted = (struct hak_chain){chain.head, sorted.count + chain.count};
}

static struct slab *begin(unsigned index)
{
    class_here = hak_class_at(index);
    hak_slab_begin(slabs, class_here, hak_slab_granules(hak_class_sizes[index]));
    return slabs;
}

static struct slab *begin_whole(unsigned index)
{
    struct slab *slab = begin(index);

    while (hak_slab_cut(slab, SIZE_MAX) > 0)
        ;
    return slab;
}

static struct hak_block_set all_but(const struct slab *slab, uint32_t live)
{
    struct hak_slab_shape shape = hak_slab_shape(slab);
    struct hak_block_set set;

    hak_block_set_clear(&shape, &set);
    for (uint32_t i = 0; i < slab->cut; i++)
        if (i != live)
            hak_set_add(set.words, i);
    return set;
}

/* Free pages are purged whole, those inside of long blocks as well. */
Test(slab, counts_what_was_purged)
{
    for (unsigned i = 0; i < HAK_CLASSES; i++) {
        struct slab *slab = begin_whole(i);
        struct hak_slab_shape shape = hak_slab_shape(slab);
        struct hak_block_set free = all_but(slab, UINT32_MAX);
        struct hak_page_set going = hak_free_pages(&shape, &free);

        cr_assert_eq(hak_slab_purged_bytes(slab), 0);
        hak_slab_set_blank(slab, &going);
        cr_assert_eq(slab->blank_blocks, slab->cut);
        cr_assert_eq(hak_slab_purged_bytes(slab), hak_pages_cut(&shape) * os_page_size());
    }
}

struct relinked {
    uint32_t count, most;
    struct hak_block *first;
};

static void note(void *context, struct hak_chain chain, struct hak_block *last)
{
    struct relinked *all = context;
    struct hak_block *block = chain.head;

    for (size_t left = chain.count; left > 1; left--, block = block->next)
        cr_assert_gt(block->next, block);
    cr_assert_eq(block, last);
    cr_assert_null(last->next);
    cr_assert(all->first == NULL || last < all->first, "the last ones come first");
    all->first = chain.head;
    all->count += (uint32_t)chain.count;
    all->most = all->most > chain.count ? all->most : (uint32_t)chain.count;
}

Test(slab, links_what_stays)
{
    for (unsigned i = 0; i < HAK_CLASSES; i++) {
        struct slab *slab = begin_whole(i);
        struct hak_slab_shape shape = hak_slab_shape(slab);
        struct hak_block_set free = all_but(slab, slab->capacity / 2);
        struct hak_page_set going = hak_free_pages(&shape, &free);
        struct relinked all = {0, 0, NULL};

        hak_slab_relink(slab, &free, &going, 7, note, &all);
        cr_assert_leq(all.most, 7);
        hak_slab_set_blank(slab, &going);
        cr_assert_eq(all.count + slab->blank_blocks + 1, slab->cut, "all but the one that is live");
        all = (struct relinked){0, 0, NULL};
        hak_slab_relink(slab, &free, &(struct hak_page_set){{0}}, SIZE_MAX, note, &all);
        cr_assert_eq(all.count + slab->blank_blocks + 1, slab->cut, "blank blocks stay blank");
    }
}

Test(slab, a_link_off_the_grid_is_found)
{
    struct slab *slab = begin_whole(4);
    struct hak_block_set set = {{0}};
    struct hak_block *last;
    struct hak_chain chain = hak_slab_link(hak_slab_block(slab, 0), slab->block_size, 9, &last);

    cr_assert_null(hak_slab_add_chain(slab, chain, set.words));
    cr_assert_eq(set.words[0], 0x1ff);
    hak_slab_block(slab, 4)->next = (struct hak_block *)(void *)(memory + 8);
    memset(&set, 0, sizeof(set));
    cr_assert_eq(hak_slab_add_chain(slab, chain, set.words), hak_slab_block(slab, 4));
    cr_assert_eq(set.words[0], 0x1f);
}

/* ── kept chains ─────────────────────────────────────────────────────────────────────────────── */

static struct hak_chain chain_from(struct slab *slab, uint32_t first, size_t count)
{
    struct hak_block *last;

    return hak_slab_link(hak_slab_block(slab, first), slab->block_size, count, &last);
}

Test(kept, keeps_chains_within_its_bound)
{
    struct slab *slab = begin_whole(2);
    struct hak_kept kept = {0};
    size_t most = 10 * (size_t)slab->block_size;

    cr_assert(hak_kept_push(&kept, NULL, class_here, chain_from(slab, 0, 4), most));
    cr_assert(hak_kept_push(&kept, NULL, class_here, chain_from(slab, 8, 6), most));
    cr_assert_not(hak_kept_push(&kept, NULL, class_here, chain_from(slab, 20, 1), most));
    cr_assert_not(hak_kept_push(&kept, NULL, class_here, chain_from(slab, 20, 11), most));
    cr_assert(hak_kept_valid(&kept, most));
    cr_assert_not(hak_kept_valid(&kept, most - 1));

    struct hak_chain chain = hak_kept_pop(&kept, class_here, 2);
    cr_assert_eq(chain.count, 2);
    cr_assert_eq(chain.head, hak_slab_block(slab, 8), "the newest chain comes first");
    cr_assert_null(chain.head->next->next);
    cr_assert_eq(hak_kept_pop(&kept, class_here, 9).count, 4);
    cr_assert_eq(kept.bytes, 4 * (size_t)slab->block_size);
    hak_kept_sort_all(&kept, NULL);
    cr_assert_eq(sorted.count, 4);
    cr_assert_eq(kept.bytes, 0);
    cr_assert_eq(hak_kept_pop(&kept, class_here, 9).count, 0);
}

Test(kept, chains_of_another_class_make_room)
{
    struct slab *slab = begin_whole(2);
    struct hak_kept kept = {0};
    size_t most = 4 * (size_t)slab->block_size;
    hak_class other = hak_class_at(1);
    bool pushed = false;

    cr_assert(hak_kept_push(&kept, NULL, class_here, chain_from(slab, 0, 4), most));
    for (unsigned turn = 0; turn < HAK_CLASSES && !pushed; turn++)
        pushed = hak_kept_push(&kept, NULL, other, chain_from(slab, 8, 2), most);
    cr_assert(pushed);
    cr_assert_eq(sorted.count, 4);
    cr_assert_eq(kept.bytes, 2 * hak_class_size(other));
}

Test(kept, a_wrong_count_of_kept_bytes_is_noticed)
{
    struct slab *slab = begin_whole(2);
    struct hak_kept kept = {0};

    cr_assert(hak_kept_push(&kept, NULL, class_here, chain_from(slab, 0, 4), SIZE_MAX));
    kept.bytes--;
    cr_assert_not(hak_kept_valid(&kept, SIZE_MAX));
}

static void pop_three(void *kept)
{
    hak_kept_pop(kept, class_here, 3);
}

/* A part of a chain is taken link by link. */
Test(kept, a_written_link_is_noticed_before_it_is_followed)
{
    struct slab *slab = begin_whole(2);
    struct hak_kept kept = {0};
    char *inside = (char *)hak_slab_block(slab, 2) + 8;

    cr_assert(hak_kept_push(&kept, NULL, class_here, chain_from(slab, 0, 4), SIZE_MAX));
    hak_slab_block(slab, 1)->next = (struct hak_block *)(void *)inside;
    cr_assert_dies(pop_three, &kept, "free()", inside, HAK_NOT_A_BLOCK);
}

/* ── upkeep ──────────────────────────────────────────────────────────────────────────────────── */

Test(upkeep, settles_when_it_was_left_alone)
{
    struct slab *slab = begin(0);

    slab->touched_at = 0;
    cr_assert_not(hak_slab_settles(slab, 1000, 0), "it has settled already");
    slab->touched_at = 1000 | 1;
    cr_assert_not(hak_slab_settles(slab, 1000, 50), "the stamp may be a millisecond ahead");
    cr_assert_not(hak_slab_settles(slab, 1049, 50));
    cr_assert(hak_slab_settles(slab, 1050, 50));
    cr_assert_eq(slab->touched_at, 0);
    slab->touched_at = 1000 | 1;
    cr_assert(hak_slab_settles(slab, 1000, 0), "a trim waits for none");
}

Test(upkeep, a_thread_ticks_once_a_millisecond_unless_it_is_behind)
{
    uint32_t ticked_at = 5;

    cr_assert_not(hak_tick_begins(&ticked_at, false, 5));
    cr_assert(hak_tick_begins(&ticked_at, true, 5));
    cr_assert(hak_tick_begins(&ticked_at, false, 6));
    cr_assert_eq(ticked_at, 6);
}
