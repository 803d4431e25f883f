/* SPDX-License-Identifier: MIT */
/* The unified cache: one list of free blocks for each size class.
 *
 *   cache ─┬─ bin[0]  list  ─► b ─► b ─► ∅           room 62, limit 64
 *          │          spare ─► b ─► b ─► … ─► b      a second chain, moved as a whole
 *          ├─ bin[1]  list  ─► ∅
 *          └─ …
 *
 * A free block's first word links to the next, so a hit touches the bin and the block, nothing else.
 * malloc pops and free pushes the list. When the list is full it becomes the spare, and the old spare,
 * the older half of the bin, goes to the back end; when it is empty the spare becomes the list. So
 * whole chains move in O(1) and no link is followed, and a program that goes up and down by less than
 * a chain never leaves the cache.
 *
 * A class may hold two chains of `limit` blocks. With CONFIG_CACHE_ADAPTIVE limits start low and double
 * when a class misses or overflows, within the bytes that the cache may hold; when those are used up
 * a class grows at the cost of another, but to no more than half of them. Without, limits are fixed.
 *
 * invariant: length(list) + room == limit <= limit_max(class)
 * invariant: length(spare) <= limit
 * invariant: granted == sum over classes of 2 * limit * size <= UNIFIED_BYTES_MAX
 * invariant: every block in bin[c] is of class c
 *
 * best case:  programs that free what they have just allocated; mixed small sizes
 * worst case: tearing down many cold blocks, as each free writes to the block
 */
#ifndef HAK_POLICIES_UNIFIED_H
#define HAK_POLICIES_UNIFIED_H

#include "core/size_class.h"

/* The cache has one half of the heap's budget, what the back end keeps at hand has the other. */
#define UNIFIED_BYTES_MAX ((size_t)CONFIG_CACHE_BYTES / 2)

struct unified_bin {
    struct hak_block *head; /* of the list */
    int32_t room;           /* blocks that the list may still take */
    uint32_t limit;         /* blocks of a full list; 0 in the empty heap */
};

_Static_assert(sizeof(struct unified_bin) == HAK_CLASS_SCALE, "a scaled class is a bin's offset");

struct hak_cache {
    struct unified_bin bins[HAK_CLASSES];
    struct hak_chain spares[HAK_CLASSES];
    size_t granted;  /* bytes that all bins together may hold */
    unsigned victim; /* index of the class that shrinks next */
};

static inline struct unified_bin *unified_bin(struct hak_cache *cache, hak_class cls)
{
    return hak_pin((struct unified_bin *)(void *)((char *)cache->bins + cls));
}

static inline void *frontend_alloc(struct hak_cache *cache, hak_class cls)
{
    struct unified_bin *bin = unified_bin(cache, cls);
    struct hak_block *block = bin->head;

    if (likely(block != NULL)) {
        bin->head = block->next;
        bin->room++;
    }
    return block;
}

static inline bool frontend_free(struct hak_cache *cache, hak_class cls, void *freed)
{
    struct unified_bin *bin = unified_bin(cache, cls);
    struct hak_block *block = (struct hak_block *)freed;

    /* One subtraction in memory both counts and tests; a miss puts the one back. */
    if (unlikely(--bin->room < 0)) {
        bin->room = 0;
        return false;
    }
    block->next = bin->head;
    bin->head = block;
    return true;
}

#endif
