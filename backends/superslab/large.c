/* SPDX-License-Identifier: MIT */
#include "backends/superslab/remote.h"
#include "backends/superslab/shard.h"
#include "core/large.c"

/* Blocks as long as slabs come from the shard's rack and go there, without a lock. */
static void large_put(struct hak_shard *shard, uint32_t extent)
{
    if (shard)
        hak_extents_put(shard_rack(shard), extent);
    else
        hak_extents_free(extent, false);
}

void backend_free(struct hak_shard *shard, void *pointer, const char *call)
{
    if (pointer == NULL)
        return;
    struct slab *slab = large_checked_block(pointer, call);
    if (slab == NULL) {
        large_put(shard, large_end(pointer, call));
        return;
    }
    struct hak_block *block = pointer;
    struct hak_chain chain = {block, 1};
    if (shard == NULL) {
        remote_push(slab, chain, block);
        return;
    }
    space_view_update(&shard->view);
    remote_add(shard, slab, chain, block);
}

struct hak_large backend_large_alloc(struct hak_shard *shard, size_t size, size_t align)
{
    bool zeroed = false;

    if (shard == NULL)
        return large_alloc(size, align);
    remote_collect(shard);
    uint32_t first =
        hak_extents_take(shard_rack(shard), large_granules(size), large_align(align), &zeroed);
    return large_begin(first, zeroed);
}
