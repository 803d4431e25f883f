/* SPDX-License-Identifier: MIT */
/* batch: allocate N blocks, then free them in the order in which they came, round after round.
 *
 * stresses:   for small N the hit path; above a cache's capacity refill and flush, once for each
 *             batch of blocks
 * arguments:  blocks in a batch, rounds, size of a block in bytes
 * operation:  one malloc and one free
 * wins:       whoever takes over and hands back many blocks at the price of one (whole lists in
 *             O(1)) and does no work for each block on the way; a cache smaller than N pays for
 *             every block twice
 */
#include "bench.h"

BENCH_NOINLINE uint64_t timed_loop(uint64_t **blocks, size_t count, uint64_t rounds, size_t size);

uint64_t timed_loop(uint64_t **blocks, size_t count, uint64_t rounds, size_t size)
{
    uint64_t checksum = 0;

    for (uint64_t round = 0; round < rounds; round++) {
        for (size_t i = 0; i < count; i++) {
            uint64_t *block = malloc(size);

            if (!block)
                bench_out_of_memory(size);
            *block = round + i;
            blocks[i] = block;
        }
        bench_keep(blocks);
        for (size_t i = 0; i < count; i++) {
            checksum += *blocks[i];
            free(blocks[i]);
        }
    }
    return checksum;
}

int main(int argc, char **argv)
{
    struct bench_argument argument[] = {
        {"blocks", "blocks in a batch", 1000, 1, UINT64_C(1) << 32},
        {"rounds", "batches, one after the other", 20000, 1, UINT64_C(1) << 40},
        {"size", "bytes in a block", 64, sizeof(uint64_t), UINT64_C(1) << 40},
    };
    uint64_t **blocks;
    uint64_t start, checksum;

    bench_arguments(argc, argv, "batch", argument, 3);
    blocks = bench_table(argument[0].value, sizeof(*blocks));
    start = bench_nanoseconds();
    checksum = timed_loop(blocks, argument[0].value, argument[1].value, argument[2].value);
    bench_report("batch", argument[0].value * argument[1].value, bench_nanoseconds() - start,
                 checksum, argument, 3);
    free(blocks);
    return 0;
}
