/* SPDX-License-Identifier: MIT */
/* How long single operations take: a histogram of them, of which percentiles are printed.
 *
 * Reading a timer twice for each operation would spoil the throughput, so that operations are timed
 * in a phase of their own, after the timed part and in the state that it has left behind, and only
 * on request (--latency). The same loop is compiled twice: with samples NULL nothing of this is in
 * it.
 *
 * A figure holds the two readings of the timer, a few nanoseconds, which are printed
 * as timer_ns: where a percentile is close to it, it says little. Buckets are 1/32 wide, so a
 * percentile is right within 3 %; the longest is exact. A thread that loses its CPU in the middle of
 * an operation makes a long one, as it does in life.
 */
#ifndef BENCH_LATENCY_H
#define BENCH_LATENCY_H

#include "bench.h"

#define BENCH_INLINE static inline __attribute__((always_inline))

/* The last entry of the table of arguments. */
#define BENCH_LATENCY_OPTION                                                                       \
    {                                                                                              \
        "--latency", "operations to time one by one afterwards", 0, 0, UINT64_C(1) << 32           \
    }

enum { BENCH_STEPS = 32, BENCH_BUCKETS = 60 * BENCH_STEPS, BENCH_TIMER_READINGS = 1001 };

struct bench_samples {
    uint64_t count;
    uint64_t longest;     /* ticks */
    uint64_t ticks, time; /* from begin to end: how long a tick is; before the end: the beginning */
    uint64_t bucket[BENCH_BUCKETS];
};

#if defined __x86_64__
/* The fences keep the operation between two readings. */
BENCH_INLINE uint64_t bench_ticks(void)
{
    uint64_t ticks;

    __builtin_ia32_lfence();
    ticks = __builtin_ia32_rdtsc();
    __builtin_ia32_lfence();
    return ticks;
}
#else
BENCH_INLINE uint64_t bench_ticks(void)
{
    return bench_nanoseconds();
}
#endif

/* Buckets 0 to 63 hold one value each, further ones 2, 4, 8 … */
static inline size_t bench_bucket(uint64_t ticks)
{
    unsigned shift = ticks < 2 * BENCH_STEPS ? 0 : 58 - (unsigned)__builtin_clzll(ticks);

    return shift * BENCH_STEPS + (ticks >> shift);
}

/* The middle of a bucket, in ticks. */
static inline double bench_bucket_middle(size_t bucket)
{
    unsigned shift = bucket < 2 * BENCH_STEPS ? 0 : (unsigned)(bucket / BENCH_STEPS) - 1;
    uint64_t lowest = (uint64_t)(bucket - shift * BENCH_STEPS) << shift;

    return (double)lowest + (double)((UINT64_C(1) << shift) - 1) / 2;
}

BENCH_INLINE uint64_t bench_sample_start(const struct bench_samples *samples)
{
    return samples ? bench_ticks() : 0;
}

BENCH_INLINE void bench_sample_end(struct bench_samples *samples, uint64_t start)
{
    int64_t ticks;

    if (!samples)
        return;
    /* Negative: between two CPUs whose counters are not quite alike. */
    ticks = (int64_t)(bench_ticks() - start);
    if (ticks < 0)
        ticks = 0;
    samples->count++;
    samples->bucket[bench_bucket((uint64_t)ticks)]++;
    if (samples->longest < (uint64_t)ticks)
        samples->longest = (uint64_t)ticks;
}

/* Around all that is sampled. */
static inline void bench_samples_begin(struct bench_samples *samples)
{
    samples->time = bench_nanoseconds();
    samples->ticks = bench_ticks();
}

static inline void bench_samples_end(struct bench_samples *samples)
{
    samples->ticks = bench_ticks() - samples->ticks;
    samples->time = bench_nanoseconds() - samples->time;
}

/* Adds what a thread has sampled. */
static inline void bench_samples_add(struct bench_samples *sum, const struct bench_samples *samples)
{
    for (size_t i = 0; i < BENCH_BUCKETS; i++)
        sum->bucket[i] += samples->bucket[i];
    sum->count += samples->count;
    if (sum->longest < samples->longest)
        sum->longest = samples->longest;
}

/* The ticks within which so many thousandths of the operations ended. */
static inline double bench_percentile(const struct bench_samples *samples, uint64_t thousandths)
{
    uint64_t wanted = (samples->count * thousandths + 999) / 1000, seen = 0;
    size_t bucket = 0;

    while (bucket + 1 < BENCH_BUCKETS && (seen += samples->bucket[bucket]) < wanted)
        bucket++;
    return bench_bucket_middle(bucket);
}

/* What an operation that does nothing would seem to take: the median, in ticks. */
static inline double bench_timer_cost(void)
{
    static struct bench_samples empty;

    for (int i = 0; i < BENCH_TIMER_READINGS; i++)
        bench_sample_end(&empty, bench_sample_start(&empty));
    return bench_percentile(&empty, 500);
}

/* Prints nothing if nothing was sampled. */
static inline void bench_report_latency(const struct bench_samples *samples)
{
    double scale;

    if (!samples->count || !samples->ticks)
        return;
    scale = (double)samples->time / (double)samples->ticks;
    printf(" p50_ns=%.1f p99_ns=%.1f p999_ns=%.1f max_ns=%.1f timer_ns=%.1f",
           scale * bench_percentile(samples, 500), scale * bench_percentile(samples, 990),
           scale * bench_percentile(samples, 999), scale * (double)samples->longest,
           scale * bench_timer_cost());
}

/* Reads the first word of a slot's block, if it has one, and replaces it by a block of this size, of which a word in each
 * `stride` bytes is written. Only free and malloc are timed. Returns the word that was read, or 0. */
BENCH_INLINE uint64_t bench_replace(uint64_t **slot, size_t size, size_t stride, uint64_t word,
                                    struct bench_samples *samples)
{
    uint64_t read = *slot ? **slot : 0, start = bench_sample_start(samples);

    free(*slot);
    *slot = malloc(size);
    bench_sample_end(samples, start);
    if (!*slot)
        bench_out_of_memory(size);
    bench_touch(*slot, size, stride, word);
    bench_keep(*slot);
    return read;
}

#endif
