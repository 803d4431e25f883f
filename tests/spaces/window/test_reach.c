/* SPDX-License-Identifier: MIT */
/* Which addresses are blocks, for a back end over the window: any index may be read, what lies between units is not ours,
 * and a shard follows the window's length. */
#include <criterion/criterion.h>
#include <hakmem/hakmem.h>
#include <pthread.h>

#include "core/backend.h"
#include "core/fork.h"
#include "core/heap.h"

static struct hak_shard *shard;

static void start(void)
{
    hak_free(hak_malloc(1));
    shard = &hak_heap_mine->shard;
}

TestSuite(reach, .init = start);

/* The slabs that there are. */
static struct {
    size_t count;
    uintptr_t from[1000], end[1000];
} slabs;

static void note_slab(const struct hak_extent *extent, void *unused)
{
    (void)unused;
    if (extent->kind != HAK_EXTENT_SLAB)
        return;
    cr_assert_lt(slabs.count, sizeof(slabs.from) / sizeof(*slabs.from));
    slabs.from[slabs.count] = (uintptr_t)extent->base;
    slabs.end[slabs.count++] = (uintptr_t)extent->base + extent->size;
}

static bool lies_in_a_slab(const void *address)
{
    for (size_t i = 0; i < slabs.count; i++)
        if ((uintptr_t)address >= slabs.from[i] && (uintptr_t)address < slabs.end[i])
            return true;
    return false;
}

/* Those of slabs, which are all this thread's, are found, and no others. */
Test(reach, any_index_of_the_window_may_be_read)
{
    size_t step = window_granules() / 4096 + 1;

    for (unsigned i = 0; i < HAK_CLASSES; i++)
        cr_assert_eq(backend_refill_chain(shard, hak_class_at(i), 1).count, 1);
    hak_lock_all();
    backend_walk(note_slab, NULL);
    hak_unlock_all();
    cr_assert_geq(slabs.count, HAK_CLASSES);
    for (size_t i = 0; i < slabs.count; i++)
        cr_assert_lt(backend_lookup(shard, (void *)slabs.from[i]), HAK_CLASS_END);
    for (size_t granule = 0; granule < window.granules; granule += step) {
        const void *address = space_address((uint32_t)granule);
        cr_assert_eq(backend_lookup(shard, address) < HAK_CLASS_END, lies_in_a_slab(address));
    }
    cr_assert_geq(backend_lookup(shard, (char *)window.base + (window.granules << GRANULE_SHIFT)),
                  HAK_CLASS_END);
    cr_assert_geq(backend_lookup(shard, (char *)window.base - 1), HAK_CLASS_END);
}

/* Another's mapping between ours; what was ours and has gone; what lies beyond. */
Test(reach, what_lies_between_units_is_not_ours)
{
    char *first = backend_large_alloc(NULL, 4 * UNIT_SIZE, UNIT_SIZE).base;
    char *behind = backend_large_alloc(NULL, UNIT_SIZE, 1).base;
    char *between = first + UNIT_SIZE;

    cr_assert(backend_has(first) && backend_has(between));
    backend_free(shard, first, "free()");
    hak_extents_purge_all();
    cr_assert(!backend_has(between));
    cr_assert_eq(os_map_at(between, UNIT_SIZE), OS_PLACED);
    cr_assert(!backend_has(between));
    cr_assert_geq(backend_lookup(shard, between), HAK_CLASS_END);
    cr_assert_eq(backend_is_block(between), HAK_CLASS_NONE);
    cr_assert(backend_has(behind) && !backend_has(space_address((uint32_t)window_granules())));
    backend_free(shard, behind, "free()");
    cr_assert(hak_extents_valid());
}

/* A thread that saw the window when it was short frees what lies further up. */
static char *far_block;

static void *free_near_then_far(void *near)
{
    hak_free(near); /* so that this thread has a heap, whose window is as long as it was */
    hak_free(hak_malloc(1));
    size_t seen = hak_heap_mine->shard.view.granules;
    cr_assert_not_null(hak_malloc(seen << GRANULE_SHIFT));
    while (far_block == NULL || space_granule(far_block) < seen)
        far_block = hak_malloc(8000);
    return NULL;
}

Test(reach, a_block_beyond_the_window_that_a_heap_has_seen_is_freed)
{
    size_t seen = shard->view.granules;
    pthread_t thread;

    cr_assert_eq(pthread_create(&thread, NULL, free_near_then_far, hak_malloc(100)), 0);
    cr_assert_eq(pthread_join(thread, NULL), 0);
    cr_assert_eq(shard->view.granules, seen);
    cr_assert_geq(backend_lookup(shard, far_block), HAK_CLASS_END);
    hak_free(far_block);
    cr_assert_gt(shard->view.granules, seen);
    cr_assert(backend_valid(shard) && hak_extents_valid());
}
