/* SPDX-License-Identifier: MIT */
/* Memory comes back: pages of partly live slabs, slabs of a thread that sleeps. */
#include <criterion/criterion.h>
#include <hakmem/hakmem.h>
#include <pthread.h>
#include <string.h>

#include "backends/superslab/slab.h"
#include "core/heap.h"
#include "tests/contract/clock.h"
#include "tests/contract/support.h"

static const size_t MIB = (size_t)1 << 20;

/* Slow-path calls for so long, a few at a time. */
static void live_on(uint32_t ms)
{
    uint32_t start = hak_clock_ms();

    do {
        void *blocks[40];
        for (int i = 0; i < 40; i++)
            cr_assert_not_null(blocks[i] = hak_malloc(HAK_SMALL_MAX + 1));
        for (int i = 0; i < 40; i++)
            hak_free(blocks[i]);
        clock_advance(CONFIG_PURGE_DELAY_MS / 250 + 1);
    } while (hak_clock_ms() - start < ms);
}

/* What a policy's store for all threads holds comes to the slabs within one delay, what is kept at hand within
 * the next, and its pages go within a third. */
static void wait_for_purge(void)
{
    live_on(3 * CONFIG_PURGE_DELAY_MS);
}

/* ── one slab ────────────────────────────────────────────────────────────────────────────────── */

static struct slab *slab_at(const void *block)
{
    return slab_of(block);
}

/* Of one class, a slab's worth and more, in order of address as they are cut. */
enum { MANY = 3 * 65536 / 64 };
static unsigned char *many[MANY];

static void fill(size_t size)
{
    for (size_t i = 0; i < MANY; i++) {
        cr_assert_not_null(many[i] = hak_malloc(size));
        pattern_fill(many[i], size, i);
    }
}

static void each_still_holds(size_t size, bool (*kept)(size_t))
{
    for (size_t i = 0; i < MANY; i++)
        cr_assert(!kept(i) || pattern_holds(many[i], size, many[i], i));
}

static void free_others(bool (*kept)(size_t))
{
    for (size_t i = 0; i < MANY; i++)
        if (!kept(i))
            hak_free(many[i]);
    hak_malloc_trim(0);
    cr_assert(backend_valid(&hak_heap_mine->shard));
}

static void fill_again(size_t size, bool (*kept)(size_t))
{
    for (size_t i = 0; i < MANY; i++) {
        if (kept(i))
            continue;
        cr_assert_not_null(many[i] = hak_malloc(size));
        pattern_fill(many[i], size, i);
        if (i % 64 == 0)
            cr_assert(backend_valid(&hak_heap_mine->shard));
    }
}

static bool one_in_500(size_t i)
{
    return i % 500 == 0;
}

static bool every_second(size_t i)
{
    return i % 2 == 0;
}

Test(memory, pages_without_live_blocks_go_and_are_cut_again)
{
    for (size_t size = 16; size <= 16384; size = size * 3 / 2 + 16) {
        fill(size);
        size_t before = resident_bytes();
        free_others(one_in_500);
        size_t freed = MANY * size;
        if (freed > 4 * MIB &&
            !enabled(
                CONFIG_HUGE_PAGES_ALWAYS)) /* one page or two stay for each block that is kept, and a little */
            cr_assert_leq(resident_bytes() + freed,
                          before + MANY / 500 * (8192 + 2 * size) + MIB + freed / 16);
        each_still_holds(size, one_in_500);
        fill_again(size, one_in_500);
        each_still_holds(size, every_second);
        free_others(one_in_500);
        each_still_holds(size, one_in_500);
        for (size_t i = 0; i < MANY; i += 500)
            hak_free(many[i]);
    }
}

Test(memory, a_page_with_one_live_block_stays)
{
    if (os_page_size() != 4096)
        cr_skip_test("the test is made for pages of 4 KiB");
    fill(64);
    free_others(every_second);
    for (size_t i = 0; i < MANY; i += 2)
        cr_assert_eq(slab_at(many[i])->blank_blocks, 0);
    each_still_holds(64, every_second);
}

/* Owners of slabs that are purged and cut again all the time, with frees from elsewhere. */
static void *free_on_another_thread(void *from)
{
    for (size_t i = (size_t)(uintptr_t)from; i < MANY; i += 3)
        hak_free(many[i]);
    return NULL;
}

static bool none(size_t i)
{
    (void)i;
    return false;
}

static bool not_every_third(size_t i)
{
    return i % 3 != 1;
}

Test(memory, what_others_free_is_purged_and_cut_again_too)
{
    for (int round = 0; round < 20; round++) {
        size_t size = 48 + 112 * (size_t)(round % 5);
        fill(size);
        on_new_thread(free_on_another_thread, (void *)(uintptr_t)1);
        hak_malloc_trim(0);
        each_still_holds(size, not_every_third);
        fill_again(size, not_every_third);
        each_still_holds(size, every_second);
        free_others(none);
    }
}

/* ── a change of phase ───────────────────────────────────────────────────────────────────────── */

static size_t since(size_t start)
{
    size_t now = resident_bytes();

    return now > start ? now - start : 0;
}

enum { SMALL_BLOCKS = 400000, LARGER_BYTES = 259 << 20, LARGER_MOST = LARGER_BYTES / 500 };

Test(memory, a_change_of_phase_leaves_little_behind)
{
    static void *small[SMALL_BLOCKS];
    static void *larger[LARGER_MOST];
    uint64_t random = 88172645463325252u;
    size_t bytes = 0;
    size_t count = 0;

    if (!enabled(CONFIG_CLASS_STEPS_4) || !enabled(CONFIG_CLASS_FINER))
        cr_skip_test("the bounds were measured with other size classes");
    if (enabled(CONFIG_HUGE_PAGES_ALWAYS))
        cr_skip_test("huge pages hold what lies beside the blocks");
    memset(small, 1, sizeof(small));
    memset(larger, 1, sizeof(larger));
    size_t start = resident_bytes();
    for (size_t i = 0; i < SMALL_BLOCKS; i++) {
        size_t size = 16 + random_below(&random, 500);
        memset(small[i] = hak_malloc(size), 1, size);
    }
    cr_assert_leq(since(start), 115 * MIB);
    for (size_t i = 0; i < SMALL_BLOCKS; i++)
        if (random_below(&random, 10) > 0) {
            hak_free(small[i]);
            small[i] = NULL;
        }
    wait_for_purge();
    cr_assert_leq(since(start), 84 * MIB);
    while (bytes < LARGER_BYTES && count < LARGER_MOST) {
        size_t size = 500 + random_below(&random, 500);
        memset(larger[count++] = hak_malloc(size), 1, size);
        bytes += size;
    }
    cr_assert_leq(since(start), 355 * MIB);
    for (size_t i = 0; i < SMALL_BLOCKS; i++)
        hak_free(small[i]);
    for (size_t i = 0; i < count; i++)
        hak_free(larger[i]);
    wait_for_purge();
    cr_assert_leq(since(start), 25 * MIB);
}

/* ── few blocks of many sizes ────────────────────────────────────────────────────────────────── */

enum { FEW = 64, REPLACEMENTS = 100000, DOUBLINGS = 11 };

/* Of a size a slab has one or two live blocks, or none. Time stands still, so that nothing is purged. */
Test(memory, few_blocks_of_many_sizes_take_few_pages)
{
    static unsigned char *few[FEW];
    uint64_t random = 88172645463325252u;

    if (!enabled(CONFIG_CLASS_STEPS_4) || !enabled(CONFIG_CLASS_FINER) ||
        CONFIG_SMALL_MAX_LOG2 != 15 || enabled(CONFIG_HUGE_PAGES_ALWAYS))
        cr_skip_test("the bound was measured with other size classes, and small pages");
    if (CONFIG_CACHE_BYTES < 1 << 20 || CONFIG_PURGE_DELAY_MS == 0)
        cr_skip_test("empty slabs do not wait, or smaller ones do");
    hak_free(hak_malloc(1)); /* what describes the memory is there before */
    size_t start = resident_bytes();
    for (int i = 0; i < REPLACEMENTS; i++) {
        unsigned char **block = &few[random_below(&random, FEW)];
        size_t base = (size_t)16 << random_below(&random, DOUBLINGS);
        size_t size = base + random_below(&random, (uint32_t)base);
        hak_free(*block);
        memset(*block = hak_malloc(size), 1, size);
    }
    cr_assert_leq(since(start), 3 * MIB, "%zu bytes", since(start));
    for (int i = 0; i < FEW; i++)
        hak_free(few[i]);
}

/* ── a thread that sleeps ────────────────────────────────────────────────────────────────────── */

enum { HANDED_OVER = (1 << 30) / 64 };
static void **handed_over;
static pthread_barrier_t produced;
static pthread_barrier_t consumed;

static void *produce_and_sleep(void *unused)
{
    for (size_t i = 0; i < HANDED_OVER; i++)
        memset(handed_over[i] = hak_malloc(64), 1, 64);
    pthread_barrier_wait(&produced);
    pthread_barrier_wait(&consumed);
    return unused;
}

Test(memory, a_sleeping_producer_keeps_nothing_that_others_have_freed)
{
    pthread_t producer;

    if (CONFIG_DIRTY_MAX > 64)
        cr_skip_test("CONFIG_DIRTY_MAX lets more than 64 MiB wait");
    handed_over = os_map(HANDED_OVER * sizeof(*handed_over));
    cr_assert_not_null(handed_over);
    size_t start = resident_bytes();
    pthread_barrier_init(&produced, NULL, 2);
    pthread_barrier_init(&consumed, NULL, 2);
    cr_assert_eq(pthread_create(&producer, NULL, produce_and_sleep, NULL), 0);
    pthread_barrier_wait(&produced);
    cr_assert_geq(since(start), 1024 * MIB);
    for (size_t i = 0; i < HANDED_OVER; i++)
        hak_free(handed_over[i]);
    /* At once no more than what waits by DIRTY_MAX. */
    os_purge(handed_over, HANDED_OVER * sizeof(*handed_over));
    cr_assert_leq(since(start), 30 * MIB + CONFIG_DIRTY_MAX * MIB / 4);
    wait_for_purge();
    cr_assert_leq(since(start), 30 * MIB);
    pthread_barrier_wait(&consumed);
    pthread_join(producer, NULL);
}
