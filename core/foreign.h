/* SPDX-License-Identifier: MIT */
/* Pointers of another allocator. The configuration says what becomes of them: the process stops, they go on to libc, or
 * they are ignored. Only cold paths ask. Where the process stops, the back end does that, as for any pointer that is no
 * block, and nothing here is compiled. */
#ifndef HAK_FOREIGN_H
#define HAK_FOREIGN_H

#include "core/backend.h"

/* Whether a pointer is another allocator's, and not to stop the process. pre: not NULL */
static inline bool hak_foreign(const void *pointer)
{
    return !enabled(CONFIG_FOREIGN_ABORT) && !backend_has(pointer);
}

/* Finds libc's own functions, if pointers go on to them: before their names lead elsewhere (override_deepbind.c), or
 * when the first such pointer comes. */
void hak_foreign_look_up(void) hak_cold;

static inline void hak_foreign_prepare(void)
{
    if (enabled(CONFIG_FOREIGN_FORWARD))
        hak_foreign_look_up();
}

void hak_foreign_free(void *pointer) hak_cold;

/* NULL with errno ENOMEM (none if size is 0): the block could not be resized, and is as it was. */
void *hak_foreign_realloc(void *pointer, size_t size) hak_cold;

/* In bytes; 0: unknown. */
size_t hak_foreign_usable_size(void *pointer) hak_cold;

#endif
