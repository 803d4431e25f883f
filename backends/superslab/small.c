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
                                     const void *block)
{
    /* No other thread holds a block, so none can have freed one. */
    if (unlikely(slab->used != 0 || atomic_load_relaxed(&slab->remote) != 0))
        hak_fatal_pointer("free()", block, "freed twice");
    open_delete(shard, cls, slab, false);
}

/* Takes blocks of one of the shard's own slabs back. */
static inline void small_give(struct hak_shard *shard, hak_class cls, struct slab *slab,
                              struct hak_chain chain, struct hak_block *last)
{
    slab->used -= (uint32_t)chain.count;
    if (unlikely((int32_t)slab->used <= 0)) {
        small_give_last(shard, cls, slab, chain.head);
        return;
    }
    bool had = slab_has_linked(slab);
    open_touch(shard, slab);
    slab_add(slab, cls, chain, last);
    if (!had)
        open_filled(shard, cls, slab, had);
}

/* Returns neighbours of one slab together. Those are often few, so the work for each slab matters as much as that for each
 * block. */
void kept_sort(struct hak_shard *shard, hak_class cls, struct hak_chain chain)
{
    const uint32_t mine = shard->tag + (uint32_t)cls;
    struct hak_grid grid = hak_grid_of(NULL, (uint32_t)hak_class_size(cls), 0);
    struct hak_block *block = chain.head;
    size_t left = chain.count;

    while (left > 0) {
        bool is_mine = space_tag_of(block) == mine;
        struct slab *slab = likely(is_mine) ? slab_of(block) : hak_slab_checked(block, cls);
        struct hak_chain same = {block, left};
        struct hak_block *last = block;
        grid.base = slab_base(slab);
        grid.blocks = slab->capacity;
        if (unlikely(!hak_grid_has(&grid, block)))
            hak_fatal_pointer("free()", block, HAK_NOT_A_BLOCK);
        /* A block off this slab's grid is checked as the first one of the next slab. */
        while (--left > 0 && hak_grid_has(&grid, block = last->next))
            last = block;
        same.count -= left;
        if (likely(is_mine))
            small_give(shard, cls, slab, same, last);
        else /* under CONFIG_REMOTE_FREE_KEEP, or kept by a heap that a fork has parked */
            remote_add(shard, slab, same, last);
    }
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
