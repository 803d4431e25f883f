/* SPDX-License-Identifier: MIT */
/* What the contract tests cannot see of commons. */
#include <criterion/criterion.h>

#include "core/heap.h"

static struct hak_shard shard;

static void start(void)
{
    cr_assert(backend_init(&shard));
}

TestSuite(commons, .init = start);

Test(commons, the_map_leads_from_every_granule_to_its_extent)
{
    hak_class cls = hak_class_at(HAK_CLASSES - 1);
    char *small = (char *)backend_refill_chain(&shard, cls, 1).head;
    char *large = backend_large_alloc(NULL, (size_t)1 << 20, 1).base;
    const struct commons_extent *slab = commons_find(&shard, small);

    for (size_t offset = 0; offset < slab->is.size; offset += 4096)
        cr_assert_eq(commons_find(&shard, slab->is.base + offset), slab);
    for (size_t offset = 0; offset < (size_t)1 << 20; offset += 4096)
        cr_assert_eq(commons_find(&shard, large + offset)->is.base, large);
    backend_free(&shard, large, "free()");
    cr_assert_null(commons_find(&shard, large));
    cr_assert(backend_valid(&shard));
}

Test(commons, a_slab_whose_blocks_are_all_back_is_unmapped)
{
    hak_class cls = hak_class_of(64);
    size_t before = backend_metadata();
    struct hak_chain chain = backend_refill_chain(&shard, cls, 2);
    struct hak_block *first = chain.head, *second = first->next;

    cr_assert_gt(backend_metadata(), before);
    backend_return_chain(&shard, cls, (struct hak_chain){first, 1});
    cr_assert(backend_has(second));
    cr_assert_eq(backend_refill_chain(&shard, cls, 1).head, first, "what came back goes out first");
    backend_return_chain(&shard, cls, (struct hak_chain){first, 1});
    backend_return_chain(&shard, cls, (struct hak_chain){second, 1});
    cr_assert(!backend_has(second));
    cr_assert(backend_valid(&shard));
}
