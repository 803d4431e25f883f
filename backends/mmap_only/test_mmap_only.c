/* SPDX-License-Identifier: MIT */
/* The mmap-only back end itself: its mappings and their limit, its shared slabs. What any
 * back end must do is in tests/contract. */
#define _GNU_SOURCE
#include <criterion/criterion.h>
#include <errno.h>
#include <hakmem/hakmem.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "backends/mmap_only/slab.h"
#include "core/heap.h"
#include "core/os.h"
#include "tests/contract/clock.h"
#include "tests/contract/support.h"
#include "tests/faults/faults.h"

_Static_assert(BACKEND_RESIZES &&BACKEND_MOVES &&BACKEND_TICKS &&BACKEND_TRIMS,
               "it brings what the contract's tests would else skip");

static const size_t KIB = (size_t)1 << 10;
static const size_t MIB = (size_t)1 << 20;
static const size_t DIRTY_MOST = (size_t)CONFIG_DIRTY_MAX << 20 >> GRANULE_SHIFT;

static struct hak_shard *shard;

static void start(void)
{
    hak_free(hak_malloc(1));
    shard = &hak_heap_mine->shard;
}

TestSuite(mmap_only, .init = start);

static bool is_mapped(const void *address)
{
    unsigned char resident;

    return mincore((void *)((uintptr_t)address & ~(uintptr_t)4095), 4096, &resident) == 0;
}

static size_t mappings_of_the_process(void)
{
    FILE *maps = fopen("/proc/self/maps", "r");
    size_t lines = 0;
    int c;

    while ((c = getc(maps)) != EOF)
        lines += c == '\n';
    fclose(maps);
    return lines;
}

static struct hak_extents_mappings mappings_of_the_space(void)
{
    hak_extents_lock();
    struct hak_extents_mappings mappings = hak_extents_mappings();
    hak_extents_unlock();
    return mappings;
}

static void *one(hak_class cls)
{
    return backend_refill_chain(shard, cls, 1).head;
}

/* Whatever was kept or cached is unmapped. */
static void give_back_all(void)
{
    hak_malloc_trim(0);
    cr_assert(hak_extents_valid());
    cr_assert(backend_valid(shard));
}

/* ── slabs ───────────────────────────────────────────────────────────────────────────────────── */

Test(mmap_only, every_granule_of_a_slab_has_its_class)
{
    for (unsigned i = 0; i < HAK_CLASSES; i++) {
        hak_class cls = hak_class_at(i);
        uint32_t granule = space_granule(one(cls));
        const struct slab *slab = space_slab(granule - space_slab(granule)->distance);
        size_t size = (size_t)slab->extent.granules << GRANULE_SHIFT;
        for (size_t n = 0; n < slab->extent.granules; n++)
            cr_assert_eq(space_tag_at(slab->first + (uint32_t)n), cls + CODE_CLASS);
        cr_assert_geq(slab->capacity, 8);
        cr_assert_leq(size - (size_t)slab->capacity * slab->block_size, size / 8);
    }
}

/* ── mapping and unmapping ───────────────────────────────────────────────────────────────────── */

Test(mmap_only, empty_slabs_are_unmapped)
{
    enum { COUNT = 20000 };
    static void *blocks[COUNT];
    size_t before;

    give_back_all();
    before = hak_extents_figures().mapped;
    for (size_t i = 0; i < COUNT; i++)
        blocks[i] = memset(hak_malloc(1000), 1, 1000);
    cr_assert_geq(hak_extents_figures().mapped, before + COUNT * 1000 / GRANULE_SIZE);
    for (size_t i = 0; i < COUNT; i++)
        hak_free(blocks[i]);
    give_back_all();
    cr_assert_eq(hak_extents_figures().mapped, before);
    cr_assert(!is_mapped(blocks[0]));
    cr_assert(!is_mapped(blocks[COUNT / 2]));
}

Test(mmap_only, slabs_are_mapped_in_batches)
{
    give_back_all();
    size_t before = hak_extents_figures().mapped;
    hak_class cls = hak_class_of(500);
    for (size_t got = 0; got < GRANULE_SIZE / 500 * CONFIG_SLAB_BATCH;) {
        got += backend_refill_chain(shard, cls, 64).count;
        size_t mapped = hak_extents_figures().mapped - before;
        cr_assert(mapped == 0 || mapped == CONFIG_SLAB_BATCH || mapped == 2 * CONFIG_SLAB_BATCH);
    }
}

Test(mmap_only, the_cache_of_free_memory_is_bounded)
{
    enum { COUNT = 400 };
    static void *blocks[COUNT];

    for (size_t i = 0; i < COUNT; i++)
        blocks[i] = memset(hak_malloc(MIB), 1, MIB);
    for (size_t i = 0; i < COUNT; i++) {
        hak_free(blocks[(i * 7) % COUNT]);
        cr_assert_leq(hak_extents_figures().dirty, DIRTY_MOST);
    }
    cr_assert(hak_extents_valid());
    /* Of what was too much, four times the bound may stay mapped without memory, for a purge delay. */
    cr_assert_leq(hak_extents_figures().mapped, 5 * DIRTY_MOST + 4 * MIB / GRANULE_SIZE);
    while (hak_extents_purge_due(hak_clock_ms() + 2 * CONFIG_PURGE_DELAY_MS + 1))
        continue;
    cr_assert_leq(hak_extents_figures().mapped, 4 * MIB / GRANULE_SIZE);
}

/* The kernel says of a mapping whether core dumps have it: "dd" among its flags. */
static bool is_dumped(const void *address)
{
    char line[300];
    bool ours = false;
    bool dumped = true;
    FILE *maps = fopen("/proc/self/smaps", "r");

    cr_assert_not_null(maps);
    while (fgets(line, sizeof(line), maps)) {
        unsigned long from;
        unsigned long to;
        if (sscanf(line, "%lx-%lx ", &from, &to) == 2)
            ours = (uintptr_t)address >= from && (uintptr_t)address < to;
        else if (ours && strncmp(line, "VmFlags:", 8) == 0)
            dumped = strstr(line, " dd") == NULL;
    }
    fclose(maps);
    return dumped;
}

Test(mmap_only, what_is_free_is_left_out_of_core_dumps_until_it_is_used)
{
    size_t size = 32 * MIB;

    if (CONFIG_DIRTY_MAX < 32)
        cr_skip_test("it goes back at once");
    char *block = backend_large_alloc(NULL, size, 1).base;
    memset(block, 1, size);
    cr_assert(is_dumped(block));
    backend_free(shard, block, "test");
    cr_assert(!is_dumped(block) && !is_dumped(block + size - 1));
    cr_assert_eq((char *)backend_large_alloc(NULL, size - MIB, 1).base, block);
    cr_assert(is_dumped(block) && is_dumped(block + size - MIB - 1));
    cr_assert(!is_dumped(block + size - 1));
    cr_assert(backend_resize(block, size));
    cr_assert(is_dumped(block + size - 1));
    backend_free(shard, block, "test");
    give_back_all();
    cr_assert(!is_mapped(block));
}

/* A small block that is freed beside a hidden one joins it: all of that is shown again when it is used. */
Test(mmap_only, what_joins_hidden_memory_is_taken_for_hidden)
{
    size_t size = 24 * MIB;

    if (CONFIG_DIRTY_MAX < 32)
        cr_skip_test("it goes back at once");
    char *block = backend_large_alloc(NULL, size, 1).base;
    char *small = block + size - MIB;
    char *large = block;
    backend_free(shard, block, "test");
    cr_assert_eq((char *)backend_large_alloc(NULL, size - MIB, 1).base, large);
    cr_assert_eq((char *)backend_large_alloc(NULL, MIB, 1).base, small);
    backend_free(shard, large, "test");
    cr_assert(!is_dumped(large) && is_dumped(small));
    backend_free(shard, small, "test");
    cr_assert_eq((char *)backend_large_alloc(NULL, size, 1).base, large);
    cr_assert(is_dumped(large) && is_dumped(small));
}

/* A program that has calmed down keeps calling now and then. */
Test(mmap_only, what_is_due_is_unmapped_by_ticks)
{
    void *block = memset(hak_malloc(16 * MIB), 1, 16 * MIB);

    hak_free(block);
    cr_assert(CONFIG_PURGE_DELAY_MS == 0 || CONFIG_DIRTY_MAX < 32 || is_mapped(block),
              "freed memory is at hand for a while");
    for (uint32_t passed = 0; passed <= CONFIG_PURGE_DELAY_MS; passed += 20) {
        clock_advance(20);
        backend_tick(shard);
    }
    cr_assert(!is_mapped(block));
}

/* ── a munmap that fails ─────────────────────────────────────────────────────────────────────── */

/* A slab whose free pages were purged serves its class again, before a new one is made. */
Test(mmap_only, a_slab_that_was_purged_is_used_again)
{
    enum { TAKEN = 512 };
    hak_class cls = hak_class_of(64);
    size_t taken = 0;

    if (enabled(CONFIG_HUGE_PAGES_ALWAYS))
        cr_skip_test("single pages stay");
    void *live = backend_refill_chain(shard, cls, 1).head;
    while (taken < TAKEN) {
        struct hak_chain chain = backend_refill_chain(shard, cls, TAKEN - taken);
        taken += chain.count;
        backend_return_chain(shard, cls, chain);
    }
    for (uint32_t passed = 0; passed <= 4 * CONFIG_PURGE_DELAY_MS + 100; passed += 5) {
        clock_advance(5);
        backend_tick(shard);
    }
    struct hak_block *again = backend_refill_chain(shard, cls, 1).head;
    cr_assert_eq((uintptr_t)again / GRANULE_SIZE, (uintptr_t)live / GRANULE_SIZE);
}

Test(mmap_only, what_cannot_be_unmapped_is_purged_and_used_again)
{
    char *block = hak_malloc(8 * MIB);

    give_back_all();
    memset(block, 1, 8 * MIB);
    size_t before = resident_bytes();
    faults_refuse_unmapping(true);
    hak_free(block);
    hak_malloc_trim(0);
    cr_assert(hak_extents_valid());
    cr_assert(is_mapped(block));
    cr_assert_geq(hak_extents_figures().clean, 8 * MIB / GRANULE_SIZE);
    cr_assert_leq(resident_bytes(), before - 7 * MIB);
    struct hak_large large = backend_large_alloc(NULL, 8 * MIB, 1);
    cr_assert_eq(large.base, block, "it is the first choice of the next");
    cr_assert(!large.zeroed || all_zero(block, 8 * MIB));
    backend_free(shard, block, "test");
    faults_refuse_unmapping(false);
    hak_malloc_trim(0);
    cr_assert(!is_mapped(block), "and goes when it can");
}

Test(mmap_only, a_process_in_which_nothing_is_unmapped_goes_on)
{
    enum { COUNT = 500 };
    static unsigned char *blocks[COUNT];
    static size_t sizes[COUNT];
    uint64_t random = 11;

    faults_refuse_unmapping(true);
    for (int step = 0; step < 30000; step++) {
        size_t i = random_next(&random) % COUNT;
        size_t size = 1 + random_next(&random) % (1u << (random_next(&random) % 20));
        if (blocks[i])
            cr_assert(blocks[i][0] == i % 251 && blocks[i][sizes[i] - 1] == i % 251);
        if (random_next(&random) % 4) {
            hak_free(blocks[i]);
            blocks[i] = hak_malloc(size);
        } else {
            blocks[i] = hak_realloc(blocks[i], size);
        }
        cr_assert_not_null(blocks[i]);
        sizes[i] = size;
        blocks[i][0] = blocks[i][size - 1] = (unsigned char)(i % 251);
        if (step % 3000 == 2999) {
            hak_malloc_trim(0);
            cr_assert(hak_extents_valid());
        }
    }
    for (size_t i = 0; i < COUNT; i++)
        hak_free(blocks[i]);
    faults_refuse_unmapping(false);
    give_back_all();
}

/* ── the limit on mappings ───────────────────────────────────────────────────────────────────── */

/* The program can still map for itself and start threads. */
static void *nothing(void *unused)
{
    return unused;
}

static void cr_assert_others_can_map(void)
{
    pthread_t thread;
    void *places[100];

    for (size_t i = 0; i < 100; i++) {
        places[i] =
            mmap(NULL, 4096, i % 2 ? PROT_READ : PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        cr_assert_neq(places[i], MAP_FAILED);
    }
    for (size_t i = 0; i < 100; i++)
        munmap(places[i], 4096);
    cr_assert_eq(pthread_create(&thread, NULL, nothing, NULL), 0);
    cr_assert_eq(pthread_join(thread, NULL), 0);
}

enum { SMALL = 2000000, LARGE = 50000 };
static uint32_t *small[SMALL];
static uint32_t *large[LARGE];

Test(mmap_only, two_million_small_and_fifty_thousand_large_blocks)
{
    size_t refused = 0;

    for (uint32_t i = 0; i < SMALL; i++) {
        small[i] = hak_malloc(40);
        cr_assert_not_null(small[i]);
        *small[i] = i;
    }
    for (uint32_t i = 0; i < LARGE; i++) {
        errno = 0;
        large[i] = hak_malloc(100 * KIB);
        if (large[i])
            *large[i] = i;
        else
            refused++;
        cr_assert(large[i] || errno == ENOMEM);
    }
    /* Every other one goes: as many holes as there can be. */
    for (uint32_t i = 0; i < LARGE; i += 2) {
        hak_free(large[i]);
        large[i] = NULL;
    }
    for (uint32_t i = 0; i < SMALL; i += 2)
        hak_free(small[i]);
    hak_malloc_trim(0);
    cr_assert(hak_extents_valid());
    struct hak_extents_mappings figures = mappings_of_the_space();
    size_t mappings = mappings_of_the_process();
    cr_log_info("%zu refused, %zu mappings, counted as %zu of %zu", refused, mappings, figures.all,
                figures.limit);
    cr_assert_leq(figures.all, figures.limit - figures.limit / 16);
    cr_assert_leq(mappings, figures.all + 200);
    cr_assert_others_can_map();
    for (uint32_t i = 1; i < LARGE; i += 2)
        cr_assert(large[i] == NULL || *large[i] == i);
    for (uint32_t i = 1; i < SMALL; i += 2)
        cr_assert_eq(*small[i], i);
    for (uint32_t i = 1; i < LARGE; i += 2)
        hak_free(large[i]);
    for (uint32_t i = 1; i < SMALL; i += 2)
        hak_free(small[i]);
    give_back_all();
    cr_assert_leq(mappings_of_the_space().all, 100);
}

/* More holes than there may be mappings: the last ones stay mapped. Nobody writes to the blocks. */
Test(mmap_only, holes_stay_below_the_limit)
{
    enum { COUNT = 150000 };
    static void *blocks[COUNT];
    const size_t limit = mappings_of_the_space().limit;

    if (limit > COUNT / 2)
        cr_skip_test("the kernel lets a process have %zu mappings", limit);
    for (size_t i = 0; i < COUNT; i++)
        blocks[i] = hak_malloc(100 * KIB);
    /* Where the kernel leaves gaps between them, not all can be had, and holes are no mappings more. */
    size_t all = mappings_of_the_space().all;
    for (size_t i = 0; i < COUNT; i += 2)
        hak_free(blocks[i]);
    hak_malloc_trim(0);
    cr_assert(all > limit / 2 || mappings_of_the_space().all > limit / 2);
    cr_assert_leq(mappings_of_the_space().all, limit - limit / 8);
    cr_assert_others_can_map();
    for (size_t i = 1; i < COUNT; i += 2)
        hak_free(blocks[i]);
    give_back_all();
    cr_assert_leq(mappings_of_the_space().all, 100);
}

/* Moved blocks melt with nothing: each costs mappings of its own. */
Test(mmap_only, blocks_that_were_moved_stay_below_the_limit)
{
    enum { COUNT = 30000 };
    static char *blocks[COUNT];

    for (size_t i = 0; i < COUNT; i++) {
        blocks[i] = hak_malloc(256 * KIB);
        if (blocks[i] == NULL)
            continue;
        *blocks[i] = (char)i;
        char *moved = backend_move(blocks[i], 512 * KIB);
        blocks[i] = moved ? moved : blocks[i];
        cr_assert_eq(*blocks[i], (char)i);
    }
    cr_assert_leq(mappings_of_the_space().all,
                  mappings_of_the_space().limit - mappings_of_the_space().limit / 16);
    cr_assert_others_can_map();
    for (size_t i = 0; i < COUNT; i++)
        hak_free(blocks[i]);
    give_back_all();
    cr_assert_leq(mappings_of_the_space().all, 100);
}

static size_t distance(const void *a, const void *b)
{
    uintptr_t difference = (uintptr_t)a - (uintptr_t)b;

    return difference < -difference ? difference : -difference;
}

/* The program itself has used up all mappings: nothing of ours can be split, or mapped anew. */
Test(mmap_only, the_kernels_limit_reached_by_others)
{
    enum { COUNT = 2000, MAPPED = 70000 };
    static void *blocks[COUNT];
    static void *places[MAPPED];
    size_t mapped = 0;

    for (size_t i = 0; i < COUNT; i++)
        blocks[i] = memset(hak_malloc(100 * KIB), 1, 100 * KIB);
    while (mapped < MAPPED) {
        places[mapped] = mmap(NULL, 4096, mapped % 2 ? PROT_READ : PROT_NONE,
                              MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (places[mapped] == MAP_FAILED)
            break;
        mapped++;
    }
    cr_assert_lt(mapped, MAPPED, "vm.max_map_count is higher than this test goes");
    /* Those that lie between two others: with them a mapping would become two. Where the kernel puts
     * mappings apart from each other there are none. */
    size_t inside = 0;
    for (size_t i = 2; i + 1 < COUNT; i += 2)
        inside += distance(blocks[i - 1], blocks[i]) == 2 * GRANULE_SIZE &&
                  distance(blocks[i], blocks[i + 1]) == 2 * GRANULE_SIZE;
    for (size_t i = 0; i < COUNT; i += 2)
        hak_free(blocks[i]);
    hak_malloc_trim(0);
    cr_assert(hak_extents_valid());
    size_t waiting = hak_extents_figures().clean / 2;
    size_t had = 0;
    cr_assert_geq(waiting + 16, inside, "those cannot be unmapped");
    for (size_t i = 0; i < COUNT; i += 2) {
        errno = 0;
        blocks[i] = hak_malloc(100 * KIB);
        cr_assert(blocks[i] || errno == ENOMEM);
        had += blocks[i] != NULL;
    }
    cr_log_info("%zu lie between two others, %zu could not be unmapped", inside, waiting);
    cr_assert_geq(had, waiting, "they are used again");
    for (size_t i = 1; i < COUNT; i += 2)
        cr_assert(*(char *)blocks[i] == 1);
    for (size_t i = 0; i < mapped; i++)
        munmap(places[i], 4096);
    for (size_t i = 0; i < COUNT; i++)
        hak_free(blocks[i]);
    give_back_all();
    cr_assert_leq(mappings_of_the_space().all, 100);
}

/* ── large blocks that grow ──────────────────────────────────────────────────────────────────── */

Test(mmap_only, growth_moves_pages_and_copies_none)
{
    char *block = hak_malloc(64 * MIB);
    struct rusage before, after;

    for (size_t i = 0; i < 64 * MIB; i += 4096)
        block[i] = (char)(i >> 12);
    getrusage(RUSAGE_SELF, &before);
    for (size_t size = 80 * MIB; size <= 1024 * MIB; size += size / 4) {
        block = hak_realloc(block, size);
        cr_assert_not_null(block);
    }
    getrusage(RUSAGE_SELF, &after);
    cr_assert_leq(after.ru_minflt - before.ru_minflt, 1000, "of 16384 pages");
    for (size_t i = 0; i < 64 * MIB; i += 4096)
        cr_assert_eq(block[i], (char)(i >> 12));
    cr_assert(all_zero(block + 64 * MIB, MIB));
    hak_free(block);
    cr_assert(!is_mapped(block));
    give_back_all();
}

/* ── slabs that belong to nobody ─────────────────────────────────────────────────────────────── */

enum { THREADS = 8, EACH = 20000 };

static void *build_and_tear_down(void *argument)
{
    uintptr_t **mine = malloc(EACH * sizeof(*mine));
    uintptr_t mark = (uintptr_t)argument;

    for (int round = 0; round < 10; round++) {
        for (size_t i = 0; i < EACH; i++) {
            mine[i] = hak_malloc(48);
            if (mine[i] == NULL)
                abort();
            mine[i][0] = mine[i][5] = mark;
        }
        for (size_t i = 0; i < EACH; i++) {
            if (mine[i][0] != mark || mine[i][5] != mark)
                abort();
            hak_free(mine[i]);
        }
    }
    free(mine);
    return NULL;
}

Test(mmap_only, many_threads_on_one_class)
{
    pthread_t threads[THREADS];

    for (uintptr_t i = 0; i < THREADS; i++)
        cr_assert_eq(pthread_create(&threads[i], NULL, build_and_tear_down, (void *)(i + 1)), 0);
    for (size_t i = 0; i < THREADS; i++)
        cr_assert_eq(pthread_join(threads[i], NULL), 0);
    give_back_all();
    cr_assert_leq(hak_extents_figures().mapped, 100, "all was free");
}

static void *use_and_free(void *unused)
{
    enum { COUNT = 50000 };
    char **blocks = malloc(COUNT * sizeof(*blocks));

    for (size_t i = 0; i < COUNT; i++)
        blocks[i] = memset(hak_malloc(1000), 1, 1000);
    for (size_t i = 0; i < COUNT; i++)
        hak_free(blocks[i]);
    free(blocks);
    return unused;
}

/* Threads come and go, and each is served from what the ones before have freed. */
Test(mmap_only, what_one_thread_frees_serves_another)
{
    pthread_t thread;
    size_t most = 0;

    for (int i = 0; i < 10; i++) {
        cr_assert_eq(pthread_create(&thread, NULL, use_and_free, NULL), 0);
        cr_assert_eq(pthread_join(thread, NULL), 0);
        size_t mapped = hak_extents_figures().mapped;
        most = i == 0 ? mapped : most;
        cr_assert_leq(mapped, most + 32);
    }
}

/* More blocks than are out: a chain that a link back to its head makes longer. */
static void return_thrice(void *argument)
{
    struct hak_block *block = argument;

    block->next = block;
    backend_return_chain(shard, hak_class_of(700), (struct hak_chain){block, 3});
    backend_settle(shard);
}

Test(mmap_only, a_block_freed_twice_into_its_slab_stops_the_process)
{
    void *block = one(hak_class_of(700)); /* of which nobody else has blocks */

    cr_assert_dies(return_thrice, block, "free()", block, HAK_FREED_TWICE);
}

static void return_the_middle(void *inside)
{
    backend_return_chain(shard, hak_class_of(700), hak_chain_of(&inside, 1));
    backend_settle(shard);
}

Test(mmap_only, the_middle_of_a_block_stops_the_process)
{
    void *inside = (char *)one(hak_class_of(700)) + 16;

    cr_assert_dies(return_the_middle, inside, "free()", inside, HAK_NOT_A_BLOCK);
}

/* ── what is valid ───────────────────────────────────────────────────────────────────────────── */

/* Each clause of the invariants is looked at: what breaks it is noticed. */
Test(mmap_only, a_broken_shard_is_not_valid)
{
    hak_class cls = hak_class_of(700); /* of which nobody else has blocks */
    void *blocks[2] = {one(cls), one(cls)};
    struct slab *slab = slab_of(blocks[0]);

    backend_return_chain(shard, cls, hak_chain_of(&blocks[0], 1));
    cr_assert(backend_valid(shard));
    const struct slab sound = *slab;

    shard->kept.bytes += 700;
    cr_assert(!backend_valid(shard), "more bytes than are kept");
    shard->kept.bytes -= 700;
    slab->used = slab->cut + 1;
    cr_assert(!backend_valid(shard), "more blocks than were cut");
    *slab = sound;
    slab->block_size += 16;
    cr_assert(!backend_valid(shard), "another size than its class has");
    *slab = sound;
    slab->previous = slab;
    cr_assert(!backend_valid(shard), "the list does not lead back");
    *slab = sound;
    slab->blank_blocks++;
    cr_assert(!backend_valid(shard), "no page is blank");
    *slab = sound;
    cr_assert(backend_valid(shard));
}
