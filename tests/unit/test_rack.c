/* SPDX-License-Identifier: MIT */
/* Racks: what is put on one, what comes off it, and when. */
#include <criterion/criterion.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "core/rack.h"

static struct hak_racks racks;

static bool put(unsigned at, uint32_t extent, uint32_t since, size_t granules)
{
    return hak_rack_put(&racks, at, (struct hak_racked){extent, since}, granules,
                        HAK_RACKS_GRANULES);
}

Test(rack, what_was_put_last_is_taken_first)
{
    cr_assert_eq(hak_rack_take(&racks, 3, 1), 0);
    for (uint32_t extent = 1; extent <= HAK_RACK_ONES; extent++)
        cr_assert(put(3, extent, 0, 1));
    cr_assert(!put(3, 99, 0, 1), "it is full");
    for (uint32_t extent = HAK_RACK_ONES; extent > 0; extent--)
        cr_assert_eq(hak_rack_take(&racks, 3, 1), extent);
    cr_assert_eq(hak_rack_take(&racks, 3, 1), 0);
}

Test(rack, each_length_has_slots_of_its_own)
{
    for (uint32_t extent = 1; extent <= HAK_RACK_TWOS; extent++)
        cr_assert(put(0, extent, 0, 2));
    cr_assert(!put(0, 98, 0, 2));
    cr_assert_eq(hak_rack_take(&racks, 0, 1), 0);
    cr_assert(put(0, 50, 0, 1));
    cr_assert_eq(hak_racks_granules(&racks), 1 + 2 * HAK_RACK_TWOS);
    cr_assert_eq(hak_rack_take(&racks, 0, 2), HAK_RACK_TWOS);
    cr_assert_eq(hak_rack_take(&racks, 0, 1), 50);
    for (size_t granules = 3; granules < 100; granules++) {
        cr_assert(!put(0, 97, 0, granules));
        cr_assert_eq(hak_rack_take(&racks, 0, granules), 0);
    }
}

Test(rack, where_less_may_wait_there_is_less_room)
{
    const struct hak_racked racked = {5, 0};

    for (unsigned i = 0; i < HAK_RACK_ONES / 2; i++)
        cr_assert(hak_rack_put(&racks, 0, racked, 1, HAK_RACKS_GRANULES / 2));
    cr_assert(!hak_rack_put(&racks, 0, racked, 1, HAK_RACKS_GRANULES / 2));
    for (unsigned i = 0; i < HAK_RACK_TWOS / 4; i++)
        cr_assert(hak_rack_put(&racks, 0, racked, 2, HAK_RACKS_GRANULES / 4));
    cr_assert(!hak_rack_put(&racks, 0, racked, 2, HAK_RACKS_GRANULES / 4));
    cr_assert(!hak_rack_put(&racks, 1, racked, 1, 0));
    cr_assert(hak_rack_put(&racks, 0, racked, 1, 2 * HAK_RACKS_GRANULES));
}

Test(rack, others_racks_are_searched_from_the_next_one_on)
{
    cr_assert(!hak_racks_have(&racks));
    cr_assert(put(2, 20, 0, 1) && put(7, 70, 0, 1) && put(31, 310, 0, 2));
    cr_assert(hak_racks_have(&racks));
    cr_assert_eq(hak_racks_take(&racks, 2, 1), 70);
    cr_assert_eq(hak_racks_take(&racks, 2, 1), 20, "its own comes last");
    cr_assert_eq(hak_racks_take(&racks, 2, 1), 0);
    cr_assert_eq(hak_racks_take(&racks, 31, 2), 310);
    cr_assert_eq(hak_racks_granules(&racks), 0);
}

static struct {
    struct hak_racked racked[HAK_RACKS * HAK_RACK_SLOTS];
    size_t granules, count;
} swept;

static void note(struct hak_racked racked, size_t granules)
{
    swept.racked[swept.count++] = racked;
    swept.granules += granules;
}

Test(rack, a_sweep_takes_what_is_due_and_no_more)
{
    uint32_t now = 5; /* the clock has wrapped */

    cr_assert(put(1, 10, now - 100, 1) && put(1, 11, now - 99, 1) && put(4, 40, now - 300, 2));
    cr_assert(put(4, 41, now + 3, 1), "by a thread that has looked at the clock later");
    cr_assert(hak_racks_sweep(&racks, now, 100, note));
    cr_assert_eq(swept.count, 2);
    cr_assert_eq(swept.granules, 3);
    cr_assert(swept.racked[0].extent == 10 && swept.racked[0].since == now - 100);
    cr_assert_eq(swept.racked[1].extent, 40);
    cr_assert(!hak_racks_sweep(&racks, now, 100, note));
    cr_assert(hak_racks_sweep(&racks, now + 1, 100, note));
    cr_assert_eq(swept.racked[2].extent, 11);
    cr_assert_eq(hak_rack_take(&racks, 4, 1), 41);
}

Test(rack, a_sweep_of_all_leaves_none_and_no_bit)
{
    cr_assert(put(1, 10, 0, 1) && put(31, 11, 1000, 2));
    cr_assert(hak_racks_sweep(&racks, 0, 0, note));
    cr_assert_eq(swept.count, 2);
    cr_assert(!hak_racks_have(&racks));
    cr_assert(put(1, 12, 0, 1));
    cr_assert(hak_racks_have(&racks));
    cr_assert_eq(hak_rack_take(&racks, 1, 1), 12);
    cr_assert(!hak_racks_sweep(&racks, 0, 0, note));
    cr_assert(!hak_racks_have(&racks), "a rack that is found empty is not looked at again");
}

/* ── many threads ────────────────────────────────────────────────────────────────────────────── */

enum { THREADS = 4, EXTENTS = 24, ROUNDS = 20000 };

static uint32_t owners[EXTENTS + 1]; /* of each extent: threads that have it */

/* In threads of the test, where an assertion cannot leave the test. */
static void must(bool condition)
{
    if (!condition)
        abort();
}

static void have(uint32_t extent)
{
    must(__atomic_fetch_add(&owners[extent], 1, __ATOMIC_RELAXED) == 0);
}

static void *put_and_take(void *argument)
{
    uint32_t held[EXTENTS];
    size_t count = 0;
    unsigned at = (unsigned)(uintptr_t)argument;

    for (uint32_t extent = at + 1; extent <= EXTENTS; extent += THREADS)
        have(held[count++] = extent);
    for (unsigned round = 0; round < ROUNDS; round++) {
        while (count > 0 && (round + count) % 5 != 0) {
            uint32_t extent = held[count - 1];
            __atomic_fetch_sub(&owners[extent], 1, __ATOMIC_RELAXED);
            if (!put((at + round) % 2, extent, round, 1)) {
                have(extent);
                break;
            }
            count--;
        }
        uint32_t extent =
            round % 3 ? hak_rack_take(&racks, at % 2, 1) : hak_racks_take(&racks, at, 1);
        if (extent)
            have(held[count++] = extent);
    }
    for (size_t i = 0; i < count; i++)
        __atomic_fetch_sub(&owners[held[i]], 1, __ATOMIC_RELAXED);
    return (void *)count;
}

static void have_it(struct hak_racked racked, size_t granules)
{
    must(granules == 1);
    have(racked.extent);
    swept.count++;
}

/* No extent is lost, and none has two owners; one thread sweeps meanwhile. */
Test(rack, an_extent_comes_off_a_rack_once)
{
    pthread_t threads[THREADS];
    size_t found = 0;

    for (uintptr_t i = 0; i < THREADS; i++)
        cr_assert_eq(pthread_create(&threads[i], NULL, put_and_take, (void *)i), 0);
    for (uint32_t i = 0; i < ROUNDS / 10; i++)
        hak_racks_sweep(&racks, i * 10, 500, have_it);
    for (size_t i = 0; i < THREADS; i++) {
        void *count;
        cr_assert_eq(pthread_join(threads[i], &count), 0);
        found += (size_t)count;
    }
    hak_racks_sweep(&racks, 0, 0, have_it);
    cr_assert_eq(found + swept.count, EXTENTS);
    cr_assert(!hak_racks_have(&racks));
}
