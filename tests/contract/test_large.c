/* SPDX-License-Identifier: MIT */
/* Large blocks on the strictest kernel. Before Linux 6.17 mremap moves one mapping at most: a range of
 * several fails with EFAULT, and only after the target has been unmapped. Here every kernel is like
 * that. And then one that cannot move anything. */
#define _GNU_SOURCE
#include <criterion/criterion.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

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

/* Stands in for libc's. */
void *mremap(void *from, size_t size, size_t new_size, int flags, ...)
{
    va_list rest;
    va_start(rest, flags);
    void *to = va_arg(rest, void *);
    va_end(rest);

    if (flags & MREMAP_FIXED && (moves_nothing || spans_mappings(from, size))) {
        if (!moves_nothing)
            munmap(to, new_size);
        errno = moves_nothing ? EINVAL : EFAULT;
        return MAP_FAILED;
    }
    return (void *)syscall(SYS_mremap, from, size, new_size, flags, to);
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
    resize_many();
}

Test(large, blocks_are_resized_where_the_kernel_cannot_move)
{
    moves_nothing = true;
    resize_many();
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
