/* SPDX-License-Identifier: MIT */
/* Proves that what cannot be had is NULL and ENOMEM from every function, that a failed realloc
 * leaves its block alone, and that the heap is whole afterwards, while 4 threads use it.
 */
#define _GNU_SOURCE
#include <malloc.h>
#include <pthread.h>
#include "check.h"

enum { BLOCKS = 500, ROUNDS = 50 };

static const size_t too_much[] = {
    (size_t)1 << 47,
    PTRDIFF_MAX / 2,
    PTRDIFF_MAX - 4096,
    PTRDIFF_MAX,
    (size_t)PTRDIFF_MAX + 1,
    SIZE_MAX - (2 << 20),
    SIZE_MAX - (64 << 10),
    SIZE_MAX - 4096,
    SIZE_MAX - 16,
    SIZE_MAX - 1,
    SIZE_MAX,
};

#define REFUSED(call) (errno = 0, !(call) && errno == ENOMEM)

static void *ask_for_too_much(void *argument)
{
    uint64_t state = (uintptr_t)argument;
    void *kept[BLOCKS];

    for (int i = 0; i < BLOCKS; i++)
        kept[i] = block_new(&state);
    for (int round = 0; round < ROUNDS; round++)
        for (size_t i = 0; i < sizeof too_much / sizeof *too_much; i++) {
            size_t size = hidden(too_much[i]);
            void *block = kept[random_next(&state) % BLOCKS], *aligned = &state;

            CHECK(REFUSED(malloc(size)));
            CHECK(REFUSED(calloc(1, size)));
            CHECK(REFUSED(calloc(size, 1)));
            CHECK(REFUSED(calloc(size / 8 + 1, 64)));
            CHECK(REFUSED(realloc(NULL, size)));
            CHECK(REFUSED(realloc(block, size)));
            CHECK(REFUSED(reallocarray(block, size / 8 + 1, 64)));
            CHECK(REFUSED(aligned_alloc(64, size)));
            CHECK(REFUSED(aligned_alloc(1 << 21, size)));
            CHECK(REFUSED(memalign(4096, size)));
            CHECK(REFUSED(valloc(size)));
            CHECK(REFUSED(pvalloc(size)));
            CHECK(posix_memalign(&aligned, 64, size) == ENOMEM);
            CHECK(aligned == &state || !aligned);
            block_check(block);
        }
    for (int i = 0; i < BLOCKS; i++)
        block_free(kept[i]);
    return NULL;
}

int main(void)
{
    pthread_t thread[4];

    for (int i = 0; i < 4; i++)
        CHECK(!pthread_create(&thread[i], NULL, ask_for_too_much, (void *)(uintptr_t)(i + 1)));
    for (int i = 0; i < 4; i++)
        CHECK(!pthread_join(thread[i], NULL));
    puts("refused, and whole");
    return 0;
}
