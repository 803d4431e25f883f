/* SPDX-License-Identifier: MIT */
#include <criterion/criterion.h>

#include "core/idle.h"

enum { ROUND_MS = CONFIG_PURGE_DELAY_MS / 2 };

/* Addresses that tell each other apart in the bits that are compared. */
static const void *block(unsigned number)
{
    return (const void *)(uintptr_t)((number + 1) * HAK_CLASS_UNIT);
}

Test(idle, a_stamp_is_due_after_its_time_and_not_before)
{
    cr_assert(!hak_clock_due(1000, 1000, 1));
    cr_assert(!hak_clock_due(1000, 1249, 250));
    cr_assert(hak_clock_due(1000, 1250, 250));
    cr_assert(hak_clock_due(1000, 1000, 0));
}

Test(idle, a_stamp_is_due_across_the_wrap_of_the_clock)
{
    uint32_t before = UINT32_MAX - 99;

    cr_assert(!hak_clock_due(before, before + 249, 250));
    cr_assert(hak_clock_due(before, before + 250, 250));
}

Test(idle, a_stamp_of_the_future_is_due_at_once)
{
    cr_assert(hak_clock_due(1001, 1000, CONFIG_PURGE_DELAY_MS));
    cr_assert(hak_clock_due(0, UINT32_MAX, CONFIG_PURGE_DELAY_MS));
}

Test(idle, rounds_begin_half_a_purge_delay_apart)
{
    struct hak_idle idle = {.round_at = 5000};

    for (uint32_t passed = 0; passed < ROUND_MS; passed++)
        cr_assert(!hak_idle_round(&idle, 5000 + passed));
    cr_assert(hak_idle_round(&idle, 5000 + ROUND_MS));
    cr_assert_eq(idle.round_at, 5000u + ROUND_MS);
    cr_assert_eq(hak_idle_round(&idle, 5000 + ROUND_MS), ROUND_MS == 0);
}

Test(idle, a_class_is_idle_when_it_has_the_same_block_on_top_as_a_round_before)
{
    struct hak_idle idle = {{0}, 0};
    hak_class cls = hak_class_at(HAK_CLASSES - 1);

    cr_assert(!hak_idle_class(&idle, cls, block(0)));
    cr_assert(!hak_idle_class(&idle, cls, block(1)));
    cr_assert(hak_idle_class(&idle, cls, block(1)));
}

/* The caller has emptied it, so its next block is no sign of idleness, even if it is the same. */
Test(idle, a_class_that_was_idle_begins_anew)
{
    struct hak_idle idle = {{0}, 0};

    cr_assert(!hak_idle_class(&idle, 0, block(0)));
    cr_assert(hak_idle_class(&idle, 0, block(0)));
    cr_assert(!hak_idle_class(&idle, 0, block(0)));
}

/* Bins have blocks below an empty list, magazines beside an empty magazine. */
Test(idle, a_class_that_stays_without_a_top_is_idle)
{
    struct hak_idle idle = {{0}, 0};

    cr_assert(hak_idle_class(&idle, 0, NULL));
    cr_assert(!hak_idle_class(&idle, 0, block(0)));
    cr_assert(!hak_idle_class(&idle, 0, NULL));
    cr_assert(hak_idle_class(&idle, 0, NULL));
}

Test(idle, classes_do_not_disturb_each_other)
{
    struct hak_idle idle = {{0}, 0};

    for (unsigned i = 0; i < HAK_CLASSES; i++)
        cr_assert(!hak_idle_class(&idle, hak_class_at(i), block(i % 4)));
    for (unsigned i = 0; i < HAK_CLASSES; i++)
        cr_assert_eq(hak_idle_class(&idle, hak_class_at(i), block(i % 8 / 2)), i % 4 == i % 8 / 2);
}
