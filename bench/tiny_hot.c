/* SPDX-License-Identifier: MIT */
/* tiny_hot: blocks of 8 to 64 bytes that live for a moment, freed in the reverse order, as the nodes
 * and strings of an expression are.
 *
 * stresses:   the hit path of the smallest classes, a few of them at once, on memory that is always in
 *             the first-level cache. A burst has 1 to `depth` blocks
 * arguments:  operations, most blocks in a burst, seed
 * operation:  one malloc and one free
 * wins:       the allocator that executes fewest instructions; what was freed last is handed out next, so lists
 *             and arrays of slots both do well as long as a burst fits. Layers before the cache,
 *             counters and headers that are written all show here
 */
#include "bench_run.h"

enum { SMALLEST = 8, CLASSES = 8, DEPTH_MOST = 4096 };

/* The arguments, in the order of the table. */
enum { OPERATIONS, DEPTH, SEED };

BENCH_NOINLINE void timed_loop(const struct bench_argument *argument, struct bench_result *result);

BENCH_INLINE uint64_t *new_block(uint64_t random)
{
    size_t size = SMALLEST + SMALLEST * (random % CLASSES);
    uint64_t *block = malloc(size);

    if (!block)
        bench_out_of_memory(size);
    *block = random;
    return block;
}

BENCH_INLINE uint64_t loop(const struct bench_argument *argument, uint64_t operations,
                           struct bench_samples *samples)
{
    static uint64_t *stack[DEPTH_MOST];
    uint64_t depth = argument[DEPTH].value;
    uint64_t random = bench_random_state(argument[SEED].value), checksum = 0;

    for (uint64_t done = 0; done < operations;) {
        uint64_t count = 1 + bench_below(bench_random(&random), depth), start;

        if (count > operations - done)
            count = operations - done;
        done += count;
        for (uint64_t i = 0; i < count; i++) {
            /* Sizes from the bits of one number and the place: no time goes into making them. */
            start = bench_sample_start(samples);
            stack[i] = new_block((random >> (i % 32)) + i);
            bench_sample_end(samples, start);
        }
        bench_keep(stack);
        while (count--) {
            start = bench_sample_start(samples);
            checksum += *stack[count] * (count + 1);
            free(stack[count]);
            bench_sample_end(samples, start);
        }
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
        {"operations", "blocks allocated and freed", 20000000, 1, UINT64_C(1) << 40},
        {"depth", "most blocks in a burst", 32, 1, DEPTH_MOST},
        {"seed", "of the random numbers", 12345, 0, UINT64_MAX},
        BENCH_LATENCY_OPTION,
    };

    return bench_run(argc, argv,
                     &(struct bench_workload){.name = "tiny_hot",
                                              BENCH_ARGUMENTS(argument),
                                              .run = timed_loop,
                                              .sample = sample});
}
