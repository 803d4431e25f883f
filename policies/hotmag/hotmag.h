/* SPDX-License-Identifier: MIT */
/* HotMag: an array of block pointers for each hot size class, bins for the others.
 *
 *   cache ─┬─ array[0]  last ──────────┐           end ──────┐
 *          │  row       NULL │ p │ p │ p │   │   │   …   │   │
 *          ├─ array[1]  …
 *          └─ bins      lists of the other classes (core/bins.h)
 *
 * CONFIG_HOTMAG_MASK has a bit for each class, set if the class is hot. malloc takes the last pointer of the array and free
 * writes one behind it: a hit touches the array and no block, so that it never waits for a block that has left the
 * processor's cache. When an array is full, its older half, the lower one, goes to the back end and the younger half moves
 * down; when it is empty, half of it is filled. On these ways blocks are linked as chains, and so are touched.
 *
 * A class gets its row of slots at its first use, so that a thread which barely allocates has none. Rows, like heaps, are
 * never unmapped. `last` and `end` are offsets of slots, in bytes, from the cache's word `none`, modulo 2^64. The lowest slot
 * of each row is always NULL: malloc reads it when the array is empty. Without a row both offsets are 0, and malloc reads
 * `none`, which is NULL; so it does in the empty heap.
 *
 * With CONFIG_CACHE_ADAPTIVE the limit of an array starts low and doubles at each miss or overflow. Without, the limit is
 * `most` from the first use: CONFIG_HOTMAG_SLOTS, or fewer where so many blocks are more than the class's share of the budget.
 *
 * With R the offset of the lowest slot of a class's row, and W the bytes of a slot:
 * invariant: end == R + limit * W, and R <= last <= end; without a row limit, last and end are 0
 * invariant: limit <= most <= CONFIG_HOTMAG_SLOTS
 * invariant: slot R is NULL, the slots above it up to `last` are not
 * invariant: sum over hot classes of most * size + the bins' budget == HAK_CACHE_BYTES
 * invariant: the invariants of the bins, of which those of hot classes are empty
 *
 * best case:  hot blocks that leave the processor's cache between a free and the next malloc
 * worst case: sizes that change between hot and not at random, which no processor predicts; and programs that allocate or
 *             free far more blocks of a hot class at once than its slots hold, as each block is linked and unlinked by itself
 *             on its way to and from the back end
 */
#ifndef HAK_POLICIES_HOTMAG_H
#define HAK_POLICIES_HOTMAG_H

#include "core/bins.h"

#define frontend_tick   frontend_tick
#define frontend_forget frontend_forget
#define frontend_lock   frontend_lock

#define HOTMAG_MASK  ((uint64_t)CONFIG_HOTMAG_MASK)
#define HOTMAG_COUNT ((unsigned)__builtin_popcountll(HOTMAG_MASK))
/* Index after the last hot class. */
#define HOTMAG_END   (HOTMAG_MASK ? 64u - (unsigned)__builtin_clzll(HOTMAG_MASK | 1) : 0u)

_Static_assert(HOTMAG_END <= HAK_CLASSES,
               "CONFIG_HOTMAG_MASK has a bit for a size class that there is not: lower it");

/* owner of both: the heap's owner. Zero-filled, the array is empty and has no room. */
struct hotmag_array {
    uintptr_t last; /* offset of the last block's slot */
    uintptr_t end;  /* what `last` is when the array is full */
};

struct hotmag_bound {
    uint16_t
        limit;     /* most blocks that the array may hold now; 0: it has no row yet, or most is 0 */
    uint16_t most; /* the most that the limit may become; constant */
};

_Static_assert(sizeof(struct hotmag_array) == HAK_CLASS_SCALE, "a scaled class is its offset");

struct hak_cache {
    /* Indexed by class; only the elements of hot classes are used. */
    _Alignas(HAK_CACHE_LINE) struct hotmag_array array[HOTMAG_END ? HOTMAG_END : 1];
    void *none; /* always NULL */
    struct hak_bins bins;
    struct hotmag_bound bound[HOTMAG_END ? HOTMAG_END : 1];
    struct hak_idle idle; /* of the arrays; the bins have one of their own */
};

/* A constant when all classes are hot, or none; one comparison when the hot classes are the smallest ones. */
static inline bool hotmag_is_hot(hak_class cls)
{
    unsigned index = hak_class_index(cls);

    if (HOTMAG_COUNT == 0 || HOTMAG_COUNT == HAK_CLASSES)
        return HOTMAG_COUNT > 0;
    if (HOTMAG_COUNT == HOTMAG_END)
        return cls < hak_class_at(HOTMAG_END);
    if (HAK_CLASSES > 64) /* one `&`, not `&&`, so that the hot paths have one branch for this */
        return (HOTMAG_MASK >> index % 64) & (index < 64);
    return (HOTMAG_MASK >> index) & 1;
}

static inline struct hotmag_array *hotmag_array_of(struct hak_cache *cache, hak_class cls)
{
    return hak_pin((struct hotmag_array *)(void *)((char *)cache->array + cls));
}

static inline void **hotmag_slot_at(const struct hak_cache *cache, uintptr_t offset)
{
    return (void **)((uintptr_t)&cache->none + offset);
}

/* Conditional branches of a hit: malloc has three (size, hot, empty) and free four (window, tag, hot, room); each has one less
 * when all classes are hot, or none. The array is pinned again before `last` changes, so that the compiler changes it in
 * memory, in one instruction. */

static inline void *frontend_alloc(struct hak_cache *cache, hak_class cls)
{
    if (!hotmag_is_hot(cls))
        return hak_bin_take(hak_bin_of(&cache->bins, cls));
    struct hotmag_array *array = hotmag_array_of(cache, cls);
    void *block = *hotmag_slot_at(cache, array->last);

    if (likely(block != NULL))
        hak_pin(array)->last -= sizeof(void *);
    return block;
}

static inline bool frontend_free(struct hak_cache *cache, hak_class cls, void *block)
{
    if (!hotmag_is_hot(cls))
        return hak_bin_put(hak_bin_of(&cache->bins, cls), block);
    struct hotmag_array *array = hotmag_array_of(cache, cls);

    if (unlikely(array->last == array->end))
        return false;
    hotmag_slot_at(cache, array->last)[1] = block;
    hak_pin(array)->last += sizeof(void *);
    return true;
}

#endif
