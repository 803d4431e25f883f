/* SPDX-License-Identifier: MIT */
/* glibc's own names for malloc and the like, mixed with the usual ones. With -DWRAP the program also has functions
 * malloc, free, calloc and realloc that call these names, and none for aligned blocks. */
#define _GNU_SOURCE
#include <malloc.h>
#include "check.h"

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *block, size_t size);
extern void __libc_free(void *block);
extern void *__libc_memalign(size_t alignment, size_t size);
extern void *__libc_valloc(size_t size);
extern void *__libc_pvalloc(size_t size);

#ifdef WRAP
static long wrapped;

void *malloc(size_t size)
{
    wrapped++;
    return __libc_malloc(size);
}
void *calloc(size_t count, size_t size)
{
    return __libc_calloc(count, size);
}
void *realloc(void *block, size_t size)
{
    return __libc_realloc(block, size);
}
void free(void *block)
{
    __libc_free(block);
}
#endif

/* The block is of `size` bytes at least, whoever is asked. */
static void *use(void *block, size_t size)
{
    CHECK(block);
    CHECK(malloc_usable_size(block) >= size);
    return memset(block, 'u', size);
}

static void *use_page(void *block, size_t size)
{
    CHECK((uintptr_t)block % 4096 == 0);
    return use(block, size);
}

int main(void)
{
    for (size_t size = 1; size < (size_t)1 << 21; size = size * 3 + 1) {
        void *block;

        free(use(__libc_malloc(size), size));
        free(use(__libc_calloc(3, size), 3 * size));
        free(use(__libc_realloc(use(malloc(size), size), 2 * size), 2 * size));
        free(use(realloc(use(__libc_memalign(64, size), size), 2 * size), 2 * size));
        free(use_page(__libc_valloc(size), size));
        free(use_page(__libc_pvalloc(size), size));
        __libc_free(use(malloc(size), size));
        __libc_free(use(calloc(3, size), 3 * size));
        __libc_free(use(reallocarray(use(malloc(size), size), 3, size), 3 * size));
        __libc_free(use(aligned_alloc(64, size), size));
        __libc_free(use(memalign(64, size), size));
        __libc_free(use(valloc(size), size));
        CHECK(!posix_memalign(&block, 4096, size));
        __libc_free(use(block, size));
        CHECK(!posix_memalign(&block, 256, size));
        free(use(realloc(block, 2 * size), 2 * size));
        __libc_free(strdup("from libc"));
    }
#ifdef WRAP
    CHECK(wrapped > 10);
#endif
    puts("all names are one malloc's");
    return 0;
}
