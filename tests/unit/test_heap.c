/* SPDX-License-Identifier: MIT */
#include <criterion/criterion.h>
#include <hakmem/hakmem.h>
#include <limits.h>
#include <pthread.h>

#include "core/heap.h"

static void *attach(void *unused)
{
    (void)unused;
    hak_free(hak_malloc(1));
    return hak_heap_mine;
}

static void *heap_of_new_thread(void)
{
    pthread_t thread;
    void *heap;

    cr_assert_eq(pthread_create(&thread, NULL, attach, NULL), 0);
    cr_assert_eq(pthread_join(thread, &heap), 0);
    return heap;
}

Test(heap, a_thread_starts_with_the_empty_heap)
{
    cr_assert(hak_heap_is_empty(hak_heap_mine));
    cr_assert_geq(backend_lookup(&hak_heap_mine->shard, &hak_heap_empty), HAK_CLASS_END);
    cr_assert_geq(backend_lookup(&hak_heap_mine->shard, NULL), HAK_CLASS_END);
}

Test(heap, free_attaches_no_heap)
{
    hak_free(NULL);
    cr_assert(hak_heap_is_empty(hak_heap_mine));
}

Test(heap, malloc_attaches_one)
{
    hak_free(hak_malloc(1));
    cr_assert(!hak_heap_is_empty(hak_heap_mine));
    cr_assert(frontend_valid(&hak_heap_mine->cache));
    cr_assert(backend_valid(&hak_heap_mine->shard));
}

Test(heap, a_new_thread_takes_the_heap_parked_last)
{
    hak_free(hak_malloc(1));
    void *first = heap_of_new_thread();
    cr_assert_neq(first, hak_heap_mine);
    for (int i = 0; i < 100; i++)
        cr_assert_eq(heap_of_new_thread(), first);
}

static pthread_key_t late_key;

static void allocate_late(void *rounds)
{
    hak_free(hak_malloc(100));
    hak_free(hak_malloc(1000000));
    if ((uintptr_t)rounds > 1) /* once more in the next round of destructors */
        pthread_setspecific(late_key, (void *)((uintptr_t)rounds - 1));
}

static void *end_late(void *unused)
{
    pthread_setspecific(late_key, (void *)(uintptr_t)PTHREAD_DESTRUCTOR_ITERATIONS);
    return attach(unused);
}

Test(heap, destructors_that_allocate_in_every_round_leave_no_heap_behind)
{
    pthread_t thread;

    hak_free(hak_malloc(1));
    cr_assert_eq(pthread_key_create(&late_key, allocate_late), 0);
    void *first = heap_of_new_thread();
    for (int i = 0; i < 50; i++) {
        cr_assert_eq(pthread_create(&thread, NULL, end_late, NULL), 0);
        cr_assert_eq(pthread_join(thread, NULL), 0);
        cr_assert_eq(heap_of_new_thread(), first);
    }
}

Test(heap, a_claimed_heap_is_not_taken_by_a_new_thread)
{
    hak_free(hak_malloc(1));
    struct hak_heap *first = heap_of_new_thread();
    struct hak_shard *claimed = hak_heap_claim(0);

    cr_assert_eq(claimed, &first->shard);
    cr_assert_null(hak_heap_claim(0));
    cr_assert_neq(heap_of_new_thread(), first);
    hak_heap_release(claimed);
    cr_assert_eq(heap_of_new_thread(), first);
}

Test(heap, claiming_skips_as_many_as_asked)
{
    hak_free(hak_malloc(1));
    heap_of_new_thread();
    struct hak_shard *first = hak_heap_claim(0);
    heap_of_new_thread(); /* has to make another */
    hak_heap_release(first);
    struct hak_shard *second = hak_heap_claim(1);
    cr_assert(second && second != first);
    cr_assert_null(hak_heap_claim(1));
    hak_heap_release(second);
}
