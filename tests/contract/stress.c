/* SPDX-License-Identifier: MIT */
/* The randomised exercise as a plain program, for builds with a sanitizer: eight threads at a time
 * that hand blocks to each other, end, and are replaced.
 *
 * usage: stress [steps of one life, 4000 by default]
 *
 * Compiled with BROKEN_TWIN it makes the mistakes that the sanitizer is there to find instead, and
 * fails if and only if each one was found: so a silent run of the sound program means something. */
#include <hakmem/stats.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/compiler.h"
#include "core/size_class.h"
#include "tests/contract/clock.h"
#include "tests/contract/exercise.h"
#include "tests/contract/support.h"

#if defined(__has_feature)
#define FEATURE(name) __has_feature(name)
#else
#define FEATURE(name) 0
#endif

#if defined(__SANITIZE_THREAD__) || FEATURE(thread_sanitizer)
#define FINDS_RACES 1
#else
#define FINDS_RACES 0
#endif

#ifdef BROKEN_TWIN

/* Two threads write the same byte of a block of this allocator with no order between them. */
static void *write_first_byte(void *block)
{
    *(volatile char *)block = 1;
    return NULL;
}

static void race(int number)
{
    pthread_t threads[2];
    char *block = hak_malloc((size_t)number);

    for (int i = 0; i < 2; i++)
        require(pthread_create(&threads[i], NULL, write_first_byte, block) == 0);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    hak_free(block);
}

/* One thread writes to a block that it has handed to another without any order. */
static void *fill_handed_over(void *place)
{
    char *block;

    while ((block = __atomic_load_n((char **)place, __ATOMIC_RELAXED)) == NULL)
        sched_yield();
    *block = 2;
    hak_free(block);
    return NULL;
}

static void careless_handover(int number)
{
    static char *place;
    pthread_t thread;
    char *block = hak_malloc((size_t)number);

    require(pthread_create(&thread, NULL, fill_handed_over, &place) == 0);
    *block = 1;
    __atomic_store_n(&place, block, __ATOMIC_RELAXED);
    pthread_join(thread, NULL);
}

static void overflow(int number)
{
    volatile int most = INT_MAX;

    printf("%d\n", most + number);
}

static void beyond_the_end(int number)
{
    char bytes[16];
    volatile size_t size = sizeof(bytes) + (size_t)number;

    memset(bytes, number, size);
    printf("%d\n", bytes[number]);
}

int main(void)
{
    static void (*const MISTAKES[])(int) = {FINDS_RACES ? race : overflow,
                                            FINDS_RACES ? careless_handover : beyond_the_end};

    for (size_t i = 0; i < sizeof(MISTAKES) / sizeof(MISTAKES[0]); i++) {
        int status;
        pid_t pid = fork();
        if (pid == 0) {
            MISTAKES[i](1);
            exit(0);
        }
        if (waitpid(pid, &status, 0) != pid || status == 0) {
            printf("stress: mistake %zu was not found\n", i);
            return 0;
        }
    }
    puts("stress: all mistakes were found");
    return 1;
}

#else

enum { SLEEPERS = 8, SLOTS = 2000, NAPS = 5 };

static void *slots[SLEEPERS][SLOTS]; /* atomic */

/* Works and sleeps by turns, with blocks that others have put in its slots, so that a purge thread finds heaps now
 * in use and now not. */
static void *work_and_sleep(void *argument)
{
    size_t number = (size_t)argument;
    uint64_t random = number;

    for (int nap = 0; nap < NAPS; nap++) {
        for (size_t i = 0; i < 3 * SLOTS; i++) {
            size_t owner = (number + random_below(&random, 2)) % SLEEPERS;
            size_t size = random_size(&random, 40000);
            unsigned char *block = hak_malloc(size);
            require(block != NULL);
            pattern_fill(block, size, number);
            require(pattern_holds(block, size, block, number));
            hak_free(__atomic_exchange_n(&slots[owner][random_below(&random, SLOTS)], block,
                                         __ATOMIC_ACQ_REL));
        }
        clock_advance((uint32_t)random_below(&random, 1200));
    }
    return NULL;
}

static void run_sleepers(void)
{
    pthread_t threads[SLEEPERS];

    for (size_t i = 0; i < SLEEPERS; i++)
        require(pthread_create(&threads[i], NULL, work_and_sleep, (void *)i) == 0);
    for (size_t i = 0; i < SLEEPERS; i++)
        require(pthread_join(threads[i], NULL) == 0);
    for (size_t i = 0; i < SLEEPERS; i++)
        for (size_t slot = 0; slot < SLOTS; slot++)
            hak_free(slots[i][slot]);
}

static bool over; /* atomic */

static bool pass_by(void *block, size_t size, bool large, void *count)
{
    require(block != NULL && large == (size > HAK_SMALL_MAX));
    ++*(size_t *)count;
    return true;
}

/* Looks at everything while all others work. */
static void *look_on(void *unused)
{
    while (!__atomic_load_n(&over, __ATOMIC_RELAXED)) {
        struct hak_stats stats;
        size_t count = 0;
        hak_stats_get(&stats, sizeof(stats));
        hak_walk(pass_by, &count);
        usleep(20000); /* others should come to something, too */
    }
    return unused;
}

int main(int count, char **arguments)
{
    unsigned long steps = count > 1 ? strtoul(arguments[1], NULL, 0) : 4000;
    pthread_t onlooker;

    require(pthread_create(&onlooker, NULL, look_on, NULL) == 0);
    exercise_run(&(struct exercise){.seed = seed_of_run(),
                                    .threads = 8,
                                    .lives = 8,
                                    .steps = steps,
                                    .size_most = (size_t)1 << 20});
    if (enabled(CONFIG_PURGE_THREAD))
        run_sleepers();
    __atomic_store_n(&over, true, __ATOMIC_RELAXED);
    require(pthread_join(onlooker, NULL) == 0);
    puts("stress: done");
    return 0;
}

#endif
