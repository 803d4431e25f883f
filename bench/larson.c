/* SPDX-License-Identifier: MIT */
/* larson: the server benchmark of Larson and Krishnan ("Memory allocation for long-running server
 * applications", 1998).
 *
 *   thread 1 ──array──► thread 1' ──array──► thread 1'' …   each chain has an array of blocks; a
 *   thread 2 ──array──► thread 2' ──array──► thread 2'' …   thread replaces random ones of them,
 *                                                           then starts its successor and ends
 *
 * stresses:   many threads at once; blocks freed by another thread than the one that allocated
 *             them, which has ended by then; the start and the end of threads. The first blocks all
 *             come from the main thread
 * arguments:  threads at once, generations (threads one after the other in a chain), replacements
 *             by one thread, blocks of a chain, smallest and largest size in bytes, seed
 * operation:  one free and one malloc. The time is elapsed time for all threads together, from the
 *             first start to the last end; the arrays are filled before
 * wins:       the allocator that shares nothing between threads on the hit path, takes over the memory of
 *             ended threads cheaply, and brings a block home (or keeps it) without a lock for each
 */
#include "bench_run.h"

#include <pthread.h>

struct chain {
    uint64_t **blocks;
    uint64_t random;
    uint64_t checksum;
    uint64_t generations_left;
};

/* What all chains share; constant while they run, but for `running`. */
static struct {
    pthread_mutex_t lock;
    pthread_cond_t ended;
    pthread_attr_t detached;
    uint64_t running; /* under lock */
    uint64_t replacements, blocks, smallest, sizes;
} shared = {.lock = PTHREAD_MUTEX_INITIALIZER, .ended = PTHREAD_COND_INITIALIZER};

static uint64_t *new_block(uint64_t *random)
{
    uint64_t choice = bench_random(random);
    size_t size = shared.smallest + bench_below(choice, shared.sizes);
    uint64_t *block = malloc(size);

    if (!block)
        bench_out_of_memory(size);
    *block = choice;
    return block;
}

static void *generation(void *argument);

static void start_thread(struct chain *chain)
{
    pthread_t thread;
    int error = pthread_create(&thread, &shared.detached, generation, chain);

    if (error) {
        fprintf(stderr, "larson: a thread cannot be started: %s\n", strerror(error));
        exit(BENCH_FAILED);
    }
}

static void *generation(void *argument)
{
    struct chain *chain = argument;
    uint64_t random = chain->random, checksum = 0;

    for (uint64_t i = 0; i < shared.replacements; i++) {
        uint64_t **slot = &chain->blocks[bench_below(bench_random(&random), shared.blocks)];

        checksum += **slot;
        free(*slot);
        *slot = new_block(&random);
    }
    chain->random = random;
    chain->checksum += checksum;
    if (--chain->generations_left) {
        start_thread(chain);
        return NULL;
    }
    pthread_mutex_lock(&shared.lock);
    if (!--shared.running)
        pthread_cond_signal(&shared.ended);
    pthread_mutex_unlock(&shared.lock);
    return NULL;
}

static void fill(struct chain *chain, uint64_t generations, uint64_t seed)
{
    chain->blocks = bench_table(shared.blocks, sizeof(*chain->blocks));
    chain->random = bench_random_state(seed);
    chain->generations_left = generations;
    for (uint64_t i = 0; i < shared.blocks; i++)
        chain->blocks[i] = new_block(&chain->random);
}

enum { THREADS, GENERATIONS, REPLACEMENTS, BLOCKS, LEAST, MOST, SEED };

static struct chain *chains;

static void prepare(const struct bench_argument *argument)
{
    bench_check_range("larson", &argument[LEAST], &argument[MOST]);
    shared.running = argument[THREADS].value;
    shared.replacements = argument[REPLACEMENTS].value;
    shared.blocks = argument[BLOCKS].value;
    shared.smallest = argument[LEAST].value;
    shared.sizes = argument[MOST].value - argument[LEAST].value + 1;
    pthread_attr_init(&shared.detached);
    pthread_attr_setdetachstate(&shared.detached, PTHREAD_CREATE_DETACHED);
    chains = bench_table(argument[THREADS].value, sizeof(*chains));
    for (uint64_t i = 0; i < argument[THREADS].value; i++)
        fill(&chains[i], argument[GENERATIONS].value, argument[SEED].value + i);
}

static void run(const struct bench_argument *argument, struct bench_result *result)
{
    uint64_t threads = argument[THREADS].value;

    for (uint64_t i = 0; i < threads; i++)
        start_thread(&chains[i]);
    pthread_mutex_lock(&shared.lock);
    while (shared.running)
        pthread_cond_wait(&shared.ended, &shared.lock);
    pthread_mutex_unlock(&shared.lock);
    result->operations = threads * argument[GENERATIONS].value * shared.replacements;
    for (uint64_t i = 0; i < threads; i++)
        result->checksum += chains[i].checksum;
}

int main(int argc, char **argv)
{
    static struct bench_argument argument[] = {
        {"threads", "chains of threads that run at once", 4, 1, 10000},
        {"generations", "threads in a chain, one after the other", 300, 1, UINT64_C(1) << 32},
        {"replacements", "blocks that one thread replaces", 50000, 1, UINT64_C(1) << 40},
        {"blocks", "blocks alive in a chain", 1024, 1, UINT64_C(1) << 32},
        {"smallest", "bytes", 8, sizeof(uint64_t), UINT64_C(1) << 31},
        {"largest", "bytes", 1000, sizeof(uint64_t), UINT64_C(1) << 31},
        {"seed", "of the random numbers", 12345, 0, UINT64_MAX},
    };

    return bench_run(argc, argv,
                     &(struct bench_workload){.name = "larson",
                                              BENCH_ARGUMENTS(argument),
                                              .prepare = prepare,
                                              .run = run});
}
