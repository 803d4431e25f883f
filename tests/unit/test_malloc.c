/* SPDX-License-Identifier: MIT */
/* What malloc.c decides by itself: where sizes part, what is refused, what realloc leaves in place. What the functions
 * promise to programs is in tests/contract/test_api.c. */
#include <criterion/criterion.h>
#include <errno.h>
#include <hakmem/hakmem.h>
#include <stdint.h>
#include <string.h>

#include "core/heap.h"
#include "core/malloc.h"
#include "core/os.h"

Test(malloc, small_and_large_part_at_the_largest_class)
{
    void *small = hak_malloc(HAK_SMALL_MAX);
    void *large = hak_malloc(HAK_SMALL_MAX + 1);

    cr_assert_eq(backend_lookup(&hak_heap_mine->shard, small), hak_class_of(HAK_SMALL_MAX));
    cr_assert_geq(backend_lookup(&hak_heap_mine->shard, large), HAK_CLASS_END);
    cr_assert_eq(hak_malloc_usable_size(small), HAK_SMALL_MAX);
    cr_assert_geq(hak_malloc_usable_size(large), HAK_SMALL_MAX + 1);
    hak_free(small);
    hak_free(large);
}

/* A small block stays while at least half of it is used. */
Test(malloc, realloc_leaves_a_small_block_in_place_while_half_of_it_is_used)
{
    char *block = hak_malloc(1024);

    cr_assert_eq(hak_malloc_usable_size(block), 1024);
    cr_assert_eq(hak_realloc(block, 1024), block);
    cr_assert_eq(hak_realloc(block, 512), block);
    memset(block, 3, 512);
    char *moved = hak_realloc(block, 511);
    cr_assert_neq(moved, block);
    cr_assert_lt(hak_malloc_usable_size(moved), 1024);
    for (int i = 0; i < 511; i++)
        cr_assert_eq(moved[i], 3);
    char *grown = hak_realloc(moved, hak_malloc_usable_size(moved) + 1);
    cr_assert_neq(grown, moved);
    hak_free(grown);
}

Test(malloc, what_overflows_is_refused)
{
    void *block = hak_malloc(10);

    errno = 0;
    cr_assert_null(hak_calloc(SIZE_MAX / 2, 3));
    cr_assert_eq(errno, ENOMEM);
    errno = 0;
    cr_assert_null(hak_reallocarray(block, SIZE_MAX / 2, 3));
    cr_assert_eq(errno, ENOMEM);
    errno = 0;
    cr_assert_null(hak_malloc(PTRDIFF_MAX));
    cr_assert_eq(errno, ENOMEM);
    errno = 0;
    cr_assert_null(hak_pvalloc(SIZE_MAX - 10));
    cr_assert_eq(errno, ENOMEM);
    errno = 0;
    cr_assert_null(hak_realloc(block, SIZE_MAX - 10));
    cr_assert_eq(errno, ENOMEM);
    hak_free(block);
}

Test(malloc, alignments_that_are_none_are_refused)
{
    void *block = &block;

    errno = 0;
    cr_assert_null(hak_aligned_alloc(24, 100));
    cr_assert_eq(errno, EINVAL);
    cr_assert_eq(hak_posix_memalign(&block, 24, 100), EINVAL);
    cr_assert_eq(hak_posix_memalign(&block, 4, 100), EINVAL);
    cr_assert_eq(block, &block, "what cannot be had leaves the pointer as it was");
    block = hak_memalign(24, 100); /* which rounds it up */
    cr_assert_eq((uintptr_t)block % 32, 0);
    hak_free(block);
    block = hak_pvalloc(1);
    cr_assert(hak_malloc_usable_size(block) >= os_page_size() &&
              (uintptr_t)block % os_page_size() == 0);
    hak_free(block);
    cr_assert_eq(hak_malloc_usable_size(NULL), 0);
}

/* free_miss takes what is no hit, whatever it is. */
Test(malloc, a_free_that_misses_takes_anything)
{
    void *large = hak_malloc(1 << 20);
    void *small = hak_malloc(100);

    hak_free_miss(NULL, HAK_CLASS_END);
    hak_free_miss(large, HAK_CLASS_END);
    hak_free_miss(small, hak_class_of(100));
    cr_assert_eq(hak_malloc(100), small, "the block that was freed last");
}
