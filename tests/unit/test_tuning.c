/* SPDX-License-Identifier: MIT */
#include <criterion/criterion.h>
#include <hakmem/hakmem.h>

#include "core/malloc.h"
#include "core/tuning.h"

Test(tuning, it_begins_as_configured_and_is_what_was_set)
{
    cr_assert_eq(hak_dirty_max, (size_t)CONFIG_DIRTY_MAX << 20);
    hak_dirty_max_set(12345);
    cr_assert_eq(hak_dirty_max, 12345);
    hak_free(hak_malloc(100000));
    hak_dirty_max_set((size_t)1 << 30);
    cr_assert_eq(hak_dirty_max, (size_t)1 << 30);
}
