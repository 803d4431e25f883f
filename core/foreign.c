/* SPDX-License-Identifier: MIT */
#include "core/foreign.h"

#include <errno.h>

/* glibc's own functions under names that nobody replaces; missing from other libcs, and from a static
 * program, where no other malloc is. */
extern void __libc_free(void *pointer) __attribute__((weak));
extern void *__libc_realloc(void *pointer, size_t size) __attribute__((weak));

/* For what has no such name; the archive leaves it out (override_shared.c). */
extern size_t hak_libc_usable_size(void *pointer) __attribute__((weak, visibility("hidden")));

static bool forwards(void)
{
    return enabled(CONFIG_FOREIGN_FORWARD);
}

/* glibc aborts what is not its own either. Without glibc, the pointer is nobody's that could be asked. */
void hak_foreign_free(void *pointer)
{
    int saved = errno;

    if (forwards() && __libc_free)
        __libc_free(pointer);
    errno = saved;
}

/* The block stays libc's: how long it is, and so how much to copy, only libc knows. */
void *hak_foreign_realloc(void *pointer, size_t size)
{
    if (forwards() && __libc_realloc)
        return __libc_realloc(pointer, size);
    if (size > 0)
        errno = ENOMEM;
    return NULL;
}

size_t hak_foreign_usable_size(void *pointer)
{
    return forwards() && hak_libc_usable_size ? hak_libc_usable_size(pointer) : 0;
}
