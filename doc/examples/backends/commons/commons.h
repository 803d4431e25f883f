/* SPDX-License-Identifier: MIT */
/* Commons: slabs that all threads share, under one lock.
 *
 *   pointer ─ bits 31… ─► root[ ] ─ bits 16… ─► leaf[ ] ─► run ─► a slab of class c
 *                                                              └─► a large block
 *
 *   open[c] ─► run ─► run ─► ∅     slabs of class c with free blocks, or with some to cut
 *
 * A run is one mapping, in granules of 64 KiB and aligned to one. The map of pages has an entry for
 * each granule of a slab, and for the first one of a large block; all others are NULL. A slab is cut
 * lazily; what comes back goes on its list. One whose blocks are all back is kept up to a bound, else
 * unmapped; large blocks are unmapped at once.
 *
 * invariant: of a slab, used + length(free) == cut <= capacity
 * invariant: a slab is on open[its class] if and only if used < capacity
 * invariant: empty_bytes == the bytes of all slabs with used == 0 <= CONFIG_COMMONS_EMPTY_MAX
 *
 * best case:  one thread, or threads that seldom miss
 * worst case: many threads that all refill: they meet at the lock
 */
#ifndef HAK_BACKENDS_COMMONS_H
#define HAK_BACKENDS_COMMONS_H

#include "core/atomic.h"
#include "core/size_class.h"

#define COMMONS_GRANULE_SHIFT 16
#define COMMONS_LEAF_SHIFT    15 /* log2 of the granules that a leaf describes */
#define COMMONS_ROOTS         ((size_t)1 << (47 - COMMONS_GRANULE_SHIFT - COMMONS_LEAF_SHIFT))

/* A slab or a large block. What look-up reads does not change while the run is in the map. */
struct commons_run {
    char *base;
    size_t size;       /* bytes that are mapped */
    hak_class cls;     /* HAK_CLASS_NONE: large */
    size_t block_size; /* bytes */

    /* under the lock */
    uint32_t capacity; /* blocks that it can be cut into */
    uint32_t cut;      /* blocks that it has been cut into, from the front */
    uint32_t used;     /* of these, blocks that are not on the list */
    struct hak_block *free;
    struct commons_run *next, *previous; /* on open[cls]; or next of the spare ones */
};

struct commons_leaf {
    struct commons_run *run[(size_t)1 << COMMONS_LEAF_SHIFT]; /* atomic */
};

/* All that a thread has of its own is the way to the map. */
struct hak_shard {
    _Alignas(HAK_CACHE_LINE) struct commons_leaf *const *map; /* atomic */
    size_t roots;                                             /* its length; 0 in the empty heap */
};

/* The run of a pointer; NULL: there is none. Reads the map and nothing else. */
static inline struct commons_run *commons_find(struct commons_leaf *const *map, size_t roots,
                                               const void *pointer)
{
    size_t granule = (uintptr_t)pointer >> COMMONS_GRANULE_SHIFT;
    size_t root = granule >> COMMONS_LEAF_SHIFT;

    if (unlikely(root >= roots))
        return NULL;
    const struct commons_leaf *leaf = atomic_load_acquire(&map[root]);
    if (unlikely(leaf == NULL))
        return NULL;
    return atomic_load_acquire(&leaf->run[granule % ((size_t)1 << COMMONS_LEAF_SHIFT)]);
}

static inline hak_class backend_lookup(const struct hak_shard *shard, const void *pointer)
{
    const struct commons_run *run = commons_find(shard->map, shard->roots, pointer);

    return likely(run != NULL) ? run->cls : HAK_CLASS_NONE;
}

#endif
