/* SPDX-License-Identifier: MIT */
/* Shelf against the fake back end. */
#include <criterion/criterion.h>

#include "core/frontend.h"

static struct hak_cache cache;
static struct hak_counted_shard counted;
static struct hak_shard *const shard = &counted.shard;

static void start(void)
{
    cache = (struct hak_cache){.shelf = {{.count = 0}}};
    fake_reset(shard, FAKE_BLOCKS);
    frontend_init(&cache);
}

TestSuite(shelf, .init = start);

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

Test(shelf, the_block_freed_last_is_handed_out_first)
{
    hak_class cls = hak_class_of(64);
    void *one = alloc(cls);
    void *two = alloc(cls);

    release(cls, one);
    release(cls, two);
    cr_assert_eq(alloc(cls), two);
    cr_assert_eq(alloc(cls), one);
}

Test(shelf, every_block_is_held_or_handed_out)
{
    static void *blocks[HAK_CLASSES][100];

    for (unsigned i = 0; i < HAK_CLASSES; i++)
        for (int n = 0; n < 100; n++)
            cr_assert_not_null(blocks[i][n] = alloc(hak_class_at(i)));
    for (unsigned i = 0; i < HAK_CLASSES; i++)
        for (int n = 0; n < 100; n++)
            release(hak_class_at(i), blocks[i][n]);

    size_t held = 0;
    for (unsigned i = 0; i < HAK_CLASSES; i++)
        held += frontend_held(&cache, hak_class_at(i));
    cr_assert_eq(shard->given, shard->returned + held);
    cr_assert(frontend_valid(&cache));
}

Test(shelf, a_class_without_capacity_passes_blocks_through)
{
    hak_class cls = hak_class_of(64);

    cache.shelf[hak_class_index(cls)].capacity = 0;
    void *block = alloc(cls);
    cr_assert(fake_is_out(block));
    release(cls, block);
    cr_assert(!fake_is_out(block));
    cr_assert_eq(frontend_held(&cache, cls), 0);
}

Test(shelf, a_full_shelf_gives_its_older_half)
{
    hak_class cls = hak_class_of(16);
    uint32_t capacity = cache.shelf[hak_class_index(cls)].capacity;
    void *blocks[CONFIG_SHELF_SLOTS + 1];

    for (uint32_t i = 0; i <= capacity; i++)
        blocks[i] = alloc(cls);
    frontend_empty(&cache, shard);
    for (uint32_t i = 0; i <= capacity; i++)
        release(cls, blocks[i]);
    for (uint32_t i = 0; i <= capacity; i++)
        cr_assert_eq(fake_is_out(blocks[i]), i >= capacity - capacity / 2);
}

Test(shelf, refills_double_up_to_half_of_the_capacity)
{
    hak_class cls = hak_class_of(16);
    uint32_t half = cache.shelf[hak_class_index(cls)].capacity / 2;

    for (uint32_t batch = 1; batch < 4 * half; batch *= 2) {
        size_t before = shard->given;
        while (frontend_held(&cache, cls) > 0)
            frontend_alloc(&cache, cls);
        cr_assert_not_null(frontend_refill(&cache, shard, cls));
        cr_assert_eq(shard->given - before, batch < half ? batch : half);
    }
}
