/* SPDX-License-Identifier: MIT */
/* The window, and extents over it. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "core/backend.h"
#include "core/clock.h"

static bool zeroed;

/* One granule stays in use, so that the first unit stays committed. */
static void start(void)
{
    hak_extents_alloc(1, 1, 0, &zeroed);
}

TestSuite(window, .init = start);

static char *bytes_of(uint32_t run)
{
    return space_address(run);
}

static bool reads_zero(uint32_t run, size_t granules)
{
    const char *bytes = bytes_of(run);

    return bytes[0] == 0 && memcmp(bytes, bytes + 1, (granules << GRANULE_SHIFT) - 1) == 0;
}

Test(window, fresh_runs_are_zeroed_and_apart)
{
    uint32_t first = hak_extents_alloc(3, 1, 0, &zeroed);

    cr_assert(first != HAK_NO_EXTENT && zeroed && reads_zero(first, 3));
    uint32_t second = hak_extents_alloc(5, 1, 0, &zeroed);
    cr_assert(second >= first + 3 || second + 5 <= first);
    cr_assert(hak_extents_valid());
}

Test(window, what_is_freed_is_used_again_before_fresh_memory)
{
    uint32_t run = hak_extents_alloc(4, 1, 0, &zeroed);

    memset(bytes_of(run), 1, GRANULE_SIZE);
    hak_extents_free(run, false);
    cr_assert_eq(hak_extents_alloc(4, 1, 0, &zeroed), run);
    cr_assert(!zeroed);
}

Test(window, free_neighbours_become_one)
{
    uint32_t run = hak_extents_alloc(9, 1, 0, &zeroed);

    hak_extents_free(run, false);
    uint32_t a = hak_extents_alloc(3, 1, 0, &zeroed);
    uint32_t b = hak_extents_alloc(3, 1, 0, &zeroed);
    uint32_t c = hak_extents_alloc(3, 1, 0, &zeroed);
    hak_extents_free(a, false);
    hak_extents_free(c, false);
    cr_assert(hak_extents_valid());
    hak_extents_free(b, false);
    cr_assert(hak_extents_valid());
    cr_assert_eq(hak_extents_alloc(9, 1, 0, &zeroed), run);
}

Test(window, alignment_is_of_addresses)
{
    for (size_t align = 1; align <= 1024; align *= 2) {
        uint32_t run = hak_extents_alloc(2, align, 0, &zeroed);
        cr_assert_eq((uintptr_t)space_address(run) % (align * GRANULE_SIZE), 0);
        cr_assert(hak_extents_valid());
    }
}

Test(window, a_run_grows_into_a_free_neighbour_and_shrinks)
{
    uint32_t run = hak_extents_alloc(2, 1, 0, &zeroed);

    cr_assert(hak_extents_extend(run, 6));
    cr_assert_eq(hak_extents_length(run), 6);
    uint32_t next = hak_extents_alloc(1, 1, 0, &zeroed);
    cr_assert_eq(next, run + 6);
    cr_assert(!hak_extents_extend(run, 7));
    hak_extents_trim(run, 1);
    cr_assert_eq(hak_extents_length(run), 1);
    cr_assert(hak_extents_valid());
    cr_assert_eq(hak_extents_alloc(5, 1, 0, &zeroed), run + 1);
}

Test(window, purged_runs_read_as_zeros)
{
    uint32_t run = hak_extents_alloc(4, 1, 0, &zeroed);

    memset(bytes_of(run), 1, 4 * GRANULE_SIZE);
    hak_extents_free(run, false);
    cr_assert(hak_extents_are_dirty());
    cr_assert(hak_extents_purge_all());
    cr_assert(!hak_extents_are_dirty() && hak_extents_valid());
    run = hak_extents_alloc(4, 1, 0, &zeroed);
    cr_assert(!zeroed || reads_zero(run, 4));
}

Test(window, nothing_is_purged_before_it_is_due)
{
    if (CONFIG_PURGE_DELAY_MS < 100)
        cr_skip_test("CONFIG_PURGE_DELAY_MS is too short for it");
    hak_extents_free(hak_extents_alloc(4, 1, 0, &zeroed), false);
    uint32_t now = hak_clock_ms();
    cr_assert(!hak_extents_purge_due(now));
    cr_assert(hak_extents_are_dirty());
    cr_assert(!hak_extents_purge_due(now + CONFIG_PURGE_DELAY_MS + 50));
    cr_assert(!hak_extents_are_dirty());
}

static bool is_mapped(uint32_t run)
{
    unsigned char resident;

    return mincore(space_address(run), os_page_size(), &resident) == 0;
}

Test(window, whole_units_are_unmapped_and_mapped_again)
{
    uint32_t run = hak_extents_alloc(4 * UNIT_GRANULES, UNIT_GRANULES, 0, &zeroed);
    uint32_t middle = run + UNIT_GRANULES;
    size_t bytes = hak_extents_bytes();

    memset(bytes_of(run), 1, 4 * UNIT_SIZE);
    hak_extents_trim(run, UNIT_GRANULES + 1);
    cr_assert(is_mapped(middle + UNIT_GRANULES));
    cr_assert(hak_extents_purge_all());
    cr_assert_eq(hak_extents_bytes(), bytes - 2 * UNIT_SIZE);
    cr_assert(is_mapped(middle) && !is_mapped(middle + UNIT_GRANULES));
    cr_assert(hak_extents_valid());
    cr_assert(hak_extents_extend(run, UNIT_GRANULES + 2));
    cr_assert(!hak_extents_extend(run, 2 * UNIT_GRANULES + 1), "nothing is mapped there");
    uint32_t again = hak_extents_alloc(2 * UNIT_GRANULES, UNIT_GRANULES, 0, &zeroed);
    cr_assert_eq(again, middle + UNIT_GRANULES);
    cr_assert(zeroed && reads_zero(again, 2 * UNIT_GRANULES));
    cr_assert(hak_extents_valid());
}

Test(window, locked_units_are_unmapped)
{
    uint32_t run = hak_extents_alloc(2 * UNIT_GRANULES, UNIT_GRANULES, 0, &zeroed);

    if (mlock(bytes_of(run), 1) != 0)
        cr_skip_test("no page can be locked here");
    hak_extents_free(run, false);
    cr_assert(hak_extents_purge_all());
    cr_assert(!is_mapped(run) && hak_extents_valid());
}

static size_t dirty_granules(void)
{
    return hak_extents_figures().dirty;
}

/* The kernel purges nothing of a range that has a locked page. The first unit is not free as a whole. */
Test(window, a_locked_page_keeps_its_granule_alone)
{
    enum { GRANULES = 200, LOCKED = 20 };
    uint32_t run = hak_extents_alloc(GRANULES, 1, 0, &zeroed);
    uint32_t between = hak_extents_alloc(1, 1, 0, &zeroed);
    uint32_t other = hak_extents_alloc(GRANULES, 1, 0, &zeroed);
    char *locked = bytes_of(run + LOCKED);

    cr_assert_lt(run + LOCKED, 2 * UNIT_GRANULES);
    if (mlock(locked, 1) != 0)
        cr_skip_test("no page can be locked here");
    hak_extents_free(run, false);
    hak_extents_free(other, false);
    uint32_t later = hak_clock_ms() + CONFIG_PURGE_DELAY_MS + 50;
    for (int i = 0; i < 20; i++)
        hak_extents_purge_due(later);
    cr_assert_eq(dirty_granules(), 1);
    cr_assert(!hak_extents_purge_due(later));
    cr_assert(hak_extents_valid());
    hak_extents_free(between, false);
    cr_assert(hak_extents_purge_all());
    cr_assert_eq(dirty_granules(), 1);
    munlock(locked, 1);
    cr_assert(hak_extents_purge_all());
    cr_assert_eq(dirty_granules(), 0);
    cr_assert(hak_extents_valid());
}

Test(window, dirty_memory_keeps_to_its_bound)
{
    size_t granules = (size_t)CONFIG_DIRTY_MAX << 20 >> GRANULE_SHIFT;
    uint32_t run = hak_extents_alloc(granules + 10, 1, 0, &zeroed);
    uint32_t between = hak_extents_alloc(1, 1, 0, &zeroed);
    uint32_t other = hak_extents_alloc(10, 1, 0, &zeroed);

    hak_extents_free(other, false);
    hak_extents_free(run, false);
    hak_extents_free(between, false);
    cr_assert_leq(dirty_granules(), granules);
    cr_assert(hak_extents_valid());
}

Test(window, a_random_life_keeps_the_tiling)
{
    enum { RUNS = 64 };
    uint32_t runs[RUNS] = {HAK_NO_EXTENT};
    size_t lengths[RUNS];
    uint32_t random = 12345;

    for (int round = 0; round < 20000; round++) {
        random = random * 1664525 + 1013904223;
        size_t i = random >> 8 & (RUNS - 1);
        size_t granules = (random >> 16 & 127) + 1;
        if (runs[i] == HAK_NO_EXTENT) {
            runs[i] = hak_extents_alloc(granules, (size_t)1 << (random >> 28), 0, &zeroed);
            lengths[i] = granules;
            cr_assert_neq(runs[i], HAK_NO_EXTENT);
        } else if (random >> 30 == 0 && lengths[i] > 1) {
            hak_extents_trim(runs[i], lengths[i] /= 2);
        } else if (random >> 30 == 1 && hak_extents_extend(runs[i], lengths[i] + 3)) {
            lengths[i] += 3;
        } else {
            hak_extents_free(runs[i], false);
            runs[i] = HAK_NO_EXTENT;
        }
        if (round % 4096 == 0)
            hak_extents_purge_all();
        if (round % 64 == 0)
            cr_assert(hak_extents_valid(), "round %d", round);
    }
}

/* A mapping of the program that stays. */
static void take_place(uint32_t granule, size_t units)
{
    void *place = space_address(granule);

    cr_assert_eq(mmap(place, units * UNIT_SIZE, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0),
                 place);
}

Test(window, places_that_are_taken_are_skipped)
{
    if (CONFIG_WINDOW_LOG2 < 38)
        cr_skip_test("the window is too small for it");
    uint32_t first = hak_extents_alloc(UNIT_GRANULES, UNIT_GRANULES, 0, &zeroed);
    uint32_t next = first + UNIT_GRANULES;
    uint32_t runs[20];

    take_place(next, 3);
    take_place(next + 100 * UNIT_GRANULES, 50000);
    memset(space_address(next), 5, 3 * UNIT_SIZE);
    for (int i = 0; i < 20; i++) {
        runs[i] = hak_extents_alloc(20 * UNIT_GRANULES, 1, 0, &zeroed);
        cr_assert_neq(runs[i], HAK_NO_EXTENT);
        memset(bytes_of(runs[i]), 6, 20 * UNIT_SIZE);
    }
    cr_assert_eq(*(char *)space_address(next + 3 * UNIT_GRANULES - 1), 5);
    cr_assert(hak_extents_valid());
    for (int i = 0; i < 20; i++)
        hak_extents_free(runs[i], false);
    hak_extents_purge_all();
    cr_assert(!window_committed(next) && is_mapped(next));
    cr_assert(hak_extents_valid());
    for (uint32_t i = 0; i < 200; i++)
        cr_assert_neq(hak_extents_alloc(UNIT_GRANULES, 1, 0, &zeroed), HAK_NO_EXTENT);
    cr_assert(hak_extents_valid());
}

/* Where something lies in the way of what describes granules, there is no more memory, and what there is stays. */
Test(window, the_window_ends_where_its_tags_cannot_go_on)
{
    uint32_t first = hak_extents_alloc(1, 1, 0, &zeroed);
    char *behind = (char *)(window.tags + window_granules());
    size_t bytes = hak_extents_bytes();
    size_t metadata = space_metadata();

    cr_assert_eq(os_map_at(behind, os_page_size()), OS_PLACED);
    cr_assert_eq(hak_extents_alloc(window_granules(), 1, 0, &zeroed), HAK_NO_EXTENT);
    cr_assert(hak_extents_bytes() == bytes && space_metadata() == metadata);
    cr_assert_neq(hak_extents_alloc(UNIT_GRANULES, 1, 0, &zeroed), HAK_NO_EXTENT);
    hak_extents_free(first, false);
    cr_assert(hak_extents_valid());
    os_unmap(behind, os_page_size());
    cr_assert_neq(hak_extents_alloc(window_granules(), 1, 0, &zeroed), HAK_NO_EXTENT);
}

static size_t mapped_bytes(void)
{
    size_t pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");

    cr_assert(file && fscanf(file, "%zu", &pages) == 1);
    fclose(file);
    return pages * os_page_size();
}

Test(window, a_refusal_leaves_nothing_behind)
{
    struct rlimit limit;

    hak_extents_alloc(1, 1, 0, &zeroed);
    cr_assert_eq(getrlimit(RLIMIT_AS, &limit), 0);
    size_t mapped = mapped_bytes();
    size_t metadata = space_metadata();
    /* Room for the units, but not for their descriptions, which are a five hundredth. */
    limit.rlim_cur = mapped + ((size_t)1 << 30) + ((size_t)1 << 20);
    cr_assert_eq(setrlimit(RLIMIT_AS, &limit), 0);
    for (size_t bytes = (size_t)1 << 30; bytes < (size_t)1 << CONFIG_WINDOW_LOG2; bytes *= 2) {
        cr_assert_eq(hak_extents_alloc(bytes >> GRANULE_SHIFT, 1, 0, &zeroed), HAK_NO_EXTENT);
        cr_assert(mapped_bytes() == mapped && space_metadata() == metadata);
    }
    cr_assert_neq(hak_extents_alloc(((size_t)1 << 29) >> GRANULE_SHIFT, 1, 0, &zeroed),
                  HAK_NO_EXTENT);
    cr_assert(hak_extents_valid());
}

/* The mappings of the window: neighbours are one. */
static size_t window_mappings(void)
{
    char line[300];
    size_t count = 0;
    FILE *maps = fopen("/proc/self/maps", "r");

    cr_assert_not_null(maps);
    while (fgets(line, sizeof(line), maps)) {
        unsigned long from;
        cr_assert_eq(sscanf(line, "%lx-", &from), 1);
        count += from >= window.base && from - window.base < window_granules() << GRANULE_SHIFT;
    }
    fclose(maps);
    return count;
}

static size_t committed_ranges(void)
{
    size_t count = 0;
    bool before = false;

    for (size_t at = 0; at < window_granules(); at += UNIT_GRANULES) {
        count += window_committed(at) && !before;
        before = window_committed(at);
    }
    return count;
}

Test(window, neighbours_are_one_mapping)
{
    uint32_t runs[200];

    for (int i = 0; i < 200; i++) {
        runs[i] = hak_extents_alloc(2 * UNIT_GRANULES + 5, 1, 0, &zeroed);
        bytes_of(runs[i])[0] = 1;
    }
    cr_assert_eq(window_mappings(), 1);
    for (int i = 0; i < 200; i += 2)
        hak_extents_free(runs[i], false);
    hak_extents_purge_all();
    cr_assert(window_mappings() > 50 && window_mappings() == committed_ranges());
    for (int i = 0; i < 200; i += 2) {
        runs[i] = hak_extents_alloc(2 * UNIT_GRANULES + 5, 1, 0, &zeroed);
        bytes_of(runs[i])[0] = 1;
    }
    cr_assert_eq(window_mappings(), committed_ranges());
}

Test(window, what_is_free_is_left_out_of_core_dumps_until_it_is_used)
{
    size_t granules = 16 * UNIT_GRANULES;
    uint32_t run = hak_extents_alloc(granules, 1, 0, &zeroed);

    if (CONFIG_DIRTY_MAX < 32)
        cr_skip_test("it goes back at once");
    cr_assert_eq(window_mappings(), 1);
    hak_extents_free(run, false);
    cr_assert_geq(window_mappings(), 2, "a part of the window is hidden");
    cr_assert_eq(hak_extents_alloc(granules, 1, 0, &zeroed), run);
    cr_assert_eq(window_mappings(), 1);
    hak_extents_free(run, false);
    for (size_t done = 0; done < granules; done += 4)
        cr_assert_eq(hak_extents_alloc(4, 1, 0, &zeroed), run + done);
    cr_assert_eq(window_mappings(), 1);
    cr_assert(hak_extents_valid());
}

Test(window, a_large_alignment_costs_no_memory)
{
    size_t bytes = hak_extents_bytes();

    if (CONFIG_WINDOW_LOG2 < 38)
        cr_skip_test("the window is too small for it");
    uint32_t run = hak_extents_alloc(1, ((size_t)8 << 30) >> GRANULE_SHIFT, 0, &zeroed);
    cr_assert_eq((uintptr_t)space_address(run) % ((size_t)8 << 30), 0);
    cr_assert_leq(hak_extents_bytes(), bytes + 2 * UNIT_SIZE);
    cr_assert(hak_extents_valid());
}

Test(window, under_an_address_limit_units_are_mapped_and_given_back)
{
    struct rlimit limit = {(rlim_t)512 << 20, (rlim_t)512 << 20};
    uint32_t runs[400];
    size_t count = 0;

    cr_assert_eq(setrlimit(RLIMIT_AS, &limit), 0);
    while (count < 400 &&
           (runs[count] = hak_extents_alloc(UNIT_GRANULES, 1, 0, &zeroed)) != HAK_NO_EXTENT)
        bytes_of(runs[count++])[0] = 1;
    cr_assert(count > 100 && count < 256, "%zu", count);
    for (size_t i = 0; i < count; i++)
        hak_extents_free(runs[i], false);
    hak_extents_purge_all();
    cr_assert(hak_extents_valid());
    void *mine = os_map((size_t)256 << 20);
    cr_assert_not_null(mine, "the address space came back");
    os_unmap(mine, (size_t)256 << 20);
    cr_assert_neq(hak_extents_alloc(100, 1, 0, &zeroed), HAK_NO_EXTENT);
}
