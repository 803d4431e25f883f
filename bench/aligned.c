/* SPDX-License-Identifier: MIT */
/* aligned: blocks of 16 bytes to 4 KiB at multiples of 16 to 4096 bytes, in random replacement, as
 * programs do that use vector instructions, cache lines or pages.
 *
 * stresses:   aligned_alloc: finding a place that is aligned, without wasting a block of the next
 *             power of two for it. What is misaligned makes another checksum
 * arguments:  operations, blocks alive, doublings of the alignment from 16 on (9: to 4096), seed
 * operation:  one free of a random block and one aligned_alloc in its place
 * wins:       whoever serves alignments from the ordinary size classes, whose sizes are often multiples
 *             of them, on the ordinary fast path; asking for more and cutting off the rest is slower
 *             and leaves pieces behind
 */
#include "bench_latency.h"

enum { SMALLEST = 16, SIZE_DOUBLINGS = 8 };

BENCH_NOINLINE uint64_t timed_loop(uint64_t **slots, uint64_t alive, unsigned doublings,
                                   uint64_t operations, uint64_t random);

BENCH_INLINE uint64_t loop(uint64_t **slots, uint64_t alive, unsigned doublings,
                           uint64_t operations, uint64_t random, struct bench_samples *samples)
{
    uint64_t checksum = 0;

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

uint64_t timed_loop(uint64_t **slots, uint64_t alive, unsigned doublings, uint64_t operations,
                    uint64_t random)
{
    return loop(slots, alive, doublings, operations, random, NULL);
}

int main(int argc, char **argv)
{
    struct bench_argument argument[] = {
        {"operations", "blocks replaced", 3000000, 1, UINT64_C(1) << 40},
        {"alive", "blocks alive at once", 512, 1, UINT64_C(1) << 32},
        {"doublings", "the largest alignment is below 16 << doublings bytes", 9, 1, 20},
        {"seed", "of the random numbers", 12345, 0, UINT64_MAX},
        BENCH_LATENCY_OPTION,
    };
    static struct bench_samples samples;
    uint64_t **slots;
    uint64_t alive, random, start, elapsed, checksum;
    unsigned doublings;

    bench_arguments(argc, argv, "aligned", argument, 5);
    alive = argument[1].value;
    doublings = (unsigned)argument[2].value;
    random = bench_random_state(argument[3].value);
    slots = bench_table(alive, sizeof(*slots));
    start = bench_nanoseconds();
    checksum = timed_loop(slots, alive, doublings, argument[0].value, random);
    elapsed = bench_nanoseconds() - start;

    bench_samples_begin(&samples);
    loop(slots, alive, doublings, argument[4].value, random, &samples);
    bench_samples_end(&samples);

    bench_report_begin("aligned", argument[0].value, elapsed, checksum, argument, 5);
    bench_report_latency(&samples);
    bench_report_end("aligned");
    for (uint64_t i = 0; i < alive; i++)
        free(slots[i]);
    free(slots);
    return 0;
}
