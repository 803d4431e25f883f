/* SPDX-License-Identifier: MIT */
/* tiny_hot: blocks of 8 to 64 bytes that live for a moment, freed in the reverse order, as the nodes
 * and strings of an expression are.
 *
 * stresses:   the hit path of the smallest classes, a few of them at once, on memory that is always in
 *             the first-level cache. A burst has 1 to `depth` blocks
 * arguments:  operations, most blocks in a burst, seed
 * operation:  one malloc and one free
 * wins:       whoever executes fewest instructions; what was freed last is handed out next, so lists
 *             and arrays of slots both do well as long as a burst fits. Layers before the cache,
 *             counters and headers that are written all show here
 */
#include "bench_latency.h"

enum { SMALLEST = 8, CLASSES = 8, DEPTH_MOST = 4096 };

BENCH_NOINLINE uint64_t timed_loop(uint64_t **stack, uint64_t depth, uint64_t operations,
                                   uint64_t random);

BENCH_INLINE uint64_t *new_block(uint64_t random)
{
    size_t size = SMALLEST + SMALLEST * (random % CLASSES);
    uint64_t *block = malloc(size);

    if (!block)
        bench_out_of_memory(size);
    *block = random;
    return block;
}

BENCH_INLINE uint64_t loop(uint64_t **stack, uint64_t depth, uint64_t operations, uint64_t random,
                           struct bench_samples *samples)
{
    uint64_t checksum = 0;

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

uint64_t timed_loop(uint64_t **stack, uint64_t depth, uint64_t operations, uint64_t random)
{
    return loop(stack, depth, operations, random, NULL);
}

int main(int argc, char **argv)
{
    struct bench_argument argument[] = {
        {"operations", "blocks allocated and freed", 20000000, 1, UINT64_C(1) << 40},
        {"depth", "most blocks in a burst", 32, 1, DEPTH_MOST},
        {"seed", "of the random numbers", 12345, 0, UINT64_MAX},
        BENCH_LATENCY_OPTION,
    };
    static struct bench_samples samples;
    static uint64_t *stack[DEPTH_MOST];
    uint64_t random, start, elapsed, checksum;

    bench_arguments(argc, argv, "tiny_hot", argument, 4);
    random = bench_random_state(argument[2].value);
    start = bench_nanoseconds();
    checksum = timed_loop(stack, argument[1].value, argument[0].value, random);
    elapsed = bench_nanoseconds() - start;

    bench_samples_begin(&samples);
    loop(stack, argument[1].value, argument[3].value, random, &samples);
    bench_samples_end(&samples);

    bench_report_begin("tiny_hot", argument[0].value, elapsed, checksum, argument, 4);
    bench_report_latency(&samples);
    bench_report_end("tiny_hot");
    return 0;
}
