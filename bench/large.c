/* SPDX-License-Identifier: MIT */
/* large: blocks of 1 to 64 MiB, a few alive at once.
 *
 * stresses:   what a large block costs: a mapping of its own or a run out of what was freed before,
 *             and the first touch of its pages. One word is written every `stride` bytes: with 4096
 *             every page is used, with a stride above the largest size only the first one
 * arguments:  operations, blocks alive, stride in bytes, seed
 * operation:  one free of a random block and one malloc in its place
 * wins:       with one page touched the allocator that keeps freed extents at hand and needs no system call; with all
 *             pages touched the allocator that gives them back late enough to use them again. Both cost resident
 *             memory: the allocator that returns every block at once is the slowest and the smallest
 */
#include "bench_run.h"

enum { SMALLEST = 1 << 20, DOUBLINGS = 6 };

/* The arguments, in the order of the table. */
enum { OPERATIONS, ALIVE, STRIDE, SEED };

BENCH_NOINLINE void timed_loop(const struct bench_argument *argument, struct bench_result *result);

BENCH_INLINE uint64_t loop(const struct bench_argument *argument, uint64_t operations,
                           struct bench_samples *samples)
{
    uint64_t **slots = bench_slots, alive = argument[ALIVE].value, stride = argument[STRIDE].value;
    uint64_t random = bench_random_state(argument[SEED].value), checksum = 0;

    for (uint64_t i = 0; i < operations; i++) {
        uint64_t choice = bench_random(&random);
        uint64_t **slot = &slots[bench_below(choice, alive)];
        size_t size = bench_log_size(bench_random(&random), SMALLEST, DOUBLINGS);

        checksum += bench_replace(slot, size, stride, choice, samples);
    }
    return checksum;
}

void timed_loop(const struct bench_argument *argument, struct bench_result *result)
{
    result->checksum = loop(argument, argument[OPERATIONS].value, NULL);
}

static void sample(const struct bench_argument *argument, uint64_t operations,
                   struct bench_samples *samples)
{
    loop(argument, operations, samples);
}

int main(int argc, char **argv)
{
    static struct bench_argument argument[] = {
        {"operations", "blocks replaced", 200, 1, UINT64_C(1) << 40},
        {"alive", "blocks alive at once", 4, 1, UINT64_C(1) << 16},
        {"stride", "bytes from one word written to the next", BENCH_PAGE, sizeof(uint64_t),
         UINT64_C(1) << 40},
        {"seed", "of the random numbers", 12345, 0, UINT64_MAX},
        /* These take so long that the usual number of them would take minutes. */
        {"--latency", "operations to time one by one afterwards", 0, 0, 1000},
    };

    return bench_run(argc, argv,
                     &(struct bench_workload){.name = "large",
                                              BENCH_ARGUMENTS(argument),
                                              .prepare = bench_make_slots,
                                              .run = timed_loop,
                                              .sample = sample,
                                              .finish = bench_free_slots});
}
