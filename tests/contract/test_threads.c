/* SPDX-License-Identifier: MIT */
/* Threads that start and end, and blocks that another thread frees than the one that allocated them. */
#include <criterion/criterion.h>
#include <pthread.h>
#include <string.h>

#include "core/heap.h"
#include "tests/contract/support.h"

static const size_t MIB = (size_t)1 << 20;

/* ── heaps ───────────────────────────────────────────────────────────────────────────────────── */

/* The heaps that threads had. */
static const struct hak_heap *heaps[1024];
static size_t heaps_seen;

static void note_heap(const struct hak_heap *heap)
{
    for (size_t i = 0; i < heaps_seen; i++)
        if (heaps[i] == heap)
            return;
    cr_assert_lt(heaps_seen, sizeof(heaps) / sizeof(heaps[0]));
    heaps[heaps_seen++] = heap;
}

/* Some blocks of many sizes; returns the heap that they came from. */
static void *short_life(void *unused)
{
    uint64_t random = (uintptr_t)&unused;
    void *blocks[200];

    for (size_t i = 0; i < 200; i++) {
        size_t size = random_size(&random, 100000);
        blocks[i] = hak_malloc(size);
        require(blocks[i] != NULL);
        memset(blocks[i], 0x5a, size);
    }
    for (size_t i = 0; i < 200; i++)
        hak_free(blocks[i]);
    return hak_heap_mine;
}

Test(threads, a_thousand_one_after_the_other_share_few_heaps)
{
    size_t after_warm_up = 0;

    for (int i = 0; i < 1000; i++) {
        note_heap(on_new_thread(short_life, NULL));
        if (i == 100)
            after_warm_up = resident_bytes();
    }
    cr_assert_leq(heaps_seen, 4);
    cr_assert_leq(resident_bytes(), after_warm_up + 8 * MIB);
}

Test(threads, a_thousand_eight_at_a_time_share_few_heaps)
{
    pthread_t threads[8];
    size_t after_warm_up = 0;

    for (int round = 0; round < 125; round++) {
        for (int i = 0; i < 8; i++)
            cr_assert_eq(pthread_create(&threads[i], NULL, short_life, NULL), 0);
        for (int i = 0; i < 8; i++) {
            void *heap;
            cr_assert_eq(pthread_join(threads[i], &heap), 0);
            note_heap(heap);
        }
        if (round == 25)
            after_warm_up = resident_bytes();
    }
    cr_assert_leq(heaps_seen, 32);
    cr_assert_leq(resident_bytes(), after_warm_up + 32 * MIB);
}

/* ── blocks that outlive their thread ────────────────────────────────────────────────────────── */

enum { KINDS = 8, BATCH = 512 };

struct batch {
    unsigned char *blocks[BATCH];
    size_t sizes[BATCH];
};

/* Of every kind: small, at the class borders, large, aligned, zeroed. */
static void allocate(struct batch *batch, uint64_t *random)
{
    for (size_t i = 0; i < BATCH; i++) {
        size_t size = random_size(random, i % KINDS == 0 ? 300000 : 1000);
        size_t align = (size_t)1 << random_below(random, 13);
        batch->blocks[i] = i % KINDS == 1   ? hak_aligned_alloc(align, size)
                           : i % KINDS == 2 ? hak_calloc(1, size)
                                            : hak_malloc(size);
        batch->sizes[i] = size;
        require(batch->blocks[i] != NULL);
        pattern_fill(batch->blocks[i], size, i);
    }
}

static void *allocate_on_thread(void *batch)
{
    uint64_t random = 1;

    allocate(batch, &random);
    return NULL;
}

static void *check_and_free(void *argument)
{
    struct batch *batch = argument;

    for (size_t i = 0; i < BATCH; i++) {
        require(pattern_holds(batch->blocks[i], batch->sizes[i], batch->blocks[i], i));
        hak_free(batch->blocks[i]);
    }
    return NULL;
}

/* As check_and_free, by a thread that has no heap, and gets one on the way. */
static void *free_without_a_heap(void *argument)
{
    require(hak_heap_is_empty(hak_heap_mine));
    check_and_free(argument);
    require(!hak_heap_is_empty(hak_heap_mine));
    return NULL;
}

/* Frees the next few blocks, too few to get a heap by it. */
struct few {
    struct batch *batch;
    size_t next;
};

static void *free_a_few(void *argument)
{
    struct few *few = argument;

    for (int i = 1; i < HAK_FREES_TO_ATTACH && few->next < BATCH; i++)
        hak_free(few->batch->blocks[few->next++]);
    require(hak_heap_is_empty(hak_heap_mine));
    return NULL;
}

static struct batch batch;

Test(threads, blocks_outlive_their_thread)
{
    on_new_thread(allocate_on_thread, &batch);
    check_and_free(&batch);
    require_valid_heap();
}

Test(threads, a_block_of_an_ended_thread_can_be_resized)
{
    on_new_thread(allocate_on_thread, &batch);
    for (size_t i = 0; i < BATCH; i++) {
        unsigned char *old = batch.blocks[i];
        size_t size = batch.sizes[i];
        unsigned char *block = hak_realloc(old, 2 * size + 1);
        cr_assert(block && pattern_holds(block, size, old, i));
        cr_assert_geq(hak_malloc_usable_size(block), 2 * size + 1);
        hak_free(block);
    }
    require_valid_heap();
}

Test(threads, memory_of_ended_threads_is_used_again)
{
    size_t after_warm_up = 0;

    for (int i = 0; i < 300; i++) {
        on_new_thread(allocate_on_thread, &batch);
        if (i % 3 == 0)
            check_and_free(&batch);
        else
            on_new_thread(i % 3 == 1 ? check_and_free : free_without_a_heap, &batch);
        if (i == 60)
            after_warm_up = resident_bytes();
    }
    cr_assert_leq(resident_bytes(), after_warm_up + 16 * MIB);
}

Test(threads, a_thread_that_only_frees_gets_a_heap_and_leaves_it)
{
    uint64_t random = 2;

    for (int i = 0; i < 100; i++) {
        allocate(&batch, &random);
        on_new_thread(free_without_a_heap, &batch);
    }
    allocate(&batch, &random);
    check_and_free(&batch);
    require_valid_heap();
}

Test(threads, a_thread_that_frees_a_few_blocks_needs_no_heap)
{
    uint64_t random = 2;

    for (int i = 0; i < 20; i++) {
        struct few few = {&batch, 0};
        allocate(&batch, &random);
        while (few.next < BATCH)
            on_new_thread(free_a_few, &few);
    }
    require_valid_heap();
}

/* ── producers and consumers ─────────────────────────────────────────────────────────────────── */

/* One thread only allocates, the other only frees. They take turns with one of two batches each, so
 * that both work at the same time. */
struct flow {
    struct batch batches[2];
    pthread_barrier_t turn;
    unsigned rounds;
};

static void *produce(void *argument)
{
    struct flow *flow = argument;
    uint64_t random = 3;

    for (unsigned round = 0; round < flow->rounds; round++) {
        allocate(&flow->batches[round % 2], &random);
        pthread_barrier_wait(&flow->turn);
    }
    return NULL;
}

static void *consume(void *argument)
{
    struct flow *flow = argument;
    size_t after_warm_up = 0;

    for (unsigned round = 0; round < flow->rounds; round++) {
        pthread_barrier_wait(&flow->turn);
        check_and_free(&flow->batches[round % 2]);
        if (round == 50)
            after_warm_up = resident_bytes();
    }
    require(resident_bytes() <= after_warm_up + 24 * MIB);
    return NULL;
}

static void run_flow(void *(*consumer)(void *))
{
    static struct flow flow;
    pthread_t producer;

    flow.rounds = 300;
    pthread_barrier_init(&flow.turn, NULL, 2);
    cr_assert_eq(pthread_create(&producer, NULL, produce, &flow), 0);
    consumer(&flow);
    cr_assert_eq(pthread_join(producer, NULL), 0);
}

Test(threads, what_one_allocates_and_another_frees_stays_bounded)
{
    run_flow(consume);
    cr_assert(!hak_heap_is_empty(hak_heap_mine), "the consumer has one, though it never allocated");
}

static void *consume_with_a_heap(void *flow)
{
    hak_free(hak_malloc(1));
    consume(flow);
    require_valid_heap();
    return NULL;
}

Test(threads, what_one_allocates_and_another_with_a_heap_frees_stays_bounded)
{
    run_flow(consume_with_a_heap);
}

/* ── many at once ────────────────────────────────────────────────────────────────────────────── */

enum { CROWD = 400 };

static struct {
    pthread_barrier_t all_have_one;
    unsigned char *blocks[CROWD];
} crowd;

/* Allocates a block, and frees a neighbour's once everybody has one. */
static void *one_of_a_crowd(void *argument)
{
    size_t number = (size_t)argument;
    size_t neighbour = (number + 1) % CROWD;

    crowd.blocks[number] = hak_malloc(number * 100);
    require(crowd.blocks[number] != NULL);
    pattern_fill(crowd.blocks[number], number * 100, number);
    pthread_barrier_wait(&crowd.all_have_one);
    require(pattern_holds(crowd.blocks[neighbour], neighbour * 100, crowd.blocks[neighbour],
                          neighbour));
    hak_free(crowd.blocks[neighbour]);
    require_valid_heap();
    return NULL;
}

Test(threads, hundreds_alive_at_once)
{
    static pthread_t threads[CROWD];
    pthread_attr_t attributes;

    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 256 << 10);
    for (int round = 0; round < 3; round++) {
        pthread_barrier_init(&crowd.all_have_one, NULL, CROWD);
        for (size_t i = 0; i < CROWD; i++)
            cr_assert_eq(pthread_create(&threads[i], &attributes, one_of_a_crowd, (void *)i), 0);
        for (size_t i = 0; i < CROWD; i++)
            cr_assert_eq(pthread_join(threads[i], NULL), 0);
    }
}

/* ── allocation while a thread ends ──────────────────────────────────────────────────────────── */

static pthread_key_t key;

/* Runs before or after the allocator's own destructor; the second round surely after. */
static void allocate_at_the_end(void *argument)
{
    unsigned char *block = argument;
    static _Thread_local int rounds;

    require(pattern_holds(block, 100, block, 7));
    hak_free(block);
    if (++rounds < 3) {
        block = hak_malloc(100);
        pattern_fill(block, 100, 7);
        pthread_setspecific(key, block);
    }
}

static void *end_slowly(void *unused)
{
    unsigned char *block = hak_malloc(100);

    (void)unused;
    pattern_fill(block, 100, 7);
    pthread_setspecific(key, block);
    return hak_heap_mine;
}

Test(threads, destructors_of_a_thread_may_allocate)
{
    cr_assert_eq(pthread_key_create(&key, allocate_at_the_end), 0);
    for (int i = 0; i < 200; i++)
        note_heap(on_new_thread(end_slowly, NULL));
    cr_assert_leq(heaps_seen, 4);
}

/* ── aligned and large blocks across threads ─────────────────────────────────────────────────── */

static unsigned char *handed_over;

static void *free_it(void *unused)
{
    hak_free(handed_over);
    return unused;
}

Test(threads, aligned_and_large_blocks_are_freed_by_others)
{
    size_t after_warm_up = 0;

    for (int i = 0; i < 200; i++) {
        for (size_t align = 16; align <= 4 * MIB; align *= 4) {
            handed_over = hak_aligned_alloc(align, 3000);
            cr_assert(handed_over && (uintptr_t)handed_over % align == 0);
            memset(handed_over, 1, 3000);
            on_new_thread(free_it, NULL);
        }
        handed_over = hak_malloc(3 * MIB);
        cr_assert_not_null(handed_over);
        memset(handed_over, 1, 3 * MIB);
        on_new_thread(free_it, NULL);
        if (i == 20)
            after_warm_up = resident_bytes();
    }
    cr_assert_leq(resident_bytes(), after_warm_up + 16 * MIB);
}

/* ── slabs that change hands ─────────────────────────────────────────────────────────────────── */

enum { ORPHANS = 3000, FREERS = 2, ADOPTERS = 2 };

/* Blocks of a thread that has ended, and the threads that free and allocate at the same time. */
static struct {
    unsigned char *orphans[ORPHANS];
    size_t size;
    pthread_barrier_t
        attached; /* the adopters have heaps of their own, so that none gets the orphans' */
    pthread_barrier_t ready;
} legacy;

static void *leave_behind(void *unused)
{
    for (size_t i = 0; i < ORPHANS; i++) {
        legacy.orphans[i] = hak_malloc(legacy.size);
        require(legacy.orphans[i] != NULL);
        pattern_fill(legacy.orphans[i], legacy.size, i);
    }
    /* Some free ones in between, so that there is something to take over. */
    for (size_t i = 0; i < ORPHANS; i += 5) {
        hak_free(legacy.orphans[i]);
        legacy.orphans[i] = NULL;
    }
    return unused;
}

static void *free_orphans(void *argument)
{
    pthread_barrier_wait(&legacy.ready);
    for (size_t i = (size_t)argument; i < ORPHANS; i += FREERS) {
        if (legacy.orphans[i] == NULL)
            continue;
        require(pattern_holds(legacy.orphans[i], legacy.size, legacy.orphans[i], i));
        hak_free(legacy.orphans[i]);
    }
    return NULL;
}

static void *allocate_like_orphans(void *argument)
{
    static unsigned char *blocks[ADOPTERS][ORPHANS];
    unsigned char **mine = blocks[(size_t)argument];

    hak_free(hak_malloc(1));
    pthread_barrier_wait(&legacy.attached);
    pthread_barrier_wait(&legacy.ready);
    for (size_t i = 0; i < ORPHANS; i++) {
        mine[i] = hak_malloc(legacy.size);
        require(mine[i] != NULL);
        pattern_fill(mine[i], legacy.size, (size_t)mine + i);
    }
    for (size_t i = 0; i < ORPHANS; i++) {
        require(pattern_holds(mine[i], legacy.size, mine[i], (size_t)mine + i));
        hak_free(mine[i]);
    }
    require_valid_heap();
    return NULL;
}

Test(threads, orphans_are_freed_while_others_take_their_slabs_over)
{
    uint64_t random = 19;
    size_t after_warm_up = 0;

    for (int round = 0; round < 250; round++) {
        pthread_t adopters[ADOPTERS];
        pthread_t freers[FREERS];
        legacy.size = 16 + random_size(&random, 1000);
        pthread_barrier_init(&legacy.attached, NULL, ADOPTERS + 1);
        pthread_barrier_init(&legacy.ready, NULL, ADOPTERS + FREERS);
        for (size_t i = 0; i < ADOPTERS; i++)
            cr_assert_eq(pthread_create(&adopters[i], NULL, allocate_like_orphans, (void *)i), 0);
        pthread_barrier_wait(&legacy.attached);
        on_new_thread(leave_behind, NULL);
        for (size_t i = 0; i < FREERS; i++)
            cr_assert_eq(pthread_create(&freers[i], NULL, free_orphans, (void *)i), 0);
        for (size_t i = 0; i < FREERS; i++)
            cr_assert_eq(pthread_join(freers[i], NULL), 0);
        for (size_t i = 0; i < ADOPTERS; i++)
            cr_assert_eq(pthread_join(adopters[i], NULL), 0);
        if (round == 50)
            after_warm_up = resident_bytes();
    }
    cr_assert_leq(resident_bytes(), after_warm_up + 32 * MIB);
}

enum { PASSED_ON = 1000, PASSED_SIZE = 20 << 10, LARGE_SIZE = 192 << 10 };

static void *free_blocks(void *blocks)
{
    for (int i = 0; i < PASSED_ON; i++)
        hak_free(((void **)blocks)[i]);
    return NULL;
}

/* A thread that goes over to large blocks makes no call in which it would look for small ones. */
Test(threads, large_blocks_use_what_others_have_freed)
{
    static void *blocks[PASSED_ON];
    const size_t bytes = (size_t)PASSED_ON * PASSED_SIZE;

    for (int i = 0; i < PASSED_ON; i++) {
        blocks[i] = hak_malloc(PASSED_SIZE);
        cr_assert_not_null(blocks[i]);
        memset(blocks[i], 1, PASSED_SIZE);
    }
    size_t before = resident_bytes();
    on_new_thread(free_blocks, blocks);
    for (size_t i = 0; i < bytes / LARGE_SIZE; i++)
        memset(hak_malloc(LARGE_SIZE), 1, LARGE_SIZE);
    cr_assert_leq(resident_bytes(), before + bytes / 2, "%zu KiB more are resident",
                  (resident_bytes() - before) >> 10);
}
