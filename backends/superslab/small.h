/* SPDX-License-Identifier: MIT */
/* Small blocks, between a shard's slabs and its thread's cache. */
#ifndef HAK_SUPERSLAB_SMALL_H
#define HAK_SUPERSLAB_SMALL_H

#include "backends/superslab/slab.h"
#include "core/backend.h"

/* Blocks of the shard's own slabs: a closed chain whole, or what loose blocks a few slabs have, or fresh blocks. */
struct hak_chain small_take(struct hak_shard *shard, hak_class cls, size_t max);

#endif
