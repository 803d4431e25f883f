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
 * wins:       whoever keeps the fast path for these sizes, or at least takes spans from something that
 *             belongs to the thread; one lock for all large blocks, and unmapping or purging what is
 *             wanted again at once, lose by a factor
 */
#include "bench_latency.h"
#include "bench_threads.h"

struct worker {
    _Alignas(BENCH_CACHE_LINE) uint64_t **slots;
    uint64_t random, checksum;
    uint64_t samples_wanted;
    struct bench_samples *samples; /* NULL in the timed part */
};

/* Constant while the threads run. */
static struct {
    uint64_t replacements, alive, smallest, sizes;
} run;

BENCH_INLINE uint64_t loop(struct worker *worker, uint64_t replacements,
                           struct bench_samples *samples)
{
    uint64_t random = worker->random, checksum = 0;

    for (uint64_t i = 0; i < replacements; i++) {
        uint64_t choice = bench_random(&random), start;
        uint64_t **slot = &worker->slots[bench_below(choice << 32, run.alive)];
        size_t size = run.smallest + bench_below(choice, run.sizes);

        if (*slot)
            checksum += **slot;
        start = bench_sample_start(samples);
        free(*slot);
        *slot = malloc(size);
        bench_sample_end(samples, start);
        if (!*slot)
            bench_out_of_memory(size);
        bench_touch(*slot, size, BENCH_PAGE, choice);
        bench_keep(*slot);
    }
    worker->random = random;
    return checksum;
}

static void work(void *argument)
{
    struct worker *worker = argument;

    worker->checksum += loop(worker, run.replacements, NULL);
}

static void work_sampled(void *argument)
{
    struct worker *worker = argument;

    loop(worker, worker->samples_wanted, worker->samples);
}

int main(int argc, char **argv)
{
    struct bench_argument argument[] = {
        {"threads", "threads at once", 4, 1, BENCH_THREADS_MOST},
        {"replacements", "blocks that each replaces", 100000, 1, UINT64_C(1) << 40},
        {"alive", "blocks alive in a thread", 64, 1, UINT64_C(1) << 32},
        {"smallest", "bytes", 8192, sizeof(uint64_t), UINT64_C(1) << 31},
        {"largest", "bytes", 131072, sizeof(uint64_t), UINT64_C(1) << 31},
        {"seed", "of the random numbers", 12345, 0, UINT64_MAX},
        BENCH_LATENCY_OPTION,
    };
    static struct bench_samples samples;
    struct worker *workers;
    uint64_t threads, elapsed, checksum = 0;

    bench_arguments(argc, argv, "mid_large_mt", argument, 7);
    bench_check_range("mid_large_mt", &argument[3], &argument[4]);
    threads = argument[0].value;
    run.replacements = argument[1].value;
    run.alive = argument[2].value;
    run.smallest = argument[3].value;
    run.sizes = argument[4].value - argument[3].value + 1;
    workers = bench_aligned_table(BENCH_CACHE_LINE, threads, sizeof(*workers));
    for (uint64_t i = 0; i < threads; i++) {
        workers[i].slots = bench_table(run.alive, sizeof(*workers[i].slots));
        workers[i].random = bench_random_state(argument[5].value + i);
        workers[i].samples_wanted = (argument[6].value + threads - 1) / threads;
        workers[i].samples = bench_table(1, sizeof(*workers[i].samples));
    }

    elapsed = bench_run_threads(threads, work, workers, sizeof(*workers));
    if (argument[6].value) {
        bench_samples_begin(&samples);
        bench_run_threads(threads, work_sampled, workers, sizeof(*workers));
        bench_samples_end(&samples);
    }

    for (uint64_t i = 0; i < threads; i++) {
        checksum += workers[i].checksum;
        bench_samples_add(&samples, workers[i].samples);
    }
    bench_report_begin("mid_large_mt", threads * run.replacements, elapsed, checksum, argument, 7);
    bench_report_latency(&samples);
    bench_report_end("mid_large_mt");
    return 0;
}
