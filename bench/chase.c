/* SPDX-License-Identifier: MIT */
/* chase: a walk along a chain of small blocks that lie all over a large heap, as through the trees and tables
 * of a database in memory.
 *
 * stresses:   where blocks lie: how many fit in a cache line's neighbourhood, a page, a huge page. Nothing
 *             is allocated in the timed part
 * arguments:  steps, blocks, milliseconds of slow-path calls between the building and the walk, seed
 * operation:  one link followed to the next block, at random
 * wins:       whoever packs blocks tightly and has huge pages for them, as then the processor finds nearly
 *             every page at once; small pages cost a walk through the page tables for each block
 */
#include "bench.h"

#include <time.h>

enum { SMALLEST = 64, LARGEST = 128, FLEETING = 100000, PAUSE_NS = 1000000 };

struct node {
    struct node *next;
    uint64_t word;
};

/* One cycle through all nodes (Sattolo). */
static void link_at_random(struct node **nodes, uint64_t count, uint64_t random)
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

BENCH_NOINLINE uint64_t timed_walk(const struct node *node, uint64_t steps);

uint64_t timed_walk(const struct node *node, uint64_t steps)
{
    uint64_t checksum = 0;

    for (uint64_t i = 0; i < steps; i++) {
        checksum = checksum * 31 + node->word;
        node = node->next;
    }
    return checksum;
}

int main(int argc, char **argv)
{
    struct bench_argument argument[] = {
        {"steps", "links followed", 10000000, 1, UINT64_C(1) << 40},
        {"blocks", "alive, of 64 to 127 bytes", 3000000, 2, UINT64_C(1) << 32},
        {"pause", "milliseconds of other calls before the walk", 2000, 0, 100000},
        {"seed", "of the random numbers", 12345, 0, UINT64_MAX},
    };
    struct node **nodes;
    uint64_t count, random, start, elapsed, checksum;

    bench_arguments(argc, argv, "chase", argument, 4);
    count = argument[1].value;
    random = bench_random_state(argument[3].value);
    nodes = bench_table(count, sizeof(*nodes));
    for (uint64_t i = 0; i < count; i++) {
        size_t size = SMALLEST + bench_below(bench_random(&random), LARGEST - SMALLEST);
        if (!(nodes[i] = malloc(size)))
            bench_out_of_memory(size);
        nodes[i]->word = i;
    }
    link_at_random(nodes, count, random);
    go_on(argument[2].value);
    start = bench_nanoseconds();
    checksum = timed_walk(nodes[0], argument[0].value);
    elapsed = bench_nanoseconds() - start;
    bench_report("chase", argument[0].value, elapsed, checksum, argument, 4);
    for (uint64_t i = 0; i < count; i++)
        free(nodes[i]);
    free(nodes);
    return 0;
}
