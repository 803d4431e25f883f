/* SPDX-License-Identifier: MIT */
/* Functions outside of the set that programs replace. They must allocate and free with the program's malloc, realloc
 * and free, so they call these by name: a program with a malloc of its own gets blocks of that malloc. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>

#include "core/compiler.h"

void free_sized(void *block, size_t size);
void free_aligned_sized(void *block, size_t alignment, size_t size);

hak_replaceable void *reallocarray(void *block, size_t count, size_t size)
{
    size_t bytes;

    if (likely(!__builtin_mul_overflow(count, size, &bytes)))
        return realloc(block, bytes);
    errno = ENOMEM;
    return NULL;
}

hak_replaceable void free_sized(void *block, size_t size)
{
    (void)size;
    free(block);
}

hak_replaceable void free_aligned_sized(void *block, size_t alignment, size_t size)
{
    (void)alignment;
    (void)size;
    free(block);
}
