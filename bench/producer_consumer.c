/* SPDX-License-Identifier: MIT */
/* producer_consumer: one thread allocates, another frees.
 *
 *   producer ── malloc ──► [ ring of block pointers ] ──► free ── consumer
 *
 * stresses:   remote frees, and nothing else: no block is freed by the thread that allocated it
 * arguments:  blocks in all, size of a block in bytes, slots of the ring (a power of two)
 * operation:  one malloc in one thread and one free in the other; the time is elapsed time. The
 *             ring's own cost is in it, made small: indices are published once for 64 blocks
 * wins:       whoever sends freed blocks home in batches, and lets the producer take a whole batch
 *             at once; a lock or an atomic operation for each block costs more than all the rest,
 *             and a cache that keeps what it is sent grows on one side and starves on the other
 */
#include "bench.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

enum { CACHE_LINE = 64, PUBLISH = 64, SPINS = 200 };

/* The consumer writes `taken`, the producer `given`: each has a line of its own. */
static struct {
    _Alignas(CACHE_LINE) _Atomic uint64_t given;
    _Alignas(CACHE_LINE) _Atomic uint64_t taken;
    _Alignas(CACHE_LINE) uint64_t **slots;
    uint64_t mask, blocks;
    size_t size;
} ring;

/* Waits until the other side's index has reached a value; gives the CPU away after a while, as the
 * other side may need this very one. */
static uint64_t wait_for(_Atomic uint64_t *index, uint64_t at_least)
{
    uint64_t value;

    for (unsigned spins = 0; (value = atomic_load_explicit(index, memory_order_acquire)) < at_least;
         spins++)
        if (spins > SPINS)
            sched_yield();
    return value;
}

/* The end of the next group of blocks that is published at once. */
static uint64_t group_end(uint64_t from)
{
    uint64_t end = from + PUBLISH;

    return end < ring.blocks ? end : ring.blocks;
}

static void *produce(void *ignored)
{
    uint64_t slots = ring.mask + 1;

    for (uint64_t next = 0; next < ring.blocks;) {
        uint64_t end = group_end(next);

        if (end > slots)
            wait_for(&ring.taken, end - slots);
        for (; next < end; next++) {
            uint64_t *block = malloc(ring.size);

            if (!block)
                bench_out_of_memory(ring.size);
            *block = next;
            ring.slots[next & ring.mask] = block;
        }
        atomic_store_explicit(&ring.given, next, memory_order_release);
    }
    return ignored;
}

static uint64_t consume(void)
{
    uint64_t checksum = 0;

    for (uint64_t next = 0; next < ring.blocks;) {
        uint64_t end = group_end(next);

        wait_for(&ring.given, end);
        for (; next < end; next++) {
            uint64_t *block = ring.slots[next & ring.mask];

            checksum += *block * (next | 1);
            free(block);
        }
        atomic_store_explicit(&ring.taken, next, memory_order_release);
    }
    return checksum;
}

int main(int argc, char **argv)
{
    struct bench_argument argument[] = {
        {"blocks", "blocks sent from thread to thread", 10000000, 1, UINT64_C(1) << 40},
        {"size", "bytes in a block", 64, sizeof(uint64_t), UINT64_C(1) << 40},
        {"slots", "slots of the ring, a power of two", 1024, 2 * PUBLISH, UINT64_C(1) << 30},
    };
    pthread_t producer;
    uint64_t start, elapsed, checksum;
    int error;

    bench_arguments(argc, argv, "producer_consumer", argument, 3);
    if (argument[2].value & (argument[2].value - 1)) {
        fprintf(stderr, "producer_consumer: slots is %" PRIu64 ", must be a power of two\n",
                argument[2].value);
        return BENCH_USAGE;
    }
    ring.blocks = argument[0].value;
    ring.size = argument[1].value;
    ring.mask = argument[2].value - 1;
    ring.slots = bench_table(argument[2].value, sizeof(*ring.slots));

    start = bench_nanoseconds();
    error = pthread_create(&producer, NULL, produce, NULL);
    if (error) {
        fprintf(stderr, "producer_consumer: no second thread: %s\n", strerror(error));
        return BENCH_FAILED;
    }
    checksum = consume();
    elapsed = bench_nanoseconds() - start;
    pthread_join(producer, NULL);

    bench_report("producer_consumer", ring.blocks, elapsed, checksum, argument, 3);
    free(ring.slots);
    return 0;
}
