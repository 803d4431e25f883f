/* SPDX-License-Identifier: MIT */
/* Thousands of threads, as many as the system gives up to those asked for, each with some small blocks of many sizes:
 * says how many there were, and how much private dirty memory each took beyond its blocks. All that they free is free. */
#include <pthread.h>
#include "check.h"
#include "dirty.h"
#include "live.h"

enum { BLOCKS = 20, STACK = 64 << 10 };

static pthread_barrier_t step; /* awaited by main and all threads */
static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t opened = PTHREAD_COND_INITIALIZER;
static int is_open;

static size_t size_of(int block)
{
    return 50 + (size_t)block * 90;
}

static void *live(void *unused)
{
    char *blocks[BLOCKS];

    pthread_mutex_lock(&gate);
    while (!is_open)
        pthread_cond_wait(&opened, &gate);
    pthread_mutex_unlock(&gate);
    pthread_barrier_wait(&step);
    for (int i = 0; i < BLOCKS; i++) {
        CHECK(blocks[i] = malloc(size_of(i)));
        memset(blocks[i], i, size_of(i));
    }
    pthread_barrier_wait(&step);
    pthread_barrier_wait(&step);
    for (int i = 0; i < BLOCKS; i++) {
        CHECK(blocks[i][0] == (char)i && blocks[i][size_of(i) - 1] == (char)i);
        free(blocks[i]);
    }
    return unused;
}

int main(int count, char **argument)
{
    static pthread_t thread[100000];
    pthread_attr_t attributes;
    long most, threads = 0, before, dirty, bytes = 0;

    CHECK(count == 2);
    most = atol(argument[1]);
    CHECK(most > 0 && most <= (long)(sizeof thread / sizeof *thread));
    CHECK(!pthread_attr_init(&attributes) && !pthread_attr_setstacksize(&attributes, STACK));
    while (threads < most && !pthread_create(&thread[threads], &attributes, live, NULL))
        threads++;
    CHECK(!pthread_barrier_init(&step, NULL, (unsigned)threads + 1));
    pthread_mutex_lock(&gate);
    is_open = 1;
    pthread_cond_broadcast(&opened);
    pthread_mutex_unlock(&gate);
    before = live_blocks();
    dirty = dirty_kilobytes();
    pthread_barrier_wait(&step);
    pthread_barrier_wait(&step);
    dirty = dirty_kilobytes() - dirty;
    CHECK(live_blocks() == before + threads * BLOCKS);
    pthread_barrier_wait(&step);
    for (long i = 0; i < threads; i++)
        CHECK(!pthread_join(thread[i], NULL));
    CHECK(live_blocks() <= before); /* libc frees what it had for stacks */
    for (int i = 0; i < BLOCKS; i++)
        bytes += (long)size_of(i);
    printf("%ld threads, %ld bytes each beyond %ld\n", threads, dirty * 1024 / threads - bytes,
           bytes);
    return 0;
}
