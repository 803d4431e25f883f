/* SPDX-License-Identifier: MIT */
/* producer_consumer: some threads allocate, others free.
 *
 *   producer ── malloc ──► [ ring of block pointers ] ──► free ── consumer
 *            ╲                                                  ╱
 *              ──────────► [ a ring for each pair   ] ────────►
 *
 * stresses:   remote frees, and nothing else: no block is freed by the thread that allocated it
 * arguments:  blocks in all, size of a block in bytes, slots of a ring (a power of two), producers,
 *             consumers. A producer serves the consumers round robin
 * operation:  one malloc in one thread and one free in the other; the time is elapsed time. The
 *             rings' own cost is in it, made small: indices are published once for 64 blocks
 * wins:       the allocator that sends freed blocks home in batches, and lets the producer take a whole batch
 *             at once; a lock or an atomic operation for each block costs more than all the rest,
 *             and a cache that keeps what it is sent grows on one side and starves on the other.
 *             With several consumers, the allocator that lets them bring blocks home without meeting each other
 */
#include "bench_run.h"
#include "bench_threads.h"

#include <sched.h>
#include <stdatomic.h>

enum { PUBLISH = 64, SPINS = 200, THREADS_MOST = 256 };

/* The consumer writes `taken`, the producer `given` and, before its last change, `last`: each has a
 * line of its own. */
struct ring {
    _Alignas(BENCH_CACHE_LINE) _Atomic uint64_t given;
    _Atomic bool last;
    _Alignas(BENCH_CACHE_LINE) _Atomic uint64_t taken;
    _Alignas(BENCH_CACHE_LINE) uint64_t **slots;
};

/* Constant while the threads run. */
static struct {
    struct ring *rings; /* of producer p and consumer c: rings[p * consumers + c] */
    uint64_t mask, blocks, producers, consumers;
    size_t size;
} shared;

struct worker {
    uint64_t index;
    uint64_t checksum;
};

/* Waits until there is room up to an index; gives the CPU away after a while, as the other side may
 * need this very one. */
static void wait_for_room(struct ring *ring, uint64_t end)
{
    uint64_t slots = shared.mask + 1;

    for (unsigned spins = 0;
         end > slots && atomic_load_explicit(&ring->taken, memory_order_acquire) < end - slots;
         spins++)
        if (spins > SPINS)
            sched_yield();
}

/* Blocks are numbered through all producers. */
static void produce(uint64_t producer)
{
    struct ring *rings = &shared.rings[producer * shared.consumers];
    uint64_t next = shared.blocks * producer / shared.producers;
    uint64_t last = shared.blocks * (producer + 1) / shared.producers;

    for (uint64_t turn = 0; next < last; turn++) {
        struct ring *ring = &rings[turn % shared.consumers];
        uint64_t index = atomic_load_explicit(&ring->given, memory_order_relaxed);
        uint64_t end = index + (last - next < PUBLISH ? last - next : PUBLISH);

        wait_for_room(ring, end);
        for (; index < end; index++) {
            uint64_t *block = malloc(shared.size);

            if (!block)
                bench_out_of_memory(shared.size);
            *block = next++;
            ring->slots[index & shared.mask] = block;
        }
        atomic_store_explicit(&ring->given, index, memory_order_release);
    }
    for (uint64_t i = 0; i < shared.consumers; i++)
        atomic_store_explicit(&rings[i].last, true, memory_order_release);
}

/* Frees what a ring holds. False once nothing will come any more; whether it held anything is added
 * to `freed`. */
static bool drain(struct ring *ring, uint64_t *checksum, uint64_t *freed)
{
    bool last = atomic_load_explicit(&ring->last, memory_order_acquire);
    uint64_t given = atomic_load_explicit(&ring->given, memory_order_acquire);
    uint64_t next = atomic_load_explicit(&ring->taken, memory_order_relaxed);

    while (next < given) {
        uint64_t end = next + PUBLISH < given ? next + PUBLISH : given;

        *freed += end - next;
        for (; next < end; next++) {
            uint64_t *block = ring->slots[next & shared.mask];

            *checksum += *block * (*block | 1);
            free(block);
        }
        atomic_store_explicit(&ring->taken, next, memory_order_release);
    }
    return !last;
}

static uint64_t consume(uint64_t consumer)
{
    uint64_t checksum = 0;

    for (unsigned spins = 0, open = 1; open; spins++) {
        uint64_t freed = 0;

        open = 0;
        for (uint64_t i = 0; i < shared.producers; i++)
            open += drain(&shared.rings[i * shared.consumers + consumer], &checksum, &freed);
        if (freed)
            spins = 0;
        else if (spins > SPINS)
            sched_yield();
    }
    return checksum;
}

static void work(void *argument)
{
    struct worker *worker = argument;

    if (worker->index < shared.producers)
        produce(worker->index);
    else
        worker->checksum = consume(worker->index - shared.producers);
}

enum { BLOCKS, SIZE, SLOTS, PRODUCERS, CONSUMERS };

static struct worker *workers;

static void prepare(const struct bench_argument *argument)
{
    uint64_t slots = argument[SLOTS].value;

    if (slots & (slots - 1)) {
        fprintf(stderr, "producer_consumer: slots is %" PRIu64 ", must be a power of two\n", slots);
        exit(BENCH_USAGE);
    }
    shared.blocks = argument[BLOCKS].value;
    shared.size = argument[SIZE].value;
    shared.mask = slots - 1;
    shared.producers = argument[PRODUCERS].value;
    shared.consumers = argument[CONSUMERS].value;
    shared.rings = bench_aligned_table(BENCH_CACHE_LINE, shared.producers * shared.consumers,
                                       sizeof(*shared.rings));
    for (uint64_t i = 0; i < shared.producers * shared.consumers; i++)
        shared.rings[i].slots = bench_table(slots, sizeof(*shared.rings[i].slots));
    workers = bench_table(shared.producers + shared.consumers, sizeof(*workers));
    for (uint64_t i = 0; i < shared.producers + shared.consumers; i++)
        workers[i].index = i;
}

static void run(const struct bench_argument *argument, struct bench_result *result)
{
    uint64_t threads = shared.producers + shared.consumers;

    (void)argument;
    result->nanoseconds = bench_run_threads(threads, work, workers, sizeof(*workers));
    for (uint64_t i = 0; i < threads; i++)
        result->checksum += workers[i].checksum;
}

static void finish(const struct bench_argument *argument)
{
    (void)argument;
    for (uint64_t i = 0; i < shared.producers * shared.consumers; i++)
        free(shared.rings[i].slots);
    free(shared.rings);
    free(workers);
}

int main(int argc, char **argv)
{
    static struct bench_argument argument[] = {
        {"blocks", "blocks sent from thread to thread", 10000000, 1, UINT64_C(1) << 40},
        {"size", "bytes in a block", 64, sizeof(uint64_t), UINT64_C(1) << 40},
        {"slots", "slots of a ring, a power of two", 1024, 2 * PUBLISH, UINT64_C(1) << 30},
        {"producers", "threads that allocate", 1, 1, THREADS_MOST},
        {"consumers", "threads that free", 1, 1, THREADS_MOST},
    };

    return bench_run(argc, argv,
                     &(struct bench_workload){.name = "producer_consumer",
                                              BENCH_ARGUMENTS(argument),
                                              .prepare = prepare,
                                              .run = run,
                                              .finish = finish});
}
