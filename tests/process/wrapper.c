/* SPDX-License-Identifier: MIT */
/* A library that is preloaded before the one under test, as a profiler is: counts what malloc and free are asked, and
 * hands on. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>

long wrapped_mallocs, wrapped_frees;

void *malloc(size_t size)
{
    static void *(*next)(size_t);

    if (!next)
        *(void **)&next = dlsym(RTLD_NEXT, "malloc");
    wrapped_mallocs++;
    return next(size);
}

void free(void *block)
{
    static void (*next)(void *);

    if (!next)
        *(void **)&next = dlsym(RTLD_NEXT, "free");
    wrapped_frees++;
    next(block);
}
