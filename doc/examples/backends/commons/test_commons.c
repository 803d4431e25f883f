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

Test(commons, every_granule_of_a_slab_has_its_class)
{
    hak_class cls = hak_class_at(HAK_CLASSES - 1);
    char *block = (char *)backend_refill_chain(&shard, cls, 1).head;
    size_t size = hak_slab_granules(hak_class_size(cls)) * HAK_SLAB_GRANULE;

    for (size_t offset = 0; offset < size; offset += 4096)
        cr_assert_eq(backend_lookup(&shard, block + offset), cls);
    cr_assert_geq(backend_lookup(&shard, block + size), HAK_CLASS_END);
    cr_assert(backend_valid(&shard));
}

Test(commons, a_slab_whose_blocks_are_all_back_is_free_memory)
{
    hak_class cls = hak_class_of(64);
    struct hak_chain chain = backend_refill_chain(&shard, cls, 2);
    struct hak_block *first = chain.head, *second = first->next;

    backend_return_chain(&shard, cls, (struct hak_chain){first, 1});
    cr_assert_eq(backend_lookup(&shard, second), cls);
    cr_assert_eq(backend_refill_chain(&shard, cls, 1).head, first, "what came back goes out first");
    backend_return_chain(&shard, cls, (struct hak_chain){first, 1});
    cr_assert(!hak_extents_are_dirty());
    backend_return_chain(&shard, cls, (struct hak_chain){second, 1});
    cr_assert_geq(backend_lookup(&shard, second), HAK_CLASS_END);
    cr_assert(hak_extents_are_dirty());
    cr_assert(backend_trim(&shard));
    cr_assert(!hak_extents_are_dirty());
    cr_assert(backend_valid(&shard));
}
