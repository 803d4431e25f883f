/* SPDX-License-Identifier: MIT */
#include "core/backend.h"

#include "backends/superslab/common.h"
#include "backends/superslab/remote.h"
#include "backends/superslab/shard.h"
#include "core/kept.h"

_Static_assert(CONFIG_REFILL_BATCH <= HAK_PACKED_MAX, "a batch fits a packed chain");
_Static_assert(OUTGOING_BYTES_MAX <= CONFIG_CACHE_BYTES / 4, "kept chains have a share");

/* Blocks of a chain that are compared to tell whether it is scattered. */
enum { LOOKS_AT = 4 };

struct hak_chain backend_refill_used(struct hak_shard *shard, hak_class cls, size_t max)
{
    struct hak_chain chain = hak_kept_pop(&shard->lists->kept, cls, max);

    if (chain.count > 0 || !shard_owns(shard))
        return chain;
    remote_collect(shard);
    struct slab *slab =
        shard->lists->open[hak_class_index(cls)]; /* slabs with such blocks come first */
    if (slab && slab_has_linked(slab))
        chain = open_take(shard, cls, max);
    return chain;
}

struct hak_chain backend_refill_chain(struct hak_shard *shard, hak_class cls, size_t max)
{
    struct hak_chain chain = hak_kept_pop(&shard->lists->kept, cls, max);

    if (chain.count == 0 && unlikely(shard->crowded))
        chain = common_take(shard, cls, max);
    if (chain.count > 0 || unlikely(!shard_owns(shard) && !shard_own(shard)))
        return chain;
    remote_collect(shard);
    chain = open_take(shard, cls, max);
    if (chain.count == 0 && remote_adopt(shard, cls))
        chain = open_take(shard, cls, max);
    if (chain.count == 0 && open_new(shard, cls))
        chain = open_take(shard, cls, max);
    if (chain.count == 0 && shard->lists->kept.bytes > 0) {
        /* Out of memory: kept chains of other classes may free a slab. */
        hak_kept_sort_all(&shard->lists->kept, shard);
        if (open_new(shard, cls))
            chain = open_take(shard, cls, max);
    }
    return chain;
}

struct hak_grid backend_grid(const void *block, hak_class cls)
{
    return hak_slab_grid(hak_slab_checked(block, cls));
}

/* The last used blocks of a slab come back, or more than were used. */
static hak_cold void small_give_last(struct hak_shard *shard, hak_class cls, struct slab *slab,
                                     struct hak_chain chain, struct hak_block *last)
{
    bool had = slab_has_linked(slab);

    /* No other thread holds a block, so none can have freed one. */
    if (unlikely(slab->used != 0 || atomic_load_relaxed(&slab->remote) != 0))
        hak_fatal_pointer("free()", chain.head, HAK_FREED_TWICE);
    if (!open_keep_empty(shard, cls, slab)) {
        open_delete(shard, cls, slab, false);
        return;
    }
    open_touch(shard, slab);
    slab_add(slab, cls, chain, last);
    open_filled(shard, cls, slab, had);
}

/* The first blocks come back to a slab that has none in lists, but for those that are blank or uncut. */
static hak_cold void small_give_first(struct hak_shard *shard, hak_class cls, struct slab *slab,
                                      struct hak_chain chain, struct hak_block *last)
{
    slab_add(slab, cls, chain, last);
    open_filled(shard, cls, slab, false);
}

/* Takes blocks of one of the shard's own slabs back. */
static inline void small_give(struct hak_shard *shard, hak_class cls, struct slab *slab,
                              struct hak_chain chain, struct hak_block *last, uint32_t stamp)
{
    slab->used -= (uint32_t)chain.count;
    if (unlikely((int32_t)slab->used <= 0)) {
        small_give_last(shard, cls, slab, chain, last);
        return;
    }
    slab->touched_at = stamp;
    if (unlikely(!slab_has_linked(slab)))
        small_give_first(shard, cls, slab, chain, last);
    else
        slab_add(slab, cls, chain, last);
}

/* Blocks of a chain that are still to be sorted. */
struct unsorted {
    struct hak_block *block;
    size_t left;
};

/* Sorts the first neighbours of a chain, which lie in another shard's slab: under CONFIG_REMOTE_FREE_KEEP, or kept by a heap
 * that a fork has parked. What is no block of the class stops the process. */
static __attribute__((noinline)) struct unsorted
small_sort_remote(struct hak_shard *shard, hak_class cls, struct unsorted chain)
{
    struct slab *slab = hak_slab_checked(chain.block, cls);
    struct hak_grid grid = hak_slab_grid(slab);
    struct hak_chain same = {chain.block, chain.left};
    struct hak_block *last = chain.block;

    while (--chain.left > 0 && hak_grid_has(&grid, chain.block = last->next))
        last = chain.block;
    same.count -= chain.left;
    remote_add(shard, slab, same, last);
    return chain;
}

/* Returns neighbours of one slab together. Those are often few, so the work for each slab matters as much as that for each
 * block. `one`: the class's slabs are one granule long. */
static inline __attribute__((always_inline)) void small_sort(struct hak_shard *shard, hak_class cls,
                                                             struct unsorted chain, bool one)
{
    const uint32_t mine = shard->tag + (uint32_t)cls;
    const uint32_t stamp = shard->ticked_at | 1;
    struct hak_grid grid = hak_grid_of(NULL, (uint32_t)hak_class_size(cls), 0);

    while (chain.left > 0) {
        /* The shard's own slabs lie in what it has seen. */
        if (unlikely(!space_view_reaches(&shard->view, chain.block) ||
                     space_view_tag(&shard->view, chain.block) != mine)) {
            chain = small_sort_remote(shard, cls, chain);
            continue;
        }
        struct slab *slab = slab_granule_at(chain.block);
        size_t distance = one ? 0 : slab->distance;
        struct hak_chain same = {chain.block, chain.left};
        struct hak_block *last = chain.block;
        slab = one ? slab : space_step(slab, -(ptrdiff_t)distance);
        grid.base =
            (const char *)((uintptr_t)last & -HAK_SLAB_GRANULE) - distance * HAK_SLAB_GRANULE;
        grid.blocks = slab->capacity;
        if (unlikely(!hak_grid_has(&grid, last)))
            hak_fatal_pointer("free()", last, HAK_NOT_A_BLOCK);
        /* A block off this slab's grid is checked as the first one of the next slab. */
        while (--chain.left > 0 && hak_grid_has(&grid, chain.block = last->next))
            last = chain.block;
        same.count -= chain.left;
        small_give(shard, cls, slab, same, last, stamp);
    }
}

void kept_sort(struct hak_shard *shard, hak_class cls, struct hak_chain chain)
{
    struct unsorted all = {chain.head, chain.count};

    if (likely(hak_slab_granules(hak_class_size(cls)) == 1))
        small_sort(shard, cls, all, true);
    else
        small_sort(shard, cls, all, false);
}

/* Whether a chain is worth keeping: its first few blocks lie in one granule. The blocks of a scattered chain would each cost
 * the program a cache miss when they are used again; sorted to slabs, the next refill comes from one slab. No link is
 * followed out of the granule. */
static bool small_is_worth_keeping(struct hak_chain chain)
{
    const struct hak_block *block = chain.head;

    if (enabled(CONFIG_KEEP_SCATTERED))
        return true;
    for (int i = 1; i < LOOKS_AT && (size_t)i < chain.count; i++) {
        const struct hak_block *next = block->next;
        if (((uintptr_t)next ^ (uintptr_t)block) >> GRANULE_SHIFT != 0)
            return false;
        block = next;
    }
    return true;
}

void backend_return_chain(struct hak_shard *shard, hak_class cls, struct hak_chain chain)
{
    if (!small_is_worth_keeping(chain) || !shard_owns(shard) ||
        !hak_kept_push(&shard->lists->kept, shard, cls, chain, KEPT_BYTES_MAX))
        kept_sort(shard, cls, chain);
}
