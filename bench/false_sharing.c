/* SPDX-License-Identifier: MIT */
/* false_sharing: threads that write to small blocks of their own, again and again. Two blocks in one
 * cache line make the line travel from CPU to CPU at each write.
 *
 *   active:   │ thread 1's block │ thread 2's block │ …   one line, shared out by the allocator
 *   passive:  the main thread allocates neighbours and gives one to each thread, which frees it and
 *             then allocates: does it get its neighbour's line again?
 *
 * stresses:   where blocks lie, not how fast they are found: malloc and free are a small part of it.
 *             It tells nothing on a machine with one CPU
 * arguments:  threads, rounds of each, writes to a block in a round, size in bytes, passive (0 or 1)
 * operation:  one malloc, all writes to the block, one free; elapsed time for all threads together
 * wins:       active: the allocator that gives each thread slabs, or at least lines, of its own. Passive: the allocator that
 *             returns a block that another thread has freed to where it came from; keeping it in the
 *             freeing thread's cache shares its line for ever
 */
#include "bench_run.h"
#include "bench_threads.h"

struct worker {
    uint64_t *given; /* by the main thread; NULL: nothing */
    uint64_t seed, checksum;
};

/* Constant while the threads run. */
static struct {
    uint64_t rounds, writes;
    size_t size;
} shared;

static uint64_t *new_block(void)
{
    uint64_t *block = malloc(shared.size);

    if (!block)
        bench_out_of_memory(shared.size);
    return block;
}

static void work(void *argument)
{
    struct worker *worker = argument;
    uint64_t checksum = 0;

    if (worker->given)
        checksum = *worker->given;
    free(worker->given);
    for (uint64_t round = 0; round < shared.rounds; round++) {
        volatile uint64_t *block = new_block();

        *block = worker->seed + round;
        for (uint64_t i = 0; i < shared.writes; i++)
            *block = *block + i;
        checksum += *block;
        free((void *)block);
    }
    worker->checksum = checksum;
}

enum { THREADS, ROUNDS, WRITES, SIZE, PASSIVE };

static struct worker *workers;

static void prepare(const struct bench_argument *argument)
{
    uint64_t threads = argument[THREADS].value;

    shared.rounds = argument[ROUNDS].value;
    shared.writes = argument[WRITES].value;
    shared.size = argument[SIZE].value;
    workers = bench_table(threads, sizeof(*workers));
    for (uint64_t i = 0; i < threads; i++) {
        workers[i].seed = bench_random_state(i);
        if (argument[PASSIVE].value) {
            workers[i].given = new_block();
            *workers[i].given = i;
        }
    }
}

static void run(const struct bench_argument *argument, struct bench_result *result)
{
    uint64_t threads = argument[THREADS].value;

    result->operations = threads * shared.rounds;
    result->nanoseconds = bench_run_threads(threads, work, workers, sizeof(*workers));
    for (uint64_t i = 0; i < threads; i++)
        result->checksum += workers[i].checksum;
}

static void finish(const struct bench_argument *argument)
{
    (void)argument;
    free(workers);
}

int main(int argc, char **argv)
{
    static struct bench_argument argument[] = {
        {"threads", "threads at once", 2, 1, BENCH_THREADS_MOST},
        {"rounds", "blocks that each uses, one after the other", 100000, 1, UINT64_C(1) << 40},
        {"writes", "to each of them", 200, 1, UINT64_C(1) << 40},
        {"size", "bytes in a block", 8, sizeof(uint64_t), UINT64_C(1) << 31},
        {"passive", "1: each thread begins by freeing a block of the main thread's", 0, 0, 1},
    };

    return bench_run(argc, argv,
                     &(struct bench_workload){.name = "false_sharing",
                                              BENCH_ARGUMENTS(argument),
                                              .prepare = prepare,
                                              .run = run,
                                              .finish = finish});
}
