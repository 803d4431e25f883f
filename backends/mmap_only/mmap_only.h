/* SPDX-License-Identifier: MIT */
/* The mmap-only back end: mappings wherever the kernel puts them, slabs that all threads share.
 *
 *   shard ──── kept[i] ─► chain ─► chain     chains that the cache flushed, for the next refill
 *
 *   class[i]   lock, filled ─► slab ─► slab ─► ∅   shared: slabs of the class with free blocks,
 *                    blank  ─► slab ─► ∅           and those with nothing but pages to cut
 *
 *   extents    slab │ slab │ free │ large │ …      mapped in batches, unmapped when free and due
 *                                                  (core/extents.h)
 *
 * Any thread returns a block straight to its slab: there are no remote frees, and no slab waits for a thread that ended. A
 * refill or a flush that the kept chains cannot serve takes the lock of its class, once for a batch.
 *
 * A shard that begins crowded (core/crowd.h) is refilled with few blocks at first.
 *
 * Any thread's tick purges free pages of partly live slabs, and a trim all of them. The thread takes a slab off its list, and
 * its free blocks, which count as used meanwhile; it purges the pages that only these overlap without the lock, and gives the
 * blocks back. Those that begin in a purged page are *blank* (core/slab.h) and are used last.
 *
 * invariant: every slab on a list of class[i] has the class's tag, and listed set
 * invariant: a slab is on `filled` if and only if it is listed and has free blocks
 * invariant: length(slab->free) + blank_blocks + used == cut <= capacity
 * invariant: a slab with used == 0 is given back; cut does not change while there are blank blocks
 * invariant: that of core/kept.h, with the bound HAK_KEPT_BYTES
 *
 * best case:  few threads, tight memory, sandboxes that count addresses; memory that goes from thread
 *             to thread
 * worst case: many threads that build up and tear down blocks of one class at the same time
 */
#ifndef HAK_BACKENDS_MMAP_ONLY_H
#define HAK_BACKENDS_MMAP_ONLY_H

#include "backends/mmap_only/granule.h"
#include "core/block_list.h"
#include "core/budget.h"

#define backend_grid      backend_grid
#define backend_resize    backend_resize
#define backend_move      backend_move
#define backend_settle    backend_settle
#define backend_walk_kept backend_walk_kept
#define backend_tick      backend_tick
#define backend_upkeep    backend_upkeep
#define backend_trim      backend_trim
#define backend_footprint backend_footprint
#define backend_purges_slabs

struct hak_shard {
    /* read by every free */
    _Alignas(HAK_CACHE_LINE) struct space_view view; /* zero-filled in the empty heap */

    /* the owner's alone */
    uint32_t ticked_at;
    uint32_t kept_since;          /* what is kept came after this */
    bool behind;                  /* the last tick left work that is overdue */
    bool crowded;                 /* it began so (crowd.h) */
    uint8_t refills[HAK_CLASSES]; /* of a crowded one, those that were small */
    struct hak_kept kept;
};

static inline hak_class backend_lookup(const struct hak_shard *shard, const void *pointer)
{
    if (unlikely(!space_view_reaches(&shard->view, pointer)))
        return HAK_CLASS_NONE;
    return (uint32_t)(space_view_tag(&shard->view, pointer) - CODE_CLASS);
}

#endif
