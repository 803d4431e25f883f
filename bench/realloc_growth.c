/* SPDX-License-Identifier: MIT */
/* realloc_growth: arrays that grow by turns, step by step, until they are full and a new one takes
 * their place, as vectors and string buffers do.
 *
 * stresses:   realloc: growth in place, copying, and moving of large blocks. The arrays grow by turns,
 *             so that none can simply run on into free memory. What was written before a step is read
 *             after it
 * arguments:  steps in all, arrays at once, growth of a step in percent, largest array in bytes, seed
 * operation:  one realloc, and the writing of what it has added; a full array costs one free beside it
 * wins:       whoever does nothing while the new size fits the block (size classes wide enough, whole
 *             pages), and moves large blocks by page tables instead of by bytes
 */
#include "bench_latency.h"

enum { SMALLEST = 16 };

struct array {
    uint64_t *words;
    size_t size; /* bytes */
};

BENCH_NOINLINE uint64_t timed_loop(struct array *arrays, uint64_t count, uint64_t percent,
                                   size_t largest, uint64_t steps, uint64_t random);

BENCH_INLINE uint64_t loop(struct array *arrays, uint64_t count, uint64_t percent, size_t largest,
                           uint64_t steps, uint64_t random, struct bench_samples *samples)
{
    uint64_t checksum = 0;

    for (uint64_t i = 0; i < steps; i++) {
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

uint64_t timed_loop(struct array *arrays, uint64_t count, uint64_t percent, size_t largest,
                    uint64_t steps, uint64_t random)
{
    return loop(arrays, count, percent, largest, steps, random, NULL);
}

int main(int argc, char **argv)
{
    struct bench_argument argument[] = {
        {"steps", "calls of realloc", 200000, 1, UINT64_C(1) << 40},
        {"arrays", "arrays that grow by turns", 16, 1, UINT64_C(1) << 24},
        {"percent", "growth of a step, and 16 bytes", 25, 0, 1000},
        {"largest", "bytes", 1 << 20, SMALLEST, UINT64_C(1) << 34},
        {"seed", "of the random numbers", 12345, 0, UINT64_MAX},
        BENCH_LATENCY_OPTION,
    };
    static struct bench_samples samples;
    struct array *arrays;
    uint64_t count, percent, largest, random, start, elapsed, checksum;

    bench_arguments(argc, argv, "realloc_growth", argument, 6);
    count = argument[1].value;
    percent = argument[2].value;
    largest = argument[3].value;
    random = bench_random_state(argument[4].value);
    arrays = bench_table(count, sizeof(*arrays));
    start = bench_nanoseconds();
    checksum = timed_loop(arrays, count, percent, largest, argument[0].value, random);
    elapsed = bench_nanoseconds() - start;

    bench_samples_begin(&samples);
    loop(arrays, count, percent, largest, argument[5].value, random, &samples);
    bench_samples_end(&samples);

    bench_report_begin("realloc_growth", argument[0].value, elapsed, checksum, argument, 6);
    bench_report_latency(&samples);
    bench_report_end("realloc_growth");
    for (uint64_t i = 0; i < count; i++)
        free(arrays[i].words);
    free(arrays);
    return 0;
}
