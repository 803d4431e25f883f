/* SPDX-License-Identifier: MIT */
/* pair: malloc, then free of the same block at once, again and again.
 *
 * stresses:   the hit path alone: the size to its class, a pop, the owner's look-up, a push
 * arguments:  size of the block in bytes, number of iterations
 * operation:  one malloc and one free
 * wins:       whoever executes fewest instructions and forwards the push's store to the next pop's
 *             load; a LIFO list and an array of slots do equally well, a FIFO or anything that
 *             touches the slab's metadata does worse
 */
#include "bench.h"

BENCH_NOINLINE uint64_t timed_loop(size_t size, uint64_t iterations);

uint64_t timed_loop(size_t size, uint64_t iterations)
{
    uint64_t checksum = 0;

    for (uint64_t i = 0; i < iterations; i++) {
        unsigned char *block = malloc(size);

        if (!block)
            bench_out_of_memory(size);
        *block = (unsigned char)i;
        bench_keep(block);
        checksum += *block;
        free(block);
    }
    return checksum;
}

int main(int argc, char **argv)
{
    struct bench_argument argument[] = {
        {"size", "bytes in a block", 64, 1, UINT64_C(1) << 40},
        {"iterations", "pairs of malloc and free", 20000000, 1, UINT64_C(1) << 40},
    };
    uint64_t start, checksum;

    bench_arguments(argc, argv, "pair", argument, 2);
    start = bench_nanoseconds();
    checksum = timed_loop(argument[0].value, argument[1].value);
    bench_report("pair", argument[1].value, bench_nanoseconds() - start, checksum, argument, 2);
    return 0;
}
