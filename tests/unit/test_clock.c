/* SPDX-License-Identifier: MIT */
/* What the clock is compared with: true time, which passes while the test waits for it; and the arithmetic, for which
 * none needs to pass. That the clock is the kernel's, test_os shows. */
#include <criterion/criterion.h>

#include "core/clock.h"

Test(clock, what_has_lasted_is_due_also_when_the_clock_wraps)
{
    const uint32_t starts[] = {0, 1, 1000, INT32_MAX, UINT32_MAX - 50, UINT32_MAX};

    for (size_t i = 0; i < sizeof(starts) / sizeof(*starts); i++) {
        uint32_t since = starts[i];
        cr_assert(!hak_clock_due(since, since, 100));
        cr_assert(!hak_clock_due(since, since + 99, 100));
        cr_assert(hak_clock_due(since, since + 100, 100));
        cr_assert(hak_clock_due(since, since + 5000, 100));
        cr_assert(hak_clock_due(since, since, 0));
    }
}

Test(clock, a_wait_ends_at_once_where_the_word_has_changed)
{
    uint32_t word = 1;

    hak_clock_wait(&word, 0, HAK_FOREVER);
}

/* The clock goes in steps of some milliseconds: by two steps at most it may lag. */
Test(clock, a_wait_lasts_as_long_as_it_says)
{
    enum { MS = 60, STEPS_MS = 20 };
    uint32_t word = 0;
    uint32_t before = hak_clock_ms();

    while (!hak_clock_due(before, hak_clock_ms(), MS - STEPS_MS)) {
        uint32_t began = hak_clock_ms();
        hak_clock_wait(&word, 0, MS); /* ends early only by a signal, of which there is none */
        cr_assert(hak_clock_due(began, hak_clock_ms(), MS - STEPS_MS));
    }
}
