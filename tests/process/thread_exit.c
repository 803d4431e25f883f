/* SPDX-License-Identifier: MIT */
/* Proves that blocks outlive the thread that allocated them, that others may free them later, and
 * that what ended threads leave behind is used again: 2000 threads come and go, 4 at a time, each
 * frees most of what its predecessors left; the process does not grow, and to the block nothing is left behind.
 */
#include <pthread.h>
#include "check.h"
#include "dirty.h"
#include "live.h"

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

/* Blocks that lie in no slot: libc's, as many in each generation. */
static long others(void)
{
    long blocks = live_blocks();

    for (int i = 0; i < SLOTS; i++)
        blocks -= slot[i] != NULL;
    return blocks;
}

int main(void)
{
    long settled = 0, end, settled_others = 0;

    for (int g = 0; g < GENERATIONS; g++) {
        pthread_t thread[THREADS];

        for (int i = 0; i < THREADS; i++)
            CHECK(!pthread_create(&thread[i], NULL, come_and_go,
                                  (void *)(uintptr_t)(g * THREADS + i + 1)));
        for (int i = 0; i < THREADS; i++)
            CHECK(!pthread_join(thread[i], NULL));
        if (g == SETTLED) {
            settled = dirty_kilobytes();
            settled_others = others();
        }
    }
    end = dirty_kilobytes();
    CHECK(others() == settled_others);
    if (end > settled + settled / 4 + GROWTH_KB) {
        fprintf(stderr, "private dirty memory grew from %ld to %ld KB\n", settled, end);
        return 1;
    }
    for (int i = 0; i < SLOTS; i++)
        block_free(slot[i]);
    puts("blocks outlived their threads");
    return 0;
}
