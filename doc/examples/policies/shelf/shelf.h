/* SPDX-License-Identifier: MIT */
/* Shelf: an array of block pointers for each size class.
 *
 *   shelf[c]   slot  b b b b b . . .     count 5, capacity 8
 *
 * free puts a block on top, malloc takes the top one, which was used last and is still warm. An empty shelf gets one
 * block, then two, and so on up to half of its capacity, so that a thread which uses a class little has little of it; a
 * full one gives its older half away. A hit neither reads nor writes the block.
 *
 * invariant: count <= capacity; slot[0 .. count-1] are blocks of the shelf's class
 * invariant: the sum over classes of capacity * size is at most HAK_CACHE_BYTES
 *
 * best case:  few sizes, each allocated and freed in small numbers
 * worst case: large classes, whose share of the budget is less than a block: each call is a miss
 */
#ifndef HAK_POLICIES_SHELF_H
#define HAK_POLICIES_SHELF_H

#include "core/budget.h"
#include "core/idle.h"

#define frontend_tick frontend_tick

struct shelf {
    uint32_t count;    /* blocks on the shelf */
    uint32_t capacity; /* most of them; 0 in the empty heap */
    uint32_t batch;    /* blocks that the next refill takes; 0: one */
    void *slot[CONFIG_SHELF_SLOTS];
};

struct hak_cache {
    struct shelf shelf[HAK_CLASSES];
    struct hak_idle idle;
};

static inline void *frontend_alloc(struct hak_cache *cache, hak_class cls)
{
    struct shelf *shelf = &cache->shelf[hak_class_index(cls)];

    return likely(shelf->count > 0) ? shelf->slot[--shelf->count] : NULL;
}

static inline bool frontend_free(struct hak_cache *cache, hak_class cls, void *block)
{
    struct shelf *shelf = &cache->shelf[hak_class_index(cls)];

    if (unlikely(shelf->count == shelf->capacity))
        return false;
    shelf->slot[shelf->count++] = block;
    return true;
}

#endif
