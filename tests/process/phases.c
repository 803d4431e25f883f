/* SPDX-License-Identifier: MIT */
/* Four threads fill 40 MiB with blocks of one size, give every other to the next thread to free, and free the
 * rest; then the same with another size, and so on: memory goes from size to size and from thread to thread.
 * All phases together need 320 MiB, and no more than a little beyond 40 MiB at once. With `all` nothing is
 * freed.
 */
#include <pthread.h>
#include <stdbool.h>
#include "check.h"

enum { THREADS = 4, BYTES = 40 << 20, MOST = BYTES / THREADS / 48 };

static const size_t SIZE[] = {48, 700, 3000, 200, 20000, 60000, 300000, 3000000};

static pthread_barrier_t barrier;
static void **blocks[THREADS];
static bool keeps_all;

static void run_phase(unsigned self, size_t size)
{
    size_t count = BYTES / THREADS / size;
    void **others = blocks[(self + 1) % THREADS];

    for (size_t i = 0; i < count; i++) {
        blocks[self][i] = malloc(size);
        CHECK(blocks[self][i]);
        block_fill(blocks[self][i], size);
    }
    if (keeps_all)
        return;
    pthread_barrier_wait(&barrier);
    for (size_t i = 0; i < count; i += 2)
        block_free(others[i]);
    for (size_t i = 1; i < count; i += 2)
        block_free(blocks[self][i]);
    pthread_barrier_wait(&barrier);
}

static void *run_phases(void *argument)
{
    for (size_t i = 0; i < sizeof SIZE / sizeof *SIZE; i++)
        run_phase((unsigned)(uintptr_t)argument, SIZE[i]);
    return NULL;
}

int main(int count, char **argument)
{
    pthread_t thread[THREADS];

    keeps_all = count > 1 && !strcmp(argument[1], "all");
    CHECK(!pthread_barrier_init(&barrier, NULL, THREADS));
    for (int i = 0; i < THREADS; i++) {
        blocks[i] = malloc(MOST * sizeof **blocks);
        CHECK(blocks[i]);
    }
    for (uintptr_t i = 0; i < THREADS; i++)
        CHECK(!pthread_create(&thread[i], NULL, run_phases, (void *)i));
    for (int i = 0; i < THREADS; i++)
        CHECK(!pthread_join(thread[i], NULL));
    for (int i = 0; i < THREADS; i++)
        free(blocks[i]);
    puts("all phases fit");
    return 0;
}
