/* SPDX-License-Identifier: MIT */
/* fork in a program whose other threads allocate without pause: the child can go on. */
#include <criterion/criterion.h>
#include <hakmem/stats.h>
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/contract/support.h"

enum { THREADS = 4, BLOCKS = 200, FORKS = 60, SHORT_FORKS = 150 };

/* A child that has not ended by then hangs. */
static struct {
    pthread_t threads[THREADS];
    bool stop;
    /* blocks of the other threads that stay as they are while we fork */
    unsigned char *lasting[THREADS][BLOCKS];
    size_t sizes[THREADS][BLOCKS];
    pthread_barrier_t started;
} parent;

/* Sizes of a few words up to large blocks, and often the large ones: their locks are held longest. */
static size_t any_size(uint64_t *random)
{
    return random_size(random, random_below(random, 4) ? 4000 : 500000);
}

static void replace_some(uint64_t *random, unsigned char **blocks)
{
    size_t i = random_below(random, BLOCKS);

    switch (random_below(random, 4)) {
    case 0:
        blocks[i] = hak_realloc(blocks[i], any_size(random) + 1);
        break;
    case 1:
        hak_free(blocks[i]);
        blocks[i] = hak_calloc(1, any_size(random));
        break;
    default:
        hak_free(blocks[i]);
        blocks[i] = hak_malloc(any_size(random));
    }
    require(blocks[i] != NULL);
}

static void *allocate_without_pause(void *argument)
{
    size_t number = (size_t)argument;
    uint64_t random = number;
    unsigned char *blocks[BLOCKS] = {NULL};

    for (size_t i = 0; i < BLOCKS; i++) {
        size_t size = parent.sizes[number][i] = any_size(&random);
        parent.lasting[number][i] = hak_malloc(size);
        require(parent.lasting[number][i] != NULL);
        pattern_fill(parent.lasting[number][i], size, number);
    }
    pthread_barrier_wait(&parent.started);
    while (!__atomic_load_n(&parent.stop, __ATOMIC_RELAXED))
        replace_some(&random, blocks);
    for (size_t i = 0; i < BLOCKS; i++)
        hak_free(blocks[i]);
    return NULL;
}

static void start_threads(void)
{
    pthread_barrier_init(&parent.started, NULL, THREADS + 1);
    for (size_t i = 0; i < THREADS; i++)
        cr_assert_eq(pthread_create(&parent.threads[i], NULL, allocate_without_pause, (void *)i),
                     0);
    pthread_barrier_wait(&parent.started);
}

static void stop_threads(void)
{
    __atomic_store_n(&parent.stop, true, __ATOMIC_RELAXED);
    for (size_t i = 0; i < THREADS; i++)
        cr_assert_eq(pthread_join(parent.threads[i], NULL), 0);
}

static void *replace_many(void *unused)
{
    uint64_t random = 99;
    unsigned char *blocks[BLOCKS] = {NULL};

    for (int i = 0; i < 2 * BLOCKS; i++)
        replace_some(&random, blocks);
    for (size_t i = 0; i < BLOCKS; i++)
        hak_free(blocks[i]);
    require_valid_heap();
    return unused;
}

static void free_lasting(void)
{
    for (size_t i = 0; i < THREADS; i++)
        for (size_t j = 0; j < BLOCKS; j++) {
            unsigned char *block = parent.lasting[i][j];
            require(pattern_holds(block, parent.sizes[i][j], block, i));
            hak_free(block);
        }
}

/* What a child may do: everything. */
static void live_as_child(void)
{
    replace_many(NULL);
    free_lasting();
    replace_many(NULL);
    for (int i = 0; i < 3; i++)
        on_new_thread(replace_many, NULL);
    hak_malloc_trim(0);
    require_valid_heap();
}

static void live_without_parents_blocks(void)
{
    replace_many(NULL);
    on_new_thread(replace_many, NULL);
    hak_malloc_trim(0);
    require_valid_heap();
}

/* Also used in children, which have no Criterion. */
static void fork_and_wait(void (*child)(void))
{
    int status;
    pid_t pid = fork();

    require(pid >= 0);
    if (pid == 0) {
        signal(SIGALRM, SIG_DFL);
        alarm(HANG_SECONDS);
        child();
        _exit(0);
    }
    require(waitpid(pid, &status, 0) == pid);
    require(!WIFSIGNALED(status) || WTERMSIG(status) != SIGALRM);
    require(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

Test(fork, children_of_a_busy_program_work)
{
    uint64_t random = 5;
    unsigned char *blocks[BLOCKS] = {NULL};

    start_threads();
    for (int i = 0; i < FORKS; i++) {
        fork_and_wait(live_as_child);
        for (int j = 0; j < 20; j++)
            replace_some(&random, blocks);
    }
    stop_threads();
    for (size_t i = 0; i < BLOCKS; i++)
        hak_free(blocks[i]);
    free_lasting(); /* the parent's own are untouched by what the children did */
    require_valid_heap();
}

/* The thread that forks has no heap; its child gets one. */
Test(fork, a_thread_without_a_heap_forks)
{
    start_threads();
    for (int i = 0; i < 20; i++)
        fork_and_wait(live_as_child);
    stop_threads();
    free_lasting();
}

static pthread_barrier_t waiting;

static void *wait_with_a_heap(void *unused)
{
    hak_free(hak_malloc(100));
    pthread_barrier_wait(&waiting);
    pthread_barrier_wait(&waiting);
    return unused;
}

/* The heaps of the threads that are gone are parked: the next thread gets one of them, and no new one is made. */
static void look_for_their_heaps(void)
{
    struct hak_stats stats;

    hak_stats_get(&stats, sizeof(stats));
    require(stats.heaps == 3 && stats.parked == 2);
    on_new_thread(replace_many, NULL);
    hak_stats_get(&stats, sizeof(stats));
    require(stats.heaps == 3 && stats.parked == 2);
}

Test(fork, heaps_of_threads_that_are_gone_are_parked)
{
    pthread_t threads[2];

    hak_free(hak_malloc(100));
    pthread_barrier_init(&waiting, NULL, 3);
    for (int i = 0; i < 2; i++)
        cr_assert_eq(pthread_create(&threads[i], NULL, wait_with_a_heap, NULL), 0);
    pthread_barrier_wait(&waiting);
    fork_and_wait(look_for_their_heaps);
    pthread_barrier_wait(&waiting);
    for (int i = 0; i < 2; i++)
        cr_assert_eq(pthread_join(threads[i], NULL), 0);
}

static void fork_again(void)
{
    replace_many(NULL);
    fork_and_wait(live_as_child);
    live_as_child();
}

Test(fork, a_child_forks_in_turn)
{
    start_threads();
    hak_free(hak_malloc(1));
    for (int i = 0; i < 20; i++)
        fork_and_wait(fork_again);
    stop_threads();
    free_lasting();
}

/* Threads that start, end and fork at the same time: the list of heaps is locked while it changes. */
static void *start_and_end(void *unused)
{
    while (!__atomic_load_n(&parent.stop, __ATOMIC_RELAXED))
        on_new_thread(replace_many, NULL);
    return unused;
}

Test(fork, threads_start_and_end_meanwhile)
{
    pthread_t churn[2];

    for (int i = 0; i < 2; i++)
        cr_assert_eq(pthread_create(&churn[i], NULL, start_and_end, NULL), 0);
    for (int i = 0; i < 50; i++)
        fork_and_wait(live_without_parents_blocks);
    __atomic_store_n(&parent.stop, true, __ATOMIC_RELAXED);
    for (int i = 0; i < 2; i++)
        cr_assert_eq(pthread_join(churn[i], NULL), 0);
}

/* ── many forks, each a snapshot of the other threads at another moment ──────────────────────── */

static void *large_without_pause(void *unused)
{
    uint64_t random = (uintptr_t)&unused;
    void *blocks[32] = {NULL};

    while (!__atomic_load_n(&parent.stop, __ATOMIC_RELAXED)) {
        size_t i = random_below(&random, 32);
        hak_free(blocks[i]);
        blocks[i] = hak_malloc(150000 + random_below(&random, 1000000));
    }
    for (size_t i = 0; i < 32; i++)
        hak_free(blocks[i]);
    return NULL;
}

static void *small_without_pause(void *unused)
{
    void *blocks[8] = {NULL};

    for (size_t n = 0; !__atomic_load_n(&parent.stop, __ATOMIC_RELAXED); n++) {
        hak_free(blocks[n % 8]);
        blocks[n % 8] = hak_malloc(16 + n % 4 * 16);
    }
    for (size_t i = 0; i < 8; i++)
        hak_free(blocks[i]);
    return unused;
}

static pthread_barrier_t all_here;

static void *take_a_heap(void *unused)
{
    void *blocks[64];

    for (size_t i = 0; i < 64; i++)
        blocks[i] = hak_malloc(16 + i % 4 * 16);
    require_valid_heap();
    pthread_barrier_wait(&all_here);
    for (size_t i = 0; i < 64; i++)
        hak_free(blocks[i]);
    require_valid_heap();
    return unused;
}

/* Takes over as many heaps as the parent had threads, and walks through all memory. */
static void live_shortly(void)
{
    pthread_t threads[THREADS];
    void *blocks[64];

    pthread_barrier_init(&all_here, NULL, THREADS);
    for (int i = 0; i < THREADS; i++)
        require(pthread_create(&threads[i], NULL, take_a_heap, NULL) == 0);
    for (int i = 0; i < THREADS; i++)
        require(pthread_join(threads[i], NULL) == 0);
    for (size_t i = 0; i < 64; i++)
        blocks[i] = hak_malloc(100000 + i * 20000);
    for (size_t i = 0; i < 64; i++)
        hak_free(blocks[i]);
    hak_malloc_trim(0);
    require_valid_heap();
}

static void fork_often(void *(*meanwhile)(void *))
{
    for (size_t i = 0; i < THREADS; i++)
        cr_assert_eq(pthread_create(&parent.threads[i], NULL, meanwhile, NULL), 0);
    for (int i = 0; i < SHORT_FORKS; i++)
        fork_and_wait(live_shortly);
    stop_threads();
    live_shortly();
}

Test(fork, while_others_allocate_large_blocks)
{
    fork_often(large_without_pause);
}

Test(fork, while_others_are_on_the_fast_path)
{
    fork_often(small_without_pause);
}

/* ── the very first calls ────────────────────────────────────────────────────────────────────── */

/* In a process that has not allocated yet: threads begin, and this one forks at once. */
static void fork_at_the_start(void)
{
    pthread_t thread;

    for (int i = 0; i < THREADS; i++)
        require(pthread_create(&thread, NULL, large_without_pause, NULL) == 0);
    fork_and_wait(live_shortly);
}

Test(fork, while_others_make_the_first_heaps)
{
    for (int i = 0; i < 150; i++)
        fork_and_wait(fork_at_the_start);
}
