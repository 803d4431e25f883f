/* SPDX-License-Identifier: MIT */
/* Batches of large blocks that come again and again keep their memory between two batches; one that comes once does
 * not. Time stands still here, and no page is touched: the statistics say how much waits. */
#include <hakmem/stats.h>

#include <criterion/criterion.h>

#include "core/backend.h"
#include "tests/contract/clock.h"
#include "tests/contract/support.h"

enum { BLOCKS = 24 };

static const size_t MIB = (size_t)1 << 20;
static const size_t BLOCK = (size_t)8 << 20;
static const size_t FLOOR = (size_t)CONFIG_DIRTY_MAX << 20;

static void batch(void)
{
    void *blocks[BLOCKS];

    for (int i = 0; i < BLOCKS; i++)
        require((blocks[i] = hak_malloc(BLOCK - 100)) != NULL);
    for (int i = 0; i < BLOCKS; i++)
        hak_free(blocks[i]);
}

static size_t waiting(void)
{
    struct hak_stats stats;

    require(hak_stats_get(&stats, sizeof(stats)) == sizeof(stats));
    return stats.dirty;
}

static void require_room(void)
{
    if (!BACKEND_TICKS)
        cr_skip_test("this back end lets no memory wait");
    if (FLOOR + 64 * MIB > BLOCKS * BLOCK || CONFIG_DIRTY_BURST_MAX * MIB < BLOCKS * BLOCK)
        cr_skip_test("DIRTY_MAX is %d, DIRTY_BURST_MAX %d", CONFIG_DIRTY_MAX,
                     CONFIG_DIRTY_BURST_MAX);
}

Test(burst, one_leaves_no_more_than_the_floor)
{
    batch();
    require_room();
    cr_assert_leq(waiting(), FLOOR);
}

Test(burst, those_that_come_again_find_their_memory)
{
    batch();
    require_room();
    for (int i = 0; i < 3; i++)
        batch();
    cr_assert_geq(waiting(), BLOCKS * BLOCK - MIB);
    cr_assert_leq(waiting(), BLOCKS * BLOCK + MIB, "and no more than they had");
    hak_malloc_trim(0);
    cr_assert_eq(waiting(), 0);
    require_valid_heap();
}
