/* SPDX-License-Identifier: MIT */
#include <criterion/criterion.h>
#include <errno.h>
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

/* ── threads that only free ──────────────────────────────────────────────────────────────────── */

enum { FREED_MOST = 100 };

static void *freed[FREED_MOST];

static void fill_freed(void)
{
    for (int i = 0; i < FREED_MOST; i++)
        freed[i] = hak_malloc(100);
}

static void free_count(int count)
{
    static int next;

    for (int i = 0; i < count; i++, next = (next + 1) % FREED_MOST) {
        hak_free(freed[next]);
        freed[next] = NULL;
    }
}

static void *run_on_new_thread(void *(*function)(void *), void *argument)
{
    pthread_t thread;
    void *result;

    cr_assert_eq(pthread_create(&thread, NULL, function, argument), 0);
    cr_assert_eq(pthread_join(thread, &result), 0);
    return result;
}

static void *free_until_attached(void *unused)
{
    (void)unused;
    for (int i = 1; i < HAK_FREES_TO_ATTACH; i++) {
        free_count(1);
        cr_assert(hak_heap_is_empty(hak_heap_mine), "after %d frees", i);
    }
    errno = 77;
    free_count(1);
    cr_assert_eq(errno, 77);
    cr_assert(!hak_heap_is_empty(hak_heap_mine));
    cr_assert(backend_valid(&hak_heap_mine->shard));
    return hak_heap_mine;
}

Test(heap, null_pointers_attach_no_heap)
{
    for (int i = 0; i < 2 * HAK_FREES_TO_ATTACH; i++)
        hak_free(NULL);
    cr_assert_eq(hak_heap_mine, &hak_heap_empty);
}

Test(heap, many_frees_attach_one_that_the_threads_end_parks)
{
    void *first = NULL;

    for (int i = 0; i < 50; i++) {
        fill_freed();
        void *heap = run_on_new_thread(free_until_attached, NULL);
        cr_assert(first == NULL || heap == first);
        cr_assert(((struct hak_heap *)heap)->parked);
        first = heap;
        free_count(FREED_MOST - HAK_FREES_TO_ATTACH);
    }
}

static pthread_key_t last_key;

/* Runs when the thread's end has been noted, as libc's own last frees do. */
static void free_at_the_end(void *unused)
{
    (void)unused;
    free_count(2 * HAK_FREES_TO_ATTACH);
    cr_assert(hak_heap_is_empty(hak_heap_mine));
}

static void *free_some_and_end(void *unused)
{
    (void)unused;
    pthread_setspecific(last_key, &last_key);
    free_count(HAK_FREES_TO_ARM);
    cr_assert(hak_heap_is_empty(hak_heap_mine));
    return NULL;
}

Test(heap, the_last_frees_of_an_ending_thread_attach_none)
{
    fill_freed(); /* the heap's key is made before that one, and its destructor runs first */
    cr_assert_eq(pthread_key_create(&last_key, free_at_the_end), 0);
    run_on_new_thread(free_some_and_end, NULL);
}

static void *free_all(void *unused)
{
    (void)unused;
    free_count(FREED_MOST);
    return hak_heap_is_empty(hak_heap_mine) ? NULL : hak_heap_mine;
}

/* Such a key's value may need an allocation. */
Test(heap, without_a_key_at_hand_free_attaches_none)
{
    for (int i = 0; i < 40; i++) {
        pthread_key_t key;
        cr_assert_eq(pthread_key_create(&key, NULL), 0);
    }
    fill_freed();
    cr_assert_null(run_on_new_thread(free_all, NULL));
}

static void *free_then_allocate(void *unused)
{
    (void)unused;
    free_count(HAK_FREES_TO_ARM + 1);
    return attach(NULL);
}

Test(heap, a_thread_whose_end_was_noted_and_that_allocates_is_detached_once)
{
    fill_freed();
    struct hak_heap *heap = run_on_new_thread(free_then_allocate, NULL);
    cr_assert(heap->parked);
    cr_assert_eq(heap_of_new_thread(), heap);
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
