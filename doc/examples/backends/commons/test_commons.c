/* SPDX-License-Identifier: MIT */
/* What the contract tests cannot see of commons. */
#include <criterion/criterion.h>

#include "core/heap.h"

static struct hak_shard shard;

static void start(void)
{
    cr_assert(backend_thread_init(&shard));
}

TestSuite(commons, .init = start);

Test(commons, a_slab_has_an_entry_for_each_granule_and_a_large_block_one)
{
    hak_class cls = hak_class_at(HAK_CLASSES - 1);
    char *small = (char *)backend_refill_chain(&shard, cls, 1).head;
    char *large = backend_large_alloc(NULL, (size_t)1 << 20, 1).base;
    const struct commons_run *slab = commons_find(shard.map, shard.roots, small);

    for (size_t offset = 0; offset < slab->size; offset += 4096)
        cr_assert_eq(commons_find(shard.map, shard.roots, slab->base + offset), slab);
    cr_assert_eq(commons_find(shard.map, shard.roots, large)->base, large);
    cr_assert_null(commons_find(shard.map, shard.roots, large + (1 << 19)));
}

/* The slab that is emptied last is kept, as it fits the bound; the next one is cut from it. */
Test(commons, an_empty_slab_is_used_again)
{
    hak_class cls = hak_class_of(64);
    void *block;

    cr_assert_eq(backend_refill_array(&shard, cls, &block, 1), 1);
    const struct commons_run *slab = commons_find(shard.map, shard.roots, block);
    backend_return_array(&shard, cls, &block, 1);
    cr_assert_eq(backend_refill_array(&shard, cls, &block, 1), 1);
    cr_assert(slab->size > CONFIG_COMMONS_EMPTY_MAX ||
              commons_find(shard.map, shard.roots, block) == slab);
    cr_assert(backend_valid(&shard));
}
