/* SPDX-License-Identifier: MIT */
/* Commons: slabs that all threads share, under one lock.
 *
 *   open[c] ─► slab ─► slab ─► ∅     slabs of class c with free blocks, or with some to cut
 *
 *   extents    slab │ free │ large │ …     core's (core/extents.h), over the space that Kconfig names
 *
 * Slabs are cut lazily; what comes back goes on the slab's list. A slab without live blocks becomes a free extent at
 * once.
 *
 * invariant: a granule of a slab has the class's code as its tag, and no other granule has
 * invariant: of a slab, length(free) + used == cut <= capacity, and used > 0
 * invariant: every slab with used < capacity is on open[its class]
 *
 * best case:  one thread, or threads that seldom miss
 * worst case: many threads that all refill: they meet at the lock
 */
#ifndef HAK_BACKENDS_COMMONS_H
#define HAK_BACKENDS_COMMONS_H

#include "core/extents.h"

typedef uint16_t space_tag;
#define TAG_NONE   0u
#define TAG_LARGE  0xffffu         /* the first granule of a large block */
#define CODE_CLASS HAK_CLASS_SCALE /* of a slab's granules: the class, and this */

/* The description of a granule: for extents, and as the first granule of a slab. */
struct slab {
    struct hak_extent_node extent;
    struct slab *next;      /* on open[class] */
    struct hak_block *free; /* what was cut and came back. Under the lock, as the rest */
    uint32_t used, cut;     /* blocks; as core/slab.h says, and so are all below */
    uint32_t block_size, touched_at;
    uint16_t capacity, blank_blocks;
    uint16_t blank, distance;
    bool listed; /* on open[class] */
};

#include "gen/space.h"

#define backend_resize    backend_resize
#define backend_move      backend_move
#define backend_tick      backend_tick
#define backend_upkeep    backend_upkeep
#define backend_trim      backend_trim
#define backend_footprint backend_footprint

/* All that a thread has of its own is the way to the tags. */
struct hak_shard {
    _Alignas(HAK_CACHE_LINE) struct space_view view;
    uint32_t ticked_at;
    bool behind; /* the last tick left work that is overdue */
};

static inline hak_class backend_lookup(const struct hak_shard *shard, const void *pointer)
{
    if (unlikely(!space_view_reaches(&shard->view, pointer)))
        return HAK_CLASS_NONE;
    return (uint32_t)(space_view_tag(&shard->view, pointer) - CODE_CLASS);
}

#endif
