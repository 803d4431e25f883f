/* SPDX-License-Identifier: MIT */
#include <criterion/criterion.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "core/lock.h"
#include "tests/contract/death.h"

enum { THREADS = 4, ROUNDS = 200000 };

static struct hak_lock lock = {.rank = HAK_RANK_HEAPS};
static size_t counter;

static void *count(void *unused)
{
    for (int i = 0; i < ROUNDS; i++) {
        hak_lock(&lock);
        counter++;
        hak_unlock(&lock);
    }
    return unused;
}

Test(lock, keeps_threads_apart)
{
    pthread_t threads[THREADS];

    for (int i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, count, NULL);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    cr_assert_eq(counter, (size_t)THREADS * ROUNDS);
    cr_assert_eq(lock.state, 0);
}

static bool taken; /* atomic */

static void *take_and_leave(void *unused)
{
    hak_lock(&lock);
    __atomic_store_n(&taken, true, __ATOMIC_RELEASE);
    hak_unlock(&lock);
    return unused;
}

static bool is_taken(void)
{
    return __atomic_load_n(&taken, __ATOMIC_ACQUIRE);
}

Test(lock, says_whether_somebody_waits)
{
    pthread_t thread;

    hak_lock(&lock);
    cr_assert(!hak_lock_is_awaited(&lock));
    pthread_create(&thread, NULL, take_and_leave, NULL);
    while (!hak_lock_is_awaited(&lock) && !is_taken())
        sched_yield();
    cr_assert(!is_taken(), "it waits");
    hak_unlock(&lock);
    pthread_join(thread, NULL);
    cr_assert(is_taken());
    cr_assert(!hak_lock_is_awaited(&lock));
}

/* A thread that ends the process passes the locks of heaps, which it may hold itself, and waits for all other locks. */
Test(lock, who_dies_is_not_locked_out_of_heaps)
{
    struct hak_lock inside = {.rank = HAK_RANK_INSIDE};

    hak_lock(&inside);
    hak_lock_dying();
    hak_lock(&inside);
    hak_unlock(&inside);
    cr_assert(inside.state != 0);
    cr_assert(hak_lock_try(&lock) && lock.state != 0);
}

/* NULL: it could not. */
static void *try_lock(void *unused)
{
    (void)unused;
    return hak_lock_try(&lock) ? &lock : NULL;
}

static bool another_can_try(void)
{
    pthread_t thread;
    void *got;

    cr_assert_eq(pthread_create(&thread, NULL, try_lock, NULL), 0);
    cr_assert_eq(pthread_join(thread, &got), 0);
    return got != NULL;
}

Test(lock, what_is_held_cannot_be_tried)
{
    hak_lock(&lock);
    cr_assert(!another_can_try());
    hak_unlock(&lock);
    cr_assert(another_can_try());
}

static void *is_forking(void *unused)
{
    (void)unused;
    return hak_lock_is_forking() ? &lock : NULL;
}

/* The thread that forks passes all locks, and no other one does. */
Test(lock, only_the_thread_that_forks_passes_them)
{
    pthread_t thread;
    void *forking;

    hak_lock(&lock);
    hak_lock_forking(true);
    cr_assert(hak_lock_is_forking() && hak_lock_try(&lock));
    cr_assert(!another_can_try());
    cr_assert_eq(pthread_create(&thread, NULL, is_forking, NULL), 0);
    cr_assert_eq(pthread_join(thread, &forking), 0);
    cr_assert_null(forking);
    hak_lock_forking(false);
    cr_assert(!hak_lock_is_forking() && !hak_lock_try(&lock));
    hak_unlock(&lock);
}

Test(lock, ranks_may_be_taken_in_ascending_order)
{
    struct hak_lock low = {.rank = HAK_RANK_HEAPS};
    struct hak_lock high = {.rank = HAK_RANK_EXTENTS};

    hak_lock(&low);
    hak_lock(&high);
    hak_unlock(&high);
    hak_unlock(&low);
}

static void take_in_descending_order(void *unused)
{
    struct hak_lock low = {.rank = HAK_RANK_HEAPS};
    struct hak_lock high = {.rank = HAK_RANK_EXTENTS};

    (void)unused;
    hak_lock(&high);
    hak_lock(&low);
}

Test(lock, taking_a_lower_rank_stops_a_debug_build)
{
    const char *said = last_words(take_in_descending_order, NULL);

    if (CONFIG_ASSERT_LEVEL < 1) {
        cr_assert_null(said);
        cr_skip_test("CONFIG_ASSERT_LEVEL is 0: this build keeps no ranks");
    }
    cr_assert_not_null(said);
    const char *place = strstr(said, "core/lock.c:");
    cr_assert_not_null(place, "%s", said);
    cr_assert_str_eq(said, line_of_check("held_ranks >> lock->rank >> nested == 0", "core/lock.c",
                                         atoi(place + strlen("core/lock.c:"))));
}
