/* SPDX-License-Identifier: MIT */
/* Shelf: an array of block pointers for each size class.
 *
 *   cache ─┬─ shelf[0]  slot  b b b b b . . .     count 5, capacity 8
 *          ├─ shelf[1]  slot  . . .               count 0, capacity 3
 *          └─ …
 *
 * free puts a block on top, malloc takes the top one: the one that was used last and is still warm. An
 * empty shelf is filled half, a full one gives its older half away. No block is read or written.
 *
 * invariant: count <= capacity <= CONFIG_SHELF_SLOTS
 * invariant: the sum over classes of capacity * size is at most HAK_CACHE_BYTES
 * invariant: slot[0 .. count-1] are blocks of the shelf's class
 *
 * best case:  few sizes, each allocated and freed in small numbers
 * worst case: large classes, whose share of the budget is less than a block: each call is a miss
 */
#ifndef HAK_POLICIES_SHELF_H
#define HAK_POLICIES_SHELF_H

#include "core/budget.h"
#include "core/size_class.h"
#include "core/traffic.h"

struct shelf {
    uint32_t count;    /* blocks on the shelf */
    uint32_t capacity; /* most of them; 0 in the empty heap */
    const void *seen;  /* on top at the last round of upkeep; only compared */
    void *slot[CONFIG_SHELF_SLOTS];
};

struct hak_cache {
    struct shelf shelves[HAK_CLASSES];
    struct hak_traffic traffic[HAK_CLASSES];
    uint32_t round_at; /* hak_clock_ms of that round */
};

static inline void *frontend_alloc(struct hak_cache *cache, hak_class cls)
{
    struct shelf *shelf = &cache->shelves[hak_class_index(cls)];

    if (unlikely(shelf->count == 0))
        return NULL;
    return shelf->slot[--shelf->count];
}

static inline bool frontend_free(struct hak_cache *cache, hak_class cls, void *block)
{
    struct shelf *shelf = &cache->shelves[hak_class_index(cls)];

    if (unlikely(shelf->count == shelf->capacity))
        return false;
    shelf->slot[shelf->count++] = block;
    return true;
}

#endif
