/* SPDX-License-Identifier: MIT */
/* A small load of everything: sizes, threads, remote frees, realloc, calloc, alignment. It is what
 * the tests run under tools that slow a program down, and under tight limits.
 */
#include <pthread.h>
#include "check.h"

enum { THREADS = 4, BLOCKS = 400 };

static void *block[THREADS][BLOCKS];

static void *allocate(void *argument)
{
    int row = (int)(uintptr_t)argument;
    uint64_t state = (uint64_t)row + 1;

    for (int i = 0; i < BLOCKS; i++)
        block[row][i] = block_new(&state);
    for (int i = 0; i < BLOCKS; i += 2) {
        size_t size = block_check(block[row][i]), changed = MIN_BLOCK_SIZE + random_size(&state);

        block[row][i] = realloc(block[row][i], changed);
        CHECK(block[row][i]);
        if (changed >= size)
            block_check(block[row][i]);
        block_fill(block[row][i], changed);
    }
    for (int i = 0; i < BLOCKS; i++) {
        size_t size = random_size(&state);
        unsigned char *zeroed = calloc(1, size);

        CHECK(zeroed && !zeroed[0] && !zeroed[size - 1]);
        free(zeroed);
    }
    for (size_t alignment = 16; alignment <= 1 << 20; alignment *= 2) {
        void *aligned = aligned_alloc(alignment, alignment);

        CHECK(aligned && (uintptr_t)aligned % alignment == 0);
        free(aligned);
    }
    return NULL;
}

int main(void)
{
    pthread_t thread[THREADS];

    for (int i = 0; i < THREADS; i++)
        CHECK(!pthread_create(&thread[i], NULL, allocate, (void *)(uintptr_t)i));
    for (int i = 0; i < THREADS; i++)
        CHECK(!pthread_join(thread[i], NULL));
    for (int t = 0; t < THREADS; t++)
        for (int i = 0; i < BLOCKS; i++)
            block_free(block[t][i]);
    puts("all well");
    return 0;
}
