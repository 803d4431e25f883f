/* SPDX-License-Identifier: MIT */
/* fragmentation: a program whose needs change from phase to phase.
 *
 *   1 full       blocks of 16-515 bytes
 *   2 dropped    nine of ten freed, at random
 *   3 refilled   their places taken by blocks of 500-999 bytes
 *   4 freed      all freed
 *   5 later      after a pause, and a few blocks that give the allocator an occasion to tidy up
 *
 * stresses:   what the survivors of phase 2 pin, and what comes back to the system. Beside the time,
 *             resident and private dirty memory are given after each phase, and the time of each
 * arguments:  blocks, pause in milliseconds (0: no phase 5), seed
 * operation:  one malloc and one free; the time is that of phases 1 to 4
 * wins:       phase 3: the allocator that can join freed neighbours into blocks of any size, or gives back the
 *             free pages of slabs that are still partly alive; slabs of one size class each, kept
 *             until they are wholly free, strand a third. Phase 4 and 5: the allocator that returns memory
 *             without being asked. Time: the allocator that returns none, as the first touch of a page is dear
 */
#include "bench_memory.h"
#include "bench_run.h"

enum { PHASES = 4, KEPT_OF = 10 };

static const char *const phase_name[PHASES] = {"full", "dropped", "refilled", "freed"};

struct table {
    uint64_t **slots;
    uint32_t *order; /* of the frees */
    uint64_t count, dropped, random, checksum;
};

static void fill(struct table *table, uint64_t smallest, uint64_t sizes)
{
    for (uint64_t i = 0; i < table->count; i++) {
        uint64_t choice = bench_random(&table->random);
        size_t size = smallest + bench_below(choice, sizes);

        if (table->slots[i])
            continue;
        table->slots[i] = malloc(size);
        if (!table->slots[i])
            bench_out_of_memory(size);
        bench_touch(table->slots[i], size, 64, choice);
    }
}

static void empty(struct table *table, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        uint64_t **slot = &table->slots[table->order[i]];

        table->checksum += **slot * (i + 1);
        free(*slot);
        *slot = NULL;
    }
}

static void run_phase(struct table *table, int phase)
{
    if (phase == 0)
        fill(table, 16, 500);
    else if (phase == 1)
        empty(table, table->dropped);
    else if (phase == 2)
        fill(table, 500, 500);
    else
        empty(table, table->count);
}

static void shuffle(struct table *table)
{
    for (uint64_t i = 0; i < table->count; i++)
        table->order[i] = (uint32_t)i;
    for (uint64_t left = table->count; left > 1; left--) {
        uint64_t chosen = bench_below(bench_random(&table->random), left);
        uint32_t other = table->order[left - 1];

        table->order[left - 1] = table->order[chosen];
        table->order[chosen] = other;
    }
}

static void pause_and_tick(uint64_t milliseconds)
{
    struct timespec time = {(time_t)(milliseconds / 1000), (long)(milliseconds % 1000) * 1000000};
    void *blocks[64];

    nanosleep(&time, NULL);
    for (int round = 0; round < 64; round++) {
        for (size_t i = 0; i < 64; i++)
            bench_keep(blocks[i] = malloc(1000 * (i + 1)));
        for (size_t i = 0; i < 64; i++)
            free(blocks[i]);
    }
}

enum { BLOCKS, PAUSE, SEED };

static struct table table;
static struct bench_memory resident, dirty;
static uint64_t phase_time[PHASES];

static void prepare(const struct bench_argument *argument)
{
    table.count = argument[BLOCKS].value;
    table.dropped = table.count - table.count / KEPT_OF;
    table.random = bench_random_state(argument[SEED].value);
    table.slots = bench_table(table.count, sizeof(*table.slots));
    table.order = bench_table(table.count, sizeof(*table.order));
    shuffle(&table);
}

static void look_at_memory(uint64_t elapsed)
{
    bench_memory_add(&resident, elapsed, bench_resident_kib());
    bench_memory_add(&dirty, elapsed, bench_private_dirty_kib());
}

/* The time is that of the phases alone, without the looks at memory. */
static void run(const struct bench_argument *argument, struct bench_result *result)
{
    for (int phase = 0; phase < PHASES; phase++) {
        uint64_t start = bench_nanoseconds();

        run_phase(&table, phase);
        phase_time[phase] = bench_nanoseconds() - start;
        result->nanoseconds += phase_time[phase];
        look_at_memory(result->nanoseconds);
    }
    if (argument[PAUSE].value) {
        pause_and_tick(argument[PAUSE].value);
        look_at_memory(result->nanoseconds + argument[PAUSE].value * 1000000);
    }
    result->operations = table.count + table.dropped;
    result->checksum = table.checksum;
}

static void report(void)
{
    for (int phase = 0; phase < PHASES; phase++)
        printf(" %s_seconds=%.6f", phase_name[phase], (double)phase_time[phase] / 1e9);
    bench_report_memory("rss", &resident);
    bench_report_memory("dirty", &dirty);
}

static void finish(const struct bench_argument *argument)
{
    (void)argument;
    free(table.order);
    free(table.slots);
}

int main(int argc, char **argv)
{
    static struct bench_argument argument[] = {
        {"blocks", "blocks alive in phases 1 and 3", 400000, KEPT_OF, UINT32_MAX},
        {"pause", "milliseconds before phase 5, 0 for none", 0, 0, 1000000},
        {"seed", "of the random numbers", 12345, 0, UINT64_MAX},
    };

    return bench_run(argc, argv,
                     &(struct bench_workload){.name = "fragmentation",
                                              BENCH_ARGUMENTS(argument),
                                              .prepare = prepare,
                                              .run = run,
                                              .report = report,
                                              .finish = finish});
}
