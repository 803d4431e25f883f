/* SPDX-License-Identifier: MIT */
/* pair: malloc, then free of the same block at once, again and again.
 *
 * stresses:   the hit path alone: the size to its class, a pop, the owner's look-up, a push
 * arguments:  size of the block in bytes, number of iterations
 * operation:  one malloc and one free
 * wins:       the allocator that executes fewest instructions and forwards the push's store to the next pop's
 *             load; a LIFO list and an array of slots do equally well, a FIFO or anything that
 *             touches the slab's metadata does worse
 */
#include "bench_run.h"

/* The arguments, in the order of the table. */
enum { SIZE, ITERATIONS };

BENCH_NOINLINE void timed_loop(const struct bench_argument *argument, struct bench_result *result);

void timed_loop(const struct bench_argument *argument, struct bench_result *result)
{
    size_t size = argument[SIZE].value;
    uint64_t iterations = argument[ITERATIONS].value, checksum = 0;

    for (uint64_t i = 0; i < iterations; i++) {
        unsigned char *block = malloc(size);

        if (!block)
            bench_out_of_memory(size);
        *block = (unsigned char)i;
        bench_keep(block);
        checksum += *block;
        free(block);
    }
    result->operations = iterations;
    result->checksum = checksum;
}
int main(int argc, char **argv)
{
    static struct bench_argument argument[] = {
        {"size", "bytes in a block", 64, 1, UINT64_C(1) << 40},
        {"iterations", "pairs of malloc and free", 20000000, 1, UINT64_C(1) << 40},
    };

    return bench_run(
        argc, argv,
        &(struct bench_workload){.name = "pair", BENCH_ARGUMENTS(argument), .run = timed_loop});
}
