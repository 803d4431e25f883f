/* SPDX-License-Identifier: MIT */
/* calloc: zeroed blocks of 16 bytes to 256 KiB, each doubling as likely as another, in random
 * replacement.
 *
 * stresses:   clearing memory. The checksum holds three words of each block as it was handed out, so
 *             that a block which is not zero makes another one; then every page is written to
 * arguments:  operations, blocks alive, doublings from 16 bytes on (14: to 256 KiB), seed
 * operation:  one free of a random block and one calloc in its place
 * wins:       small blocks: the allocator that has the fast path of malloc for calloc too, as clearing is the
 *             same for all. Large ones: the allocator that knows which memory is zero because the kernel has just
 *             made it so, and does not clear it again; clearing what is in the cache, in turn, is
 *             cheaper than a page fault
 */
#include "bench_run.h"

enum { SMALLEST = 16 };

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
        {"operations", "blocks replaced", 500000, 1, UINT64_C(1) << 40},
        {"alive", "blocks alive at once", 256, 1, UINT64_C(1) << 32},
        {"doublings", "the largest size is below 16 << doublings bytes", 14, 1, 27},
        {"seed", "of the random numbers", 12345, 0, UINT64_MAX},
        BENCH_LATENCY_OPTION,
    };

    return bench_run(argc, argv,
                     &(struct bench_workload){.name = "calloc",
                                              BENCH_ARGUMENTS(argument),
                                              .prepare = bench_make_slots,
                                              .run = timed_loop,
                                              .sample = sample,
                                              .finish = bench_free_slots});
}
