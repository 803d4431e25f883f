/* SPDX-License-Identifier: MIT */
/* mid_large_mt: several threads, each of which replaces random blocks of 8 to 128 KiB, as programs do
 * that read files or frames into buffers.
 *
 * stresses:   sizes where many allocators leave their fast path, from several threads at once; the
 *             price of giving memory back too early: a word is written to each page of a block
 * arguments:  threads, replacements by each, blocks alive in each, smallest and largest size in
 *             bytes, seed
 * operation:  one free of a random block and one malloc in its place. The time is elapsed time for
 *             all threads together; the first filling is in it
 * wins:       the allocator that keeps the fast path for these sizes, or at least takes extents from something that
 *             belongs to the thread; one lock for all large blocks, and unmapping or purging what is
 *             wanted again at once, lose by a factor
 */
#include "bench_run.h"
#include "bench_threads.h"

struct worker {
    _Alignas(BENCH_CACHE_LINE) uint64_t **slots;
    uint64_t random, checksum;
    struct bench_samples *samples; /* NULL in the timed part */
};

/* Constant while the threads run. */
static struct {
    uint64_t replacements, alive, smallest, sizes;
    uint64_t sampled; /* operations of each thread that are timed one by one */
} shared;

BENCH_INLINE uint64_t loop(struct worker *worker, uint64_t replacements,
                           struct bench_samples *samples)
{
    uint64_t random = worker->random, checksum = 0;

    for (uint64_t i = 0; i < replacements; i++) {
        uint64_t choice = bench_random(&random);
        uint64_t **slot = &worker->slots[bench_below(choice << 32, shared.alive)];
        size_t size = shared.smallest + bench_below(choice, shared.sizes);

        checksum += bench_replace(slot, size, BENCH_PAGE, choice, samples);
    }
    worker->random = random;
    return checksum;
}

static void work(void *argument)
{
    struct worker *worker = argument;

    worker->checksum += loop(worker, shared.replacements, NULL);
}

static void work_sampled(void *argument)
{
    struct worker *worker = argument;

    loop(worker, shared.sampled, worker->samples);
}

enum { THREADS, REPLACEMENTS, ALIVE, LEAST, MOST, SEED };

static struct worker *workers;

static void prepare(const struct bench_argument *argument)
{
    bench_check_range("mid_large_mt", &argument[LEAST], &argument[MOST]);
    shared.replacements = argument[REPLACEMENTS].value;
    shared.alive = argument[ALIVE].value;
    shared.smallest = argument[LEAST].value;
    shared.sizes = argument[MOST].value - argument[LEAST].value + 1;
    workers = bench_aligned_table(BENCH_CACHE_LINE, argument[THREADS].value, sizeof(*workers));
    for (uint64_t i = 0; i < argument[THREADS].value; i++) {
        workers[i].slots = bench_table(shared.alive, sizeof(*workers[i].slots));
        workers[i].random = bench_random_state(argument[SEED].value + i);
        workers[i].samples = bench_table(1, sizeof(*workers[i].samples));
    }
}

static void run(const struct bench_argument *argument, struct bench_result *result)
{
    uint64_t threads = argument[THREADS].value;

    result->operations = threads * shared.replacements;
    result->nanoseconds = bench_run_threads(threads, work, workers, sizeof(*workers));
    for (uint64_t i = 0; i < threads; i++)
        result->checksum += workers[i].checksum;
}

static void sample(const struct bench_argument *argument, uint64_t operations,
                   struct bench_samples *samples)
{
    uint64_t threads = argument[THREADS].value;

    shared.sampled = (operations + threads - 1) / threads;
    bench_run_threads(threads, work_sampled, workers, sizeof(*workers));
    for (uint64_t i = 0; i < threads; i++)
        bench_samples_add(samples, workers[i].samples);
}

int main(int argc, char **argv)
{
    static struct bench_argument argument[] = {
        {"threads", "threads at once", 4, 1, BENCH_THREADS_MOST},
        {"replacements", "blocks that each replaces", 100000, 1, UINT64_C(1) << 40},
        {"alive", "blocks alive in a thread", 64, 1, UINT64_C(1) << 32},
        {"smallest", "bytes", 8192, sizeof(uint64_t), UINT64_C(1) << 31},
        {"largest", "bytes", 131072, sizeof(uint64_t), UINT64_C(1) << 31},
        {"seed", "of the random numbers", 12345, 0, UINT64_MAX},
        BENCH_LATENCY_OPTION,
    };

    return bench_run(argc, argv,
                     &(struct bench_workload){.name = "mid_large_mt",
                                              BENCH_ARGUMENTS(argument),
                                              .prepare = prepare,
                                              .run = run,
                                              .sample = sample});
}
