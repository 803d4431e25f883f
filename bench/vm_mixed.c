/* SPDX-License-Identifier: MIT */
/* vm_mixed: blocks from 16 bytes to 4 MiB, each doubling as likely as another, as in a program that
 * keeps small objects and whole files side by side.
 *
 * stresses:   every border on the way up: from the small classes to spans of pages, and from there to
 *             mappings of their own; each page of a block is written to
 * arguments:  operations, blocks alive, doublings from 16 bytes on (18: to 4 MiB), seed
 * operation:  one free of a random block and one malloc in its place; filling the slots is timed too
 * wins:       whoever keeps large memory for a while and hands it out again: one system call, or the
 *             first touch of one page, costs as much as hundreds of small operations. The price is
 *             resident memory, to be looked at beside the time
 */
#include "bench_latency.h"

enum { SMALLEST = 16 };

BENCH_NOINLINE uint64_t timed_loop(uint64_t **slots, uint64_t alive, unsigned doublings,
                                   uint64_t operations, uint64_t random);

BENCH_INLINE uint64_t loop(uint64_t **slots, uint64_t alive, unsigned doublings,
                           uint64_t operations, uint64_t random, struct bench_samples *samples)
{
    uint64_t checksum = 0;

    for (uint64_t i = 0; i < operations; i++) {
        uint64_t choice = bench_random(&random), start;
        uint64_t **slot = &slots[bench_below(choice, alive)];
        size_t size = bench_log_size(bench_random(&random), SMALLEST, doublings);

        if (*slot)
            checksum += **slot;
        start = bench_sample_start(samples);
        free(*slot);
        *slot = malloc(size);
        bench_sample_end(samples, start);
        if (!*slot)
            bench_out_of_memory(size);
        bench_touch(*slot, size, BENCH_PAGE, choice);
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
        {"operations", "blocks replaced", 100000, 1, UINT64_C(1) << 40},
        {"alive", "blocks alive at once", 64, 1, UINT64_C(1) << 32},
        {"doublings", "the largest size is below 16 << doublings bytes", 18, 1, 27},
        {"seed", "of the random numbers", 12345, 0, UINT64_MAX},
        BENCH_LATENCY_OPTION,
    };
    static struct bench_samples samples;
    uint64_t **slots;
    uint64_t alive, random, start, elapsed, checksum;
    unsigned doublings;

    bench_arguments(argc, argv, "vm_mixed", argument, 5);
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

    bench_report_begin("vm_mixed", argument[0].value, elapsed, checksum, argument, 5);
    bench_report_latency(&samples);
    bench_report_end("vm_mixed");
    for (uint64_t i = 0; i < alive; i++)
        free(slots[i]);
    free(slots);
    return 0;
}
