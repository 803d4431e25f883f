/* SPDX-License-Identifier: MIT */
/* The unified cache: one list of free blocks for each size class.
 *
 *   cache ── bins ─┬─ bin[0]  head ─► block ─► block ─► ∅    room 62
 *                  ├─ bin[1]  head ─► ∅                      room 64
 *                  └─ …
 *
 * It is bins (core/bins.h) and nothing else: malloc pops and free pushes the list of the class, and
 * whole chains move to and from the back end. Every class is alike.
 *
 * invariant: the invariants of the bins, with budget == HAK_CACHE_BYTES
 *
 * best case:  programs that free what they have just allocated; mixed small sizes
 * worst case: tearing down many cold blocks, as each free writes to the block
 */
#ifndef HAK_POLICIES_UNIFIED_H
#define HAK_POLICIES_UNIFIED_H

#include "core/bins.h"

#define frontend_tick frontend_tick

struct hak_cache {
    struct hak_bins bins;
};

static inline void *frontend_alloc(struct hak_cache *cache, hak_class cls)
{
    return hak_bin_take(hak_bin_of(&cache->bins, cls));
}

static inline bool frontend_free(struct hak_cache *cache, hak_class cls, void *block)
{
    return hak_bin_put(hak_bin_of(&cache->bins, cls), block);
}

#endif
