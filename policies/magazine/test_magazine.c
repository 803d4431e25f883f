/* SPDX-License-Identifier: MIT */
/* Magazines and their depot against the fake back end. A second cache stands for a second thread. */
#include <criterion/criterion.h>
#include <pthread.h>
#include <sched.h>
#include <sys/resource.h>

#include "core/bins.h"
#include "core/store.h"
#include "tests/contract/clock.h"

static struct hak_cache cache, other;
static struct hak_counted_shard counted;
static struct hak_shard *const shard =
    &counted.shard; /* one for both: the fake back end knows no owners */

static void *alloc_from(struct hak_cache *from, hak_class cls)
{
    void *block = frontend_alloc(from, cls);

    return block ? block : frontend_refill(from, shard, cls);
}

static void release_to(struct hak_cache *to, hak_class cls, void *block)
{
    if (!frontend_free(to, cls, block))
        frontend_flush(to, shard, cls, block);
}

static void *alloc(hak_class cls)
{
    return alloc_from(&cache, cls);
}

static void release(hak_class cls, void *block)
{
    release_to(&cache, cls, block);
}

static void start(void)
{
    fake_reset(shard, FAKE_BLOCKS);
    frontend_init(&cache);
    frontend_init(&other);
}

TestSuite(magazine, .init = start);

static size_t depot_bytes(void)
{
    size_t bytes = 0;

    for (unsigned i = 0; i < HAK_CLASSES; i++)
        bytes += store_held(hak_class_at(i)) * hak_class_sizes[i];
    return bytes;
}

static size_t held_bytes(const struct hak_cache *of)
{
    size_t bytes = 0;

    for (unsigned i = 0; i < HAK_CLASSES; i++)
        bytes += frontend_held(of, hak_class_at(i)) * hak_class_sizes[i];
    return bytes;
}

/* Blocks that are out and that neither the caches nor the depot hold. */
static size_t handed_out(hak_class cls)
{
    return shard->given - shard->returned - frontend_held(&cache, cls) -
           frontend_held(&other, cls) - store_held(cls);
}

static size_t given_room;

static void cr_assert_sound(void)
{
    cr_assert(frontend_valid(&cache));
    cr_assert(frontend_valid(&other));
    cr_assert_leq(held_bytes(&cache), HAK_CACHE_BYTES);
    cr_assert_leq(depot_bytes(), (size_t)CONFIG_DEPOT_BYTES);
    cr_assert_leq(depot_bytes(), depot.room);
    cr_assert_leq(cache.granted + other.granted + depot.room, 2 * HAK_CACHE_BYTES + given_room);
}

/* As if there were other threads, which hold nothing. */
static void give_room(void)
{
    given_room = CONFIG_DEPOT_BYTES;
    depot_change_room(given_room);
}

static bool count_block(void *block, void *count)
{
    cr_assert(fake_is_out(block));
    ++*(size_t *)count;
    return true;
}

/* Allocates and frees so many blocks. */
static void push_through(struct hak_cache *through, hak_class cls, size_t count)
{
    static void *blocks[20000];

    cr_assert_leq(count, 20000);
    for (size_t i = 0; i < count; i++)
        cr_assert_not_null(blocks[i] = alloc_from(through, cls));
    for (size_t i = 0; i < count; i++)
        release_to(through, cls, blocks[i]);
}

static struct depot_cell *cell_of(const struct hak_cache *of, hak_class cls)
{
    return &of->home->cells[hak_class_index(cls)];
}

/* Ends an interval of every cell as if it had lasted long enough, with whole rounds of the reaper. */
static void pass_an_interval(void)
{
    uint32_t now = hak_clock_ms();

    for (int i = 0; i < CONFIG_DEPOT_STRIPES; i++)
        for (unsigned c = 0; c < HAK_CLASSES; c++)
            depot.stripes[i].cells[c].began = now - CONFIG_DEPOT_INTERVAL_MS;
    for (int i = 0; i < CONFIG_DEPOT_STRIPES * (int)HAK_CLASSES + 2000; i++) {
        hak_class cls;
        struct magazine *full = depot_reap(now, &cls);
        if (full) {
            backend_return_chain(shard, cls, hak_chain_of(full->rounds, full->capacity));
            depot_drop(full);
        }
    }
}

/* ── a thread's own magazines ────────────────────────────────────────────────────────────────── */

Test(magazine, a_freed_block_is_the_next_one_handed_out)
{
    hak_class cls = hak_class_of(16);
    void *block = alloc(cls);

    if (depot_rounds(cls) == 0)
        cr_skip("no magazines of this class");
    release(cls, block);
    cr_assert_eq(alloc(cls), block);
}

Test(magazine, every_block_that_went_out_is_held_or_handed_out)
{
    enum { COUNT = 4000 };
    static void *blocks[COUNT];
    hak_class cls = hak_class_of(64);

    for (size_t i = 0; i < COUNT; i++) {
        blocks[i] = alloc(cls);
        cr_assert(blocks[i] && fake_is_out(blocks[i]));
        cr_assert_eq(handed_out(cls), i + 1);
    }
    for (size_t i = 0; i < COUNT; i++) {
        release(cls, blocks[i]);
        cr_assert_eq(handed_out(cls), COUNT - 1 - i);
    }
    cr_assert_sound();
    size_t walked = 0;
    frontend_walk(&cache, count_block, &walked);
    cr_assert_eq(walked, frontend_held(&cache, cls));
    walked = 0;
    store_walk(count_block, &walked);
    cr_assert_eq(walked, store_held(cls));
}

/* A walk over another thread's cache may read the magazine at one moment and its count at another. */
Test(magazine, a_walk_over_a_cache_that_changes_stays_in_its_magazines)
{
    hak_class cls = hak_class_of(64);
    unsigned index = hak_class_index(cls);
    size_t walked = 0;

    release(cls, alloc(cls));
    struct magazine *loaded = cache.bin[index].loaded;
    uint32_t count = cache.bin[index].count;
    cr_assert(loaded != NULL && count > 0);
    cache.bin[index].loaded = NULL;
    frontend_walk(&cache, count_block, &walked);
    cr_assert_eq(walked, 0);
    cache.bin[index].loaded = loaded;
    for (uint32_t i = count; i < loaded->capacity; i++)
        loaded->rounds[i] = loaded->rounds[0];
    cache.bin[index].count = 1000 * loaded->capacity;
    frontend_walk(&cache, count_block, &walked);
    cr_assert_leq(walked, loaded->capacity);
    cache.bin[index].count = count;
    cr_assert_sound();
}

Test(magazine, going_up_and_down_by_less_than_a_magazine_stays_in_the_cache)
{
    hak_class cls = hak_class_of(64);
    size_t rounds = depot_rounds(cls);
    void *blocks[512];

    push_through(&cache, cls, 4 * rounds);
    size_t calls = shard->refills + shard->returns;
    size_t depot_held_before = store_held(cls);
    for (size_t start_at = 0; start_at < 2 * rounds; start_at++) {
        void *one = alloc(cls);
        for (size_t i = 0; i + 1 < rounds; i++)
            cr_assert_not_null(blocks[i] = alloc(cls));
        for (size_t i = 0; i + 1 < rounds; i++)
            release(cls, blocks[i]);
        release(cls, one);
        cr_assert_eq(shard->refills + shard->returns, calls);
        cr_assert_eq(store_held(cls), depot_held_before);
    }
}

Test(magazine, a_class_holds_no_more_than_its_capacity)
{
    for (unsigned i = 0; i < HAK_CLASSES; i++) {
        hak_class cls = hak_class_at(i);
        push_through(&cache, cls, 1000);
        cr_assert_leq(frontend_held(&cache, cls), hak_cache_capacity(cls));
        cr_assert_sound();
    }
}

Test(magazine, magazines_of_large_blocks_have_few_places)
{
    for (unsigned i = 0; i < HAK_CLASSES; i++) {
        uint32_t rounds = depot_rounds_most(hak_class_at(i));
        cr_assert(rounds <= 1 || rounds * hak_class_sizes[i] <= (size_t)CONFIG_MAGAZINE_BYTES);
        cr_assert_leq(2 * (size_t)rounds * hak_class_sizes[i], HAK_CACHE_BYTES / 2);
        cr_assert_leq(depot_rounds(hak_class_at(i)), rounds);
    }
}

Test(magazine, all_classes_together_hold_no_more_than_the_budget)
{
    for (int round = 0; round < 3; round++)
        for (unsigned c = 0; c < HAK_CLASSES; c++) {
            push_through(&cache, hak_class_at(c), 300);
            cr_assert_leq(cache.granted, HAK_CACHE_BYTES);
            cr_assert_sound();
        }
}

Test(magazine, a_class_too_large_for_magazines_takes_nothing_from_the_others)
{
    hak_class small = hak_class_of(16);
    hak_class largest = hak_class_at(HAK_CLASSES - 1);

    release(small, alloc(small));
    size_t held = frontend_held(&cache, small);
    void *block = alloc(largest);
    cr_assert_not_null(block);
    release(largest, block);
    if (depot_rounds_most(largest) == 0) {
        cr_assert_eq(frontend_held(&cache, small), held);
        cr_assert_eq(frontend_held(&cache, largest), 0);
    }
    cr_assert_sound();
}

Test(magazine, short_batches_are_served)
{
    hak_class cls = hak_class_of(100);
    void *blocks[100];

    shard->batch_most = 1;
    for (int i = 0; i < 100; i++) {
        cr_assert_not_null(blocks[i] = alloc(cls));
        cr_assert_sound();
    }
    cr_assert_eq(shard->given, 100);
    for (int i = 0; i < 100; i++)
        release(cls, blocks[i]);
    cr_assert_eq(handed_out(cls), 0);
    cr_assert_sound();
}

Test(magazine, a_batch_is_no_longer_than_configured)
{
    hak_class cls = hak_class_of(16);

    depot.rounds[hak_class_index(cls)] = depot_rounds_most(cls);
    cr_assert_not_null(alloc(cls));
    cr_assert_leq(shard->given, CONFIG_REFILL_BATCH);
}

Test(magazine, traffic_counts_what_moves_to_and_from_the_back_end)
{
    hak_class cls = hak_class_of(48);
    const struct hak_traffic *traffic = hak_traffic_of(shard, cls);

    push_through(&cache, cls, 3000);
    frontend_empty(&cache, shard);
    store_empty(shard);
    cr_assert_eq(traffic->refills, shard->refills);
    cr_assert_eq(traffic->refilled, shard->given);
    cr_assert_eq(traffic->flushes, shard->returns);
    cr_assert_eq(traffic->flushed, shard->returned);
    cr_assert_eq(shard->returned, shard->given);
}

Test(magazine, the_empty_heap_misses_and_is_not_written_to)
{
    static const struct hak_cache empty;

    for (unsigned i = 0; i < HAK_CLASSES; i++)
        cr_assert_null(frontend_alloc((struct hak_cache *)(uintptr_t)&empty, hak_class_at(i)));
}

/* ── the depot ───────────────────────────────────────────────────────────────────────────────── */

/* What one thread frees another allocates, and once there are enough no block is asked for or
 * given back. */
Test(magazine, threads_exchange_magazines_without_the_back_end)
{
    enum { COUNT = 500 };
    void *blocks[COUNT];
    hak_class cls = hak_class_of(64);
    size_t calls = 0;

    for (int round = 0; round < 50; round++) {
        for (int i = 0; i < COUNT; i++)
            cr_assert_not_null(blocks[i] = alloc_from(&cache, cls));
        for (int i = 0; i < COUNT; i++)
            release_to(&other, cls, blocks[i]);
        cr_assert_sound();
        cr_assert_eq(handed_out(cls), 0);
        if (round == 10)
            calls = shard->refills + shard->returns;
    }
    cr_assert_neq(cache.home, CONFIG_DEPOT_STRIPES > 1 ? other.home : NULL);
    if (depot_rounds(cls) > 0 && DEPOT_SHARE >= 64 * COUNT)
        cr_assert_eq(shard->refills + shard->returns, calls);
}

Test(magazine, the_depot_holds_no_more_than_its_bound)
{
    static void *blocks[60000];
    hak_class cls = hak_class_of(1024);

    for (int i = 0; i < 60000; i++)
        cr_assert_not_null(blocks[i] = alloc(cls));
    for (int i = 0; i < 60000; i++) {
        release(cls, blocks[i]);
        if (i % 1000 == 0)
            cr_assert_sound();
    }
    /* every stripe takes what it may, and the rest is back in the slabs */
    size_t magazine = depot_rounds(cls) * (size_t)1024;
    size_t share = depot.room / CONFIG_DEPOT_STRIPES;
    share = share < DEPOT_SHARE ? share : DEPOT_SHARE;
    if (depot_rounds(cls) > 0 && share > magazine && share * CONFIG_DEPOT_STRIPES < 50000 * 1024)
        cr_assert_gt(depot_bytes(), CONFIG_DEPOT_STRIPES * (share - magazine));
    cr_assert_eq(handed_out(cls), 0);
}

Test(magazine, the_depot_shrinks_when_threads_need_their_room_or_end)
{
    for (unsigned i = 0; i < 8; i++) {
        push_through(&cache, hak_class_at(i), 5000);
        push_through(&other, hak_class_at(i), 5000);
        cr_assert_sound();
    }
    size_t before = depot_bytes();
    frontend_empty(&other, shard);
    cr_assert_eq(other.granted, 0);
    cr_assert_sound();
    cr_assert_leq(depot_bytes() + cache.granted, HAK_CACHE_BYTES);
    cr_assert_leq(depot_bytes(), before);
    for (unsigned i = 0; i < HAK_CLASSES; i++) {
        push_through(&cache, hak_class_at(i), 300);
        cr_assert_leq(depot_bytes() + cache.granted, HAK_CACHE_BYTES);
    }
    frontend_empty(&cache, shard);
    cr_assert_eq(depot_bytes(), 0);
    cr_assert_eq(shard->given, shard->returned);
}

Test(magazine, trim_gives_back_what_any_stripe_holds)
{
    for (unsigned i = 0; i < HAK_CLASSES; i++) {
        push_through(&cache, hak_class_at(i), 500);
        push_through(&other, hak_class_at(i), 500);
    }
    frontend_empty(&other, shard);
    frontend_empty(&cache, shard);
    store_empty(shard);
    cr_assert_eq(shard->given, shard->returned);
    cr_assert_eq(depot_bytes(), 0);
    cr_assert_sound();
}

Test(magazine, thread_exit_leaves_full_magazines_to_others)
{
    hak_class cls = hak_class_of(64);
    uint32_t rounds = depot_rounds(cls);

    give_room();
    push_through(&cache, cls, 2 * (size_t)rounds + 1);
    size_t before = store_held(cls);
    frontend_empty(&cache, shard);
    cr_assert_eq(held_bytes(&cache), 0);
    cr_assert_eq(cache.granted, 0);
    cr_assert_sound();
    cr_assert_eq(shard->given - shard->returned, store_held(cls), "the rest has gone back");
    if (rounds > 0) {
        cr_assert_geq(store_held(cls), before + rounds);
        size_t refills = shard->refills;
        cr_assert_not_null(alloc_from(&other, cls));
        cr_assert_eq(shard->refills, refills);
    }
    push_through(&cache, cls, 100);
    cr_assert_sound();
}

/* Whether a magazine is one of some. */
static bool is_among(const struct magazine *magazine, struct magazine *const *some, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (magazine == some[i])
            return true;
    return false;
}

/* ── what the depot does not need ────────────────────────────────────────────────────────────── */

Test(magazine, the_depot_is_reaped_to_the_fewest_that_it_had)
{
    enum { MANY = 40, NEEDED = 12 };
    hak_class cls = hak_class_of(64);
    uint32_t rounds = depot_rounds(cls);
    struct depot_cell *cell = cell_of(&cache, cls);
    struct magazine *empty[NEEDED];

    if (rounds == 0 || DEPOT_SHARE < MANY * rounds * (size_t)64)
        cr_skip("no room for so many magazines");
    give_room();
    push_through(&cache, cls, (MANY + 2) * (size_t)rounds);
    size_t before = cell->full.count;
    cr_assert_geq(before, MANY - 1);
    pass_an_interval(); /* the first one began with nothing, so it reaps nothing */
    cr_assert_eq(cell->full.count, before);
    cr_assert_eq(cell->full.least, before);

    for (int i = 0; i < NEEDED; i++) {
        struct magazine *full = depot_take_full(cache.home, cls, NULL);
        cr_assert_not_null(full);
        empty[i] = full;
    }
    for (int i = 0; i < NEEDED; i++)
        cr_assert_neq(depot_give_full(cache.home, cls, empty[i]), empty[i]);
    cr_assert_eq(cell->full.count, before);
    cr_assert_eq(cell->full.least, before - NEEDED);

    size_t returned = shard->returned;
    pass_an_interval();
    cr_assert_eq(cell->full.count, NEEDED);
    cr_assert_eq(shard->returned - returned, (before - NEEDED) * rounds);
    cr_assert_eq(cell->full.least, NEEDED, "a new interval began");
    cr_assert_sound();
    pass_an_interval();
    cr_assert_eq(cell->full.count, 0);
    cr_assert_sound();
}

Test(magazine, a_tick_reaps_a_bounded_amount)
{
    hak_class cls = hak_class_of(64);
    struct depot_cell *cell = cell_of(&cache, cls);
    size_t ticks = 0;

    push_through(&cache, cls, 10000);
    pass_an_interval();
    size_t full = cell->full.count;
    cell->began -= CONFIG_DEPOT_INTERVAL_MS;
    for (; cell->full.count > 0 && ticks < 100000; ticks++) {
        size_t before = cell->full.count;
        clock_advance(1);
        frontend_tick(&cache, shard);
        cr_assert_leq(before - cell->full.count, 8);
    }
    cr_assert_eq(cell->full.count, 0);
    cr_assert_geq(ticks, full / 8);
    cr_assert_sound();
}

Test(magazine, an_interval_that_is_not_over_reaps_nothing)
{
    hak_class cls = hak_class_of(64);
    hak_class reaped;
    struct depot_cell *cell = cell_of(&cache, cls);

    push_through(&cache, cls, 2000);
    pass_an_interval();
    size_t full = cell->full.count;
    cr_assert_eq(cell->full.least, full);
    for (int i = 0; i < 1000; i++)
        cr_assert_null(depot_reap(cell->began + CONFIG_DEPOT_INTERVAL_MS - 1, &reaped));
    cr_assert_eq(cell->full.count, full);
}

Test(magazine, empty_magazines_that_are_not_needed_are_dropped)
{
    enum { MANY = 20 };
    hak_class cls = hak_class_of(64);
    struct depot_cell *cell = cell_of(&cache, cls);
    struct magazine *empty[MANY];

    if (depot_rounds(cls) == 0)
        cr_skip("no magazines of this class");
    for (int i = 0; i < MANY; i++)
        cr_assert_not_null(empty[i] = depot_take_empty(cache.home, cls));
    for (int i = 0; i < MANY; i++)
        depot_give_empty(cache.home, cls, empty[i]);
    cr_assert_eq(cell->empty.count, MANY);
    pass_an_interval();
    cr_assert_eq(cell->empty.count, MANY);
    pass_an_interval();
    cr_assert_eq(cell->empty.count, 0);
    /* their memory serves the next ones */
    for (int i = 0; i < MANY; i++)
        cr_assert(is_among(depot_take_empty(cache.home, cls), empty, MANY));
}

/* ── how large magazines are ─────────────────────────────────────────────────────────────────── */

static struct depot_cell *contended;

/* Holds the lock until somebody sleeps on it: whoever that is has tried and failed. */
static void *hold_until_wanted(void *held)
{
    hak_lock(&contended->lock);
    __atomic_store_n((bool *)held, true, __ATOMIC_RELEASE);
    while (__atomic_load_n(&contended->lock.state, __ATOMIC_RELAXED) < 2)
        sched_yield();
    hak_unlock(&contended->lock);
    return NULL;
}

/* Makes one try at the lock of a cell fail. */
static void fail_one_try(hak_class cls)
{
    pthread_t thread;
    bool held = false;
    struct magazine *empty = depot_take_empty(cache.home, cls);

    contended = cell_of(&cache, cls);
    cr_assert_not_null(empty);
    cr_assert_eq(pthread_create(&thread, NULL, hold_until_wanted, &held), 0);
    while (!__atomic_load_n(&held, __ATOMIC_ACQUIRE))
        sched_yield();
    depot_give_empty(cache.home, cls, empty);
    pthread_join(thread, NULL);
}

Test(magazine, magazines_grow_when_threads_meet_at_the_depot)
{
    hak_class cls = hak_class_of(32);
    uint32_t first = depot_rounds(cls);
    uint32_t most = depot_rounds_most(cls);
    void *kept = alloc(cls);

    if (first == 0 || first == most)
        cr_skip("these magazines cannot grow");
    push_through(&cache, cls, 1000);
    pass_an_interval();

    for (unsigned i = 0; i + 1 < DEPOT_CONTENDED; i++)
        fail_one_try(cls);
    cr_assert_eq(cell_of(&cache, cls)->contended, DEPOT_CONTENDED - 1);
    pass_an_interval();
    cr_assert_eq(depot_rounds(cls), first, "one too few in that interval");
    cr_assert_eq(cell_of(&cache, cls)->contended, 0);

    for (unsigned i = 0; i < DEPOT_CONTENDED; i++)
        fail_one_try(cls);
    pass_an_interval();
    cr_assert_eq(depot_rounds(cls), 2 * first < most ? 2 * first : most);
    cr_assert_sound();

    /* The old ones serve until they come back empty, and die out. */
    for (int round = 0; round < 5; round++) {
        push_through(&cache, cls, 5000);
        push_through(&other, cls, 5000);
        cr_assert_sound();
    }
    cr_assert_eq(cache.bin[hak_class_index(cls)].capacity, depot_rounds(cls));
    release(cls, kept);
    cr_assert_eq(handed_out(cls), 0);

    for (int interval = 0; interval < 10; interval++) {
        for (unsigned i = 0; i < DEPOT_CONTENDED; i++)
            fail_one_try(cls);
        pass_an_interval();
    }
    cr_assert_eq(depot_rounds(cls), most, "and no further");
    push_through(&cache, cls, 5000);
    cr_assert_sound();
}

Test(magazine, outgrown_magazines_serve_other_classes)
{
    enum { MANY = 20 };
    hak_class cls = hak_class_of(32);
    hak_class alike = hak_class_of(16); /* whose magazines are as large as those of cls were */
    struct magazine *old[MANY + 1];

    if (depot_rounds(cls) != depot_rounds(alike) || depot_rounds(cls) == depot_rounds_most(cls))
        cr_skip("these magazines cannot grow, or differ");
    cr_assert_not_null(alloc(cls));
    old[MANY] = cache.bin[hak_class_index(cls)].loaded;
    for (int i = 0; i < MANY; i++)
        cr_assert_not_null(old[i] = depot_take_empty(cache.home, cls));
    for (int i = 0; i < MANY; i++)
        depot_give_empty(cache.home, cls, old[i]);
    depot.rounds[hak_class_index(cls)] = depot_rounds_most(cls);
    while (cache.bin[hak_class_index(cls)].loaded == old[MANY])
        cr_assert_not_null(alloc(cls));
    cr_assert_eq(cache.bin[hak_class_index(cls)].capacity, depot_rounds_most(cls));
    for (int i = 0; i < MANY + 1; i++)
        cr_assert(is_among(depot_take_empty(cache.home, alike), old, MANY + 1));
    cr_assert_sound();
}

/* ── out of memory ───────────────────────────────────────────────────────────────────────────── */

Test(magazine, out_of_memory_leaves_the_cache_intact)
{
    hak_class cls = hak_class_of(64);
    void *blocks[10];

    shard->left = 10;
    for (int i = 0; i < 10; i++)
        cr_assert_not_null(blocks[i] = alloc(cls));
    for (int i = 0; i < 5; i++)
        cr_assert_null(alloc(cls));
    for (int i = 0; i < 10; i++)
        release(cls, blocks[i]);
    cr_assert_sound();
    cr_assert_not_null(alloc(cls));
}

Test(magazine, what_the_depot_holds_helps_when_memory_is_out)
{
    hak_class cls = hak_class_of(64);
    hak_class wanted = hak_class_of(1024);

    shard->left = 2000;
    push_through(&other, cls, 2000);
    cr_assert_eq(frontend_held(&other, cls) + store_held(cls) + shard->left, 2000);
    size_t in_depot = store_held(cls);
    for (size_t i = 0; i < in_depot; i++)
        cr_assert_not_null(alloc(wanted));
    cr_assert_eq(store_held(cls), 0);
    cr_assert_sound();
}

/* Runs with no address space left but what the arena of magazines still has. */
static void limit_address_space(void)
{
    struct rlimit limit = {1 << 20, RLIM_INFINITY};

    cr_assert_eq(setrlimit(RLIMIT_AS, &limit), 0);
}

static void lift_limit(void)
{
    struct rlimit limit = {RLIM_INFINITY, RLIM_INFINITY};

    cr_assert_eq(setrlimit(RLIMIT_AS, &limit), 0);
}

Test(magazine, without_memory_for_magazines_blocks_come_and_go_one_by_one)
{
    enum { COUNT = 300 };
    static void *blocks[HAK_CLASSES][COUNT];
    bool served = true;
    size_t left = 0;

    limit_address_space();
    for (unsigned c = 0; c < HAK_CLASSES; c++)
        for (int i = 0; i < COUNT; i++)
            served = (blocks[c][i] = alloc(hak_class_at(c))) != NULL && served;
    for (unsigned c = 0; c < HAK_CLASSES; c++)
        for (int i = 0; i < COUNT; i++)
            release(hak_class_at(c), blocks[c][i]);
    for (unsigned c = 0; c < HAK_CLASSES; c++)
        left += cache.bin[c].capacity;
    lift_limit();
    cr_assert(served);
    cr_assert_eq(left, 0, "there was memory for a magazine");
    cr_assert_eq(shard->given, shard->returned);
    cr_assert_sound();
    push_through(&cache, hak_class_of(64), 100);
    cr_assert_eq(cache.bin[hak_class_index(hak_class_of(64))].capacity,
                 depot_rounds(hak_class_of(64)));
}

/* As it were when a thread has one magazine, and no memory for the second. */
Test(magazine, with_one_magazine_a_flush_empties_it)
{
    hak_class cls = hak_class_of(64);
    uint32_t rounds = depot_rounds(cls);
    void *blocks[1200];
    size_t spent = 0;

    if (rounds == 0)
        cr_skip("no magazines of this class");
    cr_assert_not_null(blocks[0] = alloc(cls));
    limit_address_space();
    while (depot_take_empty(cache.home, cls)) /* the rest of the arena */
        spent++;
    for (uint32_t i = 1; i <= rounds + 1; i++)
        blocks[i] = alloc(cls);
    for (uint32_t i = 0; i <= rounds + 1; i++)
        release(cls, blocks[i]);
    lift_limit();
    cr_assert_gt(spent, 0);
    cr_assert_null(cache.previous[hak_class_index(cls)]);
    cr_assert_gt(shard->returned, 0);
    cr_assert_eq(handed_out(cls), 0);
    cr_assert_sound();
}

/* ── fork ────────────────────────────────────────────────────────────────────────────────────── */

Test(magazine, the_depot_survives_the_steps_of_a_fork)
{
    hak_class cls = hak_class_of(64);

    push_through(&cache, cls, 2000);
    size_t held = store_held(cls);
    for (int round = 0; round < 4; round++) {
        frontend_lock();
        cr_assert(!hak_lock_try(&cell_of(&cache, cls)->lock));
        cr_assert(!hak_lock_try(&cell_of(&other, hak_class_of(16))->lock));
        frontend_unlock();
        cr_assert_eq(store_held(cls), held);
        push_through(&cache, cls, 2000);
        cr_assert_sound();
    }
}

Test(magazine, a_forked_child_forgets_what_a_gone_thread_held)
{
    hak_class cls = hak_class_of(64);

    push_through(&cache, cls, 1000);
    size_t in_depot = store_held(cls);
    cache.bin[hak_class_index(cls)].count = 1u
                                            << 30; /* any: the thread was in the middle of a hit */
    frontend_forget(&cache);
    cr_assert_eq(held_bytes(&cache), 0);
    cr_assert_eq(store_held(cls), in_depot);
    cr_assert_eq(cache.granted, 0);
    store_upkeep(shard); /* what that thread had room for goes back */
    cr_assert_sound();
    push_through(&cache, cls, 1000);
    cr_assert_sound();
}

/* ── threads ─────────────────────────────────────────────────────────────────────────────────── */

/* A thread's life again and again: the magazines of one serve the next. */
Test(magazine, short_lives_leave_no_growth)
{
    struct magazine *first[512];
    size_t known = 0;

    for (int life = 0; life < 100000; life++) {
        hak_class cls = hak_class_at((unsigned)life % 8);
        void *blocks[20];
        for (int i = 0; i < 20; i++)
            cr_assert_not_null(blocks[i] = alloc(cls));
        for (int i = 0; i < 20; i++)
            release(cls, blocks[i]);
        struct magazine *mine = cache.bin[hak_class_index(cls)].loaded;
        frontend_empty(&cache, shard);
        bool seen = mine == NULL;
        for (size_t i = 0; i < known && !seen; i++)
            seen = first[i] == mine;
        if (!seen) {
            cr_assert_lt(known, 16);
            first[known++] = mine;
        }
        frontend_init(&cache);
    }
    cr_assert_sound();
    cr_assert_leq(shard->given - shard->returned, 16 * (size_t)CONFIG_CACHE_BLOCKS_16);
}

/* Real threads, and nothing but the depot: magazines go round among them while one reaps. No round is
 * ever in two magazines. */
enum { THREADS = 4, STEPS = 100000, CIRCLING = 100 };

static unsigned char owners[CIRCLING * 512];

static bool own_all(const struct magazine *full, bool own)
{
    for (uint32_t i = 0; i < full->capacity; i++)
        if (__atomic_exchange_n((unsigned char *)full->rounds[i], own, __ATOMIC_RELAXED) == own)
            return false;
    return true;
}

/* Returns where it found something wrong. */
static void *circulate(void *number)
{
    struct depot_stripe *home = depot_home();
    hak_class cls = hak_class_of(16);
    struct magazine *empty = NULL;

    for (size_t step = (size_t)number; step < STEPS; step++) {
        struct magazine *full = depot_take_full(home, cls, empty);
        if (full == NULL)
            continue;
        empty = NULL;
        if (!own_all(full, true))
            return (void *)__LINE__;
        if (step % 64 == 0) {
            hak_class reaped;
            struct magazine *surplus =
                depot_reap((uint32_t)step * CONFIG_DEPOT_INTERVAL_MS, &reaped);
            if (surplus && (reaped != cls || !own_all(surplus, true) || !own_all(surplus, false) ||
                            depot_give_full(home, cls, surplus) == surplus))
                return (void *)__LINE__;
        }
        if (!own_all(full, false))
            return (void *)__LINE__;
        empty = depot_give_full(home, cls, full);
        if (empty == full)
            return (void *)__LINE__;
        if (empty && step % 3 == 0) {
            depot_give_empty(home, cls, empty);
            empty = NULL;
        } else if (empty == NULL && step % 5 == 0) {
            empty = depot_take_empty(home, cls);
        }
    }
    if (empty)
        depot_give_empty(home, cls, empty);
    return NULL;
}

static bool visit_owner(void *block, void *count)
{
    cr_assert_eq(*(unsigned char *)block, 0);
    *(unsigned char *)block = 1;
    ++*(size_t *)count;
    return true;
}

Test(magazine, threads_hand_magazines_round)
{
    pthread_t threads[THREADS];
    hak_class cls = hak_class_of(16);
    size_t rounds = depot_rounds(cls);
    size_t walked = 0;

    if (rounds == 0 || CIRCLING * rounds * 16 > DEPOT_SHARE)
        cr_skip("the depot is too small");
    give_room();
    for (size_t i = 0; i < CIRCLING; i++) {
        struct magazine *full = depot_take_empty(cache.home, cls);
        for (size_t n = 0; n < rounds; n++)
            full->rounds[n] = &owners[i * rounds + n];
        cr_assert_neq(depot_give_full(cache.home, cls, full), full);
    }
    for (size_t i = 0; i < THREADS; i++)
        cr_assert_eq(pthread_create(&threads[i], NULL, circulate, (void *)i), 0);
    for (size_t i = 0; i < THREADS; i++) {
        void *wrong;
        cr_assert_eq(pthread_join(threads[i], &wrong), 0);
        cr_assert_null(wrong, "line %zu", (size_t)wrong);
    }
    cr_assert_eq(depot_held(cls), CIRCLING * rounds);
    store_walk(visit_owner, &walked);
    cr_assert_eq(walked, CIRCLING * rounds);
    cr_assert_sound();
}

/* Each clause of the invariants is looked at: what breaks it is noticed. */
Test(magazine, a_broken_cache_is_not_valid)
{
    hak_class cls = hak_class_of(16);
    unsigned index = hak_class_index(cls);

    if (depot_rounds_most(cls) < 2)
        cr_skip_test("no magazines of this class");
    push_through(&cache, cls, 1000);
    cr_assert(frontend_valid(&cache));
    cr_assert(cache.bin[index].loaded != NULL);
    const struct hak_cache sound = cache;

    cache.granted++;
    cr_assert(!frontend_valid(&cache), "more was granted than the limits say");
    cache = sound;
    cache.bin[index].count = cache.bin[index].capacity + 1;
    cr_assert(!frontend_valid(&cache), "more blocks than a magazine has");
    cache = sound;
    cache.bin[index].capacity--;
    cr_assert(!frontend_valid(&cache), "another capacity than the magazine's");
    cache = sound;
    cache.limit[index] = (uint16_t)(depot_rounds_most(cls) + 1);
    cr_assert(!frontend_valid(&cache), "a limit beyond the class's");
    cache = sound;
    cache.previous[index] = NULL;
    cache.state[index].previous_full = true;
    cr_assert(!frontend_valid(&cache), "no magazine is full");
    cache = sound;
    cr_assert(frontend_valid(&cache));
}

Test(magazine, a_broken_depot_is_not_valid)
{
    hak_class cls = hak_class_of(16);
    struct depot_cell *cell = cell_of(&cache, cls);

    give_room();
    push_through(&cache, cls, 20000);
    if (cell->full.top == NULL)
        cr_skip_test("the depot is too small");
    cr_assert(depot_valid());
    cache.home->bytes += 16;
    cr_assert(!depot_valid(), "a stripe counts more bytes than it has");
    cache.home->bytes -= 16;
    cell->full.count++;
    cr_assert(!depot_valid(), "a cell counts a magazine more than it has");
    cell->full.count--;
    cell->full.least = cell->full.count + 1;
    cr_assert(!depot_valid(), "there were never as many");
    cell->full.least = 0;
    cell->full.top->bytes++;
    cr_assert(!depot_valid(), "other bytes than a magazine's blocks have");
    cell->full.top->bytes--;
    cell->full.top->capacity = depot_rounds_most(cls) + 1;
    cr_assert(!depot_valid(), "a magazine beyond its class's");
}
