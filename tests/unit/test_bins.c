/* SPDX-License-Identifier: MIT */
/* Bins on the shard of the test's own heap, whose cache it leaves alone. What policies make of them is tested on a fake
 * back end, beside each policy. */
#include <criterion/criterion.h>
#include <hakmem/hakmem.h>

#include "core/bins.h"
#include "core/heap.h"

static const size_t BUDGET = (size_t)256 << 10;

static struct hak_bins bins;
static struct hak_shard *shard;

static void start(void)
{
    hak_free(hak_malloc(1));
    shard = &hak_heap_mine->shard;
    hak_bins_init(&bins, BUDGET);
}

TestSuite(bins, .init = start);

static void *take(hak_class cls)
{
    void *block = hak_bin_take(hak_bin_of(&bins, cls));

    return block ? block : hak_bins_refill(&bins, shard, cls);
}

static void put(hak_class cls, void *block)
{
    if (!hak_bin_put(hak_bin_of(&bins, cls), block))
        hak_bins_flush(&bins, shard, cls, block);
}

Test(bins, blocks_go_round_within_the_budget)
{
    enum { COUNT = 3000 };
    static void *blocks[COUNT];
    size_t bytes = 0;

    for (unsigned c = 0; c < HAK_CLASSES; c += 5) {
        hak_class cls = hak_class_at(c);
        for (int i = 0; i < COUNT; i++)
            cr_assert_not_null(blocks[i] = take(cls));
        for (int i = 0; i < COUNT; i++) {
            put(cls, blocks[i]);
            cr_assert(i % 64 != 0 || hak_bins_valid(&bins));
        }
        cr_assert_leq(hak_bins_held(&bins, cls), hak_cache_capacity(cls));
    }
    for (unsigned c = 0; c < HAK_CLASSES; c++)
        bytes += hak_bins_held(&bins, hak_class_at(c)) * hak_class_sizes[c];
    cr_assert_leq(bytes, BUDGET);
    cr_assert(hak_bins_valid(&bins));
    hak_bins_empty(&bins, shard);
    for (unsigned c = 0; c < HAK_CLASSES; c++)
        cr_assert_eq(hak_bins_held(&bins, hak_class_at(c)), 0);
}

static bool count_one(void *block, void *count)
{
    (void)block;
    ++*(size_t *)count;
    return true;
}

Test(bins, a_walk_sees_what_is_held)
{
    hak_class cls = hak_class_of(64);
    void *blocks[300];
    size_t seen = 0;

    for (int i = 0; i < 300; i++)
        blocks[i] = take(cls);
    for (int i = 0; i < 300; i++)
        put(cls, blocks[i]);
    hak_bins_walk(&bins, count_one, &seen);
    cr_assert_gt(seen, 0);
    cr_assert_eq(seen, hak_bins_held(&bins, cls));
    hak_bins_forget(&bins);
    cr_assert(hak_bins_valid(&bins));
    cr_assert_eq(hak_bins_held(&bins, cls), 0);
}

/* Every class within its own bound, and all of them beyond the budget. */
Test(bins, more_than_the_budget_is_not_valid)
{
    if (!enabled(CONFIG_CACHE_ADAPTIVE))
        cr_skip_test("limits are fixed, and add up to no more than the budget");
    bins.granted = 0;
    for (unsigned c = 0; c < HAK_CLASSES; c++) {
        struct hak_bin *bin = &bins.bin[c];
        bin->limit = bin->most;
        bin->room = (int32_t)bin->most;
        bins.granted += 2 * (size_t)bin->most * hak_class_sizes[c];
        cr_assert_eq(hak_bins_valid(&bins), bins.granted <= BUDGET);
    }
    cr_assert_gt(bins.granted, BUDGET);
}

/* Each clause of the invariants is looked at: a bin that breaks it is noticed. */
Test(bins, a_broken_bin_is_not_valid)
{
    hak_class cls = hak_class_of(64);
    struct hak_bin *bin = hak_bin_of(&bins, cls);
    void *blocks[3];

    for (int i = 0; i < 3; i++)
        blocks[i] = take(cls);
    for (int i = 0; i < 3; i++)
        put(cls, blocks[i]);
    cr_assert(hak_bins_valid(&bins));
    const struct hak_bins sound = bins;

    bin->room--;
    cr_assert(!hak_bins_valid(&bins), "it counts more blocks than it has");
    bins = sound;
    bin->room = -1;
    cr_assert(!hak_bins_valid(&bins), "more than it may");
    bins = sound;
    bin->most++;
    cr_assert(!hak_bins_valid(&bins), "another bound than its class has");
    bins = sound;
    bin->limit = (uint16_t)(bin->most + 1);
    cr_assert(!hak_bins_valid(&bins), "a limit beyond the bound");
    bins = sound;
    bin->head = bin->head->next;
    cr_assert(!hak_bins_valid(&bins), "a block less than it counts");
    bins = sound;
    bins.granted += 16;
    cr_assert(!hak_bins_valid(&bins), "more was granted than the limits say");
    bins = sound;
    bins.spare[hak_class_index(cls)] = hak_chain_pack((struct hak_chain){bin->head, 1});
    cr_assert(!hak_bins_valid(&bins), "a spare that is longer than it counts");
    bins = sound;
    cr_assert(hak_bins_valid(&bins));
}

static void fill(hak_class cls)
{
    void *blocks[8];

    for (int i = 0; i < 8; i++)
        blocks[i] = take(cls);
    for (int i = 0; i < 8; i++)
        put(cls, blocks[i]);
}

/* As if the last round were long enough ago. */
static void round_of_upkeep(void)
{
    bins.idle.round_at = hak_clock_ms() - CONFIG_PURGE_DELAY_MS;
    cr_assert(hak_bins_tick(&bins, shard));
}

Test(bins, upkeep_empties_idle_classes_and_no_others)
{
    hak_class idle = hak_class_of(64);
    hak_class used = hak_class_of(128);

    fill(idle);
    fill(used);
    round_of_upkeep();
    cr_assert(hak_bins_held(&bins, idle) > 0 && hak_bins_held(&bins, used) > 0);
    cr_assert_not_null(take(used)); /* and another block is on top */
    size_t held = hak_bins_held(&bins, used);
    round_of_upkeep();
    cr_assert_eq(hak_bins_held(&bins, idle), 0);
    cr_assert_eq(hak_bins_held(&bins, used), held);
}

/* ── borrowed blocks ─────────────────────────────────────────────────────────────────────────── */

static size_t alignment_of(size_t size)
{
    return size & -size;
}

/* The first two classes of which one may borrow from the other. false: the configuration has none. */
static bool find_lender(hak_class *borrower, hak_class *lender)
{
    for (unsigned i = hak_class_index(hak_class_of(1024)); i + 1 < HAK_CLASSES; i++)
        for (unsigned k = i + 1; k < HAK_CLASSES; k++) {
            size_t size = hak_class_sizes[i];
            if (hak_class_sizes[k] <= size + size / 4 &&
                hak_class_sizes[k] % alignment_of(size) == 0) {
                *borrower = hak_class_at(i);
                *lender = hak_class_at(k);
                return true;
            }
        }
    return false;
}

static void skip_without_lenders(hak_class *borrower, hak_class *lender)
{
    if (!BACKEND_REFILLS_USED || !find_lender(borrower, lender))
        cr_skip_test("no class borrows");
}

static hak_class class_of_block(void *block)
{
    return hak_class_of(hak_malloc_usable_size(block));
}

Test(bins, a_class_borrows_before_it_touches_fresh_memory)
{
    hak_class borrower;
    hak_class lender;

    skip_without_lenders(&borrower, &lender);
    void *block = take(lender);
    put(lender, block);
    cr_assert_eq(take(borrower), block);
    cr_assert(hak_bins_valid(&bins));
    put(lender, block);
    hak_bins_empty(&bins, shard);
    cr_assert_eq(class_of_block(take(borrower)), lender, "out of the lender's slabs as well");
    void *own = take(borrower);
    cr_assert_eq(class_of_block(own), borrower, "no more than lie free");
    put(borrower, own);
    cr_assert_eq(take(borrower), own);
}

Test(bins, a_class_that_borrows_all_the_time_gets_blocks_of_its_own)
{
    hak_class borrower;
    hak_class lender;
    unsigned borrowed = 0;
    void *block;

    skip_without_lenders(&borrower, &lender);
    put(lender, take(lender));
    while (class_of_block(block = take(borrower)) == lender && borrowed < 1000) {
        put(lender, block);
        borrowed++;
    }
    cr_assert_eq(class_of_block(block), borrower);
    cr_assert_eq(borrowed, hak_class_size(borrower) / 64);
}

Test(bins, a_borrowed_block_serves_each_alignment_and_the_size)
{
    for (unsigned i = 0; i < HAK_CLASSES; i++) {
        size_t size = hak_class_sizes[i];
        for (unsigned k = i + 1; k < HAK_CLASSES; k++) {
            void *larger = take(hak_class_at(k)); /* which may have borrowed it */
            put(class_of_block(larger), larger);
        }
        void *block = take(hak_class_at(i));
        cr_assert_eq((uintptr_t)block % alignment_of(size), 0, "of %zu bytes", size);
        cr_assert_geq(hak_malloc_usable_size(block), size);
        cr_assert_leq(hak_malloc_usable_size(block), size + size / 4);
    }
}
