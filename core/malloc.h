/* SPDX-License-Identifier: MIT */
/* What malloc.c offers to other functions that allocate and free on a hot path of their own. */
#ifndef HAK_MALLOC_H
#define HAK_MALLOC_H

#include "core/heap.h"

/* Frees a block after a miss.
 * pre: any pointer; cls is what backend_lookup returned for it, and where that is a class, the cache had no room */
void hak_free_miss(void *block, hak_class cls) hak_cold;

/* Sets hak_dirty_max, in bytes. Where that is less than before, all dirty memory is purged first. */
void hak_dirty_max_set(size_t bytes);

#endif
