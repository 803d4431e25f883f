/* SPDX-License-Identifier: MIT */
/* The back-end contract (core/backend.h), whatever the back end. Each test drives the shard of its
 * own heap, without the cache. */
#include <criterion/criterion.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/fork.h"
#include "core/heap.h"
#include "core/os.h"
#include "tests/contract/death.h"
#include "tests/contract/support.h"

static const size_t KIB = (size_t)1 << 10;
static const size_t MIB = (size_t)1 << 20;

static struct hak_shard *shard;

static void start(void)
{
    hak_free(hak_malloc(1));
    shard = &hak_heap_mine->shard;
}

TestSuite(backend, .init = start);

/* As aligned as every block of a class: the largest power of two that divides its size. */
static size_t alignment_of(hak_class cls)
{
    size_t size = hak_class_size(cls);

    return size & -size;
}

/* The blocks of one class that a test has taken. */
enum { TAKEN_MOST = 1 << 17 };
static unsigned char *taken[TAKEN_MOST];
static size_t taken_count;

static void take_chain(hak_class cls, size_t max)
{
    struct hak_chain chain = backend_refill_chain(shard, cls, max);
    struct hak_block *block = chain.head;

    cr_assert_geq(chain.count, 1);
    cr_assert_leq(chain.count, max);
    for (size_t i = 0; i < chain.count; i++) {
        cr_assert_not_null(block);
        taken[taken_count++] = (unsigned char *)block;
        block = block->next;
    }
    cr_assert_null(block, "the last block's link is NULL");
}

static void take_array(hak_class cls, size_t max)
{
    struct hak_chain chain = backend_refill_chain(shard, cls, max);

    cr_assert_geq(chain.count, 1);
    cr_assert_leq(chain.count, max);
    hak_chain_spread(chain, cls, (void **)&taken[taken_count]);
    taken_count += chain.count;
}

/* Gives blocks [from, to) back as one chain. */
static void return_chain(hak_class cls, size_t from, size_t to)
{
    struct hak_chain chain = {NULL, 0};

    for (size_t i = from; i < to; i++) {
        struct hak_block *block = (struct hak_block *)(void *)taken[i];
        block->next = chain.head;
        chain = (struct hak_chain){block, chain.count + 1};
    }
    backend_return_chain(shard, cls, chain);
}

static void return_array(hak_class cls, size_t from, size_t to)
{
    backend_return_chain(shard, cls, hak_chain_of((void *const *)&taken[from], to - from));
}

/* In batches, as caches do. */
static void return_all(hak_class cls, void (*give)(hak_class, size_t, size_t))
{
    for (size_t at = 0; at < taken_count; at += CONFIG_REFILL_BATCH) {
        size_t end = at + CONFIG_REFILL_BATCH;
        give(cls, at, end < taken_count ? end : taken_count);
    }
    taken_count = 0;
}

static void take_until(hak_class cls, size_t count, void (*take)(hak_class, size_t))
{
    uint64_t random = cls;

    while (taken_count < count)
        take(cls, 1 + random_below(&random, CONFIG_REFILL_BATCH));
}

/* ── look-up ─────────────────────────────────────────────────────────────────────────────────── */

static char a_global[64];

Test(backend, lookup_knows_its_own_blocks)
{
    for (unsigned i = 0; i < HAK_CLASSES; i++) {
        taken_count = 0;
        take_until(hak_class_at(i), 300, take_chain);
        for (size_t n = 0; n < taken_count; n++) {
            cr_assert_eq(backend_lookup(shard, taken[n]), hak_class_at(i));
            cr_assert_eq(backend_usable_size(taken[n], "test"), hak_class_sizes[i]);
        }
    }
}

Test(backend, lookup_rejects_what_is_no_block)
{
    char on_stack[64];
    char *foreign = mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uint64_t random = 17;

    cr_assert_neq(foreign, MAP_FAILED);
    cr_assert_geq(backend_lookup(shard, NULL), HAK_CLASS_END);
    cr_assert_geq(backend_lookup(shard, on_stack), HAK_CLASS_END);
    cr_assert_geq(backend_lookup(shard, a_global), HAK_CLASS_END);
    cr_assert_geq(backend_lookup(shard, foreign), HAK_CLASS_END);
    cr_assert_geq(backend_lookup(shard, (void *)(uintptr_t)&hak_heap_empty), HAK_CLASS_END);
    cr_assert_geq(backend_lookup(shard, hak_heap_mine), HAK_CLASS_END);
    cr_assert_geq(backend_lookup(shard, (void *)(uintptr_t)1), HAK_CLASS_END);
    cr_assert_geq(backend_lookup(shard, (void *)UINTPTR_MAX), HAK_CLASS_END);
    /* Wild: looked up without a crash, and found only where there is something. */
    for (int i = 0; i < 1000000; i++) {
        void *wild = (void *)(uintptr_t)random_next(&random);
        if (backend_lookup(shard, wild) < HAK_CLASS_END)
            cr_assert(backend_has(wild), "%p", wild);
    }
    for (unsigned bit = 0; bit < 64; bit++)
        cr_assert_geq(backend_lookup(shard, (void *)((uintptr_t)a_global ^ (uintptr_t)1 << bit)),
                      HAK_CLASS_END);
}

Test(backend, lookup_leaves_large_blocks_alone)
{
    char *block = backend_large_alloc(NULL, 10 * MIB, 1).base;

    for (size_t offset = 0; offset < 10 * MIB; offset += 4096)
        cr_assert_geq(backend_lookup(shard, block + offset), HAK_CLASS_END);
    backend_free(shard, block, "test");
    for (size_t offset = 0; offset < 10 * MIB; offset += 4096)
        cr_assert_geq(backend_lookup(shard, block + offset), HAK_CLASS_END);
}

Test(backend, the_empty_heaps_shard_finds_nothing)
{
    take_chain(0, 10);
    cr_assert_geq(backend_lookup(&hak_heap_empty.shard, taken[0]), HAK_CLASS_END);
    cr_assert_geq(backend_lookup(&hak_heap_empty.shard, NULL), HAK_CLASS_END);
}

static void *lookup_as_another(void *block)
{
    hak_free(hak_malloc(1));
    return (void *)(uintptr_t)(backend_lookup(&hak_heap_mine->shard, block) >= HAK_CLASS_END);
}

Test(backend, lookup_sends_anothers_blocks_back_unless_they_are_kept)
{
    take_chain(0, 1);
    bool sent_back = on_new_thread(lookup_as_another, taken[0]) != NULL;

    cr_assert_eq(sent_back, enabled(CONFIG_REMOTE_FREE_RETURN));
}

/* ── refill ──────────────────────────────────────────────────────────────────────────────────── */

static int compare(const void *left, const void *right)
{
    unsigned char *const *a = left;
    unsigned char *const *b = right;

    return *a < *b ? -1 : *a > *b;
}

/* Aligned, of the class, disjoint, and all of each can be written. */
static void cr_assert_taken_are_sound(hak_class cls)
{
    size_t size = hak_class_size(cls);

    for (size_t i = 0; i < taken_count; i++) {
        cr_assert_eq((uintptr_t)taken[i] % alignment_of(cls), 0);
        cr_assert_eq(backend_lookup(shard, taken[i]), cls);
        memset(taken[i], 0xff, size);
    }
    qsort(taken, taken_count, sizeof(taken[0]), compare);
    for (size_t i = 1; i < taken_count; i++)
        cr_assert_geq(taken[i], taken[i - 1] + size);
}

static void refill_every_class(void (*take)(hak_class, size_t),
                               void (*give)(hak_class, size_t, size_t))
{
    for (unsigned i = 0; i < HAK_CLASSES; i++) {
        hak_class cls = hak_class_at(i);
        size_t wanted = 8 * MIB / hak_class_size(cls);
        size_t count = wanted < 20000 ? wanted : 20000;

        for (int round = 0; round < 3; round++) {
            take_until(cls, count, take);
            cr_assert_taken_are_sound(cls);
            cr_assert(backend_valid(shard));
            return_all(cls, give);
            cr_assert(backend_valid(shard));
        }
    }
}

Test(backend, chains_of_every_class)
{
    refill_every_class(take_chain, return_chain);
}

Test(backend, arrays_of_every_class)
{
    refill_every_class(take_array, return_array);
}

Test(backend, chains_and_arrays_mix)
{
    refill_every_class(take_chain, return_array);
    refill_every_class(take_array, return_chain);
}

/* The classes' blocks do not overlap one another either. */
Test(backend, blocks_of_different_classes_are_disjoint)
{
    static size_t end_of[HAK_CLASSES];

    taken_count = 0;
    for (unsigned i = 0; i < HAK_CLASSES; i++) {
        take_until(hak_class_at(i), taken_count + 100, take_chain);
        for (size_t n = i ? end_of[i - 1] : 0; n < taken_count; n++)
            pattern_fill(taken[n], hak_class_sizes[i], n);
        end_of[i] = taken_count;
    }
    size_t n = 0;
    for (unsigned i = 0; i < HAK_CLASSES; i++)
        for (; n < end_of[i]; n++)
            cr_assert(pattern_holds(taken[n], hak_class_sizes[i], taken[n], n));
}

Test(backend, an_array_ends_with_the_head_of_its_chain)
{
    for (unsigned i = 0; i < HAK_CLASSES; i++) {
        struct hak_chain chain = backend_refill_chain(shard, hak_class_at(i), 8);
        const struct hak_block *block = chain.head;
        void *array[8];
        hak_chain_spread(chain, hak_class_at(i), array);
        for (size_t n = chain.count; n > 0; n--, block = block->next)
            cr_assert_eq(array[n - 1], block);
    }
}

Test(backend, a_grid_has_blocks_of_its_class_and_nothing_else)
{
    for (unsigned i = 0; i < HAK_CLASSES; i++) {
        hak_class cls = hak_class_at(i);
        size_t size = hak_class_size(cls);
        taken_count = 0;
        take_until(cls, 20, take_chain);
        for (size_t n = 0; n < taken_count; n++) {
            struct hak_grid grid = backend_grid(taken[n], cls);
            cr_assert(hak_grid_has(&grid, taken[n]));
            cr_assert(!hak_grid_has(&grid, taken[n] + 1));
            cr_assert(!hak_grid_has(&grid, taken[n] + size / 2));
            for (size_t at = 0; at < grid.blocks; at++)
                cr_assert_eq(backend_is_block(grid.base + at * size), cls);
            cr_assert(!hak_grid_has(&grid, grid.base + grid.blocks * size));
        }
    }
}

static void ask_for_the_grid_of_64(void *pointer)
{
    backend_grid(pointer, hak_class_of(64));
}

/* Which call is named and in which words is the back end's; the line is exactly one about this pointer. */
static void cr_assert_has_no_grid_of_64(void *pointer)
{
    const char *said = last_words(ask_for_the_grid_of_64, pointer);

    cr_assert_not_null(said, "it does not abort");
    cr_assert(what_of(said, "free()", pointer) || what_of(said, "malloc()", pointer), "%s", said);
}

Test(backend, what_is_no_block_has_no_grid)
{
    taken_count = 0;
    take_until(hak_class_of(64), 1, take_chain);
    cr_assert_has_no_grid_of_64(taken[0] + 16);
}

Test(backend, a_block_of_another_class_has_no_grid)
{
    taken_count = 0;
    take_until(hak_class_of(HAK_SMALL_MAX), 1, take_chain);
    cr_assert_has_no_grid_of_64(taken[0]);
}

Test(backend, a_refill_of_one_gives_one)
{
    for (unsigned i = 0; i < HAK_CLASSES; i++)
        for (int n = 0; n < 100; n++)
            cr_assert_eq(backend_refill_chain(shard, hak_class_at(i), 1).count, 1);
}

static void reuse_without_growth(void (*take)(hak_class, size_t),
                                 void (*give)(hak_class, size_t, size_t))
{
    size_t after_warm_up = 0;

    for (int round = 0; round < 30; round++) {
        for (unsigned i = 0; i < HAK_CLASSES; i += 3) {
            hak_class cls = hak_class_at(i);
            take_until(cls, 4 * MIB / hak_class_size(cls) / 8 + 1, take);
            for (size_t n = 0; n < taken_count; n++)
                memset(taken[n], 1, hak_class_size(cls));
            return_all(cls, give);
        }
        if (round == 5)
            after_warm_up = resident_bytes();
    }
    cr_assert_leq(resident_bytes(), after_warm_up + 4 * MIB);
}

Test(backend, what_comes_back_as_chains_is_used_again)
{
    reuse_without_growth(take_chain, return_chain);
}

Test(backend, what_comes_back_as_arrays_is_used_again)
{
    reuse_without_growth(take_array, return_array);
}

/* Scattered: of many slabs in each batch, in no order. */
Test(backend, batches_may_come_back_in_any_order)
{
    uint64_t random = 23;

    for (unsigned i = 0; i < HAK_CLASSES; i += 2) {
        hak_class cls = hak_class_at(i);
        size_t wanted = 8 * MIB / hak_class_size(cls);

        for (int round = 0; round < 3; round++) {
            take_until(cls, wanted < 20000 ? wanted : 20000, take_chain);
            for (size_t n = taken_count; n-- > 1;) {
                size_t other = random_below(&random, n + 1);
                unsigned char *block = taken[n];
                taken[n] = taken[other];
                taken[other] = block;
            }
            return_all(cls, round % 2 ? return_chain : return_array);
            cr_assert(backend_valid(shard));
        }
    }
}

Test(backend, thread_exit_leaves_the_shard_usable)
{
    for (int round = 0; round < 5; round++) {
        for (unsigned i = 0; i < HAK_CLASSES; i += 7) {
            take_until(hak_class_at(i), 500, take_chain);
            return_all(hak_class_at(i), return_chain);
        }
        backend_settle(shard);
        cr_assert(backend_valid(shard));
        backend_tick(shard);
    }
}

Test(backend, trim_gives_back_what_is_free)
{
    take_until(hak_class_of(1000), 30000, take_chain);
    for (size_t i = 0; i < taken_count; i++)
        memset(taken[i], 1, 1000);
    size_t before = resident_bytes();
    return_all(hak_class_of(1000), return_chain);
    if (BACKEND_TRIMS && CONFIG_DIRTY_MAX > 25)
        cr_assert(backend_trim(shard));
    backend_trim(shard);
    cr_assert_leq(resident_bytes(), before - 25 * MIB);
    cr_assert(!backend_trim(shard), "nothing is left to give back");
    cr_assert(backend_valid(shard));
}

/* ── frees by others ─────────────────────────────────────────────────────────────────────────── */

static void *free_taken(void *unused)
{
    for (size_t i = 0; i < taken_count; i++)
        backend_free(NULL, taken[i], "test");
    return unused;
}

static void *free_taken_with_a_heap(void *unused)
{
    hak_free(hak_malloc(1));
    hak_heap_enter(hak_heap_mine);
    for (size_t i = 0; i < taken_count; i++)
        backend_free(&hak_heap_mine->shard, taken[i], "test");
    hak_heap_leave(hak_heap_mine);
    require_valid_heap();
    return unused;
}

static void free_by_others(void *(*freer)(void *))
{
    size_t after_warm_up = 0;

    for (int round = 0; round < 40; round++) {
        for (unsigned i = 0; i < HAK_CLASSES; i += 6) {
            take_until(hak_class_at(i), 2 * MIB / hak_class_sizes[i] / 8 + 1, take_chain);
            for (size_t n = 0; n < taken_count; n++)
                memset(taken[n], 1, hak_class_sizes[i]);
            on_new_thread(freer, NULL);
            taken_count = 0;
        }
        cr_assert(backend_valid(shard));
        if (round == 8)
            after_warm_up = resident_bytes();
    }
    cr_assert_leq(resident_bytes(), after_warm_up + 8 * MIB);
}

Test(backend, a_thread_without_a_heap_frees)
{
    free_by_others(free_taken);
}

Test(backend, a_thread_with_a_heap_frees)
{
    free_by_others(free_taken_with_a_heap);
}

/* Two threads free the halves of the same slabs at once. */
static void *free_even(void *unused)
{
    for (size_t i = 0; i < taken_count; i += 2)
        hak_free(taken[i]);
    return unused;
}

static void *free_odd(void *unused)
{
    for (size_t i = 1; i < taken_count; i += 2)
        hak_free(taken[i]);
    return unused;
}

Test(backend, two_threads_free_into_the_same_slabs)
{
    for (int round = 0; round < 200; round++) {
        pthread_t threads[2];
        hak_class cls = hak_class_at((unsigned)round % HAK_CLASSES);
        take_until(cls, 1000, take_chain);
        for (size_t i = 0; i < taken_count; i++)
            memset(taken[i], 1, hak_class_size(cls));
        cr_assert_eq(pthread_create(&threads[0], NULL, free_even, NULL), 0);
        cr_assert_eq(pthread_create(&threads[1], NULL, free_odd, NULL), 0);
        cr_assert_eq(pthread_join(threads[0], NULL), 0);
        cr_assert_eq(pthread_join(threads[1], NULL), 0);
        taken_count = 0;
        take_until(cls, 1000, take_chain);
        cr_assert_taken_are_sound(cls);
        return_all(cls, return_chain);
        cr_assert(backend_valid(shard));
    }
}

/* ── large blocks ────────────────────────────────────────────────────────────────────────────── */

Test(backend, large_blocks_are_aligned_and_disjoint)
{
    enum { COUNT = 200 };
    static unsigned char *blocks[COUNT];
    static size_t sizes[COUNT];
    uint64_t random = 29;

    for (size_t i = 0; i < COUNT; i++) {
        size_t align = (size_t)1 << random_below(&random, 24);
        sizes[i] = HAK_SMALL_MAX + 1 + random_size(&random, MIB);
        blocks[i] = backend_large_alloc(NULL, sizes[i], align).base;
        cr_assert_not_null(blocks[i]);
        cr_assert_eq((uintptr_t)blocks[i] % align, 0);
        cr_assert_geq(backend_usable_size(blocks[i], "test"), sizes[i]);
        pattern_fill(blocks[i], sizes[i], i);
    }
    for (size_t i = 0; i < COUNT; i++) {
        cr_assert(pattern_holds(blocks[i], sizes[i], blocks[i], i));
        backend_free(shard, blocks[i], "test");
    }
}

/* Whatever has been freed, trimmed and moved before. */
Test(backend, zeroed_is_true_only_of_zeros)
{
    enum { COUNT = 24 };
    unsigned char *blocks[COUNT] = {NULL};
    size_t zeroed = 0;
    uint64_t random = 31;

    for (int i = 0; i < 3000; i++) {
        size_t at = random_below(&random, COUNT);
        size_t size = HAK_SMALL_MAX + 1 + random_size(&random, MIB);
        if (blocks[at] && random_below(&random, 4) == 0) {
            unsigned char *moved =
                backend_move(blocks[at], backend_usable_size(blocks[at], "test") + size);
            blocks[at] = moved ? moved : blocks[at];
        } else if (blocks[at]) {
            backend_free(shard, blocks[at], "test");
            blocks[at] = NULL;
        } else {
            struct hak_large large = backend_large_alloc(NULL, size, 1);
            blocks[at] = large.base;
            cr_assert_not_null(blocks[at]);
            zeroed += large.zeroed;
            cr_assert(!large.zeroed || all_zero(blocks[at], size));
        }
        if (blocks[at])
            memset(blocks[at], 0xff, backend_usable_size(blocks[at], "test"));
        if (random_below(&random, 100) == 0)
            backend_trim(shard);
    }
    cr_assert_gt(zeroed, 0);
}

static void resize_large(size_t from, size_t to)
{
    unsigned char *block = backend_large_alloc(NULL, from, 1).base;
    size_t kept = from < to ? from : to;
    cr_assert_not_null(block);
    size_t usable = backend_usable_size(block, "test");

    pattern_fill(block, from, to);
    if (backend_resize(block, to)) {
        cr_assert_geq(backend_usable_size(block, "test"), to);
        cr_assert_lt(backend_usable_size(block, "test"), to + to / 4 + 256 * KIB);
        memset(block + kept, 0xff, to - kept);
    } else {
        cr_assert_eq(backend_usable_size(block, "test"), usable);
        kept = from;
    }
    cr_assert(pattern_holds(block, kept, block, to));
    backend_free(shard, block, "test");
}

Test(backend, resize_keeps_contents)
{
    uint64_t random = 37;

    for (int i = 0; i < 500; i++)
        resize_large(HAK_SMALL_MAX + 1 + random_size(&random, 4 * MIB),
                     HAK_SMALL_MAX + 1 + random_size(&random, 4 * MIB));
}

Test(backend, what_a_shrunk_block_gives_up_is_free)
{
    unsigned char *block = backend_large_alloc(NULL, 300 * MIB, 1).base;

    memset(block, 1, 300 * MIB);
    size_t before = resident_bytes();
    if (!BACKEND_RESIZES)
        cr_skip_test("in this back end large blocks do not shrink where they lie");
    cr_assert(backend_resize(block, 2 * MIB));
    backend_trim(shard);
    cr_assert_leq(resident_bytes(), before - 280 * MIB);
    backend_free(shard, block, "test");
}

Test(backend, move_keeps_contents)
{
    uint64_t random = 41;
    size_t moves = 0;

    for (int i = 0; i < 300; i++) {
        size_t size = HAK_SMALL_MAX + 1 + random_size(&random, 8 * MIB);
        size_t wanted = size + random_size(&random, 8 * MIB);
        unsigned char *block = backend_large_alloc(NULL, size, 1).base;
        pattern_fill(block, size, (uint64_t)i);
        unsigned char *moved = backend_move(block, wanted);
        if (moved) {
            cr_assert_geq(backend_usable_size(moved, "test"), wanted);
            cr_assert(pattern_holds(moved, size, block, (uint64_t)i));
            memset(moved, 0xff, wanted);
            moves++;
        } else {
            cr_assert(pattern_holds(block, size, block, (uint64_t)i));
        }
        backend_free(shard, moved ? moved : block, "test");
    }
    if (BACKEND_MOVES && kernel_moves_pages())
        cr_assert_gt(moves, 0);
}

Test(backend, null_is_freed_by_doing_nothing)
{
    backend_free(shard, NULL, "test");
    backend_free(NULL, NULL, "test");
    cr_assert(backend_valid(shard));
}

Test(backend, more_than_there_is_changes_nothing)
{
    cr_assert_null(backend_large_alloc(NULL, (size_t)1 << 60, 1).base);
    cr_assert_null(backend_large_alloc(NULL, 1, (size_t)1 << 60).base);
    cr_assert_null(backend_large_alloc(NULL, (size_t)1 << 61, (size_t)1 << 61).base);
    unsigned char *block = backend_large_alloc(NULL, MIB, 1).base;
    pattern_fill(block, MIB, 1);
    cr_assert(!backend_resize(block, (size_t)1 << 60));
    cr_assert_null(backend_move(block, (size_t)1 << 60));
    cr_assert(pattern_holds(block, MIB, block, 1));
    backend_free(shard, block, "test");
}

/* ── what the back end needs for itself ──────────────────────────────────────────────────────── */

static size_t metadata(void)
{
    hak_lock_all();
    size_t bytes = backend_metadata();
    hak_unlock_all();
    return bytes;
}

/* Some, more for more blocks, and little beside them. */
Test(backend, metadata_grows_with_what_it_describes)
{
    size_t before = metadata();
    size_t filled = 0;

    cr_assert_gt(before, 0);
    while (filled < 256 * MIB) {
        struct hak_chain chain =
            backend_refill_chain(shard, hak_class_of(1024), CONFIG_REFILL_BATCH);
        cr_assert_gt(chain.count, 0);
        filled += chain.count * 1024;
    }
    cr_assert_gt(metadata(), before);
    cr_assert_leq(metadata(), before + filled / 50, "%zu KiB for %zu", (metadata() - before) / KIB,
                  filled / KIB);
}

/* ── bad pointers ────────────────────────────────────────────────────────────────────────────── */

/* What a call on a pointer writes to stderr before it aborts is one line: but for the back end's words on what is wrong,
 * it is known to the last byte. */
static void cr_assert_aborts(void (*call)(void *), void *pointer, const char *name)
{
    const char *said = last_words(call, pointer);

    cr_assert_not_null(said, "%s of %p did not abort", name, pointer);
    cr_assert_not_null(what_of(said, name, pointer), "%s of %p said: %s", name, pointer, said);
}

static void call_free(void *pointer)
{
    hak_free(pointer);
}

static void call_realloc(void *pointer)
{
    void *volatile moved = hak_realloc(pointer, 100);

    (void)moved;
}

static void call_usable_size(void *pointer)
{
    volatile size_t size = hak_malloc_usable_size(pointer);

    (void)size;
}

static void cr_assert_all_abort(void *pointer)
{
    cr_assert_aborts(call_free, pointer, "free()");
    cr_assert_aborts(call_realloc, pointer, "realloc()");
    cr_assert_aborts(call_usable_size, pointer, "malloc_usable_size()");
}

Test(backend, a_pointer_from_elsewhere_stops_the_process)
{
    char on_stack[64];
    char *foreign = mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    cr_assert_all_abort(on_stack);
    cr_assert_all_abort(a_global);
    cr_assert_all_abort(foreign);
    cr_assert_all_abort((void *)(uintptr_t)16);
    cr_assert_all_abort((void *)(UINTPTR_MAX - 15));
    cr_assert_all_abort((void *)(uintptr_t)&call_free);
}

Test(backend, the_middle_of_a_large_block_stops_the_process)
{
    char *block = hak_malloc(10 * MIB);

    cr_assert_all_abort(block + 16);
    cr_assert_all_abort(block + 4096);
    cr_assert_all_abort(block + MIB);
    cr_assert_all_abort(block + 10 * MIB - 16);
    hak_free(block);
}

Test(backend, a_large_block_freed_twice_stops_the_process)
{
    char *block = hak_malloc(10 * MIB);

    hak_free(block);
    cr_assert_all_abort(block);
    cr_assert_all_abort(block + MIB);
}

Test(backend, a_block_beside_all_others_stops_the_process)
{
    char *block = hak_malloc(10 * MIB);

    for (int i = 1; i < 40; i++) { /* beyond its end lies what was never given out */
        char *beyond = block + hak_malloc_usable_size(block) + (size_t)i * 256 * MIB;
        cr_assert_aborts(call_free, beyond, "free()");
    }
    hak_free(block);
}

/* Misaligned pointers into a small block of another thread go through the checked path. */
static void *start_of_a_block(void *unused)
{
    (void)unused;
    return hak_malloc(1000);
}

Test(backend, the_middle_of_anothers_small_block_stops_the_process)
{
    char *block = on_new_thread(start_of_a_block, NULL);

    if (backend_lookup(shard, block) < HAK_CLASS_END)
        cr_skip_test("the cache takes another's block without a look at it");
    cr_assert_aborts(call_free, block + 16, "free()");
    cr_assert_aborts(call_free, block + 1, "free()");
    hak_free(block);
}

Test(backend, usable_size_and_realloc_look_at_small_blocks_too)
{
    char *block = hak_malloc(1000);

    cr_assert_aborts(call_usable_size, block + 16, "malloc_usable_size()");
    cr_assert_aborts(call_realloc, block + 16, "realloc()");
    cr_assert_aborts(call_realloc, block + 1, "realloc()");
    hak_free(block);
}
