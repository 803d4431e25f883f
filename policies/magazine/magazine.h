/* SPDX-License-Identifier: MIT */
/* The magazine layer of Bonwick and Adams ("Magazines and Vmem", USENIX 2001): arrays of pointers to
 * free blocks, exchanged as a whole through a depot.
 *
 *   cache ─┬─ bin[0]  loaded   [ b b b b · · · · ]   count 4, capacity 8
 *          │          previous [ b b b b b b b b ]   full, or empty
 *          ├─ bin[1]  none yet                       count 0, capacity 0
 *          └─ …            ▲ │
 *                    empty │ ▼ full
 *          depot    full and empty magazines of each class (depot.h)
 *
 * malloc takes the last round of the loaded magazine, free adds one: a hit touches the bin and the magazine, never the block.
 * A bin without a magazine has count and capacity 0, so that a hit needs no tests but those for "empty" and "full". When the
 * loaded magazine is empty (full) and the previous one full (empty), they change places; when both are empty (full), one of
 * them is exchanged at the depot. So a program whose need goes up and down by less than a magazine never leaves its bins. A
 * crowded cache (core/crowd.h) gets no magazines of a class until it has used the class: its first blocks come and go one by
 * one.
 *
 * invariant: count <= capacity == capacity of the loaded magazine, 0 without one
 * invariant: the previous magazine holds 0 or all of its capacity
 * invariant: the capacity of either is at most limit[c]
 * invariant: granted == sum over classes of 2 * limit * size <= HAK_CACHE_BYTES
 * invariant: every round below count is a block of the class
 *
 * best case:  a thread allocates what another frees; tearing down what is no longer in the processor's
 *             cache
 * worst case: threads that share nothing, whose blocks the depot mixes; many sizes with few blocks each
 */
#ifndef HAK_POLICIES_MAGAZINE_H
#define HAK_POLICIES_MAGAZINE_H

#include "core/idle.h"
#include "policies/magazine/depot.h"

#define FRONTEND_HAS_STORE
#define frontend_tick   frontend_tick
#define frontend_forget frontend_forget
#define frontend_lock   frontend_lock

struct magazine_bin {
    struct magazine *loaded; /* NULL: none yet */
    uint32_t count;          /* blocks in it */
    uint32_t capacity;       /* blocks that it takes */
};

_Static_assert(sizeof(struct magazine_bin) == HAK_CLASS_SCALE, "a scaled class is a bin's offset");

struct magazine_state {
    bool previous_full : 1;
    uint8_t
        singles : 7; /* blocks that came or went without a magazine; counted in a crowded cache only */
};

/* owner: the heap's owner; a forked child's thread, for heaps whose owners are gone. Zero-filled, it holds no block and has
 * no room. */
struct hak_cache {
    struct magazine_bin bin[HAK_CLASSES];
    struct magazine *previous[HAK_CLASSES]; /* NULL: none yet */
    struct magazine_state state[HAK_CLASSES];
    bool crowded; /* whether it began crowded (core/crowd.h) */
    uint16_t
        limit[HAK_CLASSES]; /* most places of each of the class's two magazines; 0: it has none */
    struct depot_stripe *home; /* constant */
    size_t granted;            /* bytes of blocks that all its magazines together may hold */
    unsigned victim;           /* index of the class that gives up its magazines next */
    struct hak_idle idle;
    uint32_t ticked_at; /* hak_clock_ms of the last tick that did anything */
};

static inline struct magazine_bin *magazine_bin_of(struct hak_cache *cache, hak_class cls)
{
    return hak_pin((struct magazine_bin *)(void *)((char *)cache->bin + cls));
}

static inline void *frontend_alloc(struct hak_cache *cache, hak_class cls)
{
    struct magazine_bin *bin = magazine_bin_of(cache, cls);
    uint32_t count = bin->count;

    if (unlikely(count == 0))
        return NULL;
    bin->count = --count;
    void *block = bin->loaded->rounds[count];
    if (block == NULL)
        __builtin_unreachable(); /* spares malloc its own test for NULL */
    return block;
}

static inline bool frontend_free(struct hak_cache *cache, hak_class cls, void *block)
{
    struct magazine_bin *bin = magazine_bin_of(cache, cls);
    uint32_t count = bin->count;

    if (unlikely(count == bin->capacity))
        return false;
    bin->loaded->rounds[count] = block;
    bin->count = count + 1;
    return true;
}

#endif
