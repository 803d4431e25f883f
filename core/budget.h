/* SPDX-License-Identifier: MIT */
/* The budget of a heap: what it holds free is at most CONFIG_CACHE_BYTES, one half in its cache and one half in the
 * chains that its shard keeps. A plug-in may hold less, never more; each halves or shares its part as it likes. */
#ifndef HAK_BUDGET_H
#define HAK_BUDGET_H

#include "core/types.h"

/* Most bytes of free blocks in a cache: the sum over classes of capacity times size. */
#define HAK_CACHE_BYTES ((size_t)CONFIG_CACHE_BYTES / 2)

/* Most bytes of free blocks that a shard keeps at hand outside of its slabs, those on their way to another shard included. */
#define HAK_KEPT_BYTES ((size_t)CONFIG_CACHE_BYTES - HAK_CACHE_BYTES)

#endif
