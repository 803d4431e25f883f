/* SPDX-License-Identifier: MIT */
/* What malloc.c offers to other functions that allocate and free on a hot path of their own. */
#ifndef HAK_MALLOC_H
#define HAK_MALLOC_H

#include "core/heap.h"

/* Frees a block that is no hit.
 * pre: any pointer; cls is what backend_lookup says of it, and where that is a class, the cache had no room */
void hak_free_miss(void *block, hak_class cls) hak_cold;

/* Sets the most free memory that waits to be given back, in bytes. Where that is less than before, all that waits goes
 * back first. */
void hak_dirty_max_set(size_t bytes);

#endif
