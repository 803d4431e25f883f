/* SPDX-License-Identifier: MIT */
/* chase: a walk along a chain of small blocks that lie all over a large heap, as through the trees and tables
 * of a database in memory.
 *
 * stresses:   where blocks lie: how many fit in a cache line's neighbourhood, a page, a huge page. Nothing
 *             is allocated in the timed part
 * arguments:  steps, blocks, milliseconds of slow-path calls between the building and the walk, seed
 * operation:  one link followed to the next block, at random
 * wins:       the allocator that packs blocks tightly and has huge pages for them, as then the processor finds nearly
 *             every page at once; small pages cost a walk through the page tables for each block
 */
#include "bench_run.h"

#include <time.h>

enum { SMALLEST = 64, LARGEST = 128, FLEETING = 100000, PAUSE_NS = 1000000 };

/* The arguments, in the order of the table. */
enum { STEPS, BLOCKS, PAUSE, SEED };

struct node {
    struct node *next;
    uint64_t word;
};

static struct node **nodes;

/* One cycle through all nodes (Sattolo). */
static void link_at_random(uint64_t count, uint64_t random)
{
    for (uint64_t i = count - 1; i > 0; i--) {
        uint64_t other = bench_below(bench_random(&random), i);
        struct node *node = nodes[i];
        nodes[i] = nodes[other];
        nodes[other] = node;
    }
    for (uint64_t i = 0; i < count; i++)
        nodes[i]->next = nodes[(i + 1) % count];
}

/* A program that goes on: large blocks come and go, so that upkeep that is due is done. */
static void go_on(uint64_t milliseconds)
{
    uint64_t end = bench_nanoseconds() + milliseconds * 1000000;

    while (bench_nanoseconds() < end) {
        for (int i = 0; i < 40; i++) {
            void *block = malloc(FLEETING);
            if (!block)
                bench_out_of_memory(FLEETING);
            bench_keep(block);
            free(block);
        }
        nanosleep(&(struct timespec){0, PAUSE_NS}, NULL);
    }
}

BENCH_NOINLINE void timed_walk(const struct bench_argument *argument, struct bench_result *result);

void timed_walk(const struct bench_argument *argument, struct bench_result *result)
{
    const struct node *node = nodes[0];
    uint64_t steps = argument[STEPS].value, checksum = 0;

    for (uint64_t i = 0; i < steps; i++) {
        checksum = checksum * 31 + node->word;
        node = node->next;
    }
    result->checksum = checksum;
}

static void prepare(const struct bench_argument *argument)
{
    uint64_t count = argument[BLOCKS].value, random = bench_random_state(argument[SEED].value);

    nodes = bench_table(count, sizeof(*nodes));
    for (uint64_t i = 0; i < count; i++) {
        size_t size = SMALLEST + bench_below(bench_random(&random), LARGEST - SMALLEST);

        nodes[i] = malloc(size);
        if (!nodes[i])
            bench_out_of_memory(size);
        nodes[i]->word = i;
    }
    link_at_random(count, random);
    go_on(argument[PAUSE].value);
}

static void finish(const struct bench_argument *argument)
{
    for (uint64_t i = 0; i < argument[BLOCKS].value; i++)
        free(nodes[i]);
    free(nodes);
}

int main(int argc, char **argv)
{
    static struct bench_argument argument[] = {
        {"steps", "links followed", 10000000, 1, UINT64_C(1) << 40},
        {"blocks", "alive, of 64 to 127 bytes", 3000000, 2, UINT64_C(1) << 32},
        {"pause", "milliseconds of other calls before the walk", 2000, 0, 100000},
        {"seed", "of the random numbers", 12345, 0, UINT64_MAX},
    };

    return bench_run(argc, argv,
                     &(struct bench_workload){.name = "chase",
                                              BENCH_ARGUMENTS(argument),
                                              .prepare = prepare,
                                              .run = timed_walk,
                                              .finish = finish});
}
