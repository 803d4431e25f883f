/* SPDX-License-Identifier: MIT */
/* Small blocks, between the shared slabs and a thread's cache. */
#ifndef HAK_MMAP_ONLY_SMALL_H
#define HAK_MMAP_ONLY_SMALL_H

#include "core/backend.h"

/* Gives blocks of a class back to their slabs. */
void small_sort(hak_class cls, struct hak_chain chain);

#endif
