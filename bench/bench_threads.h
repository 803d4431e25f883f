/* SPDX-License-Identifier: MIT */
/* Threads that begin their work at the same moment, and how long they all took for it. */
#ifndef BENCH_THREADS_H
#define BENCH_THREADS_H

#include "bench.h"

#include <pthread.h>

enum { BENCH_THREADS_MOST = 1024, BENCH_CACHE_LINE = 64 };

static inline void bench_start_thread(pthread_t *thread, void *(*function)(void *), void *argument)
{
    int error = pthread_create(thread, NULL, function, argument);

    if (error) {
        fprintf(stderr, "a thread cannot be started: %s\n", strerror(error));
        exit(BENCH_FAILED);
    }
}

struct bench_team {
    pthread_barrier_t start;
    void (*work)(void *);
};

struct bench_member {
    struct bench_team *team;
    void *argument;
};

static inline void *bench_member_run(void *argument)
{
    struct bench_member *member = (struct bench_member *)argument;

    pthread_barrier_wait(&member->team->start);
    member->team->work(member->argument);
    return NULL;
}

/* Runs work(arguments + i * size) in a thread of its own for each i below count, and returns the
 * nanoseconds from the moment when the last was created to the end of them all. */
static inline uint64_t bench_run_threads(size_t count, void (*work)(void *), void *arguments,
                                         size_t size)
{
    pthread_t *threads = (pthread_t *)bench_table(count, sizeof(*threads));
    struct bench_member *members = (struct bench_member *)bench_table(count, sizeof(*members));
    struct bench_team team = {.work = work};
    uint64_t start;

    pthread_barrier_init(&team.start, NULL, (unsigned)count + 1);
    for (size_t i = 0; i < count; i++) {
        members[i] = (struct bench_member){&team, (char *)arguments + i * size};
        bench_start_thread(&threads[i], bench_member_run, &members[i]);
    }
    start = bench_nanoseconds();
    pthread_barrier_wait(&team.start);
    for (size_t i = 0; i < count; i++)
        pthread_join(threads[i], NULL);
    start = bench_nanoseconds() - start;
    pthread_barrier_destroy(&team.start);
    free(members);
    free(threads);
    return start;
}

#endif
