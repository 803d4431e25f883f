/* SPDX-License-Identifier: MIT */
/* libc's names. An alias must stand in the translation unit of its target, so this file is compiled in place of
 * malloc.c and includes it: malloc and hak_malloc are one function.
 *
 * These are the names that a program may replace as a set (glibc's manual, "Replacing malloc"), and glibc's own names
 * for them, which wrappers call. Nothing in the library calls any of them, except for the functions that are defined in
 * terms of them, which call them by name (override_derived.c, override_cxx.c). All are weak: a program that is linked
 * with the archive may define any of them itself. */
#define _GNU_SOURCE
#include "core/malloc.c"

#include <malloc.h>
#include <stdlib.h>

#define SAME_AS(function) __attribute__((weak, alias(#function), visibility("default")))

/* Makes the linker take override_fork.c from the archive: nothing else refers to it. */
int hak_atfork_first(void (*prepare)(void), void (*parent)(void), void (*child)(void));
__attribute__((used)) static int (*const fork_handlers)(void (*)(void), void (*)(void),
                                                        void (*)(void)) = hak_atfork_first;

void *malloc(size_t size) SAME_AS(hak_malloc);
void *calloc(size_t count, size_t size) SAME_AS(hak_calloc);
void *realloc(void *block, size_t size) SAME_AS(hak_realloc);
void free(void *block) SAME_AS(hak_free);
void *aligned_alloc(size_t alignment, size_t size) SAME_AS(hak_aligned_alloc);
void *memalign(size_t alignment, size_t size) SAME_AS(hak_memalign);
int posix_memalign(void **block, size_t alignment, size_t size) SAME_AS(hak_posix_memalign);
void *valloc(size_t size) SAME_AS(hak_valloc);
void *pvalloc(size_t size) SAME_AS(hak_pvalloc);
size_t malloc_usable_size(void *block) SAME_AS(hak_malloc_usable_size);

int malloc_trim(size_t pad) SAME_AS(hak_malloc_trim);

/* As glibc 2.36 exports them. */
void *__libc_malloc(size_t size) SAME_AS(hak_malloc);
void *__libc_calloc(size_t count, size_t size) SAME_AS(hak_calloc);
void *__libc_realloc(void *block, size_t size) SAME_AS(hak_realloc);
void __libc_free(void *block) SAME_AS(hak_free);
void *__libc_memalign(size_t alignment, size_t size) SAME_AS(hak_memalign);
void *__libc_valloc(size_t size) SAME_AS(hak_valloc);
void *__libc_pvalloc(size_t size) SAME_AS(hak_pvalloc);
