/* SPDX-License-Identifier: MIT */
#include <criterion/criterion.h>
#include <stdlib.h>

#include "core/size_class.h"

Test(size_class, every_size_has_the_smallest_class_that_holds_it)
{
    for (size_t size = 0; size <= HAK_SMALL_MAX; size++) {
        hak_class cls = hak_class_of(size);
        cr_assert_lt(cls, HAK_CLASS_END);
        cr_assert_geq(hak_class_size(cls), size);
        if (cls > 0)
            cr_assert_lt(hak_class_size(cls - HAK_CLASS_SCALE), size);
    }
}

Test(size_class, sizes_rise_and_end_at_the_largest_small_size)
{
    for (unsigned i = 1; i < HAK_CLASSES; i++)
        cr_assert_lt(hak_class_sizes[i - 1], hak_class_sizes[i]);
    cr_assert_eq(hak_class_sizes[0], CONFIG_MIN_BLOCK);
    cr_assert_eq(hak_class_sizes[HAK_CLASSES - 1], HAK_SMALL_MAX);
}

Test(size_class, every_block_above_8_bytes_is_16_aligned)
{
    for (unsigned i = 0; i < HAK_CLASSES; i++)
        cr_assert(hak_class_sizes[i] == 8 || hak_class_sizes[i] % 16 == 0);
}

Test(size_class, no_class_is_more_than_twice_the_next_smaller_one)
{
    for (unsigned i = 1; i < HAK_CLASSES; i++)
        cr_assert_leq(hak_class_sizes[i], 2 * hak_class_sizes[i - 1]);
}

/* So that code may walk the sizes up to the first that is 0. */
Test(size_class, there_are_no_sizes_beyond_the_last_class)
{
    for (unsigned i = HAK_CLASSES; i < HAK_CLASSES_MOST; i++)
        cr_assert_eq(hak_class_sizes[i], 0);
}

Test(size_class, every_power_of_two_is_a_class)
{
    for (size_t size = CONFIG_MIN_BLOCK; size <= HAK_SMALL_MAX; size *= 2)
        cr_assert_eq(hak_class_size(hak_class_of(size)), size);
}

Test(size_class, an_own_table_is_what_was_asked_for)
{
    const char *at = CONFIG_CLASS_TABLE;
    unsigned count = 0;

    if (*at == '\0')
        cr_skip_test("the classes are evenly spaced");
    for (char *end; *at != '\0'; at = *end == ',' ? end + 1 : end)
        cr_assert_eq(hak_class_sizes[count++], strtoul(at, &end, 10));
    cr_assert_eq(count, HAK_CLASSES);
}

Test(size_class, a_doubling_has_the_configured_number_of_steps)
{
    if (CONFIG_CLASS_STEPS == 0)
        cr_skip_test("CONFIG_CLASS_TABLE has the classes");
    for (size_t size = (size_t)16 * CONFIG_CLASS_STEPS; size < HAK_SMALL_MAX; size *= 2)
        cr_assert_eq(hak_class_index(hak_class_of(2 * size)) - hak_class_index(hak_class_of(size)),
                     size >= 512 && enabled(CONFIG_CLASS_FINER) ? 2 * CONFIG_CLASS_STEPS
                                                                : CONFIG_CLASS_STEPS);
}

Test(size_class, an_aligned_class_is_the_smallest_whose_blocks_are_all_aligned)
{
    for (size_t align = 1; align <= HAK_SMALL_MAX; align *= 2) {
        for (size_t size = 0; size <= HAK_SMALL_MAX; size += size / 64 + 1) {
            hak_class cls = hak_class_of_aligned(size, align);
            cr_assert_lt(cls, HAK_CLASS_END);
            cr_assert_eq(hak_class_size(cls) % align, 0);
            cr_assert_geq(hak_class_size(cls), size);
            for (hak_class smaller = hak_class_of(size); smaller < cls; smaller += HAK_CLASS_SCALE)
                cr_assert_neq(hak_class_size(smaller) % align, 0);
        }
    }
}

Test(size_class, no_class_is_aligned_beyond_the_largest_small_size)
{
    cr_assert_eq(hak_class_of_aligned(1, 2 * HAK_SMALL_MAX), HAK_CLASS_END);
    cr_assert_eq(hak_class_of_aligned(HAK_SMALL_MAX + 1, 16), HAK_CLASS_END);
    cr_assert_eq(hak_class_of_aligned(SIZE_MAX, 1), HAK_CLASS_END);
}
