/* SPDX-License-Identifier: MIT */
/* episodes: a small program that works in episodes, as interpreters do on page after page and optimizers on pass after pass.
 * Each episode has a few kinds of objects, of sizes of its own, builds up a few MiB of them, replaces some at random,
 * and drops all but a few, which stay for two episodes more.
 *
 * stresses:   what is resident beside what is live, in a program so small that each size class is a few pages: what the last
 *             episode left in caches and in slabs of its sizes, and what its survivors pin
 * arguments:  episodes, bytes alive, kinds of an episode, doublings from 16 bytes on (11: to 32 KiB), percent that
 *             survive, seed
 * operation:  one malloc and one free; all words of a block are written
 * wins:       peak resident memory: the allocator that joins free neighbours into blocks of any size, or that has other
 *             sizes use pages that hold no live block. Time: the one that touches the least fresh memory
 */
#include "bench_run.h"

enum { SMALLEST = 16, KINDS_MOST = 64, RUN_BYTES = 4096, AGES = 3 };

/* The arguments, in the order of the table. */
enum { EPISODES, BYTES, KINDS, DOUBLINGS, SURVIVE, SEED };

BENCH_NOINLINE void timed_loop(const struct bench_argument *argument, struct bench_result *result);

/* The first word of an object: its kind, the episode that made it, and a random number. */
static uint64_t word_of(uint64_t kind, uint64_t episode, uint64_t choice)
{
    return kind | episode % AGES << 6 | (choice >> 8) << 8;
}

static uint64_t kind_of(const uint64_t *object)
{
    return *object & 63;
}

static uint64_t age_of(const uint64_t *object, uint64_t episode)
{
    return (episode % AGES + AGES - (*object >> 6 & 3)) % AGES;
}

static struct {
    uint64_t **objects;
    uint64_t count, room;
    size_t size[KINDS_MOST]; /* of the kinds of this episode */
    uint64_t random, made, checksum;
} table;

static uint64_t *make(uint64_t kind, uint64_t episode)
{
    size_t size = table.size[kind];
    uint64_t *object = malloc(size);

    if (!object)
        bench_out_of_memory(size);
    bench_touch(object, size, sizeof(uint64_t),
                word_of(kind, episode, bench_random(&table.random)));
    table.made++;
    return object;
}

static void drop(uint64_t *object)
{
    table.checksum = table.checksum * 31 + *object;
    free(object);
}

static void build(const struct bench_argument *argument, uint64_t episode)
{
    uint64_t bytes = 0;

    for (uint64_t kind = 0; kind < argument[KINDS].value; kind++)
        table.size[kind] = bench_log_size(bench_random(&table.random), SMALLEST,
                                          (unsigned)argument[DOUBLINGS].value);
    /* Each run has about as many bytes, whatever its kind. */
    while (bytes < argument[BYTES].value) {
        uint64_t kind = bench_below(bench_random(&table.random), argument[KINDS].value);
        size_t run = 1 + RUN_BYTES / table.size[kind];
        for (size_t i = 0; i < run && table.count < table.room; i++)
            table.objects[table.count++] = make(kind, episode);
        bytes += run * table.size[kind];
    }
}

/* Half of the objects of this episode, one after another, make room for others of their kind. */
static void replace(uint64_t first, uint64_t episode)
{
    uint64_t made = table.count - first;

    for (uint64_t i = 0; i < made / 2; i++) {
        uint64_t **object = &table.objects[first + bench_below(bench_random(&table.random), made)];
        uint64_t kind = kind_of(*object);
        drop(*object);
        *object = make(kind, episode);
    }
}

/* Returns how many survive; they come first. */
static uint64_t end(uint64_t percent, uint64_t episode)
{
    uint64_t kept = 0;

    for (uint64_t i = 0; i < table.count; i++) {
        uint64_t *object = table.objects[i];
        uint64_t age = age_of(object, episode);
        if (age == AGES - 1 ||
            (age == 0 && bench_below(bench_random(&table.random), 100) >= percent))
            drop(object);
        else
            table.objects[kept++] = object;
    }
    return kept;
}

void timed_loop(const struct bench_argument *argument, struct bench_result *result)
{
    for (uint64_t episode = 0; episode < argument[EPISODES].value; episode++) {
        uint64_t first = table.count;

        build(argument, episode);
        replace(first, episode);
        table.count = end(argument[SURVIVE].value, episode);
    }
    result->operations = table.made;
    result->checksum = table.checksum;
}

static void prepare(const struct bench_argument *argument)
{
    table.room = argument[BYTES].value / SMALLEST * AGES;
    table.objects = bench_table(table.room, sizeof(*table.objects));
    table.random = bench_random_state(argument[SEED].value);
}

static void finish(const struct bench_argument *argument)
{
    (void)argument;
    for (uint64_t i = 0; i < table.count; i++)
        free(table.objects[i]);
    free(table.objects);
}

int main(int argc, char **argv)
{
    static struct bench_argument argument[] = {
        {"episodes", "how many", 200, 1, UINT64_C(1) << 32},
        {"bytes", "alive at the end of an episode", 2 << 20, 1024, UINT64_C(1) << 36},
        {"kinds", "of objects in an episode", 8, 1, KINDS_MOST},
        {"doublings", "the largest size is below 16 << doublings bytes", 11, 1, 20},
        {"survive", "percent of an episode's objects", 5, 0, 100},
        {"seed", "of the random numbers", 12345, 0, UINT64_MAX},
    };

    return bench_run(argc, argv,
                     &(struct bench_workload){.name = "episodes",
                                              BENCH_ARGUMENTS(argument),
                                              .prepare = prepare,
                                              .run = timed_loop,
                                              .finish = finish});
}
