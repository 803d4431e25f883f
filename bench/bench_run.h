/* SPDX-License-Identifier: MIT */
/* The main function of every workload: it reads the arguments, calls the workload's parts in their order,
 * takes the time of one of them, and prints the line of output.
 *
 *   arguments ─► prepare ─► run (timed) ─► sample (timed one by one) ─► the line ─► finish
 *
 * A workload fills a struct bench_workload, whose functions get the arguments' values in the order of its
 * table, and returns bench_run() from main. */
#ifndef BENCH_RUN_H
#define BENCH_RUN_H

#include "bench_latency.h"

/* What `run` reports. */
struct bench_result {
    uint64_t checksum;
    uint64_t operations;  /* 0: as many as the first argument says */
    uint64_t nanoseconds; /* 0: the call's own time; threads that start together report theirs */
};

struct bench_workload {
    const char *name;
    struct bench_argument *argument; /* values are replaced by what the command line says */
    size_t count;                    /* of arguments */
    /* Not timed: checks arguments that contradict each other, and makes the tables. NULL: nothing to do. */
    void (*prepare)(const struct bench_argument *argument);
    void (*run)(const struct bench_argument *argument, struct bench_result *result);
    /* Times so many operations one by one, in the state that `run` has left. NULL: the workload has no
     * --latency, else that is its last argument. */
    void (*sample)(const struct bench_argument *argument, uint64_t operations,
                   struct bench_samples *samples);
    void (*report)(void); /* prints further figures, each after a space; or NULL */
    void (*finish)(const struct bench_argument *argument); /* frees what is still alive; or NULL */
};

/* The table and its length, for an initializer. */
#define BENCH_ARGUMENTS(table) .argument = (table), .count = sizeof(table) / sizeof((table)[0])

/* The exit status of main. Whatever goes wrong ends the program with its own status and one line. */
static inline int bench_run(int argc, char **argv, const struct bench_workload *workload)
{
    static struct bench_samples samples;
    struct bench_argument *argument = workload->argument;
    struct bench_result result = {0};
    uint64_t start, elapsed;

    bench_arguments(argc, argv, workload->name, argument, workload->count);
    if (workload->prepare)
        workload->prepare(argument);
    start = bench_nanoseconds();
    workload->run(argument, &result);
    elapsed = bench_nanoseconds() - start;

    if (workload->sample && argument[workload->count - 1].value) {
        bench_samples_begin(&samples);
        workload->sample(argument, argument[workload->count - 1].value, &samples);
        bench_samples_end(&samples);
    }

    bench_report_begin(workload->name, result.operations ? result.operations : argument[0].value,
                       result.nanoseconds ? result.nanoseconds : elapsed, result.checksum, argument,
                       workload->count);
    bench_report_latency(&samples);
    if (workload->report)
        workload->report();
    bench_report_end(workload->name);
    if (workload->finish)
        workload->finish(argument);
    return 0;
}

/* The slots of a workload that replaces random blocks: as many as its second argument says, empty at first. */
static uint64_t **bench_slots;

static inline void bench_make_slots(const struct bench_argument *argument)
{
    bench_slots = bench_table(argument[1].value, sizeof(*bench_slots));
}

static inline void bench_free_slots(const struct bench_argument *argument)
{
    for (uint64_t i = 0; i < argument[1].value; i++)
        free(bench_slots[i]);
    free(bench_slots);
}

#endif
