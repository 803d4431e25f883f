/* SPDX-License-Identifier: MIT */
#include "backends/superslab/remote.h"
#include "backends/superslab/shard.h"
#include "core/large.c"

void backend_free(struct hak_shard *shard, void *pointer, const char *call)
{
    if (pointer == NULL)
        return;
    struct slab *slab = large_checked_block(pointer, call);
    if (slab == NULL) {
        large_free(pointer, call);
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
    if (shard)
        remote_collect(shard);
    return large_alloc(size, align);
}
