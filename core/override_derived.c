/* SPDX-License-Identifier: MIT */
/* Names that are no part of the set that programs replace: what they allocate and free is that of malloc, realloc
 * and free, whoever defines these. So they call them by name, and a program with a malloc of its own gets its own. */
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
