/* SPDX-License-Identifier: MIT */
#include <criterion/criterion.h>

#include "core/block_grid.h"
#include "core/page_set.h"
#include "core/size_class.h"

/* Of each class: the start of each block in a slab, and no other address in it or around it. */
Test(block_grid, has_the_start_of_each_block_and_nothing_else)
{
    const char *base = (const char *)(uintptr_t)0x123450000;

    for (unsigned i = 0; i < HAK_CLASSES; i++) {
        uint32_t size = hak_class_sizes[i];
        size_t bytes = hak_slab_granules(size) * HAK_SLAB_GRANULE;
        uint32_t blocks = (uint32_t)(bytes / size);
        struct hak_grid grid = hak_grid_of(base, size, blocks);
        for (size_t at = 0; at < bytes + size; at += 8)
            cr_assert_eq(hak_grid_has(&grid, base + at), at % size == 0 && at / size < blocks,
                         "offset %zu of blocks of %u bytes", at, size);
        cr_assert(!hak_grid_has(&grid, base - size));
        cr_assert(!hak_grid_has(&grid, base - 1));
        cr_assert(!hak_grid_has(&grid, base + 1));
        cr_assert(!hak_grid_has(&grid, NULL));
        cr_assert(!hak_grid_has(&grid, (void *)UINTPTR_MAX));
    }
}
