/* SPDX-License-Identifier: MIT */
/* Large blocks on the strictest kernel. Before Linux 6.17 mremap moves one mapping at most: a range of
 * several fails with EFAULT, and only after the target has been unmapped. Here every kernel is like
 * that. And then one that cannot move anything. */
#define _GNU_SOURCE
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "core/heap.h"
#include "tests/contract/support.h"

static const size_t MIB = (size_t)1 << 20;

static bool moves_nothing;

static bool spans_mappings(const void *base, size_t size)
{
    FILE *maps = fopen("/proc/self/maps", "r");
    uintptr_t from = (uintptr_t)base;
    uintptr_t start, end;
    char line[512];
    int count = 0;

    require(maps != NULL);
    while (fgets(line, sizeof(line), maps))
        if (sscanf(line, "%zx-%zx", &start, &end) == 2 && start < from + size && end > from)
            count++;
    fclose(maps);
    return count > 1;
}

/* The library's own call; not there where the linker could not put ours in its place. */
long __real_kernel_mremap(void *from, size_t size, size_t new_size, int flags, void *to)
    __attribute__((weak));
long __wrap_kernel_mremap(void *from, size_t size, size_t new_size, int flags, void *to);

long __wrap_kernel_mremap(void *from, size_t size, size_t new_size, int flags, void *to)
{
    if (flags & MREMAP_FIXED && (moves_nothing || spans_mappings(from, size))) {
        if (!moves_nothing)
            munmap(to, new_size);
        return moves_nothing ? -EINVAL : -EFAULT;
    }
    return __real_kernel_mremap(from, size, new_size, flags, to);
}

static void require_ours(void)
{
    if (__real_kernel_mremap == NULL)
        cr_skip_test("the library's calls of the kernel go past the test");
}

/* Blocks that grow, shrink and move among each other, so that their pages come from all over. */
static void resize_many(void)
{
    enum { COUNT = 12 };
    unsigned char *blocks[COUNT];
    size_t sizes[COUNT];
    uint64_t random = 1;

    for (size_t i = 0; i < COUNT; i++) {
        sizes[i] = MIB;
        blocks[i] = hak_malloc(MIB);
        pattern_fill(blocks[i], MIB, i);
    }
    for (int step = 0; step < 1500; step++) {
        size_t i = random_below(&random, COUNT);
        size_t size = MIB / 4 + random_below(&random, 80) * 65536;
        unsigned char *old = blocks[i];
        cr_assert(pattern_holds(old, sizes[i], old, i));
        blocks[i] = hak_realloc(old, size);
        cr_assert_not_null(blocks[i]);
        cr_assert(pattern_holds(blocks[i], size < sizes[i] ? size : sizes[i], old, i));
        sizes[i] = size;
        pattern_fill(blocks[i], size, i);
        if (step % 100 == 99)
            hak_malloc_trim(0);
    }
    for (size_t i = 0; i < COUNT; i++) {
        cr_assert(pattern_holds(blocks[i], sizes[i], blocks[i], i));
        hak_free(blocks[i]);
    }
    /* Whatever holes the moves have left would be handed out now. */
    unsigned char *all = hak_malloc(100 * MIB);
    memset(all, 1, 100 * MIB);
    hak_free(all);
}

Test(large, blocks_of_several_mappings_are_resized)
{
    require_ours();
    resize_many();
}

Test(large, blocks_are_resized_where_the_kernel_cannot_move)
{
    require_ours();
    moves_nothing = true;
    resize_many();
}

/* The kernel moves them: what the block held is not copied, and does not take room twice. */
Test(large, a_block_moves_by_its_pages)
{
    size_t size = 16 * MIB;
    unsigned char *block = backend_large_alloc(&hak_heap_mine->shard, size, 1).base;

    if (!BACKEND_MOVES)
        cr_skip_test("this back end moves no blocks");
    if (!kernel_moves_pages())
        cr_skip_test("this kernel does not move pages and leave their place mapped");
    pattern_fill(block, size, 1);
    unsigned char *moved = backend_move(block, 2 * size);
    cr_assert_not_null(moved);
    cr_assert(pattern_holds(moved, size, block, 1));
    cr_assert_geq(backend_usable_size(moved, "test"), 2 * size);
    backend_free(&hak_heap_mine->shard, moved, "test");
    require_valid_heap();
}

/* Into what it has given up itself, which nobody has taken since. */
Test(large, a_block_grows_where_it_lies)
{
    size_t size = 8 * MIB;
    char *block = backend_large_alloc(&hak_heap_mine->shard, size, 1).base;

    if (!BACKEND_RESIZES)
        cr_skip_test("this back end resizes no blocks");
    cr_assert(backend_resize(block, size / 2));
    cr_assert_lt(backend_usable_size(block, "test"), size);
    cr_assert(backend_resize(block, size));
    cr_assert_geq(backend_usable_size(block, "test"), size);
    require_valid_heap();
}

/* Free neighbours of all ages join and part, and go back to the system. */
Test(large, blocks_come_and_go_for_a_while)
{
    enum { COUNT = 64 };
    unsigned char *blocks[COUNT] = {NULL};
    size_t sizes[COUNT];
    uint64_t random = 2;

    for (int step = 0; step < 60000; step++) {
        size_t i = random_below(&random, COUNT);
        if (blocks[i]) {
            cr_assert(blocks[i][0] == (unsigned char)i &&
                      blocks[i][sizes[i] - 1] == (unsigned char)i);
            hak_free(blocks[i]);
        }
        sizes[i] = 130000 + random_size(&random, 2 * MIB);
        blocks[i] = hak_malloc(sizes[i]);
        cr_assert_not_null(blocks[i]);
        blocks[i][0] = blocks[i][sizes[i] - 1] = (unsigned char)i;
        if (step % 5000 == 4999)
            hak_malloc_trim(0);
    }
    cr_assert_leq(resident_bytes(), 200 * MIB);
    for (size_t i = 0; i < COUNT; i++)
        hak_free(blocks[i]);
}
