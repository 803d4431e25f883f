/* SPDX-License-Identifier: MIT */
/* What the workloads share: the clock, random numbers, the arguments and the line of output.
 *
 * A workload calls malloc and free and names no allocator: which one serves it is decided outside,
 * by LD_PRELOAD. It prints one line of key=value pairs. Its checksum depends on the arguments and
 * on the contents of blocks, never on addresses, so that two allocators must print the same one: an
 * allocator that hands a live block out twice prints another.
 *
 * The timed part of a workload with one thread is a function called timed_loop, so that a tool that
 * counts instructions can be told to count there and nowhere else. What else some of them share is
 * in bench_latency.h, bench_memory.h and bench_threads.h. */
#ifndef BENCH_H
#define BENCH_H

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define BENCH_NOINLINE __attribute__((noinline))

/* Exit status of a workload that was called wrongly, and of one that cannot go on. */
enum { BENCH_USAGE = 2, BENCH_FAILED = 3 };

/* The stride of a touch that reaches every page. */
enum { BENCH_PAGE = 4096 };

/* What an option means that is given without a value, or its maximum if that is less. */
enum { BENCH_OPTION_ALONE = 100000, BENCH_ARGUMENTS_MOST = 16 };

/* Arguments are identified by their position on the command line. Names that begin with two dashes are
 * options: they may stand anywhere, as --name or --name=VALUE, and come last in the table. */
struct bench_argument {
    const char *name;    /* as the usage shows it */
    const char *meaning; /* with its unit */
    uint64_t value;      /* the default, replaced by what the command line says */
    uint64_t minimum, maximum;
};

/* Makes the compiler believe that the block is used here and that all memory may have changed. Two
 * things follow: a malloc and the free after it cannot be removed as a pair without effect, and
 * what is written to a block is written indeed. */
static inline void bench_keep(const void *block)
{
    __asm__ volatile("" : : "r"(block) : "memory");
}

static inline uint64_t bench_nanoseconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Marsaglia's xorshift: three shifts, no memory, no call. The state must not be 0. */
static inline uint64_t bench_random(uint64_t *state)
{
    uint64_t x = *state;

    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    return *state = x;
}

/* Turns any seed, 0 and small ones too, into a state whose bits are well mixed (splitmix64). */
static inline uint64_t bench_random_state(uint64_t seed)
{
    seed += 0x9e3779b97f4a7c15u;
    seed = (seed ^ (seed >> 30)) * 0xbf58476d1ce4e5b9u;
    seed = (seed ^ (seed >> 27)) * 0x94d049bb133111ebu;
    seed ^= seed >> 31;
    return seed ? seed : 1;
}

/* Maps the upper half of a random number to 0 … bound-1 without a division; bound <= 2^32. */
static inline uint64_t bench_below(uint64_t random, uint64_t bound)
{
    return ((random >> 32) * bound) >> 32;
}

/* Writes a word at the block's start and at each multiple of the stride, as a program does that uses
 * what it has asked for; a stride of a page reaches all its memory. */
static inline void bench_touch(void *block, size_t size, size_t stride, uint64_t word)
{
    for (size_t offset = 0; offset + sizeof(word) <= size; offset += stride)
        memcpy((char *)block + offset, &word, sizeof(word));
}

/* A size from smallest on, below smallest << doublings: each doubling is as likely as another, and
 * within one each size. */
static inline size_t bench_log_size(uint64_t random, size_t smallest, unsigned doublings)
{
    size_t base = smallest << bench_below(random << 32, doublings);

    return base + bench_below(random, base);
}

/* An allocation of the workload's own, outside the timed part. */
static inline void *bench_table(size_t count, size_t size)
{
    void *table = calloc(count, size);

    if (!table) {
        fprintf(stderr, "out of memory: no room for %zu entries of %zu bytes\n", count, size);
        exit(BENCH_FAILED);
    }
    return table;
}

/* The same, for entries with an alignment of their own, of which the size is a multiple. */
static inline void *bench_aligned_table(size_t alignment, size_t count, size_t size)
{
    void *table = aligned_alloc(alignment, count * size);

    if (!table) {
        fprintf(stderr, "out of memory: no room for %zu entries of %zu bytes\n", count, size);
        exit(BENCH_FAILED);
    }
    return memset(table, 0, count * size);
}

static inline bool bench_is_option(const char *word)
{
    return word[0] == '-' && word[1] == '-';
}

static inline void bench_usage(FILE *out, const char *workload,
                               const struct bench_argument *argument, size_t count)
{
    size_t places = 0;

    fprintf(out, "usage: %s", workload);
    for (size_t i = 0; i < count; i++)
        if (bench_is_option(argument[i].name))
            fprintf(out, " [%s[=N]]", argument[i].name);
    for (; places < count && !bench_is_option(argument[places].name); places++)
        fprintf(out, " [%s", argument[places].name);
    while (places--)
        fputc(']', out);
    fputc('\n', out);
    for (size_t i = 0; i < count; i++)
        fprintf(out, "  %-12s %s; %" PRIu64 " to %" PRIu64 ", default %" PRIu64 "\n",
                argument[i].name, argument[i].meaning, argument[i].minimum, argument[i].maximum,
                argument[i].value);
}

static inline bool bench_parse(const char *text, struct bench_argument *argument)
{
    char *end;

    errno = 0;
    argument->value = strtoull(text, &end, 10);
    return text[0] >= '0' && text[0] <= '9' && !*end && !errno &&
           argument->value >= argument->minimum && argument->value <= argument->maximum;
}

/* The option that a word of the command line names, and its value or NULL; count if there is none. */
static inline size_t bench_find_option(const char *word, const char **value,
                                       const struct bench_argument *argument, size_t count)
{
    size_t length = strcspn(word, "="), i = 0;

    while (i < count &&
           (strncmp(word, argument[i].name, length) != 0 || argument[i].name[length] != '\0'))
        i++;
    *value = word[length] ? word + length + 1 : NULL;
    return i;
}

/* Reads the command line into the arguments' values; what is not given keeps its default. A mistake
 * ends the program with one line that says which argument is wrong, and the usage. */
static inline void bench_arguments(int argc, char **argv, const char *workload,
                                   struct bench_argument *argument, size_t count)
{
    uint64_t value[BENCH_ARGUMENTS_MOST];
    size_t place = 0;

    for (size_t i = 0; i < count; i++)
        value[i] = argument[i].value;
    if (argc == 2 && (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"))) {
        bench_usage(stdout, workload, argument, count);
        exit(0);
    }
    for (int i = 1; i < argc; i++) {
        const char *text = argv[i];
        size_t index = place;
        struct bench_argument parsed;

        if (bench_is_option(text))
            index = bench_find_option(text, &text, argument, count);
        else
            place++;
        if (index >= count || bench_is_option(argv[i]) != bench_is_option(argument[index].name)) {
            fprintf(stderr, "%s: \"%s\" is not expected: %s\n", workload, argv[i],
                    bench_is_option(argv[i]) ? "no such option" : "too many arguments");
            bench_usage(stderr, workload, argument, count);
            exit(BENCH_USAGE);
        }
        parsed = argument[index];
        if (!text) {
            parsed.value =
                parsed.maximum < BENCH_OPTION_ALONE ? parsed.maximum : BENCH_OPTION_ALONE;
        } else if (!bench_parse(text, &parsed)) {
            fprintf(stderr,
                    "%s: %s is \"%s\", must be a whole number from %" PRIu64 " to %" PRIu64 "\n",
                    workload, parsed.name, text, parsed.minimum, parsed.maximum);
            bench_usage(stderr, workload, argument, count);
            exit(BENCH_USAGE);
        }
        value[index] = parsed.value;
    }
    /* Only now: the usage shows the defaults. */
    for (size_t i = 0; i < count; i++)
        argument[i].value = value[i];
}

/* A smallest and a largest size that contradict each other. */
static inline void bench_check_range(const char *workload, const struct bench_argument *smallest,
                                     const struct bench_argument *largest)
{
    if (largest->value < smallest->value) {
        fprintf(stderr, "%s: %s (%" PRIu64 ") is below %s (%" PRIu64 ")\n", workload, largest->name,
                largest->value, smallest->name, smallest->value);
        exit(BENCH_USAGE);
    }
}

/* The line of output. An operation is what the workload's head says it is; the time is elapsed
 * time, also where several threads work at once. */
static inline void bench_report_begin(const char *workload, uint64_t operations,
                                      uint64_t nanoseconds, uint64_t checksum,
                                      const struct bench_argument *argument, size_t count)
{
    printf("workload=%s ops=%" PRIu64 " ns_per_op=%.3f seconds=%.9f checksum=%016" PRIx64, workload,
           operations, (double)nanoseconds / (double)operations, (double)nanoseconds / 1e9,
           checksum);
    for (size_t i = 0; i < count; i++)
        printf(" %s=%" PRIu64, argument[i].name + strspn(argument[i].name, "-"), argument[i].value);
}

/* Other figures stand between the beginning and the end, each with a space before it. */
static inline void bench_report_end(const char *workload)
{
    putchar('\n');
    if (fflush(stdout) || ferror(stdout)) {
        fprintf(stderr, "%s: the result cannot be written: %s\n", workload, strerror(errno));
        exit(BENCH_FAILED);
    }
}

static inline void bench_report(const char *workload, uint64_t operations, uint64_t nanoseconds,
                                uint64_t checksum, const struct bench_argument *argument,
                                size_t count)
{
    bench_report_begin(workload, operations, nanoseconds, checksum, argument, count);
    bench_report_end(workload);
}

/* malloc returned NULL: the figure would mean nothing, so there is none. */
__attribute__((cold, noreturn)) static inline void bench_out_of_memory(size_t size)
{
    fprintf(stderr, "malloc(%zu) returned NULL\n", size);
    exit(BENCH_FAILED);
}

#endif
