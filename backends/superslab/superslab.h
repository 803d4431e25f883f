/* SPDX-License-Identifier: MIT */
/* The SuperSlab back end: slabs owned by heaps, in a space of the configuration's choice.
 *
 *   shard ─┬─ open[c] ─► slab ─► slab ─► ∅            the shard's slabs that have free, blank or fresh blocks
 *          ├─ kept[c] ─► chain ─► chain                chains that the cache flushed, not sorted to slabs
 *          ├─ outgoing  [slab: b ─► b] [slab: b] …     blocks of other shards' slabs, a batch for each slab
 *          └─ queue ─► slab ─► slab                    the shard's slabs of which other threads freed blocks
 *
 *   space   │ slab │ slab │ large  │ slab │ free   │ …      one tag for each granule of 64 KiB says
 *                                                         owner and class (granule.h)
 *
 * A shard that begins crowded (core/crowd.h) gets its first blocks of each class from a *common* shard. There are a few of
 * those; the owner of one is the thread that holds its lock. Its blocks go back as those of any other shard do.
 *
 * A slab belongs to one shard, so its refills and local returns take no lock and no atomic (granule.h
 * has the protocol for the rest). Granules come from and go to a rack, by one atomic step, or the extents that all shards
 * share (core/extents.h). A shard's own slabs always lie where its view of the space reaches; a free of a block beyond it misses in
 * backend_lookup, and the cold path updates the view.
 *
 * A slab that becomes empty while few of its blocks were ever used waits for its class, so that a class with a block now and
 * then does not touch memory at a new place each time. It goes when a hand, which each new slab of the shard moves on by some
 * classes, has passed it twice; before the shard takes memory that is not dirty, as far as it can tell; in a round of upkeep; and
 * with the thread.
 *
 * invariant: every slab on open[c] has class c, this shard's tag, and listed set
 * invariant: empty[c] is NULL, or on open[c] with used == 0
 * invariant: that of core/kept.h, with the bound KEPT_BYTES_MAX
 * invariant: bytes in outgoing[i] < OUTGOING_BYTES or one block
 *
 * best case:  everything small; blocks that are freed by the thread that allocated them
 * worst case: many sizes of which few blocks each are live, in the first CONFIG_CROWD_THREADS threads: a slab for
 *             every class and thread
 */
#ifndef HAK_BACKENDS_SUPERSLAB_H
#define HAK_BACKENDS_SUPERSLAB_H

#include "backends/superslab/granule.h"
#include "core/budget.h"

#define backend_grid        backend_grid
#define backend_resize      backend_resize
#define backend_move        backend_move
#define backend_settle      backend_settle
#define backend_walk_kept   backend_walk_kept
#define backend_tick        backend_tick
#define backend_upkeep      backend_upkeep
#define backend_trim        backend_trim
#define backend_footprint   backend_footprint
#define backend_refill_used backend_refill_used
#define backend_purges_slabs

/* Bound on kept chains: an eighth of the shard's budget, because kept chains pin their slabs; or all of it but for
 * what is on its way to others. */
#define KEPT_BYTES_MAX                                                                             \
    (enabled(CONFIG_KEEP_SCATTERED) ? HAK_KEPT_BYTES - OUTGOING_BYTES_MAX : HAK_KEPT_BYTES / 8)
/* A batch of remote blocks is pushed when it has OUTGOING_BYTES bytes or CONFIG_REFILL_BATCH blocks. */
#define OUTGOING_BYTES     ((size_t)CONFIG_CACHE_BYTES / 256)
#define OUTGOING_SLOTS     16
#define OUTGOING_BYTES_MAX (OUTGOING_BYTES * OUTGOING_SLOTS)

/* Most blocks that were ever used of a slab that waits, empty, for its class to need it again, and most bytes of them: cutting
 * many blocks anew costs less than taking them out of lists. 64 KiB by default. */
#define EMPTY_BLOCKS 256
#define EMPTY_BYTES  (CONFIG_PURGE_DELAY_MS > 0 ? (size_t)CONFIG_CACHE_BYTES / 16 : 0)

/* A slab of a class that has used one up gets memory this far ahead, at one call of the kernel for several faults. Larger
 * blocks may be touched in part only. */
#define AHEAD       ((size_t)1 << CONFIG_POPULATE_LOG2)
#define AHEAD_BLOCK (CONFIG_POPULATE_LOG2 > 12 ? (size_t)2048 : 0)

struct superslab_outgoing {
    struct slab *slab; /* NULL: empty */
    struct hak_block *tail;
    struct hak_chain chain;
};

/* The lists of a shard that owns slabs or sends batches. Until a crowded shard (core/crowd.h) does, its lists are the empty,
 * read-only ones that all such shards share. */
struct superslab_lists {
    struct slab *open[HAK_CLASSES];  /* of each class; the first is the one in use */
    struct slab *empty[HAK_CLASSES]; /* one of them, all of whose blocks are free; or NULL */
    bool empty_is_old[HAK_CLASSES];  /* the hand has passed it since it became empty */
    bool grows[HAK_CLASSES];         /* one of them was used up, and none deleted since */
    unsigned hand;                   /* index of the class whose empty slab is looked at next */
    struct hak_kept kept;            /* under CONFIG_REMOTE_FREE_KEEP of any shard's slabs */
    struct superslab_outgoing outgoing[OUTGOING_SLOTS];
};

struct hak_shard {
    /* read by every free */
    struct space_view view; /* what the owner last saw; zero-filled in the empty heap */
    uint32_t tag;           /* this shard's id and the code of class 0 */

    /* the owner's alone */
    uint32_t ticked_at;
    bool behind; /* the last tick left work that is overdue */

    /* A round of upkeep (core/upkeep.h) visits every slab on the lists. */
    uint32_t round_at;       /* when the last round began */
    unsigned round_class;    /* index of the class that it visits; HAK_CLASSES: the round is over */
    struct slab *round_slab; /* the next slab to visit */
    unsigned claims;         /* parked heaps that this round has visited */
    uint32_t sleeper;        /* the last owner id that was searched for a sleeping thread */
    struct superslab_lists *lists;
    bool crowded;                 /* when it was made (core/crowd.h) */
    uint8_t refills[HAK_CLASSES]; /* of a crowded shard: refills from a common shard */
    unsigned lone_pushes;         /* remote chains pushed without a batch */
    unsigned common;              /* the common shard that the next tick visits */

    /* Which classes have open slabs, a bit each. Relaxed atomics: a hint for threads that look for slabs of parked heaps. */
    uint64_t offers[(HAK_CLASSES + 63) / 64];

    /* shared with threads that free this shard's blocks */
    _Alignas(HAK_CACHE_LINE) struct slab *queue; /* atomic; a stack of slabs, taken whole */
    uint32_t seen_at;                            /* atomic; hak_clock_ms of the owner's last tick */
};

static inline hak_class backend_lookup(const struct hak_shard *shard, const void *pointer)
{
    if (unlikely(!space_view_reaches(&shard->view, pointer)))
        return HAK_CLASS_NONE;
    uint32_t tag = space_view_tag(&shard->view, pointer);
    /* Under CONFIG_REMOTE_FREE_KEEP the owner does not matter, only the code does. */
    if (enabled(CONFIG_REMOTE_FREE_KEEP))
        return (uint32_t)((tag & 0xfff) - HAK_CLASS_SCALE);
    return (uint32_t)(tag - shard->tag);
}

#endif
