/* SPDX-License-Identifier: MIT */
#include "backends/mmap_only/slab.h"
#include "backends/mmap_only/small.h"
#include "core/large.c"

void backend_free(struct hak_shard *shard, void *pointer, const char *call)
{
    (void)shard;
    if (pointer == NULL)
        return;
    if (large_checked_block(pointer, call))
        small_sort(tag_class(space_tag_of(pointer)), (struct hak_chain){pointer, 1});
    else
        large_free(pointer, call);
}

/* The extent of a shared slab that became empty is free already: there is nothing to collect. */
struct hak_large backend_large_alloc(struct hak_shard *shard, size_t size, size_t align)
{
    (void)shard;
    return large_alloc(size, align);
}
