/* SPDX-License-Identifier: MIT */
/* Batches of large blocks that come again and again keep their memory between two batches; one that comes once does
 * not. And a block of which only a part still waits takes that part and what lies beside it. Time stands still here, and no page is touched: the statistics say how much waits. */
#include <hakmem/stats.h>

#include <criterion/criterion.h>
#include <string.h>

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

/* Twice the floor is freed, so that one half goes back and stays mapped beside the other. */
static const size_t TWO_FLOORS = 2 * ((size_t)CONFIG_DIRTY_MAX << 20);

static void require_small_floor(void)
{
    if (backend_footprint() == 0)
        cr_skip_test("this back end lets no memory wait");
    if (FLOOR > 1024 * MIB)
        cr_skip_test("DIRTY_MAX is %d", CONFIG_DIRTY_MAX);
}

Test(burst, a_longer_block_takes_what_waits_and_adds_only_what_it_lacks)
{
    void *block = hak_malloc(TWO_FLOORS);

    require_small_floor();
    require(block != NULL);
    hak_free(block);
    cr_assert_eq(waiting(), FLOOR);
    size_t footprint = backend_footprint();
    require((block = hak_malloc(TWO_FLOORS)) != NULL);
    cr_assert_eq(waiting(), 0);
    cr_assert_eq(backend_footprint(), footprint, "nothing was mapped");
    require_valid_heap();
    hak_free(block);
}

Test(burst, a_block_grows_in_place_over_memory_that_waits_and_memory_that_went)
{
    char *block = hak_malloc(TWO_FLOORS);

    require_small_floor();
    require(block != NULL);
    require(hak_realloc(block, MIB) == block);
    cr_assert_eq(waiting(), FLOOR);
    size_t footprint = backend_footprint();
    cr_assert_eq(hak_realloc(block, TWO_FLOORS), block);
    cr_assert_eq(waiting(), 0);
    cr_assert_eq(backend_footprint(), footprint, "nothing was mapped");
    require_valid_heap();
    hak_free(block);
}

/* Pages that serve again are not taken for zeros because others of the block are. */
Test(burst, calloc_clears_what_it_takes_of_both)
{
    unsigned char *block = hak_malloc(TWO_FLOORS);

    require_small_floor();
    require(block != NULL);
    memset(block, 0xa5, TWO_FLOORS);
    hak_free(block);
    require((block = hak_calloc(1, TWO_FLOORS)) != NULL);
    for (size_t i = 0; i < TWO_FLOORS; i += 512)
        cr_assert_eq(block[i], 0);
    hak_free(block);
}
