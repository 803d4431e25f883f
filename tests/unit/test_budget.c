/* SPDX-License-Identifier: MIT */
#include <criterion/criterion.h>

#include "core/budget.h"

Test(budget, cache_and_shard_share_all_of_it)
{
    cr_assert_eq(HAK_CACHE_BYTES + HAK_KEPT_BYTES, CONFIG_CACHE_BYTES);
    cr_assert_eq(HAK_CACHE_BYTES, CONFIG_CACHE_BYTES / 2);
}
