/* SPDX-License-Identifier: MIT */
/* HotMag against the fake back end. The tests hold for any mask; those of hot classes are skipped where
 * none is hot. */
#include <criterion/criterion.h>
#include <string.h>

#include "core/frontend.h"

enum { SLOTS = CONFIG_HOTMAG_SLOTS };

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
    memset(&cache, 0, sizeof(cache));
    fake_reset(shard, FAKE_BLOCKS);
    frontend_init(&cache);
}

TestSuite(hotmag, .init = start);

/* The smallest class that is hot, or that is not. HAK_CLASS_END: there is none. */
static hak_class smallest(bool hot)
{
    hak_class cls = 0;

    while (cls < HAK_CLASS_END && hotmag_is_hot(cls) != hot)
        cls += HAK_CLASS_SCALE;
    return cls;
}

static hak_class hot_class(void)
{
    hak_class cls = smallest(true);

    if (cls == HAK_CLASS_END)
        cr_skip_test("no class is hot");
    return cls;
}

static hak_class largest_hot_class(void)
{
    hak_class cls = hot_class();

    for (unsigned i = 0; i < HAK_CLASSES; i++)
        if (hotmag_is_hot(hak_class_at(i)))
            cls = hak_class_at(i);
    return cls;
}

/* The most blocks that a hot class may hold. */
static uint32_t most(hak_class cls)
{
    return cache.bound[hak_class_index(cls)].most;
}

/* Fills the array of a hot class to the brim, with blocks in the order in which they lie in it. */
static uint32_t fill(hak_class cls, void **blocks)
{
    uint32_t count = most(cls);

    for (uint32_t i = 0; i < 3 * count; i++) /* so that the limit grows to its most */
        blocks[i] = alloc(cls);
    for (uint32_t i = 0; i < 3 * count; i++)
        release(cls, blocks[i]);
    while (frontend_held(&cache, cls) > 0)
        frontend_alloc(&cache, cls);
    struct hak_chain chain = backend_refill_chain(shard, cls, count);
    cr_assert_eq(chain.count, count);
    hak_chain_spread(chain, cls, blocks);
    for (uint32_t i = 0; i < count; i++)
        cr_assert(frontend_free(&cache, cls, blocks[i]));
    cr_assert_eq(frontend_held(&cache, cls), count);
    return count;
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

/* ── which classes are hot ───────────────────────────────────────────────────────────────────── */

Test(hotmag, the_mask_says_which_classes_are_hot)
{
    for (unsigned i = 0; i < HAK_CLASSES; i++) {
        bool bit = i < 64 && (uint64_t)CONFIG_HOTMAG_MASK >> i & 1;
        cr_assert_eq(hotmag_is_hot(hak_class_at(i)), bit, "class %u", i);
    }
}

Test(hotmag, hot_classes_are_in_arrays_and_others_in_bins)
{
    for (unsigned i = 0; i < HAK_CLASSES; i++) {
        hak_class cls = hak_class_at(i);
        void *block = alloc(cls);
        cr_assert_not_null(block);
        release(cls, block);
        size_t held = frontend_held(&cache, cls);
        cr_assert_eq(hak_bins_held(&cache.bins, cls), hotmag_is_hot(cls) ? 0 : held);
        cr_assert(frontend_valid(&cache));
    }
}

/* ── hits ────────────────────────────────────────────────────────────────────────────────────── */

Test(hotmag, blocks_come_out_last_in_first_out)
{
    for (unsigned i = 0; i < HAK_CLASSES; i++) {
        hak_class cls = hak_class_at(i);
        void *blocks[4];
        int freed = 0;
        for (int n = 0; n < 4; n++)
            cr_assert_not_null(blocks[n] = alloc(cls));
        for (int n = 0; n < 4; n++)
            freed += frontend_free(&cache, cls, blocks[n]);
        if (freed < 4) /* it may hold fewer */
            continue;
        for (int n = 3; n >= 0; n--)
            cr_assert_eq(frontend_alloc(&cache, cls), blocks[n]);
    }
}

Test(hotmag, a_hit_of_a_hot_class_touches_no_block)
{
    hak_class cls = hot_class();
    unsigned char *block = alloc(cls);

    memset(block, 0xa5, 16); /* what the fake back end's blocks have */
    for (int n = 0; n < 3; n++) {
        cr_assert(frontend_free(&cache, cls, block));
        cr_assert_eq(frontend_alloc(&cache, cls), block);
    }
    for (int n = 0; n < 16; n++)
        cr_assert_eq(block[n], 0xa5);
}

Test(hotmag, a_miss_and_a_refusal_change_nothing)
{
    static struct hak_cache before;
    static void *blocks[3 * SLOTS];
    hak_class cls = hot_class();
    uint32_t count = fill(cls, blocks);
    void *more = &blocks;

    memcpy(&before, &cache, sizeof(cache));
    cr_assert(!frontend_free(&cache, cls, more));
    cr_assert_eq(memcmp(&before, &cache, sizeof(cache)), 0);
    for (uint32_t i = 0; i < count; i++)
        cr_assert_not_null(frontend_alloc(&cache, cls));
    memcpy(&before, &cache, sizeof(cache));
    cr_assert_null(frontend_alloc(&cache, cls));
    cr_assert_eq(memcmp(&before, &cache, sizeof(cache)), 0);
}

Test(hotmag, the_empty_heap_misses_and_is_not_written_to)
{
    static const struct hak_cache empty;

    for (unsigned i = 0; i < HAK_CLASSES; i++)
        cr_assert_null(frontend_alloc((struct hak_cache *)(uintptr_t)&empty, hak_class_at(i)));
}

/* ── refill and flush ────────────────────────────────────────────────────────────────────────── */

Test(hotmag, a_flush_gives_the_older_half_back_in_one_batch)
{
    static void *blocks[3 * SLOTS];
    hak_class cls = hot_class();
    uint32_t count = fill(cls, blocks);
    uint32_t batch = (count + 1) / 2 < CONFIG_REFILL_BATCH ? (count + 1) / 2 : CONFIG_REFILL_BATCH;
    struct hak_traffic traffic = *hak_traffic_of(shard, cls);
    size_t returns = shard->returns;
    void *one_more = backend_refill_chain(shard, cls, 1).head;

    release(cls, one_more);
    cr_assert_eq(shard->returns, returns + 1);
    for (uint32_t i = 0; i < count; i++)
        cr_assert_eq(fake_is_out(blocks[i]), i >= batch);
    cr_assert_eq(hak_traffic_of(shard, cls)->flushes, traffic.flushes + 1);
    cr_assert_eq(hak_traffic_of(shard, cls)->flushed, traffic.flushed + batch);
    /* The younger ones stay, in their order. */
    cr_assert_eq(alloc(cls), one_more);
    for (uint32_t i = count; i-- > batch;)
        cr_assert_eq(frontend_alloc(&cache, cls), blocks[i]);
    cr_assert_null(frontend_alloc(&cache, cls));
}

Test(hotmag, every_block_that_went_out_is_held_or_handed_out)
{
    enum { COUNT = 4000 };
    static void *blocks[COUNT];
    hak_class all[] = {smallest(true), smallest(false), hak_class_at(HAK_CLASSES - 1)};

    for (size_t c = 0; c < sizeof(all) / sizeof(all[0]); c++) {
        hak_class cls = all[c];
        if (cls == HAK_CLASS_END)
            continue;
        start();
        for (size_t i = 0; i < COUNT; i++) {
            blocks[i] = alloc(cls);
            cr_assert(blocks[i] && fake_is_out(blocks[i]));
            cr_assert_eq(shard->given - shard->returned, frontend_held(&cache, cls) + i + 1);
            cr_assert(frontend_valid(&cache));
        }
        for (size_t i = 0; i < COUNT; i++) {
            release(cls, blocks[i]);
            cr_assert_eq(shard->given - shard->returned,
                         frontend_held(&cache, cls) + COUNT - 1 - i);
            cr_assert(frontend_valid(&cache));
        }
        size_t walked = 0;
        frontend_walk(&cache, count_block, &walked);
        cr_assert_eq(walked, frontend_held(&cache, cls));
    }
}

Test(hotmag, traffic_counts_what_moves)
{
    enum { COUNT = 1000 };
    static void *blocks[COUNT];

    for (unsigned c = 0; c < HAK_CLASSES; c++) {
        hak_class cls = hak_class_at(c);
        const struct hak_traffic *traffic = hak_traffic_of(shard, cls);
        start();
        for (size_t i = 0; i < COUNT; i++)
            blocks[i] = alloc(cls);
        cr_assert_eq(traffic->refills, shard->refills);
        cr_assert_eq(traffic->refilled, shard->given);
        for (size_t i = 0; i < COUNT; i++)
            release(cls, blocks[i]);
        cr_assert_eq(traffic->flushes, shard->returns);
        cr_assert_eq(traffic->flushed, shard->returned);
    }
}

/* A program goes up and down by half of the slots, once they have grown. */
Test(hotmag, going_up_and_down_by_half_stays_in_the_array)
{
    static void *blocks[3 * SLOTS];
    hak_class cls = hot_class();
    uint32_t half = fill(cls, blocks) / 2;

    for (uint32_t i = 0; i < half; i++)
        blocks[i] = alloc(cls);
    size_t calls = shard->refills + shard->returns;
    for (int round = 0; round < 100; round++) {
        for (uint32_t i = 0; i < half; i++)
            release(cls, blocks[i]);
        for (uint32_t i = 0; i < half; i++)
            blocks[i] = alloc(cls);
    }
    cr_assert_eq(shard->refills + shard->returns, calls);
}

Test(hotmag, short_batches_are_served)
{
    shard->batch_most = 1;
    for (unsigned c = 0; c < HAK_CLASSES; c++)
        for (int i = 0; i < 100; i++) {
            cr_assert_not_null(alloc(hak_class_at(c)));
            cr_assert(frontend_valid(&cache));
        }
    cr_assert_eq(shard->given, 100 * HAK_CLASSES);
}

Test(hotmag, out_of_memory_leaves_the_cache_intact)
{
    for (unsigned c = 0; c < HAK_CLASSES; c++) {
        hak_class cls = hak_class_at(c);
        void *blocks[10];
        start();
        shard->left = 10;
        for (int i = 0; i < 10; i++)
            cr_assert_not_null(blocks[i] = alloc(cls));
        for (int i = 0; i < 5; i++)
            cr_assert_null(alloc(cls));
        cr_assert(frontend_valid(&cache));
        for (int i = 0; i < 10; i++)
            release(cls, blocks[i]);
        cr_assert(frontend_valid(&cache));
        cr_assert_not_null(alloc(cls));
    }
}

/* ── the bound ───────────────────────────────────────────────────────────────────────────────── */

Test(hotmag, a_few_blocks_of_a_class_bring_few)
{
    if (!enabled(CONFIG_CACHE_ADAPTIVE))
        cr_skip_test("limits are fixed");
    for (unsigned c = 0; c < HAK_CLASSES; c++)
        if (hotmag_is_hot(hak_class_at(c)))
            cr_assert_not_null(alloc(hak_class_at(c)));
    cr_assert_leq(shard->given, 8 * HOTMAG_COUNT);
}

Test(hotmag, limits_grow_to_the_slots_where_the_budget_has_room)
{
    static void *blocks[4 * SLOTS];
    hak_class cls = hot_class();
    size_t largest = 0;

    for (size_t i = 0; i < 4 * SLOTS; i++)
        blocks[i] = alloc(cls);
    for (size_t i = 0; i < 4 * SLOTS; i++) {
        release(cls, blocks[i]);
        size_t held = frontend_held(&cache, cls);
        largest = held > largest ? held : largest;
        cr_assert_leq(held, SLOTS);
    }
    cr_assert_eq(largest, most(cls));
    if (HOTMAG_COUNT * SLOTS * hak_class_size(largest_hot_class()) <= HAK_CACHE_BYTES / 2)
        cr_assert_eq(most(cls), SLOTS);
}

Test(hotmag, all_classes_together_hold_no_more_than_the_budget)
{
    enum { COUNT = 600 };
    static void *blocks[HAK_CLASSES][COUNT];

    for (int round = 0; round < 3; round++) {
        for (unsigned c = 0; c < HAK_CLASSES; c++)
            for (int i = 0; i < COUNT; i++)
                cr_assert_not_null(blocks[c][i] = alloc(hak_class_at(c)));
        for (unsigned c = 0; c < HAK_CLASSES; c++) {
            for (int i = 0; i < COUNT; i++)
                release(hak_class_at(c), blocks[c][i]);
            cr_assert_leq(held_bytes(), HAK_CACHE_BYTES);
            cr_assert(frontend_valid(&cache));
        }
    }
}

Test(hotmag, another_sum_than_the_budget_is_not_valid)
{
    struct hotmag_bound *bound = &cache.bound[hak_class_index(hot_class())];

    cr_assert(frontend_valid(&cache));
    cache.bins.budget += 16;
    cr_assert(!frontend_valid(&cache));
    cache.bins.budget -= 16;
    bound->most++;
    cr_assert(!frontend_valid(&cache));
    bound->most--;
    cr_assert(frontend_valid(&cache));
}

/* ── its end ─────────────────────────────────────────────────────────────────────────────────── */

static void use_all_classes(void)
{
    enum { COUNT = 1000 };
    static void *blocks[COUNT];

    for (unsigned i = 0; i < COUNT; i++)
        blocks[i] = alloc(hak_class_at(i % HAK_CLASSES));
    for (unsigned i = 0; i < COUNT; i++)
        release(hak_class_at(i % HAK_CLASSES), blocks[i]);
}

Test(hotmag, thread_exit_gives_everything_back)
{
    use_all_classes();
    frontend_empty(&cache, shard);
    cr_assert_eq(shard->given, shard->returned);
    cr_assert_eq(held_bytes(), 0);
    cr_assert(frontend_valid(&cache));
    use_all_classes();
    cr_assert(frontend_valid(&cache));
}

Test(hotmag, trim_gives_everything_back)
{
    use_all_classes();
    frontend_empty(&cache, shard);
    cr_assert_eq(shard->given, shard->returned);
    cr_assert_eq(held_bytes(), 0);
    cr_assert(frontend_valid(&cache));
}

Test(hotmag, a_forked_child_forgets_what_a_gone_thread_held)
{
    use_all_classes();
    size_t returned = shard->returned;
    frontend_forget(&cache);
    cr_assert_eq(held_bytes(), 0);
    cr_assert_eq(shard->returned, returned);
    cr_assert(frontend_valid(&cache));
    use_all_classes();
    cr_assert(frontend_valid(&cache));
}

/* ── the check ───────────────────────────────────────────────────────────────────────────────── */

Test(hotmag, valid_finds_each_broken_invariant)
{
    hak_class cls = hot_class();
    struct hotmag_array *array = &cache.array[hak_class_index(cls)];
    struct hotmag_bound *bound = &cache.bound[hak_class_index(cls)];
    struct hotmag_array before;

    while (frontend_held(&cache, cls) == 0)
        release(cls, alloc(cls));
    before = *array;
    cr_assert(frontend_valid(&cache));
    array->last = array->end + sizeof(void *);
    cr_assert(!frontend_valid(&cache));
    *array = before;
    bound->limit--;
    cr_assert(!frontend_valid(&cache));
    bound->limit++;
    bound->most++;
    cr_assert(!frontend_valid(&cache));
    bound->most--;
    void **bottom = hotmag_slot_at(&cache, array->end - bound->limit * sizeof(void *));
    *bottom = &cache;
    cr_assert(!frontend_valid(&cache));
    *bottom = NULL;
    void **last = hotmag_slot_at(&cache, array->last);
    void *block = *last;
    *last = NULL;
    cr_assert(!frontend_valid(&cache));
    *last = block;
    cr_assert(frontend_valid(&cache));
}
