/* SPDX-License-Identifier: MIT */
/* What lies in caches is bounded: for T threads never more than T times CONFIG_CACHE_BYTES, with what the back end
 * keeps at hand for them and what they share in a store of the front end's. */
#include <criterion/criterion.h>
#include <pthread.h>
#include <string.h>

#include "core/heap.h"
#include "tests/contract/support.h"

enum { THREADS = 64, SLOTS = 400, STEPS = 1500, ROUNDS = 24 };

static struct {
    pthread_barrier_t stopped;
    pthread_barrier_t go_on;
    const struct hak_heap *heaps[THREADS];
    void *slots[THREADS][SLOTS]; /* atomic; others take blocks and put theirs */
    size_t seen_most;
} crowd;

static bool add_block(void *block, void *bytes)
{
    *(size_t *)bytes += hak_class_size(backend_is_block(block));
    return true;
}

static size_t bytes_in_store(void)
{
    size_t bytes = 0;

    for (unsigned i = 0; i < HAK_CLASSES; i++)
        bytes += store_held(hak_class_at(i)) * hak_class_sizes[i];
    return bytes;
}

/* Of one thread, all that counts but for what it shares. */
static size_t held_by(const struct hak_heap *heap)
{
    size_t bytes = 0;

    for (unsigned i = 0; i < HAK_CLASSES; i++)
        bytes += frontend_held(&heap->cache, hak_class_at(i)) * hak_class_sizes[i];
    backend_walk_kept(&heap->shard, add_block, &bytes);
    return bytes;
}

/* Bursts of one class or of all, up and down, so that now this class and now that fills its cache. */
static void work(size_t number, uint64_t *random)
{
    size_t most = random_below(random, 3) ? HAK_SMALL_MAX : 600;

    for (size_t step = 0; step < STEPS; step++) {
        size_t other = random_below(random, 8) ? number : random_below(random, THREADS);
        void **slot = &crowd.slots[other][random_below(random, SLOTS)];
        void *block = random_below(random, 5) ? hak_malloc(random_size(random, most)) : NULL;
        hak_free(__atomic_exchange_n(slot, block, __ATOMIC_ACQ_REL));
        if (step % 16 == 0)
            require(held_by(hak_heap_mine) <= CONFIG_CACHE_BYTES);
    }
    if (random_below(random, 3) == 0)
        for (size_t i = 0; i < SLOTS; i++)
            hak_free(__atomic_exchange_n(&crowd.slots[number][i], NULL, __ATOMIC_ACQ_REL));
    require(held_by(hak_heap_mine) <= CONFIG_CACHE_BYTES);
}

/* By one, while all others stand still. */
static void sum_up(size_t threads)
{
    size_t sum = bytes_in_store();

    for (size_t i = 0; i < threads; i++)
        sum += held_by(crowd.heaps[i]);
    require(sum <= threads * CONFIG_CACHE_BYTES);
    crowd.seen_most = sum > crowd.seen_most ? sum : crowd.seen_most;
}

static void *one_of_a_crowd(void *argument)
{
    size_t number = (size_t)argument;
    uint64_t random = number;

    hak_free(hak_malloc(1));
    crowd.heaps[number] = hak_heap_mine;
    for (int round = 0; round < ROUNDS; round++) {
        work(number, &random);
        pthread_barrier_wait(&crowd.stopped);
        if (number == 0)
            sum_up(THREADS);
        pthread_barrier_wait(&crowd.go_on);
    }
    return NULL;
}

static void run_crowd(void)
{
    pthread_t threads[THREADS];

    pthread_barrier_init(&crowd.stopped, NULL, THREADS);
    pthread_barrier_init(&crowd.go_on, NULL, THREADS);
    for (size_t i = 0; i < THREADS; i++)
        cr_assert_eq(pthread_create(&threads[i], NULL, one_of_a_crowd, (void *)i), 0);
    for (size_t i = 0; i < THREADS; i++)
        cr_assert_eq(pthread_join(threads[i], NULL), 0);
}

Test(cache_bound, sixty_four_threads_cache_no_more_than_so_many_times_the_bytes)
{
    run_crowd();
    cr_log_info("at most %zu KiB of %zu", crowd.seen_most >> 10,
                (size_t)THREADS * CONFIG_CACHE_BYTES >> 10);
    cr_assert_gt(crowd.seen_most, THREADS * sizeof(void *), "they have cached something");
}

Test(cache_bound, threads_that_have_ended_leave_nothing_in_the_store)
{
    run_crowd();
    cr_assert_eq(bytes_in_store(), 0);
}

/* Alone, it has no others' share to hide behind. */
Test(cache_bound, one_thread_caches_no_more_than_the_bytes)
{
    enum { MANY = 20000 };
    static void *blocks[MANY];
    static const size_t SIZES[] = {16, 64, 100, 1024, 5000, 30000};

    for (size_t at = 0; at < sizeof(SIZES) / sizeof(SIZES[0]); at++) {
        size_t count = SIZES[at] > 2000 ? MANY / 20 : MANY;
        for (size_t i = 0; i < count; i++)
            cr_assert_not_null(blocks[i] = hak_malloc(SIZES[at]));
        for (size_t i = 0; i < count; i++) {
            hak_free(blocks[i]);
            if (i % 16 == 0)
                cr_assert_leq(held_by(hak_heap_mine) + bytes_in_store(), CONFIG_CACHE_BYTES);
        }
    }
}
