/* SPDX-License-Identifier: MIT */
/* vm_mixed: blocks from 16 bytes to 4 MiB, each doubling as likely as another, as in a program that
 * keeps small objects and whole files side by side.
 *
 * stresses:   every border on the way up: from the small classes to spans of pages, and from there to
 *             mappings of their own; each page of a block is written to
 * arguments:  operations, blocks alive, doublings from 16 bytes on (18: to 4 MiB), seed
 * operation:  one free of a random block and one malloc in its place; filling the slots is timed too
 * wins:       the allocator that keeps large memory for a while and hands it out again: one system call, or the
 *             first touch of one page, costs as much as hundreds of small operations. The price is
 *             resident memory, to be compared next to the time
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
        uint64_t choice = bench_random(&random);
        uint64_t **slot = &slots[bench_below(choice, alive)];
        size_t size = bench_log_size(bench_random(&random), SMALLEST, doublings);

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

int main(int argc, char **argv)
{
    static struct bench_argument argument[] = {
        {"operations", "blocks replaced", 100000, 1, UINT64_C(1) << 40},
        {"alive", "blocks alive at once", 64, 1, UINT64_C(1) << 32},
        {"doublings", "the largest size is below 16 << doublings bytes", 18, 1, 27},
        {"seed", "of the random numbers", 12345, 0, UINT64_MAX},
        BENCH_LATENCY_OPTION,
    };

    return bench_run(argc, argv,
                     &(struct bench_workload){.name = "vm_mixed",
                                              BENCH_ARGUMENTS(argument),
                                              .prepare = bench_make_slots,
                                              .run = timed_loop,
                                              .sample = sample,
                                              .finish = bench_free_slots});
}
