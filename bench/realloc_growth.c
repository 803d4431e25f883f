/* SPDX-License-Identifier: MIT */
/* realloc_growth: arrays that grow in turn, step by step, until they are full and a new one takes
 * their place, as vectors and string buffers do.
 *
 * stresses:   realloc: growth in place, copying, and moving of large blocks. The arrays grow in turn,
 *             so that none can simply run on into free memory. What was written before a step is read
 *             after it
 * arguments:  steps in all, arrays at once, growth of a step in percent, largest array in bytes, seed
 * operation:  one realloc, and the writing of what it has added; a full array costs one free more
 * wins:       the allocator that does nothing while the new size fits the block (size classes wide enough, whole
 *             pages), and moves large blocks by page tables instead of by bytes
 */
#include "bench_run.h"

enum { SMALLEST = 16 };

struct array {
    uint64_t *words;
    size_t size; /* bytes */
};

/* The arguments, in the order of the table. */
enum { STEPS, ARRAYS, PERCENT, GREATEST, SEED };

static struct array *arrays;

BENCH_NOINLINE void timed_loop(const struct bench_argument *argument, struct bench_result *result);

BENCH_INLINE uint64_t loop(const struct bench_argument *argument, uint64_t operations,
                           struct bench_samples *samples)
{
    uint64_t count = argument[ARRAYS].value, percent = argument[PERCENT].value;
    size_t largest = argument[GREATEST].value;
    uint64_t random = bench_random_state(argument[SEED].value), checksum = 0;

    for (uint64_t i = 0; i < operations; i++) {
        uint64_t choice = bench_random(&random), start;
        struct array *array = &arrays[bench_below(choice, count)];
        size_t before = array->size / sizeof(choice);
        size_t size = (array->size + array->size * percent / 100 + SMALLEST) & ~(SMALLEST - 1ul);

        if (size > largest) {
            free(array->words);
            array->words = NULL;
            before = 0;
            size = SMALLEST;
        }
        start = bench_sample_start(samples);
        array->words = realloc(array->words, size);
        bench_sample_end(samples, start);
        if (!array->words)
            bench_out_of_memory(size);
        if (before)
            checksum += array->words[0] + array->words[before / 2] + array->words[before - 1];
        for (size_t word = before; word < size / sizeof(choice); word++)
            array->words[word] = choice + word;
        array->size = size;
        bench_keep(array->words);
    }
    return checksum;
}

void timed_loop(const struct bench_argument *argument, struct bench_result *result)
{
    result->checksum = loop(argument, argument[STEPS].value, NULL);
}

static void sample(const struct bench_argument *argument, uint64_t operations,
                   struct bench_samples *samples)
{
    loop(argument, operations, samples);
}

static void prepare(const struct bench_argument *argument)
{
    arrays = bench_table(argument[ARRAYS].value, sizeof(*arrays));
}

static void finish(const struct bench_argument *argument)
{
    for (uint64_t i = 0; i < argument[ARRAYS].value; i++)
        free(arrays[i].words);
    free(arrays);
}

int main(int argc, char **argv)
{
    static struct bench_argument argument[] = {
        {"steps", "calls of realloc", 200000, 1, UINT64_C(1) << 40},
        {"arrays", "arrays that grow in turn", 16, 1, UINT64_C(1) << 24},
        {"percent", "growth of a step, and 16 bytes", 25, 0, 1000},
        {"largest", "bytes", 1 << 20, SMALLEST, UINT64_C(1) << 34},
        {"seed", "of the random numbers", 12345, 0, UINT64_MAX},
        BENCH_LATENCY_OPTION,
    };

    return bench_run(argc, argv,
                     &(struct bench_workload){.name = "realloc_growth",
                                              BENCH_ARGUMENTS(argument),
                                              .prepare = prepare,
                                              .run = timed_loop,
                                              .sample = sample,
                                              .finish = finish});
}
