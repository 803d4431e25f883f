/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "core/foreign.h"

#include <dlfcn.h>
#include <errno.h>

/* NULL in a static program, which has no other malloc. */
extern __typeof__(dlsym) dlsym __attribute__((weak));

/* glibc's own functions, by names that no other malloc defines where glibc has such. NULL with another libc. */
static struct {
    void (*free)(void *pointer);
    void *(*realloc)(void *pointer, size_t size);
    size_t (*usable_size)(void *pointer);
    bool looked_up;
} libc;

/* Several threads may do so at once: they find the same. */
void hak_foreign_look_up(void)
{
    if (libc.looked_up || dlsym == NULL)
        return;
    libc.free = (void (*)(void *))dlsym(RTLD_NEXT, "__libc_free");
    libc.realloc = (void *(*)(void *, size_t))dlsym(RTLD_NEXT, "__libc_realloc");
    libc.usable_size = (size_t(*)(void *))dlsym(RTLD_NEXT, "malloc_usable_size");
    libc.looked_up = true;
}

/* glibc too stops the process at a pointer that is not its own. Without glibc there is no allocator to ask. */
void hak_foreign_free(void *pointer)
{
    int saved = errno;

    hak_foreign_prepare();
    if (libc.free)
        libc.free(pointer);
    errno = saved;
}

/* The block stays libc's: only libc knows how long it is, and so how much to copy. */
void *hak_foreign_realloc(void *pointer, size_t size)
{
    hak_foreign_prepare();
    if (libc.realloc)
        return libc.realloc(pointer, size);
    if (size > 0)
        errno = ENOMEM;
    return NULL;
}

size_t hak_foreign_usable_size(void *pointer)
{
    hak_foreign_prepare();
    return libc.usable_size ? libc.usable_size(pointer) : 0;
}
