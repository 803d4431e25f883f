/* SPDX-License-Identifier: MIT */
/* Proves that threads leave nothing behind: 100 000 live shortly, 4 at a time, each with small and large
 * blocks, some of which the next one frees. Neither what is resident nor what is mapped nor the number of live blocks
 * grows after the first 2000.
 */
#include <pthread.h>
#include "check.h"
#include "dirty.h"
#include "live.h"

enum { ROUNDS = 25000, THREADS = 4, SETTLED = 500, GROWTH_KB = 4096 };

static void *_Atomic left[THREADS];

static void *live_shortly(void *argument)
{
    size_t number = (size_t)argument;
    char *blocks[8];

    for (size_t i = 0; i < 8; i++) {
        blocks[i] = malloc(16 << i);
        CHECK(blocks[i]);
        memset(blocks[i], (int)number, (size_t)16 << i);
    }
    free(__atomic_exchange_n(&left[number % THREADS], blocks[0], __ATOMIC_ACQ_REL));
    for (size_t i = 1; i < 8; i++) {
        CHECK(blocks[i][0] == (char)number && blocks[i][(16 << i) - 1] == (char)number);
        free(blocks[i]);
    }
    if (number % 64 == 0)
        free(malloc(300000));
    return NULL;
}

/* What the process has mapped, in KB. */
static long mapped_kilobytes(void)
{
    char text[64];
    FILE *file = fopen("/proc/self/statm", "r");

    CHECK(file && fgets(text, sizeof text, file));
    fclose(file);
    return atol(text) * (sysconf(_SC_PAGESIZE) / 1024);
}

int main(void)
{
    long dirty = 0, mapped = 0, blocks = 0;

    for (size_t round = 0; round < ROUNDS; round++) {
        pthread_t thread[THREADS];

        for (size_t i = 0; i < THREADS; i++)
            CHECK(!pthread_create(&thread[i], NULL, live_shortly, (void *)(round * 5 + i)));
        for (size_t i = 0; i < THREADS; i++)
            CHECK(!pthread_join(thread[i], NULL));
        if (round == SETTLED) {
            dirty = dirty_kilobytes();
            mapped = mapped_kilobytes();
            blocks = live_blocks();
        }
    }
    CHECK(live_blocks() == blocks);
    long dirty_now = dirty_kilobytes(), mapped_now = mapped_kilobytes();
    if (dirty_now > dirty + GROWTH_KB || mapped_now > mapped + GROWTH_KB) {
        fprintf(stderr, "dirty: from %ld to %ld KB, mapped: from %ld to %ld KB\n", dirty, dirty_now,
                mapped, mapped_now);
        return 1;
    }
    puts("100000 threads left nothing behind");
    return 0;
}
