/* SPDX-License-Identifier: MIT */
#include <criterion/criterion.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "backends/superslab/run.h"
#include "backends/superslab/slab.h"
#include "core/clock.h"

static bool zeroed;

static char *bytes_of(uint32_t run)
{
    return granule_address(run);
}

static bool reads_zero(uint32_t run, size_t granules)
{
    const char *bytes = bytes_of(run);

    return bytes[0] == 0 && memcmp(bytes, bytes + 1, (granules << GRANULE_SHIFT) - 1) == 0;
}

Test(run, fresh_runs_are_zeroed_and_apart)
{
    uint32_t first = run_alloc(3, 1, &zeroed);

    cr_assert(first != NO_RUN && zeroed && reads_zero(first, 3));
    uint32_t second = run_alloc(5, 1, &zeroed);
    cr_assert(second >= first + 3 || second + 5 <= first);
    cr_assert(run_valid());
}

Test(run, what_is_freed_is_used_again_before_fresh_memory)
{
    uint32_t run = run_alloc(4, 1, &zeroed);

    memset(bytes_of(run), 1, GRANULE_SIZE);
    run_free(run, 4, false);
    cr_assert_eq(run_alloc(4, 1, &zeroed), run);
    cr_assert(!zeroed);
}

Test(run, free_neighbours_become_one)
{
    uint32_t run = run_alloc(9, 1, &zeroed);

    run_free(run, 9, false);
    uint32_t a = run_alloc(3, 1, &zeroed);
    uint32_t b = run_alloc(3, 1, &zeroed);
    uint32_t c = run_alloc(3, 1, &zeroed);
    run_free(a, 3, false);
    run_free(c, 3, false);
    cr_assert(run_valid());
    run_free(b, 3, false);
    cr_assert(run_valid());
    cr_assert_eq(run_alloc(9, 1, &zeroed), run);
}

Test(run, alignment_is_of_addresses)
{
    for (size_t align = 1; align <= 1024; align *= 2) {
        uint32_t run = run_alloc(2, align, &zeroed);
        cr_assert_eq((uintptr_t)granule_address(run) % (align * GRANULE_SIZE), 0);
        cr_assert(run_valid());
    }
}

Test(run, a_run_grows_into_a_free_neighbour_and_shrinks)
{
    uint32_t run = run_alloc(2, 1, &zeroed);

    cr_assert(run_extend(run, 6));
    cr_assert_eq(window.slabs[run].run_granules, 6);
    uint32_t next = run_alloc(1, 1, &zeroed);
    cr_assert_eq(next, run + 6);
    cr_assert(!run_extend(run, 7));
    run_trim(run, 1, false);
    cr_assert_eq(window.slabs[run].run_granules, 1);
    cr_assert(run_valid());
    cr_assert_eq(run_alloc(5, 1, &zeroed), run + 1);
}

Test(run, purged_runs_read_as_zeros)
{
    uint32_t run = run_alloc(4, 1, &zeroed);

    memset(bytes_of(run), 1, 4 * GRANULE_SIZE);
    run_free(run, 4, false);
    cr_assert(run_dirty());
    cr_assert(run_purge_all());
    cr_assert(!run_dirty() && run_valid());
    run = run_alloc(4, 1, &zeroed);
    cr_assert(!zeroed || reads_zero(run, 4));
}

Test(run, nothing_is_purged_before_it_is_due)
{
    if (CONFIG_PURGE_DELAY_MS < 100)
        return;
    run_free(run_alloc(4, 1, &zeroed), 4, false);
    uint32_t now = hak_clock_ms();
    cr_assert(!run_purge_due(now));
    cr_assert(run_dirty());
    cr_assert(!run_purge_due(now + CONFIG_PURGE_DELAY_MS + 50));
    cr_assert(!run_dirty());
}

static size_t dirty_granules(void)
{
    size_t dirty = 0;

    for (uint32_t at = 1; window_committed(at); at += window.slabs[at].run_granules)
        if (window.slabs[at].state == RUN_DIRTY)
            dirty += window.slabs[at].run_granules;
    return dirty;
}

/* The kernel purges nothing of a range that has a locked page. */
Test(run, a_locked_page_keeps_its_granule_alone)
{
    enum { GRANULES = 200, LOCKED = 70 };
    uint32_t run = run_alloc(GRANULES, 1, &zeroed);
    uint32_t between = run_alloc(1, 1, &zeroed);
    uint32_t other = run_alloc(GRANULES, 1, &zeroed);
    char *locked = bytes_of(run + LOCKED);

    if (mlock(locked, 1) != 0)
        cr_skip_test("no page can be locked here");
    run_free(run, GRANULES, false);
    run_free(other, GRANULES, false);
    uint32_t later = hak_clock_ms() + CONFIG_PURGE_DELAY_MS + 50;
    for (int i = 0; i < 20; i++)
        run_purge_due(later);
    cr_assert_eq(dirty_granules(), 1);
    cr_assert(!run_purge_due(later));
    cr_assert(run_valid());
    run_free(between, 1, false);
    cr_assert(run_purge_all());
    cr_assert_eq(dirty_granules(), 1);
    munlock(locked, 1);
    cr_assert(run_purge_all());
    cr_assert_eq(dirty_granules(), 0);
    cr_assert(run_valid());
}

Test(run, dirty_memory_keeps_to_its_bound)
{
    size_t granules = (size_t)CONFIG_DIRTY_MAX << 20 >> GRANULE_SHIFT;
    uint32_t run = run_alloc(granules + 10, 1, &zeroed);
    uint32_t between = run_alloc(1, 1, &zeroed);
    uint32_t other = run_alloc(10, 1, &zeroed);

    run_free(other, 10, false);
    run_free(run, granules + 10, false);
    run_free(between, 1, false);
    cr_assert_leq(dirty_granules(), granules);
    cr_assert(run_valid());
}

Test(run, a_random_life_keeps_the_tiling)
{
    enum { RUNS = 64 };
    uint32_t runs[RUNS] = {NO_RUN};
    size_t lengths[RUNS];
    uint32_t random = 12345;

    for (int round = 0; round < 20000; round++) {
        random = random * 1664525 + 1013904223;
        size_t i = random >> 8 & (RUNS - 1);
        size_t granules = (random >> 16 & 127) + 1;
        if (runs[i] == NO_RUN) {
            runs[i] = run_alloc(granules, (size_t)1 << (random >> 28), &zeroed);
            lengths[i] = granules;
            cr_assert_neq(runs[i], NO_RUN);
        } else if (random >> 30 == 0 && lengths[i] > 1) {
            run_trim(runs[i], lengths[i] /= 2, false);
        } else if (random >> 30 == 1 && run_extend(runs[i], lengths[i] + 3)) {
            lengths[i] += 3;
        } else {
            run_free(runs[i], lengths[i], false);
            runs[i] = NO_RUN;
        }
        if (round % 4096 == 0)
            run_purge_all();
        if (round % 64 == 0)
            cr_assert(run_valid(), "round %d", round);
    }
}

Test(run, under_an_address_limit_superslabs_are_mapped_and_given_back)
{
    struct rlimit limit = {(rlim_t)512 << 20, (rlim_t)512 << 20};
    uint32_t runs[400];
    size_t count = 0;

    cr_assert_eq(setrlimit(RLIMIT_AS, &limit), 0);
    while (count < 400 && (runs[count] = run_alloc(SUPERSLAB_GRANULES, 1, &zeroed)) != NO_RUN)
        bytes_of(runs[count++])[0] = 1;
    cr_assert(window.sparse);
    cr_assert(count > 100 && count < 256, "%zu", count);
    for (size_t i = 0; i < count; i++)
        run_free(runs[i], SUPERSLAB_GRANULES, false);
    run_purge_all();
    cr_assert(run_valid());
    void *mine = os_map((size_t)256 << 20);
    cr_assert_not_null(mine, "the address space came back");
    os_unmap(mine, (size_t)256 << 20);
    cr_assert_neq(run_alloc(100, 1, &zeroed), NO_RUN);
}
