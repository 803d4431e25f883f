/* SPDX-License-Identifier: MIT */
/* Commons: slabs that all threads share, under one lock.
 *
 *   pointer ─ bits 31… ─► map[ ] ─ bits 16… ─► leaf[ ] ─► extent: a slab of class c, or a large block
 *
 *   open[c] ─► slab ─► slab ─► ∅     slabs of class c with free blocks, or with some to cut
 *
 * An extent is one mapping, in granules of 64 KiB, and the map leads from each of them to its description. Slabs are
 * cut lazily; what comes back goes on the slab's list. An extent without live blocks is unmapped at once.
 *
 * invariant: of a slab, live + free == cut <= capacity, live > 0 and free == length(list)
 * invariant: every slab with live < capacity is on open[its class]
 *
 * best case:  one thread, or threads that seldom miss
 * worst case: many threads that all refill: they meet at the lock
 */
#ifndef HAK_BACKENDS_COMMONS_H
#define HAK_BACKENDS_COMMONS_H

#include "core/atomic.h"
#include "core/page_set.h"

#define COMMONS_LEAF  ((size_t)1 << 15) /* granules that a leaf describes */
#define COMMONS_ROOTS (((size_t)1 << 47) / HAK_SLAB_GRANULE / COMMONS_LEAF)

struct commons_extent {
    struct hak_extent is;   /* as core sees it; kind, base, size and cls are constant */
    size_t block_size;      /* bytes; of a large block, all of it; constant */
    struct hak_block *list; /* of a slab: its free blocks. Under the lock, as the rest */
    struct commons_extent *next;
    bool listed; /* on open[cls] */
};

struct commons_leaf {
    struct commons_extent *extent[COMMONS_LEAF]; /* atomic */
};

/* All that a thread has of its own is the way to the map. */
struct hak_shard {
    _Alignas(HAK_CACHE_LINE) struct commons_leaf *const *map; /* atomic */
    size_t roots;                                             /* its length; 0 in the empty heap */
};

/* The extent of an address; NULL: there is none. Reads the map and nothing else. */
static inline struct commons_extent *commons_find(const struct hak_shard *shard,
                                                  const void *address)
{
    size_t granule = (uintptr_t)address / HAK_SLAB_GRANULE;
    const struct commons_leaf *leaf = NULL;

    if (likely(granule / COMMONS_LEAF < shard->roots))
        leaf = atomic_load_acquire(&shard->map[granule / COMMONS_LEAF]);
    return leaf ? atomic_load_acquire(&leaf->extent[granule % COMMONS_LEAF]) : NULL;
}

static inline hak_class backend_lookup(const struct hak_shard *shard, const void *pointer)
{
    const struct commons_extent *extent = commons_find(shard, pointer);

    return likely(extent != NULL) ? extent->is.cls : HAK_CLASS_NONE;
}

#endif
