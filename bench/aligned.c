/* SPDX-License-Identifier: MIT */
/* aligned: blocks of 16 bytes to 4 KiB at multiples of 16 to 4096 bytes, in random replacement, as
 * programs do that use vector instructions, cache lines or pages.
 *
 * stresses:   aligned_alloc: finding a place that is aligned, without wasting a block of the next
 *             power of two for it. What is misaligned makes another checksum
 * arguments:  operations, blocks alive, doublings of the alignment from 16 on (9: to 4096), seed
 * operation:  one free of a random block and one aligned_alloc in its place
 * wins:       the allocator that serves alignments from the ordinary size classes, whose sizes are often multiples
 *             of them, on the ordinary fast path; asking for more and cutting off the rest is slower
 *             and leaves pieces behind
 */
#include "bench_run.h"

enum { SMALLEST = 16, SIZE_DOUBLINGS = 8 };

/* The arguments, in the order of the table. */
enum { OPERATIONS, ALIVE, DOUBLINGS, SEED };

BENCH_NOINLINE void timed_loop(const struct bench_argument *argument, struct bench_result *result);

BENCH_INLINE uint64_t loop(const struct bench_argument *argument, uint64_t operations,
                           struct bench_samples *samples)
{
    uint64_t **slots = bench_slots, alive = argument[ALIVE].value;
    uint64_t random = bench_random_state(argument[SEED].value), checksum = 0;
    unsigned doublings = (unsigned)argument[DOUBLINGS].value;

    for (uint64_t i = 0; i < operations; i++) {
        uint64_t choice = bench_random(&random), start;
        uint64_t **slot = &slots[bench_below(choice, alive)];
        size_t alignment = (size_t)SMALLEST << bench_below(choice << 32, doublings);
        size_t size = bench_log_size(bench_random(&random), SMALLEST, SIZE_DOUBLINGS);

        /* C11 wants a multiple. */
        size = (size + alignment - 1) / alignment * alignment;
        if (*slot)
            checksum += **slot;
        start = bench_sample_start(samples);
        free(*slot);
        *slot = aligned_alloc(alignment, size);
        bench_sample_end(samples, start);
        if (!*slot)
            bench_out_of_memory(size);
        checksum += (uintptr_t)*slot % alignment * choice;
        **slot = choice;
        bench_keep(*slot);
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
        {"operations", "blocks replaced", 3000000, 1, UINT64_C(1) << 40},
        {"alive", "blocks alive at once", 512, 1, UINT64_C(1) << 32},
        {"doublings", "the largest alignment is below 16 << doublings bytes", 9, 1, 20},
        {"seed", "of the random numbers", 12345, 0, UINT64_MAX},
        BENCH_LATENCY_OPTION,
    };

    return bench_run(argc, argv,
                     &(struct bench_workload){.name = "aligned",
                                              BENCH_ARGUMENTS(argument),
                                              .prepare = bench_make_slots,
                                              .run = timed_loop,
                                              .sample = sample,
                                              .finish = bench_free_slots});
}
