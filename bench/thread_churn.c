/* SPDX-License-Identifier: MIT */
/* thread_churn: threads that live for a moment, as in programs that start one for each request.
 *
 * stresses:   what an allocator does for a thread's first block and at its end: making or finding a
 *             heap, giving back what its cache holds. One block in eight outlives its thread; the main
 *             thread frees it
 * arguments:  threads in all, threads at once, blocks that each allocates (16-527 bytes), seed
 * operation:  one thread: its start, its blocks, its end. The kernel's part of it is large
 * wins:       the allocator that hands the heap of an ended thread to the next one as it is, with its memory warm,
 *             and does not fill a large cache for a thread that wants few blocks
 */
#include "bench_run.h"
#include "bench_threads.h"

enum { SMALLEST = 16, SIZES = 512, LEFT = 8 };

struct worker {
    uint64_t **blocks; /* in the end only each LEFT-th is alive */
    uint64_t count, random, checksum;
};

static void *work(void *argument)
{
    struct worker *worker = argument;
    uint64_t checksum = 0;

    for (uint64_t i = 0; i < worker->count; i++) {
        uint64_t choice = bench_random(&worker->random);
        size_t size = SMALLEST + (choice & (SIZES - 1));

        worker->blocks[i] = malloc(size);
        if (!worker->blocks[i])
            bench_out_of_memory(size);
        *worker->blocks[i] = choice;
    }
    for (uint64_t i = 0; i < worker->count; i++) {
        if (i % LEFT == 0)
            continue;
        checksum += *worker->blocks[i];
        free(worker->blocks[i]);
    }
    worker->checksum += checksum;
    return NULL;
}

static void join(pthread_t thread, struct worker *worker)
{
    pthread_join(thread, NULL);
    for (uint64_t i = 0; i < worker->count; i += LEFT) {
        worker->checksum += *worker->blocks[i];
        free(worker->blocks[i]);
    }
}

enum { THREADS, AT_ONCE, BLOCKS, SEED };

static pthread_t thread[BENCH_THREADS_MOST];
static struct worker worker[BENCH_THREADS_MOST];

static uint64_t at_once(const struct bench_argument *argument)
{
    return argument[AT_ONCE].value < argument[THREADS].value ? argument[AT_ONCE].value
                                                             : argument[THREADS].value;
}

static void prepare(const struct bench_argument *argument)
{
    for (uint64_t i = 0; i < at_once(argument); i++) {
        worker[i].count = argument[BLOCKS].value;
        worker[i].blocks = bench_table(worker[i].count, sizeof(*worker[i].blocks));
        worker[i].random = bench_random_state(argument[SEED].value + i);
    }
}

/* The oldest thread is waited for, then a new one takes its place. */
static void run(const struct bench_argument *argument, struct bench_result *result)
{
    uint64_t threads = argument[THREADS].value, most = at_once(argument);

    for (uint64_t i = 0; i < threads + most; i++) {
        uint64_t place = i % most;

        if (i >= most)
            join(thread[place], &worker[place]);
        if (i < threads)
            bench_start_thread(&thread[place], work, &worker[place]);
    }
    for (uint64_t i = 0; i < most; i++)
        result->checksum += worker[i].checksum;
}

static void finish(const struct bench_argument *argument)
{
    for (uint64_t i = 0; i < at_once(argument); i++)
        free(worker[i].blocks);
}

int main(int argc, char **argv)
{
    static struct bench_argument argument[] = {
        {"threads", "threads in all", 10000, 1, UINT64_C(1) << 32},
        {"at_once", "threads that run at once", 4, 1, BENCH_THREADS_MOST},
        {"blocks", "blocks that each allocates", 100, 1, UINT64_C(1) << 32},
        {"seed", "of the random numbers", 12345, 0, UINT64_MAX},
    };

    return bench_run(argc, argv,
                     &(struct bench_workload){.name = "thread_churn",
                                              BENCH_ARGUMENTS(argument),
                                              .prepare = prepare,
                                              .run = run,
                                              .finish = finish});
}
