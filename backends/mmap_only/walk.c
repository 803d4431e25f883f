/* SPDX-License-Identifier: MIT */
#include "backends/mmap_only/shared.h"
#include "core/kept.h"

void slab_describe(const struct slab *slab, struct hak_extent *extent)
{
    extent->capacity = slab->capacity;
    extent->cut = slab->cut;
    extent->free = slab->cut - slab->used;
    extent->purged = hak_slab_purged_bytes(slab);
}

void backend_free_blocks(const struct hak_extent *extent, uint64_t *set)
{
    const struct slab *slab = space_slab(space_granule(extent->base));
    struct hak_chain free = {slab->free, slab->free ? slab_free_blocks(slab) : 0};

    hak_slab_add_chain(slab, free, set);
    hak_slab_add_blank(slab, set);
}

hak_class backend_is_block(const void *address)
{
    hak_class cls = tag_class(space_tag_of(address));

    return cls < HAK_CLASS_END && slab_on_grid(slab_of(address), address) ? cls : HAK_CLASS_NONE;
}

void backend_walk_kept(const struct hak_shard *shard, bool (*visit)(void *block, void *context),
                       void *context)
{
    hak_kept_walk(&shard->kept, HAK_KEPT_BYTES, visit, context);
}

static bool walk_slab_valid(const struct slab *slab, hak_class cls)
{
    size_t count = 0;
    size_t free = slab_free_blocks(slab);

    for (const struct hak_block *block = slab->free; count < free; block = block->next, count++)
        if (block == NULL || !slab_on_grid(slab, block))
            return false;
    return slab->used > 0 && hak_slab_valid(slab, cls) && (free > 0) == (slab->free != NULL) &&
           shared_has_something(slab) && slab->listed && !slab->being_purged;
}

static bool walk_list_valid(const struct slab *first, hak_class cls, bool filled)
{
    const struct slab *previous = NULL;
    bool valid = true;

    for (const struct slab *slab = first; slab && valid; slab = slab->next) {
        valid = slab->previous == previous && walk_slab_valid(slab, cls) &&
                (slab->free != NULL) == filled;
        previous = slab;
    }
    return valid;
}

static bool walk_class_valid(hak_class cls)
{
    struct shared_class *shared = shared_lock(cls);
    bool valid =
        walk_list_valid(shared->filled, cls, true) && walk_list_valid(shared->blank, cls, false);

    hak_unlock(&shared->lock);
    return valid;
}

bool backend_valid(const struct hak_shard *shard)
{
    for (unsigned i = 0; i < HAK_CLASSES; i++)
        if (!walk_class_valid(hak_class_at(i)))
            return false;
    return hak_kept_valid(&shard->kept, HAK_KEPT_BYTES);
}
