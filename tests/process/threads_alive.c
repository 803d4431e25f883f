/* SPDX-License-Identifier: MIT */
/* Proves that 2000 threads can be alive at once, each with blocks of its own, and that another
 * thread frees half of them.
 */
#include <pthread.h>
#include "check.h"

enum { THREADS = 2000, BLOCKS = 20, STACK = 64 << 10 };

static void *block[THREADS][BLOCKS];
static pthread_barrier_t all_have, checked;

static void *live(void *argument)
{
    int own = (int)(uintptr_t)argument, next = (own + 1) % THREADS;
    uint64_t state = (uint64_t)own + 1;

    for (int i = 0; i < BLOCKS; i++)
        block[own][i] = block_new(&state);
    pthread_barrier_wait(&all_have);
    pthread_barrier_wait(&checked);
    for (int i = 0; i < BLOCKS; i += 2)
        block_free(block[own][i]);
    for (int i = 1; i < BLOCKS; i += 2)
        block_free(block[next][i]);
    return NULL;
}

int main(void)
{
    static pthread_t thread[THREADS];
    pthread_attr_t attributes;

    CHECK(!pthread_attr_init(&attributes));
    CHECK(!pthread_attr_setstacksize(&attributes, STACK));
    CHECK(!pthread_barrier_init(&all_have, NULL, THREADS + 1));
    CHECK(!pthread_barrier_init(&checked, NULL, THREADS + 1));
    for (int i = 0; i < THREADS; i++)
        CHECK(!pthread_create(&thread[i], &attributes, live, (void *)(uintptr_t)i));
    pthread_barrier_wait(&all_have);
    for (int t = 0; t < THREADS; t++)
        for (int i = 0; i < BLOCKS; i++)
            block_check(block[t][i]);
    printf("%d threads alive\n", THREADS);
    pthread_barrier_wait(&checked);
    for (int i = 0; i < THREADS; i++)
        CHECK(!pthread_join(thread[i], NULL));
    return 0;
}
