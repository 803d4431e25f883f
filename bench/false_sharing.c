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
 * wins:       active: whoever gives each thread slabs, or at least lines, of its own. Passive: whoever
 *             returns a block that another thread has freed to where it came from; keeping it in the
 *             freeing thread's cache shares its line for ever
 */
#include "bench_threads.h"

struct worker {
    uint64_t *given; /* by the main thread; NULL: nothing */
    uint64_t seed, checksum;
};

/* Constant while the threads run. */
static struct {
    uint64_t rounds, writes;
    size_t size;
} run;

static uint64_t *new_block(void)
{
    uint64_t *block = malloc(run.size);

    if (!block)
        bench_out_of_memory(run.size);
    return block;
}

static void work(void *argument)
{
    struct worker *worker = argument;
    uint64_t checksum = 0;

    if (worker->given)
        checksum = *worker->given;
    free(worker->given);
    for (uint64_t round = 0; round < run.rounds; round++) {
        volatile uint64_t *block = new_block();

        *block = worker->seed + round;
        for (uint64_t i = 0; i < run.writes; i++)
            *block = *block + i;
        checksum += *block;
        free((void *)block);
    }
    worker->checksum = checksum;
}

int main(int argc, char **argv)
{
    struct bench_argument argument[] = {
        {"threads", "threads at once", 2, 1, BENCH_THREADS_MOST},
        {"rounds", "blocks that each uses, one after the other", 100000, 1, UINT64_C(1) << 40},
        {"writes", "to each of them", 200, 1, UINT64_C(1) << 40},
        {"size", "bytes in a block", 8, sizeof(uint64_t), UINT64_C(1) << 31},
        {"passive", "1: each thread begins by freeing a block of the main thread's", 0, 0, 1},
    };
    struct worker *workers;
    uint64_t threads, elapsed, checksum = 0;

    bench_arguments(argc, argv, "false_sharing", argument, 5);
    threads = argument[0].value;
    run.rounds = argument[1].value;
    run.writes = argument[2].value;
    run.size = argument[3].value;
    workers = bench_table(threads, sizeof(*workers));
    for (uint64_t i = 0; i < threads; i++) {
        workers[i].seed = bench_random_state(i);
        if (argument[4].value) {
            workers[i].given = new_block();
            *workers[i].given = i;
        }
    }
    elapsed = bench_run_threads(threads, work, workers, sizeof(*workers));
    for (uint64_t i = 0; i < threads; i++)
        checksum += workers[i].checksum;
    bench_report("false_sharing", threads * run.rounds, elapsed, checksum, argument, 5);
    free(workers);
    return 0;
}
