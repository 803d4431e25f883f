/* SPDX-License-Identifier: MIT */
/* batch: allocate N blocks, then free them in the order in which they came, in the reverse one or in
 * a random one, round after round.
 *
 * stresses:   for small N the hit path; above a cache's capacity refill and flush, once for each
 *             batch of blocks. After a random order the next batch is strewn over memory
 * arguments:  blocks in a batch, rounds, size of a block in bytes, order of the frees: 0 as allocated,
 *             1 in reverse, 2 at random, the same for all rounds
 * operation:  one malloc and one free
 * wins:       the allocator that takes over and hands back many blocks at the price of one (whole lists in
 *             O(1)) and does no work for each block on the way; a cache smaller than N pays for
 *             every block twice. Reverse order suits lists; random order costs an allocator that links
 *             blocks through their own memory cache misses, arrays of pointers less
 */
#include "bench_run.h"

/* The arguments, in the order of the table. */
enum { BLOCKS, ROUNDS, SIZE, ORDER };
enum { AS_ALLOCATED, IN_REVERSE, AT_RANDOM };

BENCH_NOINLINE uint64_t timed_loop(uint64_t **blocks, size_t count, uint64_t rounds, size_t size);
BENCH_NOINLINE uint64_t timed_loop_ordered(uint64_t **blocks, size_t count, uint64_t rounds,
                                           size_t size);

static uint64_t **table;
static uint32_t *order; /* NULL: as allocated */

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

uint64_t timed_loop_ordered(uint64_t **blocks, size_t count, uint64_t rounds, size_t size)
{
    const uint32_t *place = order;
    uint64_t checksum = 0;

    for (uint64_t round = 0; round < rounds; round++) {
        allocate(blocks, count, size, round);
        for (size_t i = 0; i < count; i++) {
            uint64_t *block = blocks[place[i]];

            checksum += *block;
            free(block);
        }
    }
    return checksum;
}

/* The places 0 … count-1 from the last to the first, or shuffled. */
static uint32_t *make_order(size_t count, uint64_t kind)
{
    uint32_t *made = bench_table(count, sizeof(*made));
    uint64_t random = bench_random_state(count);

    for (size_t i = 0; i < count; i++)
        made[i] = (uint32_t)(count - 1 - i);
    for (size_t left = kind == AT_RANDOM ? count : 0; left > 1; left--) {
        size_t chosen = bench_below(bench_random(&random), left);
        uint32_t other = made[left - 1];

        made[left - 1] = made[chosen];
        made[chosen] = other;
    }
    return made;
}

static void prepare(const struct bench_argument *argument)
{
    table = bench_table(argument[BLOCKS].value, sizeof(*table));
    if (argument[ORDER].value != AS_ALLOCATED)
        order = make_order(argument[BLOCKS].value, argument[ORDER].value);
}

static void run(const struct bench_argument *argument, struct bench_result *result)
{
    uint64_t blocks = argument[BLOCKS].value, rounds = argument[ROUNDS].value;
    size_t size = argument[SIZE].value;

    result->operations = blocks * rounds;
    result->checksum = order ? timed_loop_ordered(table, blocks, rounds, size)
                             : timed_loop(table, blocks, rounds, size);
}

static void finish(const struct bench_argument *argument)
{
    (void)argument;
    free(order);
    free(table);
}

int main(int argc, char **argv)
{
    static struct bench_argument argument[] = {
        {"blocks", "blocks in a batch", 1000, 1, UINT64_C(1) << 32},
        {"rounds", "batches, one after the other", 20000, 1, UINT64_C(1) << 40},
        {"size", "bytes in a block", 64, sizeof(uint64_t), UINT64_C(1) << 40},
        {"order", "of the frees: 0 as allocated, 1 in reverse, 2 at random", AS_ALLOCATED,
         AS_ALLOCATED, AT_RANDOM},
    };

    return bench_run(argc, argv,
                     &(struct bench_workload){.name = "batch",
                                              BENCH_ARGUMENTS(argument),
                                              .prepare = prepare,
                                              .run = run,
                                              .finish = finish});
}
