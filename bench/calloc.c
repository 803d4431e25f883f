/* SPDX-License-Identifier: MIT */
/* calloc: zeroed blocks of 16 bytes to 256 KiB, each doubling as likely as another, in random
 * replacement.
 *
 * stresses:   clearing memory. The checksum holds three words of each block as it was handed out, so
 *             that a block which is not zero makes another one; then every page is written to
 * arguments:  operations, blocks alive, doublings from 16 bytes on (14: to 256 KiB), seed
 * operation:  one free of a random block and one calloc in its place
 * wins:       small blocks: whoever has the fast path of malloc for calloc too, as clearing is the
 *             same for all. Large ones: whoever knows which memory is zero because the kernel has just
 *             made it so, and does not clear it again; clearing what is in the cache, in turn, is
 *             cheaper than a page fault
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
        size_t words = bench_log_size(bench_random(&random), SMALLEST, doublings) / sizeof(**slot);

        if (*slot)
            checksum += **slot;
        start = bench_sample_start(samples);
        free(*slot);
        *slot = calloc(words, sizeof(**slot));
        bench_sample_end(samples, start);
        if (!*slot)
            bench_out_of_memory(words * sizeof(**slot));
        checksum += ((*slot)[0] | (*slot)[words / 2] | (*slot)[words - 1]) * choice;
        bench_touch(*slot, words * sizeof(**slot), BENCH_PAGE, choice);
        (*slot)[words - 1] = (*slot)[words / 2] = choice;
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
        {"operations", "blocks replaced", 500000, 1, UINT64_C(1) << 40},
        {"alive", "blocks alive at once", 256, 1, UINT64_C(1) << 32},
        {"doublings", "the largest size is below 16 << doublings bytes", 14, 1, 27},
        {"seed", "of the random numbers", 12345, 0, UINT64_MAX},
        BENCH_LATENCY_OPTION,
    };
    static struct bench_samples samples;
    uint64_t **slots;
    uint64_t alive, random, start, elapsed, checksum;
    unsigned doublings;

    bench_arguments(argc, argv, "calloc", argument, 5);
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

    bench_report_begin("calloc", argument[0].value, elapsed, checksum, argument, 5);
    bench_report_latency(&samples);
    bench_report_end("calloc");
    for (uint64_t i = 0; i < alive; i++)
        free(slots[i]);
    free(slots);
    return 0;
}
