/* SPDX-License-Identifier: MIT */
/* batch: allocate N blocks, then free them in the order in which they came, in the reverse one or in
 * a random one, round after round.
 *
 * stresses:   for small N the hit path; above a cache's capacity refill and flush, once for each
 *             batch of blocks. After a random order the next batch is strewn over memory
 * arguments:  blocks in a batch, rounds, size of a block in bytes, order of the frees: 0 as allocated,
 *             1 in reverse, 2 at random, the same for all rounds
 * operation:  one malloc and one free
 * wins:       whoever takes over and hands back many blocks at the price of one (whole lists in
 *             O(1)) and does no work for each block on the way; a cache smaller than N pays for
 *             every block twice. Reverse order suits lists; random order costs whoever links
 *             blocks through their own memory cache misses, arrays of pointers less
 */
#include "bench.h"

enum { AS_ALLOCATED, IN_REVERSE, AT_RANDOM };

BENCH_NOINLINE uint64_t timed_loop(uint64_t **blocks, size_t count, uint64_t rounds, size_t size);
BENCH_NOINLINE uint64_t timed_loop_ordered(uint64_t **blocks, size_t count, uint64_t rounds,
                                           size_t size, const uint32_t *order);

static inline void allocate(uint64_t **blocks, size_t count, size_t size, uint64_t round)
{
    for (size_t i = 0; i < count; i++) {
        uint64_t *block = malloc(size);

        if (!block)
            bench_out_of_memory(size);
        *block = round + i;
        blocks[i] = block;
    }
    bench_keep(blocks);
}

uint64_t timed_loop(uint64_t **blocks, size_t count, uint64_t rounds, size_t size)
{
    uint64_t checksum = 0;

    for (uint64_t round = 0; round < rounds; round++) {
        allocate(blocks, count, size, round);
        for (size_t i = 0; i < count; i++) {
            checksum += *blocks[i];
            free(blocks[i]);
        }
    }
    return checksum;
}

uint64_t timed_loop_ordered(uint64_t **blocks, size_t count, uint64_t rounds, size_t size,
                            const uint32_t *order)
{
    uint64_t checksum = 0;

    for (uint64_t round = 0; round < rounds; round++) {
        allocate(blocks, count, size, round);
        for (size_t i = 0; i < count; i++) {
            uint64_t *block = blocks[order[i]];

            checksum += *block;
            free(block);
        }
    }
    return checksum;
}

/* The places 0 … count-1 from the last to the first, or shuffled. */
static uint32_t *make_order(size_t count, uint64_t kind)
{
    uint32_t *order = bench_table(count, sizeof(*order));
    uint64_t random = bench_random_state(count);

    for (size_t i = 0; i < count; i++)
        order[i] = (uint32_t)(count - 1 - i);
    for (size_t left = kind == AT_RANDOM ? count : 0; left > 1; left--) {
        size_t chosen = bench_below(bench_random(&random), left);
        uint32_t other = order[left - 1];

        order[left - 1] = order[chosen];
        order[chosen] = other;
    }
    return order;
}

int main(int argc, char **argv)
{
    struct bench_argument argument[] = {
        {"blocks", "blocks in a batch", 1000, 1, UINT64_C(1) << 32},
        {"rounds", "batches, one after the other", 20000, 1, UINT64_C(1) << 40},
        {"size", "bytes in a block", 64, sizeof(uint64_t), UINT64_C(1) << 40},
        {"order", "of the frees: 0 as allocated, 1 in reverse, 2 at random", AS_ALLOCATED,
         AS_ALLOCATED, AT_RANDOM},
    };
    uint64_t blocks, rounds, size, start, elapsed, checksum;
    uint32_t *order = NULL;
    uint64_t **table;

    bench_arguments(argc, argv, "batch", argument, 4);
    blocks = argument[0].value;
    rounds = argument[1].value;
    size = argument[2].value;
    table = bench_table(blocks, sizeof(*table));
    if (argument[3].value != AS_ALLOCATED)
        order = make_order(blocks, argument[3].value);
    start = bench_nanoseconds();
    checksum = order ? timed_loop_ordered(table, blocks, rounds, size, order)
                     : timed_loop(table, blocks, rounds, size);
    elapsed = bench_nanoseconds() - start;
    bench_report("batch", blocks * rounds, elapsed, checksum, argument, 4);
    free(order);
    free(table);
    return 0;
}
