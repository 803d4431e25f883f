/* SPDX-License-Identifier: MIT */
/* The unified cache against the fake back end. */
#include <criterion/criterion.h>

#include "core/frontend.h"

static struct hak_cache cache;
static struct hak_counted_shard counted;
static struct hak_shard *const shard = &counted.shard;

static void *alloc(hak_class cls)
{
    void *block = frontend_alloc(&cache, cls);

    return block ? block : frontend_refill(&cache, shard, cls);
}

static void release(hak_class cls, void *block)
{
    if (!frontend_free(&cache, cls, block))
        frontend_flush(&cache, shard, cls, block);
}

static void start(void)
{
    cache = (struct hak_cache){.bins.granted = 0};
    fake_reset(shard, FAKE_BLOCKS);
    frontend_init(&cache);
}

static size_t held_bytes(void)
{
    size_t bytes = 0;

    for (unsigned i = 0; i < HAK_CLASSES; i++)
        bytes += frontend_held(&cache, hak_class_at(i)) * hak_class_sizes[i];
    return bytes;
}

static bool count_block(void *block, void *count)
{
    cr_assert(fake_is_out(block));
    ++*(size_t *)count;
    return true;
}

TestSuite(unified, .init = start);

Test(unified, a_freed_block_is_the_next_one_handed_out)
{
    hak_class cls = hak_class_of(64);
    void *block = alloc(cls);

    release(cls, block);
    cr_assert_eq(alloc(cls), block);
}

Test(unified, every_block_that_went_out_is_held_or_handed_out)
{
    static void *blocks[4000];
    hak_class cls = hak_class_of(64);

    for (size_t i = 0; i < 4000; i++) {
        blocks[i] = alloc(cls);
        cr_assert(blocks[i] && fake_is_out(blocks[i]));
        cr_assert_eq(shard->given - shard->returned, frontend_held(&cache, cls) + i + 1);
    }
    for (size_t i = 0; i < 4000; i++) {
        release(cls, blocks[i]);
        cr_assert_eq(shard->given - shard->returned, frontend_held(&cache, cls) + 4000 - 1 - i);
        cr_assert(frontend_valid(&cache));
    }
    size_t walked = 0;
    frontend_walk(&cache, count_block, &walked);
    cr_assert_eq(walked, frontend_held(&cache, cls));
}

Test(unified, going_up_and_down_by_less_than_a_chain_stays_in_the_cache)
{
    hak_class cls = 0;
    void *blocks[64];

    for (int round = 0; round < 20; round++) { /* limits grow to their full size */
        for (int i = 0; i < 64; i++)
            blocks[i] = alloc(cls);
        for (int i = 0; i < 64; i++)
            release(cls, blocks[i]);
    }
    uint32_t chain = cache.bins.bin[0].limit < 32 ? cache.bins.bin[0].limit : 32;
    size_t calls = shard->refills + shard->returns;
    for (int round = 0; round < 100; round++) {
        for (uint32_t i = 0; i < chain; i++)
            blocks[i] = alloc(cls);
        for (uint32_t i = 0; i < chain; i++)
            release(cls, blocks[i]);
    }
    cr_assert_eq(shard->refills + shard->returns, calls);
}

Test(unified, a_class_holds_no_more_than_its_capacity)
{
    static void *blocks[5000];
    hak_class cls = hak_class_of(1024);

    for (size_t i = 0; i < 5000; i++)
        blocks[i] = alloc(cls);
    for (size_t i = 0; i < 5000; i++) {
        release(cls, blocks[i]);
        cr_assert_leq(frontend_held(&cache, cls), CONFIG_CACHE_BLOCKS_1024);
    }
}

Test(unified, all_classes_together_hold_no_more_than_the_budget)
{
    static void *blocks[HAK_CLASSES][200];

    for (int round = 0; round < 3; round++) {
        for (unsigned c = 0; c < HAK_CLASSES; c++)
            for (int i = 0; i < 200; i++)
                blocks[c][i] = alloc(hak_class_at(c));
        for (unsigned c = 0; c < HAK_CLASSES; c++) {
            for (int i = 0; i < 200; i++)
                release(hak_class_at(c), blocks[c][i]);
            cr_assert_leq(held_bytes(), HAK_CACHE_BYTES);
            cr_assert(frontend_valid(&cache));
        }
    }
}

Test(unified, a_class_that_fits_no_budget_takes_nothing_from_the_others)
{
    hak_class small = hak_class_of(16);
    hak_class largest = hak_class_at(HAK_CLASSES - 1);

    release(small, alloc(small));
    size_t held = frontend_held(&cache, small);
    cr_assert_not_null(alloc(largest));
    if (2 * hak_class_size(largest) > HAK_CACHE_BYTES)
        cr_assert_eq(frontend_held(&cache, small), held);
    cr_assert(frontend_valid(&cache));
}

Test(unified, short_batches_are_served)
{
    hak_class cls = hak_class_of(100);

    shard->batch_most = 1;
    for (int i = 0; i < 100; i++) {
        cr_assert_not_null(alloc(cls));
        cr_assert(frontend_valid(&cache));
    }
    cr_assert_eq(shard->given, 100);
}

Test(unified, out_of_memory_leaves_the_cache_intact)
{
    hak_class cls = hak_class_of(64);
    void *blocks[10];

    shard->left = 10;
    for (int i = 0; i < 10; i++)
        cr_assert_not_null(blocks[i] = alloc(cls));
    for (int i = 0; i < 5; i++)
        cr_assert_null(alloc(cls));
    for (int i = 0; i < 10; i++)
        release(cls, blocks[i]);
    cr_assert(frontend_valid(&cache));
    cr_assert_not_null(alloc(cls));
}

Test(unified, thread_exit_gives_everything_back)
{
    static void *blocks[1000];

    for (int i = 0; i < 1000; i++)
        blocks[i] = alloc(hak_class_at((unsigned)i % HAK_CLASSES));
    for (int i = 0; i < 1000; i++)
        release(hak_class_at((unsigned)i % HAK_CLASSES), blocks[i]);
    frontend_empty(&cache, shard);
    cr_assert_eq(shard->given, shard->returned);
    cr_assert_eq(held_bytes(), 0);
    cr_assert(frontend_valid(&cache));
}

Test(unified, a_forked_child_forgets_what_a_gone_thread_held)
{
    release(hak_class_of(64), alloc(hak_class_of(64)));
    frontend_forget(&cache);
    cr_assert_eq(held_bytes(), 0);
    cr_assert(frontend_valid(&cache));
}

Test(unified, the_empty_heap_misses_and_is_not_written_to)
{
    static const struct hak_cache empty;

    for (unsigned i = 0; i < HAK_CLASSES; i++)
        cr_assert_null(frontend_alloc((struct hak_cache *)(uintptr_t)&empty, hak_class_at(i)));
}

/* What a bin's own validity is, tests/unit/test_bins.c has. */
Test(unified, a_broken_cache_is_not_valid)
{
    release(hak_class_of(64), alloc(hak_class_of(64)));
    cr_assert(frontend_valid(&cache));
    cache.bins.budget++;
    cr_assert(!frontend_valid(&cache), "another budget than a cache has");
    cache.bins.budget--;
    hak_bin_of(&cache.bins, hak_class_of(64))->room--;
    cr_assert(!frontend_valid(&cache), "a broken bin");
    hak_bin_of(&cache.bins, hak_class_of(64))->room++;
    cr_assert(frontend_valid(&cache));
}
