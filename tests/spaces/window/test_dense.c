/* SPDX-License-Identifier: MIT */
/* Huge pages in dense units, or everywhere; and memory comes back all the same. Built twice, as configured and
 * with CONFIG_HUGE_PAGES_DENSE. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <hakmem/hakmem.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/heap.h"
#include "tests/contract/clock.h"
#include "tests/contract/support.h"

static const size_t MIB = (size_t)1 << 20;
static const char MODE[] = "/sys/kernel/mm/transparent_hugepage/enabled";

/* Bytes in huge pages of the window. */
static size_t huge_bytes(void)
{
    char line[300];
    size_t kilobytes = 0;
    bool ours = false;
    FILE *maps = fopen("/proc/self/smaps", "r");

    cr_assert_not_null(maps);
    while (fgets(line, sizeof(line), maps)) {
        unsigned long from;
        unsigned long to;
        unsigned long value;
        if (sscanf(line, "%lx-%lx ", &from, &to) == 2)
            ours = from >= window.base && to <= window.base + (window.granules << GRANULE_SHIFT);
        else if (ours && sscanf(line, "AnonHugePages: %lu kB", &value) == 1)
            kilobytes += value;
    }
    fclose(maps);
    return kilobytes << 10;
}

/* The system's mode: "always [madvise] never", say. false: it has none. */
static bool mode_is(const char *mode)
{
    char text[100] = "";
    int file = open(MODE, O_RDONLY);

    if (file < 0)
        return false;
    cr_assert_gt(read(file, text, sizeof(text) - 1), 0);
    close(file);
    return strstr(text, mode) != NULL;
}

enum { BLOCKS = 200000 };

static void *blocks[BLOCKS];

static void fill(size_t size)
{
    for (size_t i = 0; i < BLOCKS; i++) {
        cr_assert_not_null(blocks[i] = hak_malloc(size));
        pattern_fill(blocks[i], size, i);
    }
}

static void check_and_free(size_t size, size_t kept)
{
    for (size_t i = 0; i < BLOCKS; i++) {
        if (blocks[i] == NULL)
            continue;
        cr_assert(pattern_holds(blocks[i], size, blocks[i], i));
        if (kept > 0 && i % kept == 0)
            continue;
        hak_free(blocks[i]);
        blocks[i] = NULL;
    }
}

/* Slow-path calls for so long. */
static void live_on(uint32_t ms)
{
    uint32_t start = hak_clock_ms();

    do {
        void *large[40];
        for (int i = 0; i < 40; i++)
            cr_assert_not_null(large[i] = hak_malloc(HAK_SMALL_MAX + 1));
        for (int i = 0; i < 40; i++)
            hak_free(large[i]);
        clock_advance(CONFIG_PURGE_DELAY_MS / 250 + 1);
    } while (hak_clock_ms() - start < ms);
}

static void skip_unless_possible(void)
{
    if (os_page_size() != 4096 || mode_is("[never]") || access(MODE, R_OK) != 0)
        cr_skip_test("the system has no huge pages to give");
}

/* As many as the test wants, in memory of its own: a kernel before 6.1 makes none at once, and one whose memory is in
 * small pieces has none to give. */
static bool are_to_be_had(size_t bytes)
{
    size_t size = (bytes + 2 * UNIT_SIZE - 1) & ~(UNIT_SIZE - 1);
    char *space = os_map_aligned(size, UNIT_SIZE);

    cr_assert_not_null(space);
    memset(space, 1, size);
    bool done = os_collapse(space, size);
    os_unmap(space, size);
    return done;
}

Test(huge_pages, dense_units_have_them_and_lose_them_before_their_pages_go)
{
    if (!enabled(CONFIG_HUGE_PAGES_DENSE))
        cr_skip_test("CONFIG_HUGE_PAGES_DENSE is off");
    skip_unless_possible();
    if (!are_to_be_had(BLOCKS * (size_t)500))
        cr_skip_test("the system makes no huge pages at once");
    size_t start = resident_bytes();
    fill(500);
    cr_assert_eq(huge_bytes(), 0, "not before they have been full for a while");
    live_on(3 * CONFIG_PURGE_DELAY_MS);
    cr_assert_geq(huge_bytes(), BLOCKS * (size_t)500 * 3 / 4);
    check_and_free(500, 100);
    live_on(3 * CONFIG_PURGE_DELAY_MS);
    check_and_free(500, 100);
    cr_assert_eq(huge_bytes(), 0);
    cr_assert_leq(resident_bytes(), start + BLOCKS / 100 * 2 * 4096 + 4 * MIB);
    fill(500);
    check_and_free(500, 0);
    live_on(3 * CONFIG_PURGE_DELAY_MS);
    cr_assert_leq(resident_bytes(), start + BLOCKS / 100 * 2 * 4096 + 4 * MIB);
    cr_assert_eq(huge_bytes(), 0);
}

Test(huge_pages, always_means_from_the_start)
{
    if (!enabled(CONFIG_HUGE_PAGES_ALWAYS))
        cr_skip_test("CONFIG_HUGE_PAGES_ALWAYS is off");
    skip_unless_possible();
    size_t start = resident_bytes();
    fill(500);
    cr_assert_geq(huge_bytes(), BLOCKS * (size_t)500 * 3 / 4);
    check_and_free(500, 0);
    live_on(3 * CONFIG_PURGE_DELAY_MS);
    cr_assert_leq(resident_bytes(), start + 8 * MIB);
}
