/* SPDX-License-Identifier: MIT */
/* The bound over the life of a program, without one: what is in use and what waits are numbers here. */
#include <criterion/criterion.h>

#include "core/dirty_bound.h"

enum { MORE = 500, DELAY = CONFIG_PURGE_DELAY_MS };

static const size_t FLOOR = ((size_t)CONFIG_DIRTY_MAX << 20) / HAK_SLAB_GRANULE;

static struct hak_dirty_bound bound;
static size_t used, dirty, fresh;
static uint32_t now = 1000;

static void keep_to_bound(void)
{
    size_t most = hak_dirty_most(&bound, used);

    if (dirty > most) {
        hak_dirty_gave_back(&bound, dirty - most);
        dirty = most;
    }
}

/* As a back end does: what waits is taken first. */
static void take(size_t granules)
{
    size_t reused = granules < dirty ? granules : dirty;

    used += granules;
    dirty -= reused;
    hak_dirty_track(&bound, used, dirty);
    if (granules > reused) {
        fresh += granules - reused;
        hak_dirty_took_fresh(&bound, granules - reused);
        cr_assert_leq(dirty, hak_dirty_most(&bound, used));
    }
}

static void give(size_t granules)
{
    used -= granules;
    dirty += granules;
    hak_dirty_note(&bound, used, dirty, now);
    keep_to_bound();
}

static void burst(size_t granules)
{
    take(granules);
    give(granules);
}

/* Bursts above the floor, but no further than may be kept. */
static size_t height(void)
{
    if (CONFIG_DIRTY_BURST_MAX < CONFIG_DIRTY_MAX + 32)
        cr_skip_test("nothing is kept beyond DIRTY_MAX");
    return FLOOR + MORE;
}

Test(dirty_bound, one_burst_leaves_the_floor)
{
    burst(FLOOR + MORE);
    cr_assert_eq(dirty, FLOOR);
}

Test(dirty_bound, what_was_missed_is_kept_the_next_time)
{
    size_t granules = height();

    burst(granules);
    burst(granules);
    cr_assert_eq(dirty, granules);
    fresh = 0;
    for (int i = 0; i < 100; i++, now += DELAY / 3)
        burst(granules);
    cr_assert_eq(fresh, 0);
    cr_assert_eq(dirty, granules);
}

Test(dirty_bound, a_calmer_program_keeps_less)
{
    size_t granules = height();

    for (int i = 0; i < 4; i++)
        burst(granules);
    for (int i = 0; i < 6; i++, now += DELAY)
        burst(1);
    cr_assert_leq(dirty, FLOOR);
    cr_assert_leq(bound.extra, 1);
}

Test(dirty_bound, memory_does_not_exceed_what_was_used_of_late)
{
    size_t granules = height();

    for (int i = 0; i < 4; i++)
        burst(granules);
    take(granules);
    give(MORE);
    take(MORE);
    cr_assert_leq(hak_dirty_most(&bound, used), FLOOR, "nothing more may wait beside it");
    give(granules);
    cr_assert_eq(used + dirty, granules);
}

Test(dirty_bound, a_share_of_what_is_in_use_may_wait_where_it_was_missed)
{
    size_t granules = height();
    const size_t live = 10 * FLOOR;

    if (live / 100 * CONFIG_DIRTY_SHARE < granules)
        cr_skip_test("DIRTY_SHARE is %d", CONFIG_DIRTY_SHARE);
    take(live);
    cr_assert_eq(hak_dirty_most(&bound, used), FLOOR, "nothing was missed yet");
    for (int i = 0; i < 4; i++)
        burst(granules);
    take(granules);
    cr_assert_eq(bound.extra, MORE);
    cr_assert_eq(hak_dirty_most(&bound, used), granules, "nothing is in use less than of late");
    give(used);
    take(FLOOR);
    now += 2 * DELAY;
    burst(1);
    now += 2 * DELAY;
    burst(1);
    cr_assert_eq(hak_dirty_most(&bound, used), FLOOR, "what is in use is less by now");
}

Test(dirty_bound, no_more_than_is_configured_waits)
{
    const size_t most = (size_t)(CONFIG_DIRTY_BURST_MAX > CONFIG_DIRTY_MAX ? CONFIG_DIRTY_BURST_MAX
                                                                           : CONFIG_DIRTY_MAX) *
                        1048576 / HAK_SLAB_GRANULE;

    for (int i = 0; i < 10; i++)
        burst(3 * most);
    cr_assert_eq(dirty, most);
}

Test(dirty_bound, a_program_that_has_set_it_gets_just_that)
{
    hak_dirty_max = 3 * HAK_SLAB_GRANULE;
    for (int i = 0; i < 4; i++)
        burst(100);
    cr_assert_eq(dirty, 3);
}
