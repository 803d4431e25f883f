/* SPDX-License-Identifier: MIT */
/* A preloaded library whose fork handlers allocate, on paths that take the allocator's locks. It stands
 * before the library or behind it in LD_PRELOAD, so that its handlers run outside the library's own or
 * between them.
 */
#include <pthread.h>
#include <stdlib.h>

static void use_memory(void)
{
    for (size_t size = 16; size < 4000000; size *= 3) {
        volatile char *block = malloc(size);
        *block = 1;
        free((void *)block);
    }
}

__attribute__((constructor)) static void register_handlers(void)
{
    free(malloc(1));
    pthread_atfork(use_memory, use_memory, use_memory);
}
