/* SPDX-License-Identifier: MIT */
/* handover: some threads allocate blocks in bulk, others free them in bulk.
 *
 *   allocators ── malloc ──► [ a full array of blocks ] ── queue ──► free ── freers
 *        ▲                                                             │
 *        └──────────────── queue ── [ the emptied array ] ◄────────────┘
 *
 * stresses:   remote frees by thousands, by threads that never allocate
 * arguments:  blocks in all, smallest and largest size in bytes (each doubling as likely), blocks of an
 *             array, arrays for each thread, allocators, freers, order of the frees (0: as allocated, 1: at random), seed
 * operation:  one malloc in one thread and one free in another; elapsed time, all threads
 * wins:       the allocator that sends freed blocks home in batches, even for a thread that has allocated nothing, and hands
 *             them out again in the order of their addresses
 */
#include "bench_run.h"
#include "bench_threads.h"

#include <stdatomic.h>

enum { SIZES = 4096 };

struct bulk {
    struct bulk *next;
    uint64_t count; /* 0: no more will come */
    uint64_t *blocks[];
};

/* First in, first out. */
struct queue {
    pthread_mutex_t lock;
    pthread_cond_t filled;
    struct bulk *first, **last;
};

static struct queue full = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, NULL, &full.first};
static struct queue empty = {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER, NULL,
                             &empty.first};

/* Constant while the threads run. */
static struct {
    uint64_t blocks, bulk, allocators, threads;
    uint32_t sizes[SIZES];
    uint64_t *order; /* of the frees: a permutation of an array's places */
    struct bulk *end;
    _Atomic uint64_t allocating; /* allocators that have not ended: this one changes */
} shared;

struct worker {
    uint64_t index, checksum;
};

static void give(struct queue *queue, struct bulk *bulk)
{
    bulk->next = NULL;
    pthread_mutex_lock(&queue->lock);
    *queue->last = bulk;
    queue->last = &bulk->next;
    pthread_cond_signal(&queue->filled);
    pthread_mutex_unlock(&queue->lock);
}

static struct bulk *take(struct queue *queue)
{
    struct bulk *bulk;

    pthread_mutex_lock(&queue->lock);
    while (!queue->first)
        pthread_cond_wait(&queue->filled, &queue->lock);
    bulk = queue->first;
    queue->first = bulk->next;
    if (!queue->first)
        queue->last = &queue->first;
    pthread_mutex_unlock(&queue->lock);
    return bulk;
}

/* Blocks are numbered through all allocators. */
static void allocate(uint64_t index)
{
    uint64_t next = shared.blocks * index / shared.allocators;
    uint64_t last = shared.blocks * (index + 1) / shared.allocators;

    while (next < last) {
        struct bulk *bulk = take(&empty);

        for (bulk->count = 0; bulk->count < shared.bulk && next < last; bulk->count++) {
            uint32_t size = shared.sizes[next % SIZES];
            uint64_t *block = malloc(size);

            if (!block)
                bench_out_of_memory(size);
            *block = next++;
            bulk->blocks[bulk->count] = block;
        }
        give(&full, bulk);
    }
    if (atomic_fetch_sub(&shared.allocating, 1) == 1)
        give(&full, shared.end);
}

static uint64_t release(void)
{
    uint64_t checksum = 0;

    for (;;) {
        struct bulk *bulk = take(&full);

        if (bulk->count == 0) { /* the next freer is to see it, too */
            give(&full, bulk);
            return checksum;
        }
        for (uint64_t i = 0; i < bulk->count; i++) {
            uint64_t *block = bulk->blocks[bulk->count == shared.bulk ? shared.order[i] : i];

            checksum += *block * (*block | 1);
            free(block);
        }
        give(&empty, bulk);
    }
}

static void work(void *argument)
{
    struct worker *worker = argument;

    if (worker->index < shared.allocators)
        allocate(worker->index);
    else
        worker->checksum = release();
}

enum { BLOCKS, SMALLEST, LARGEST, BULK, BULKS, ALLOCATORS, FREERS, ORDER, SEED };

static struct worker *workers;

static struct bulk *new_bulk(void)
{
    return bench_table(1, sizeof(struct bulk) + shared.bulk * sizeof(uint64_t *));
}

static void prepare(const struct bench_argument *argument)
{
    uint64_t random = bench_random_state(argument[SEED].value);
    uint64_t smallest = argument[SMALLEST].value, largest = argument[LARGEST].value;
    unsigned doublings = 1;

    bench_check_range("handover", &argument[SMALLEST], &argument[LARGEST]);
    shared.blocks = argument[BLOCKS].value;
    shared.bulk = argument[BULK].value;
    shared.allocators = argument[ALLOCATORS].value;
    shared.allocating = shared.allocators;
    while (smallest << doublings < largest)
        doublings++;
    for (uint64_t i = 0; i < SIZES; i++) {
        size_t size = bench_log_size(bench_random(&random), smallest, doublings);
        shared.sizes[i] = (uint32_t)(smallest == largest ? smallest
                                     : size < largest    ? size
                                                         : largest);
    }
    shared.order = bench_table(shared.bulk, sizeof(*shared.order));
    for (uint64_t i = 0; i < shared.bulk; i++) {
        uint64_t other = argument[ORDER].value ? bench_below(bench_random(&random), i + 1) : i;

        shared.order[i] = shared.order[other];
        shared.order[other] = i;
    }
    shared.threads = shared.allocators + argument[FREERS].value;
    for (uint64_t i = 0; i < argument[BULKS].value * shared.threads; i++)
        give(&empty, new_bulk());
    shared.end = new_bulk();
    workers = bench_table(shared.threads, sizeof(*workers));
    for (uint64_t i = 0; i < shared.threads; i++)
        workers[i].index = i;
}

static void run(const struct bench_argument *argument, struct bench_result *result)
{
    (void)argument;
    result->nanoseconds = bench_run_threads(shared.threads, work, workers, sizeof(*workers));
    for (uint64_t i = 0; i < shared.threads; i++)
        result->checksum += workers[i].checksum;
}

static void finish(const struct bench_argument *argument)
{
    (void)argument;
    while (empty.first)
        free(take(&empty));
    free(shared.end);
    free(shared.order);
    free(workers);
}

int main(int argc, char **argv)
{
    static struct bench_argument argument[] = {
        {"blocks", "blocks sent from thread to thread", 5000000, 1, UINT64_C(1) << 40},
        {"smallest", "bytes", 64, sizeof(uint64_t), UINT64_C(1) << 30},
        {"largest", "bytes", 64, sizeof(uint64_t), UINT64_C(1) << 30},
        {"bulk", "blocks of an array", 4096, 1, UINT64_C(1) << 20},
        {"bulks", "arrays for each thread", 4, 1, UINT64_C(1) << 20},
        {"allocators", "threads that allocate", 2, 1, BENCH_THREADS_MOST / 2},
        {"freers", "threads that free", 2, 1, BENCH_THREADS_MOST / 2},
        {"order", "of the frees: 0 as allocated, 1 at random", 0, 0, 1},
        {"seed", "of sizes and order", 12345, 0, UINT64_MAX},
    };

    return bench_run(argc, argv,
                     &(struct bench_workload){.name = "handover",
                                              BENCH_ARGUMENTS(argument),
                                              .prepare = prepare,
                                              .run = run,
                                              .finish = finish});
}
