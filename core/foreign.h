/* SPDX-License-Identifier: MIT */
/* Pointers that another allocator has given out, as the configuration wants them treated: stop the process,
 * hand them on to libc, or ignore them. They are asked for on cold paths only. Where they stop the process,
 * the back end does that with all that is no block, and nothing of this is compiled in. */
#ifndef HAK_FOREIGN_H
#define HAK_FOREIGN_H

#include "core/backend.h"

/* Whether a pointer is another allocator's, and not to stop the process. pre: not NULL */
static inline bool hak_foreign(const void *pointer)
{
    return !enabled(CONFIG_FOREIGN_ABORT) && !backend_owns(pointer);
}

/* Finds libc's own functions, if pointers are handed on to them. Called before their names lead elsewhere
 * (override_deepbind.c); at the latest, they are found when the first pointer comes. */
void hak_foreign_look_up(void) hak_cold;

static inline void hak_foreign_prepare(void)
{
    if (enabled(CONFIG_FOREIGN_FORWARD))
        hak_foreign_look_up();
}

void hak_foreign_free(void *pointer) hak_cold;

/* NULL, and ENOMEM unless size is 0: it could not be resized, and is as it was. */
void *hak_foreign_realloc(void *pointer, size_t size) hak_cold;

/* 0: nobody knows. */
size_t hak_foreign_usable_size(void *pointer) hak_cold;

#endif
