/* SPDX-License-Identifier: MIT */
/* Proves that blocks outlive the thread that allocated them, that others may free them later, and
 * that what ended threads leave behind is used again: 2000 threads come and go, 4 at a time, each
 * frees most of what its predecessors left, and the process does not grow.
 */
#include <pthread.h>
#include "check.h"
#include "dirty.h"

enum { GENERATIONS = 500, THREADS = 4, SLOTS = 2000, SETTLED = 100, GROWTH_KB = 16 << 10 };

static void *slot[SLOTS];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void *replace(int index, void *block)
{
    void *old;

    pthread_mutex_lock(&lock);
    old = slot[index];
    slot[index] = block;
    pthread_mutex_unlock(&lock);
    return old;
}

static void *come_and_go(void *argument)
{
    uint64_t state = (uintptr_t)argument;

    for (int i = 0; i < 300; i++) {
        int index = (int)(random_next(&state) % SLOTS);

        block_free(replace(index, block_new(&state)));
    }
    return NULL;
}

int main(void)
{
    long settled = 0, end;

    for (int g = 0; g < GENERATIONS; g++) {
        pthread_t thread[THREADS];

        for (int i = 0; i < THREADS; i++)
            CHECK(!pthread_create(&thread[i], NULL, come_and_go,
                                  (void *)(uintptr_t)(g * THREADS + i + 1)));
        for (int i = 0; i < THREADS; i++)
            CHECK(!pthread_join(thread[i], NULL));
        if (g == SETTLED)
            settled = dirty_kilobytes();
    }
    end = dirty_kilobytes();
    if (end > settled + settled / 4 + GROWTH_KB) {
        fprintf(stderr, "private dirty memory grew from %ld to %ld KB\n", settled, end);
        return 1;
    }
    for (int i = 0; i < SLOTS; i++)
        block_free(slot[i]);
    puts("blocks outlived their threads");
    return 0;
}
