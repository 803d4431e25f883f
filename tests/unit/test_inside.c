/* SPDX-License-Identifier: MIT */
#include <criterion/criterion.h>

#include "core/inside.h"

Test(inside, is_taken_between_enter_and_leave)
{
    struct hak_inside inside = {0};

    hak_inside_init(&inside);
    cr_assert(!hak_is_inside(&inside));
    for (int i = 0; i < 2; i++) {
        hak_inside_enter(&inside);
        cr_assert(hak_is_inside(&inside));
        hak_inside_leave(&inside);
        cr_assert(!hak_is_inside(&inside));
    }
}

/* A thread may be in a heap of its own and in one that it has claimed. */
Test(inside, two_are_taken_independently)
{
    struct hak_inside own = {0};
    struct hak_inside claimed = {0};

    hak_inside_init(&own);
    hak_inside_init(&claimed);
    hak_inside_enter(&own);
    hak_inside_enter(&claimed);
    hak_inside_leave(&claimed);
    cr_assert(hak_is_inside(&own) && !hak_is_inside(&claimed));
    hak_inside_tick(&own);
    cr_assert(hak_is_inside(&own));
    hak_inside_leave(&own);
    cr_assert(!hak_is_inside(&own));
}
