/* SPDX-License-Identifier: MIT */
/* large: blocks of 1 to 64 MiB, a few alive at once.
 *
 * stresses:   what a large block costs: a mapping of its own or a run out of what was freed before,
 *             and the first touch of its pages. One word is written every `stride` bytes: with 4096
 *             every page is used, with a stride above the largest size only the first one
 * arguments:  operations, blocks alive, stride in bytes, seed
 * operation:  one free of a random block and one malloc in its place
 * wins:       with one page touched whoever keeps freed runs at hand and needs no system call; with all
 *             pages touched whoever gives them back late enough to use them again. Both cost resident
 *             memory: whoever returns every block at once is the slowest and the smallest
 */
#include "bench_latency.h"

enum { SMALLEST = 1 << 20, DOUBLINGS = 6 };

BENCH_NOINLINE uint64_t timed_loop(uint64_t **slots, uint64_t alive, size_t stride,
                                   uint64_t operations, uint64_t random);

BENCH_INLINE uint64_t loop(uint64_t **slots, uint64_t alive, size_t stride, uint64_t operations,
                           uint64_t random, struct bench_samples *samples)
{
    uint64_t checksum = 0;

    for (uint64_t i = 0; i < operations; i++) {
        uint64_t choice = bench_random(&random), start;
        uint64_t **slot = &slots[bench_below(choice, alive)];
        size_t size = bench_log_size(bench_random(&random), SMALLEST, DOUBLINGS);

        if (*slot)
            checksum += **slot;
        start = bench_sample_start(samples);
        free(*slot);
        *slot = malloc(size);
        bench_sample_end(samples, start);
        if (!*slot)
            bench_out_of_memory(size);
        bench_touch(*slot, size, stride, choice);
        bench_keep(*slot);
    }
    return checksum;
}

uint64_t timed_loop(uint64_t **slots, uint64_t alive, size_t stride, uint64_t operations,
                    uint64_t random)
{
    return loop(slots, alive, stride, operations, random, NULL);
}

int main(int argc, char **argv)
{
    struct bench_argument argument[] = {
        {"operations", "blocks replaced", 200, 1, UINT64_C(1) << 40},
        {"alive", "blocks alive at once", 4, 1, UINT64_C(1) << 16},
        {"stride", "bytes from one word written to the next", BENCH_PAGE, sizeof(uint64_t),
         UINT64_C(1) << 40},
        {"seed", "of the random numbers", 12345, 0, UINT64_MAX},
        /* These take so long that the usual number of them would take minutes. */
        {"--latency", "operations to time one by one afterwards", 0, 0, 1000},
    };
    static struct bench_samples samples;
    uint64_t **slots;
    uint64_t alive, stride, random, start, elapsed, checksum;

    bench_arguments(argc, argv, "large", argument, 5);
    alive = argument[1].value;
    stride = argument[2].value;
    random = bench_random_state(argument[3].value);
    slots = bench_table(alive, sizeof(*slots));
    start = bench_nanoseconds();
    checksum = timed_loop(slots, alive, stride, argument[0].value, random);
    elapsed = bench_nanoseconds() - start;

    bench_samples_begin(&samples);
    loop(slots, alive, stride, argument[4].value, random, &samples);
    bench_samples_end(&samples);

    bench_report_begin("large", argument[0].value, elapsed, checksum, argument, 5);
    bench_report_latency(&samples);
    bench_report_end("large");
    for (uint64_t i = 0; i < alive; i++)
        free(slots[i]);
    free(slots);
    return 0;
}
