/* SPDX-License-Identifier: MIT */
#include <criterion/criterion.h>
#include <stdio.h>
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
        cr_skip_test("CONFIG_PURGE_DELAY_MS is too short for it");
    run_free(run_alloc(4, 1, &zeroed), 4, false);
    uint32_t now = hak_clock_ms();
    cr_assert(!run_purge_due(now));
    cr_assert(run_dirty());
    cr_assert(!run_purge_due(now + CONFIG_PURGE_DELAY_MS + 50));
    cr_assert(!run_dirty());
}

static bool is_mapped(uint32_t run)
{
    unsigned char resident;

    return mincore(granule_address(run), os_page_size(), &resident) == 0;
}

Test(run, whole_superslabs_are_unmapped_and_mapped_again)
{
    uint32_t run = run_alloc(4 * SUPERSLAB_GRANULES, SUPERSLAB_GRANULES, &zeroed);
    uint32_t middle = run + SUPERSLAB_GRANULES;
    size_t bytes = window_bytes();

    memset(bytes_of(run), 1, 4 * SUPERSLAB_SIZE);
    run_trim(run, SUPERSLAB_GRANULES + 1, false);
    cr_assert(is_mapped(middle + SUPERSLAB_GRANULES));
    cr_assert(run_purge_all());
    cr_assert_eq(window_bytes(), bytes - 2 * SUPERSLAB_SIZE);
    cr_assert(is_mapped(middle) && !is_mapped(middle + SUPERSLAB_GRANULES));
    cr_assert(run_valid());
    cr_assert(run_extend(run, SUPERSLAB_GRANULES + 2));
    cr_assert(!run_extend(run, 2 * SUPERSLAB_GRANULES + 1), "nothing is mapped there");
    uint32_t again = run_alloc(2 * SUPERSLAB_GRANULES, SUPERSLAB_GRANULES, &zeroed);
    cr_assert_eq(again, middle + SUPERSLAB_GRANULES);
    cr_assert(zeroed && reads_zero(again, 2 * SUPERSLAB_GRANULES));
    cr_assert(run_valid());
}

Test(run, locked_superslabs_are_unmapped)
{
    uint32_t run = run_alloc(2 * SUPERSLAB_GRANULES, SUPERSLAB_GRANULES, &zeroed);

    if (mlock(bytes_of(run), 1) != 0)
        cr_skip_test("no page can be locked here");
    run_free(run, 2 * SUPERSLAB_GRANULES, false);
    cr_assert(run_purge_all());
    cr_assert(!is_mapped(run) && run_valid());
}

static size_t dirty_granules(void)
{
    size_t dirty = 0;

    for (size_t at = 0, length; at < window_granules(); at += length) {
        bool is_run = window_committed(at);
        length = is_run ? window.slabs[at].run_granules : SUPERSLAB_GRANULES;
        if (is_run && window.slabs[at].state == RUN_DIRTY)
            dirty += length;
    }
    return dirty;
}

/* The kernel purges nothing of a range that has a locked page; the first superslab is never free as a whole. */
Test(run, a_locked_page_keeps_its_granule_alone)
{
    enum { GRANULES = 200, LOCKED = 20 };
    uint32_t run = run_alloc(GRANULES, 1, &zeroed);
    uint32_t between = run_alloc(1, 1, &zeroed);
    uint32_t other = run_alloc(GRANULES, 1, &zeroed);
    char *locked = bytes_of(run + LOCKED);

    cr_assert_lt(run + LOCKED, SUPERSLAB_GRANULES);
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

/* A mapping of the program that stays. */
static void take_place(uint32_t granule, size_t superslabs)
{
    void *place = granule_address(granule);

    cr_assert_eq(mmap(place, superslabs * SUPERSLAB_SIZE, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0),
                 place);
}

Test(run, places_that_are_taken_are_skipped)
{
    if (CONFIG_WINDOW_LOG2 < 38)
        cr_skip_test("the window is too small for it");
    uint32_t first = run_alloc(SUPERSLAB_GRANULES, SUPERSLAB_GRANULES, &zeroed);
    uint32_t next = first + SUPERSLAB_GRANULES;
    uint32_t runs[20];

    take_place(next, 3);
    take_place(next + 100 * SUPERSLAB_GRANULES, 50000);
    memset(granule_address(next), 5, 3 * SUPERSLAB_SIZE);
    for (int i = 0; i < 20; i++) {
        runs[i] = run_alloc(20 * SUPERSLAB_GRANULES, 1, &zeroed);
        cr_assert_neq(runs[i], NO_RUN);
        memset(bytes_of(runs[i]), 6, 20 * SUPERSLAB_SIZE);
    }
    cr_assert_eq(*(char *)granule_address(next + 3 * SUPERSLAB_GRANULES - 1), 5);
    cr_assert(run_valid());
    for (int i = 0; i < 20; i++)
        run_free(runs[i], 20 * SUPERSLAB_GRANULES, false);
    run_purge_all();
    cr_assert(!window_committed(next) && is_mapped(next));
    cr_assert(run_valid());
    for (uint32_t i = 0; i < 200; i++)
        cr_assert_neq(run_alloc(SUPERSLAB_GRANULES, 1, &zeroed), NO_RUN);
    cr_assert(run_valid());
}

/* Where something lies in the way of what describes granules, there is no more memory, and what there is stays. */
Test(run, the_window_ends_where_its_tags_cannot_go_on)
{
    uint32_t first = run_alloc(1, 1, &zeroed);
    char *behind = (char *)(window.tags + window_granules());
    size_t bytes = window_bytes();
    size_t metadata = window_metadata();

    cr_assert_eq(os_map_at(behind, os_page_size()), OS_PLACED);
    cr_assert_eq(run_alloc(window_granules(), 1, &zeroed), NO_RUN);
    cr_assert(window_bytes() == bytes && window_metadata() == metadata);
    cr_assert_neq(run_alloc(SUPERSLAB_GRANULES, 1, &zeroed), NO_RUN);
    run_free(first, 1, false);
    cr_assert(run_valid());
    os_unmap(behind, os_page_size());
    cr_assert_neq(run_alloc(window_granules(), 1, &zeroed), NO_RUN);
}

static size_t mapped_bytes(void)
{
    size_t pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");

    cr_assert(file && fscanf(file, "%zu", &pages) == 1);
    fclose(file);
    return pages * os_page_size();
}

Test(run, a_refusal_leaves_nothing_behind)
{
    struct rlimit limit;

    run_alloc(1, 1, &zeroed);
    cr_assert_eq(getrlimit(RLIMIT_AS, &limit), 0);
    size_t mapped = mapped_bytes();
    size_t metadata = window_metadata();
    /* Room for the superslabs, but not for their descriptions, which are a five hundredth. */
    limit.rlim_cur = mapped + ((size_t)1 << 30) + ((size_t)1 << 20);
    cr_assert_eq(setrlimit(RLIMIT_AS, &limit), 0);
    for (size_t bytes = (size_t)1 << 30; bytes < (size_t)1 << CONFIG_WINDOW_LOG2; bytes *= 2) {
        cr_assert_eq(run_alloc(bytes >> GRANULE_SHIFT, 1, &zeroed), NO_RUN);
        cr_assert(mapped_bytes() == mapped && window_metadata() == metadata);
    }
    cr_assert_neq(run_alloc(((size_t)1 << 29) >> GRANULE_SHIFT, 1, &zeroed), NO_RUN);
    cr_assert(run_valid());
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

    for (size_t at = 0; at < window_granules(); at += SUPERSLAB_GRANULES) {
        count += window_committed(at) && !before;
        before = window_committed(at);
    }
    return count;
}

Test(run, neighbours_are_one_mapping)
{
    uint32_t runs[200];

    for (int i = 0; i < 200; i++) {
        runs[i] = run_alloc(2 * SUPERSLAB_GRANULES + 5, 1, &zeroed);
        bytes_of(runs[i])[0] = 1;
    }
    cr_assert_eq(window_mappings(), 1);
    for (int i = 0; i < 200; i += 2)
        run_free(runs[i], 2 * SUPERSLAB_GRANULES + 5, false);
    run_purge_all();
    cr_assert(window_mappings() > 50 && window_mappings() == committed_ranges());
    for (int i = 0; i < 200; i += 2) {
        runs[i] = run_alloc(2 * SUPERSLAB_GRANULES + 5, 1, &zeroed);
        bytes_of(runs[i])[0] = 1;
    }
    cr_assert_eq(window_mappings(), committed_ranges());
}

Test(run, what_is_free_is_left_out_of_core_dumps_until_it_is_used)
{
    size_t granules = 16 * SUPERSLAB_GRANULES;
    uint32_t run = run_alloc(granules, 1, &zeroed);

    if (CONFIG_DIRTY_MAX < 32)
        cr_skip_test("it goes back at once");
    cr_assert_eq(window_mappings(), 1);
    run_free(run, granules, false);
    cr_assert_geq(window_mappings(), 2, "a part of the window is hidden");
    cr_assert_eq(run_alloc(granules, 1, &zeroed), run);
    cr_assert_eq(window_mappings(), 1);
    run_free(run, granules, false);
    for (size_t done = 0; done < granules; done += 4)
        cr_assert_eq(run_alloc(4, 1, &zeroed), run + done);
    cr_assert_eq(window_mappings(), 1);
    cr_assert(run_valid());
}

Test(run, a_large_alignment_costs_no_memory)
{
    size_t bytes = window_bytes();

    if (CONFIG_WINDOW_LOG2 < 38)
        cr_skip_test("the window is too small for it");
    uint32_t run = run_alloc(1, ((size_t)8 << 30) >> GRANULE_SHIFT, &zeroed);
    cr_assert_eq((uintptr_t)granule_address(run) % ((size_t)8 << 30), 0);
    cr_assert_leq(window_bytes(), bytes + 2 * SUPERSLAB_SIZE);
    cr_assert(run_valid());
}

Test(run, under_an_address_limit_superslabs_are_mapped_and_given_back)
{
    struct rlimit limit = {(rlim_t)512 << 20, (rlim_t)512 << 20};
    uint32_t runs[400];
    size_t count = 0;

    cr_assert_eq(setrlimit(RLIMIT_AS, &limit), 0);
    while (count < 400 && (runs[count] = run_alloc(SUPERSLAB_GRANULES, 1, &zeroed)) != NO_RUN)
        bytes_of(runs[count++])[0] = 1;
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
