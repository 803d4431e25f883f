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
 * wins:       whoever needs no branch that depends on the size and reads little besides the block;
 *             size classes close together keep the working set small
 */
#include "bench_latency.h"

enum { SMALLEST = 16, SIZES = 512 };

BENCH_NOINLINE uint64_t timed_loop(uint64_t **slots, uint64_t alive, uint64_t operations,
                                   uint64_t random);

BENCH_INLINE uint64_t loop(uint64_t **slots, uint64_t alive, uint64_t operations, uint64_t random,
                           struct bench_samples *samples)
{
    uint64_t checksum = 0;

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

uint64_t timed_loop(uint64_t **slots, uint64_t alive, uint64_t operations, uint64_t random)
{
    return loop(slots, alive, operations, random, NULL);
}

int main(int argc, char **argv)
{
    struct bench_argument argument[] = {
        {"operations", "blocks replaced", 20000000, 1, UINT64_C(1) << 40},
        {"alive", "blocks alive at once", 1024, 1, UINT64_C(1) << 32},
        {"seed", "of the random numbers", 12345, 0, UINT64_MAX},
        BENCH_LATENCY_OPTION,
    };
    static struct bench_samples samples;
    uint64_t **slots;
    uint64_t alive, random, start, elapsed, checksum;

    bench_arguments(argc, argv, "random_mixed", argument, 4);
    alive = argument[1].value;
    random = bench_random_state(argument[2].value);
    slots = bench_table(alive, sizeof(*slots));
    start = bench_nanoseconds();
    checksum = timed_loop(slots, alive, argument[0].value, random);
    elapsed = bench_nanoseconds() - start;

    bench_samples_begin(&samples);
    loop(slots, alive, argument[3].value, random, &samples);
    bench_samples_end(&samples);

    bench_report_begin("random_mixed", argument[0].value, elapsed, checksum, argument, 4);
    bench_report_latency(&samples);
    bench_report_end("random_mixed");
    for (uint64_t i = 0; i < alive; i++)
        free(slots[i]);
    free(slots);
    return 0;
}
