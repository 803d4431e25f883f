/* SPDX-License-Identifier: MIT */
/* buffers: replaces random blocks of some megabytes each, as programs do that hold images, frames, tensors or
 * columns of a table; with one block alive, allocates, fills and frees a block of the same size range again and again.
 *
 * stresses:   whether the memory of the block just freed serves the next one, which is a little shorter or longer:
 *             every page of a block is written, so that a page that went back to the system costs a fault
 * arguments:  operations, blocks alive, smallest and largest size in bytes, seed
 * operation:  one free of a random block and one malloc in its place. The first filling is in the time
 * wins:       the allocator that carves a block out of dirty memory wherever some lies and adds only what is missing.
 *             Keeping all of it wins on time and loses on peak resident memory; giving it back at once, the reverse
 */
#include "bench_run.h"

/* The arguments, in the order of the table. */
enum { OPERATIONS, ALIVE, SMALLEST, LARGEST, SEED };

BENCH_NOINLINE void timed_loop(const struct bench_argument *argument, struct bench_result *result);

BENCH_INLINE uint64_t loop(const struct bench_argument *argument, uint64_t operations,
                           struct bench_samples *samples)
{
    uint64_t **slots = bench_slots, alive = argument[ALIVE].value;
    uint64_t smallest = argument[SMALLEST].value, sizes = argument[LARGEST].value - smallest + 1;
    uint64_t random = bench_random_state(argument[SEED].value), checksum = 0;

    for (uint64_t i = 0; i < operations; i++) {
        uint64_t choice = bench_random(&random);
        uint64_t **slot = &slots[bench_below(choice << 32, alive)];
        size_t size = smallest + bench_below(choice, sizes);

        checksum += bench_replace(slot, size, BENCH_PAGE, choice, samples);
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

static void prepare(const struct bench_argument *argument)
{
    bench_check_range("buffers", &argument[SMALLEST], &argument[LARGEST]);
    bench_make_slots(argument);
}

int main(int argc, char **argv)
{
    static struct bench_argument argument[] = {
        {"operations", "blocks replaced", 1000, 1, UINT64_C(1) << 40},
        {"alive", "blocks alive at once", 16, 1, UINT64_C(1) << 16},
        {"smallest", "size in bytes", 5 << 20, sizeof(uint64_t), UINT64_C(1) << 31},
        {"largest", "size in bytes", 25 << 20, sizeof(uint64_t), UINT64_C(1) << 31},
        {"seed", "of the random numbers", 12345, 0, UINT64_MAX},
        /* These take so long that the usual number of them would take minutes. */
        {"--latency", "operations to time one by one afterwards", 0, 0, 1000},
    };

    return bench_run(argc, argv,
                     &(struct bench_workload){.name = "buffers",
                                              BENCH_ARGUMENTS(argument),
                                              .prepare = prepare,
                                              .run = timed_loop,
                                              .sample = sample,
                                              .finish = bench_free_slots});
}
