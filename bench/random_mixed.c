/* SPDX-License-Identifier: MIT */
/* random_mixed: a working set of blocks of 16 to 527 bytes; each operation replaces a random one.
 *
 * stresses:   the hit path with sizes that no branch predictor can learn, many size classes at
 *             once, and, with a large working set, cache misses on the blocks and on whatever the
 *             allocator reads to find a block's owner
 * arguments:  operations, blocks alive (the working set), seed
 * operation:  one free of a random block and one malloc in its place. The slots start empty, and
 *             filling them is timed with the rest: a short run (100000 1024 12345) shows the first
 *             touch of memory too, a long one does not
 * wins:       the allocator that needs no branch that depends on the size and reads little besides the block;
 *             size classes close together keep the working set small
 */
#include "bench_run.h"

enum { SMALLEST = 16, SIZES = 512 };

/* The arguments, in the order of the table. */
enum { OPERATIONS, ALIVE, SEED };

BENCH_NOINLINE void timed_loop(const struct bench_argument *argument, struct bench_result *result);

BENCH_INLINE uint64_t loop(const struct bench_argument *argument, uint64_t operations,
                           struct bench_samples *samples)
{
    uint64_t **slots = bench_slots, alive = argument[ALIVE].value;
    uint64_t random = bench_random_state(argument[SEED].value), checksum = 0;

    for (uint64_t i = 0; i < operations; i++) {
        uint64_t choice = bench_random(&random);
        uint64_t **slot = &slots[bench_below(choice, alive)];
        size_t size = SMALLEST + (choice & (SIZES - 1));
        uint64_t *block = *slot, start = bench_sample_start(samples);

        if (block) {
            checksum += *block;
            free(block);
        }
        block = malloc(size);
        if (!block)
            bench_out_of_memory(size);
        *block = choice;
        *slot = block;
        bench_sample_end(samples, start);
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
        {"operations", "blocks replaced", 20000000, 1, UINT64_C(1) << 40},
        {"alive", "blocks alive at once", 1024, 1, UINT64_C(1) << 32},
        {"seed", "of the random numbers", 12345, 0, UINT64_MAX},
        BENCH_LATENCY_OPTION,
    };

    return bench_run(argc, argv,
                     &(struct bench_workload){.name = "random_mixed",
                                              BENCH_ARGUMENTS(argument),
                                              .prepare = bench_make_slots,
                                              .run = timed_loop,
                                              .sample = sample,
                                              .finish = bench_free_slots});
}
