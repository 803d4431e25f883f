/* SPDX-License-Identifier: MIT */
/* The front-end contract (core/frontend.h), whatever the policy, over the back end that is built in.
 * Each test drives a heap of its own. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "core/heap.h"
#include "tests/contract/support.h"

static struct hak_heap heap;
static struct hak_cache *const cache = &heap.cache;
static struct hak_shard *const shard = &heap.shard;

static void start(void)
{
    cr_assert(backend_init(shard));
    frontend_init(cache);
}

TestSuite(frontend, .init = start);

/* ── what malloc and free do ─────────────────────────────────────────────────────────────────── */

static void *alloc(hak_class cls)
{
    void *block = frontend_alloc(cache, cls);

    if (block == NULL)
        block = frontend_refill(cache, shard, cls);
    cr_assert_not_null(block);
    return block;
}

/* free asks the back end for the class, which may be larger than the one that was asked for. */
static void release(hak_class wanted, void *block)
{
    hak_class cls = backend_lookup(shard, block);

    cr_assert_lt(cls, HAK_CLASS_END);
    cr_assert_geq(hak_class_size(cls), hak_class_size(wanted));
    cr_assert_leq(hak_class_size(cls), hak_class_size(wanted) + hak_class_size(wanted) / 4);
    if (!frontend_free(cache, cls, block))
        frontend_flush(cache, shard, cls, block);
}

/* ── what the cache holds ────────────────────────────────────────────────────────────────────── */

static size_t held_blocks(void)
{
    size_t held = 0;

    for (unsigned i = 0; i < HAK_CLASSES; i++)
        held += frontend_held(cache, hak_class_at(i));
    return held;
}

static size_t held_bytes(void)
{
    size_t held = 0;

    for (unsigned i = 0; i < HAK_CLASSES; i++)
        held += frontend_held(cache, hak_class_at(i)) * hak_class_sizes[i];
    return held;
}

static void cr_assert_sound(void)
{
    cr_assert(frontend_valid(cache));
    cr_assert_leq(held_bytes(), (size_t)CONFIG_CACHE_BYTES);
}

/* The blocks that a walk visits. */
static struct {
    void *blocks[1 << 18];
    size_t count;
} visited;

static bool visit(void *block, void *context)
{
    cr_assert_eq(context, &visited);
    cr_assert_lt(visited.count, sizeof(visited.blocks) / sizeof(void *));
    visited.blocks[visited.count++] = block;
    return true;
}

static void walk(void)
{
    visited.count = 0;
    frontend_walk(cache, visit, &visited);
}

static int compare(const void *left, const void *right)
{
    void *const *a = left;
    void *const *b = right;

    return *a < *b ? -1 : *a > *b;
}

/* A walk visits as many blocks of each class as are held, and none twice. */
static void cr_assert_walk_matches(void)
{
    static size_t of_class[HAK_CLASSES];

    walk();
    memset(of_class, 0, sizeof(of_class));
    for (size_t i = 0; i < visited.count; i++) {
        hak_class cls = backend_lookup(shard, visited.blocks[i]);
        cr_assert_lt(cls, HAK_CLASS_END);
        of_class[hak_class_index(cls)]++;
    }
    for (unsigned i = 0; i < HAK_CLASSES; i++)
        cr_assert_eq(of_class[i], frontend_held(cache, hak_class_at(i)));
    qsort(visited.blocks, visited.count, sizeof(void *), compare);
    for (size_t i = 1; i < visited.count; i++)
        cr_assert_neq(visited.blocks[i], visited.blocks[i - 1]);
}

static bool is_held(const void *block)
{
    walk();
    for (size_t i = 0; i < visited.count; i++)
        if (visited.blocks[i] == block)
            return true;
    return false;
}

/* ── the empty heap ──────────────────────────────────────────────────────────────────────────── */

/* It lies in read-only memory: a write would end the process. */
Test(frontend, the_empty_heap_misses_and_is_not_written)
{
    struct hak_cache *empty = (struct hak_cache *)(uintptr_t)&hak_heap_empty.cache;

    for (unsigned i = 0; i < HAK_CLASSES; i++)
        cr_assert_null(frontend_alloc(empty, hak_class_at(i)));
    cr_assert(all_zero(&hak_heap_empty, sizeof(hak_heap_empty)));
}

Test(frontend, a_new_cache_is_empty)
{
    cr_assert_sound();
    cr_assert_eq(held_blocks(), 0);
    walk();
    cr_assert_eq(visited.count, 0);
}

Test(frontend, a_miss_changes_nothing)
{
    static struct hak_cache before;

    memcpy(&before, cache, sizeof(before));
    for (unsigned i = 0; i < HAK_CLASSES; i++)
        cr_assert_null(frontend_alloc(cache, hak_class_at(i)));
    cr_assert_eq(memcmp(&before, cache, sizeof(before)), 0);
}

/* ── refill ──────────────────────────────────────────────────────────────────────────────────── */

Test(frontend, refill_gives_blocks_of_the_class)
{
    for (unsigned i = 0; i < HAK_CLASSES; i++) {
        hak_class cls = hak_class_at(i);
        for (int n = 0; n < 200; n++) {
            void *block = alloc(cls);
            cr_assert_eq(backend_lookup(shard, block), cls);
            cr_assert_eq(backend_usable_size(block, "test"), hak_class_size(cls));
            memset(block, 0xff, hak_class_size(cls));
        }
        cr_assert_sound();
        cr_assert_walk_matches();
    }
}

Test(frontend, what_was_handed_out_is_not_held)
{
    for (unsigned i = 0; i < HAK_CLASSES; i += 5) {
        for (int n = 0; n < 50; n++)
            cr_assert(!is_held(alloc(hak_class_at(i))));
    }
}

Test(frontend, blocks_handed_out_are_distinct)
{
    enum { COUNT = 5000 };
    static unsigned char *blocks[COUNT];

    for (size_t i = 0; i < COUNT; i++) {
        hak_class cls = hak_class_at((unsigned)i * 7 % (HAK_CLASSES < 20 ? HAK_CLASSES : 20));
        blocks[i] = alloc(cls);
        pattern_fill(blocks[i], hak_class_size(cls), i);
    }
    for (size_t i = 0; i < COUNT; i++) {
        hak_class cls = hak_class_at((unsigned)i * 7 % (HAK_CLASSES < 20 ? HAK_CLASSES : 20));
        cr_assert(pattern_holds(blocks[i], hak_class_size(cls), blocks[i], i));
    }
}

/* ── free and flush ──────────────────────────────────────────────────────────────────────────── */

Test(frontend, a_freed_block_is_held_or_with_the_back_end)
{
    for (unsigned i = 0; i < HAK_CLASSES; i++) {
        hak_class cls = hak_class_at(i);
        void *block = alloc(cls);
        size_t held = frontend_held(cache, cls);
        if (frontend_free(cache, cls, block)) {
            cr_assert_eq(frontend_held(cache, cls), held + 1);
            cr_assert(is_held(block));
        } else {
            frontend_flush(cache, shard, cls, block);
        }
        cr_assert_sound();
    }
}

Test(frontend, a_refused_free_changes_nothing)
{
    static struct hak_cache before;
    static void *blocks[10000];

    for (unsigned i = 0; i < HAK_CLASSES; i += 3) {
        hak_class cls = hak_class_at(i);
        size_t wanted = 4 * 1024 * 1024 / hak_class_size(cls);
        size_t count = wanted < 10000 ? wanted : 10000;
        bool refused = false;
        for (size_t n = 0; n < count; n++)
            blocks[n] = alloc(cls);
        for (size_t n = 0; n < count; n++) {
            memcpy(&before, cache, sizeof(before));
            if (frontend_free(cache, cls, blocks[n]))
                continue;
            cr_assert_eq(memcmp(&before, cache, sizeof(before)), 0);
            frontend_flush(cache, shard, cls, blocks[n]);
            refused = true;
        }
        cr_assert(refused || count * hak_class_size(cls) <= (size_t)CONFIG_CACHE_BYTES);
        cr_assert_sound();
    }
}

Test(frontend, what_is_freed_is_handed_out_again)
{
    for (unsigned i = 0; i < HAK_CLASSES; i++) {
        hak_class cls = hak_class_at(i);
        void *block = alloc(cls);
        size_t tries = 0;
        release(cls, block);
        while (alloc(cls) != block)
            cr_assert_lt(++tries, 100000u);
    }
}

/* ── the bound ───────────────────────────────────────────────────────────────────────────────── */

/* Allocates `bytes` of a class and frees them. */
static void push_through(hak_class cls, size_t bytes)
{
    static void *blocks[1 << 15];
    size_t most = sizeof(blocks) / sizeof(blocks[0]);
    size_t wanted = bytes / hak_class_size(cls) + 1;
    size_t count = wanted < most ? wanted : most;

    for (size_t i = 0; i < count; i++)
        blocks[i] = alloc(cls);
    for (size_t i = 0; i < count; i++) {
        release(cls, blocks[i]);
        if (i % 64 == 0)
            cr_assert_leq(held_bytes(), (size_t)CONFIG_CACHE_BYTES);
    }
    cr_assert_sound();
    cr_assert_walk_matches();
}

Test(frontend, each_class_in_turn_stays_within_the_bound)
{
    for (int round = 0; round < 3; round++)
        for (unsigned i = 0; i < HAK_CLASSES; i++)
            push_through(hak_class_at(i), 300000);
}

Test(frontend, all_classes_at_once_stay_within_the_bound)
{
    enum { COUNT = 64 };
    static void *blocks[HAK_CLASSES][COUNT];

    for (int round = 0; round < 20; round++) {
        for (size_t n = 0; n < COUNT; n++)
            for (unsigned i = 0; i < HAK_CLASSES; i++)
                blocks[i][n] = alloc(hak_class_at(i));
        cr_assert_sound();
        for (size_t n = 0; n < COUNT; n++)
            for (unsigned i = 0; i < HAK_CLASSES; i++)
                release(hak_class_at(i), blocks[i][n]);
        cr_assert_sound();
    }
    cr_assert_walk_matches();
}

/* Few of the largest, many of the smallest, and the reverse: budgets move to and fro. */
Test(frontend, a_hostile_order_stays_within_the_bound)
{
    uint64_t random = 11;

    for (int round = 0; round < 300; round++) {
        hak_class cls = hak_class_at((unsigned)random_below(&random, HAK_CLASSES));
        push_through(cls, random_size(&random, 1 << 20));
    }
}

/* ── against a reference ─────────────────────────────────────────────────────────────────────── */

/* Any order of allocs and frees over all classes: no block is held and handed out at once. */
Test(frontend, random_allocs_and_frees)
{
    enum { LIVE = 4000 };
    static struct {
        unsigned char *block;
        hak_class cls;
    } live[LIVE];
    uint64_t random = 13;

    for (size_t step = 0; step < 200000; step++) {
        size_t at = random_below(&random, LIVE);
        if (live[at].block) {
            size_t size = hak_class_size(live[at].cls);
            cr_assert(pattern_holds(live[at].block, size, live[at].block, at));
            release(live[at].cls, live[at].block);
            live[at].block = NULL;
        } else {
            unsigned most = (unsigned)random_below(&random, 10) ? HAK_CLASSES / 2 : HAK_CLASSES;
            live[at].cls = hak_class_at((unsigned)random_below(&random, most));
            live[at].block = alloc(live[at].cls);
            pattern_fill(live[at].block, hak_class_size(live[at].cls), at);
        }
        if (step % 1000 == 0) {
            frontend_tick(cache, shard);
            cr_assert_sound();
            cr_assert_walk_matches();
        }
        if (step % 50000 == 49999) {
            frontend_empty(cache, shard);
            cr_assert_eq(held_blocks(), 0);
        }
    }
    cr_assert(backend_valid(shard));
}

/* ── ends ────────────────────────────────────────────────────────────────────────────────────── */

Test(frontend, thread_exit_gives_everything_back)
{
    for (int round = 0; round < 3; round++) {
        for (unsigned i = 0; i < HAK_CLASSES; i++)
            push_through(hak_class_at(i), 100000);
        frontend_empty(cache, shard);
        cr_assert_sound();
        cr_assert_eq(held_blocks(), 0);
        walk();
        cr_assert_eq(visited.count, 0);
        for (unsigned i = 0; i < HAK_CLASSES; i++)
            cr_assert_null(frontend_alloc(cache, hak_class_at(i)));
        backend_settle(shard);
        cr_assert(backend_valid(shard));
    }
}

/* As around a fork, in the parent and in the child alike. */
Test(frontend, works_on_after_its_locks_were_taken_and_released)
{
    for (int round = 0; round < 3; round++) {
        frontend_lock();
        frontend_unlock();
        for (unsigned i = 0; i < HAK_CLASSES; i++)
            push_through(hak_class_at(i), 1000);
        cr_assert_sound();
    }
}

Test(frontend, trim_leaves_nothing_to_any_cache)
{
    for (unsigned i = 0; i < HAK_CLASSES; i++)
        push_through(hak_class_at(i), 10000);
    frontend_empty(cache, shard);
    for (unsigned i = 0; i < HAK_CLASSES; i++)
        push_through(hak_class_at(i), 10000);
    frontend_empty(cache, shard);
    store_empty(shard);
    cr_assert_eq(held_blocks(), 0);
    for (unsigned i = 0; i < HAK_CLASSES; i++)
        cr_assert_eq(store_held(hak_class_at(i)), 0);
    cr_assert_sound();
    for (unsigned i = 0; i < HAK_CLASSES; i++)
        push_through(hak_class_at(i), 1000);
    cr_assert_sound();
}

/* What came in and has not gone out is in the caches, or with the program. */
Test(frontend, traffic_adds_up)
{
    for (unsigned i = 0; i < HAK_CLASSES; i++) {
        hak_class cls = hak_class_at(i);
        push_through(cls, 10000);
        const struct hak_traffic *traffic = hak_traffic_of(shard, cls);
        cr_assert_gt(traffic->refills, 0);
        cr_assert_leq(traffic->refills, traffic->refilled);
        cr_assert_leq(traffic->flushes, traffic->flushed);
        cr_assert_eq(traffic->refilled - traffic->flushed,
                     frontend_held(cache, cls) + store_held(cls));
    }
}

/* The blocks are lost, and the cache works on. */
Test(frontend, forget_forgets_everything)
{
    for (unsigned i = 0; i < HAK_CLASSES; i++)
        push_through(hak_class_at(i), 10000);
    walk();
    size_t lost = visited.count;
    static void *forgotten[1 << 18];
    memcpy(forgotten, visited.blocks, lost * sizeof(void *));

    frontend_forget(cache);
    cr_assert_sound();
    cr_assert_eq(held_blocks(), 0);
    for (unsigned i = 0; i < HAK_CLASSES; i++)
        push_through(hak_class_at(i), 10000);
    for (size_t i = 0; i < lost; i += 97)
        cr_assert(!is_held(forgotten[i]));
}
