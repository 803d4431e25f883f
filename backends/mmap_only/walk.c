/* SPDX-License-Identifier: MIT */
#include "backends/mmap_only/shared.h"
#include "core/kept.h"

struct walk {
    void (*visit)(const struct hak_extent *extent, void *context);
    void *context;
};

static void walk_range(const struct slab *range, size_t first, unsigned tag,
                       const struct walk *walk)
{
    struct hak_extent extent = {.base = granule_address(first),
                                .size = (size_t)range->granules << GRANULE_SHIFT};

    if (tag_class(tag) < HAK_CLASS_END) {
        extent.kind = HAK_EXTENT_SLAB;
        extent.cls = tag_class(tag);
        extent.capacity = range->capacity;
        extent.cut = range->cut;
        extent.free = range->cut - range->used;
        extent.purged = hak_slab_purged_bytes(range);
    } else if (tag == TAG_FREE) {
        extent.kind = range->dirty ? HAK_EXTENT_DIRTY : HAK_EXTENT_CLEAN;
    } else {
        extent.kind = HAK_EXTENT_LARGE;
    }
    walk->visit(&extent, walk->context);
}

/* From a granule of a leaf to its end, or as far as the last range reaches. Returns where. */
static size_t walk_leaf(size_t granule, const struct walk *walk)
{
    size_t end = (granule / LEAF_GRANULES + 1) * LEAF_GRANULES;

    while (granule < end) {
        unsigned tag = page_map_tag(granule);
        const struct slab *range = page_map_slab(granule);
        bool begins = tag == TAG_LARGE || tag == TAG_FREE ||
                      (tag_class(tag) < HAK_CLASS_END && range->distance == 0);
        if (begins)
            walk_range(range, granule, tag, walk);
        granule += begins ? range->granules : 1;
    }
    return granule;
}

void backend_walk(void (*visit)(const struct hak_extent *extent, void *context), void *context)
{
    struct walk walk = {visit, context};
    size_t done = 0; /* a range may end in another leaf than it begins in */

    for (size_t i = 0; i < ROOT_ENTRIES; i++) {
        size_t first = i * LEAF_GRANULES > done ? i * LEAF_GRANULES : done;
        if (page_map.root[i] != 0 && first < (i + 1) * LEAF_GRANULES)
            done = walk_leaf(first, &walk);
    }
}

void backend_free_blocks(const struct hak_extent *extent, uint64_t *set)
{
    const struct slab *slab = page_map_slab(granule_of(extent->base));
    struct hak_chain free = {slab->free, slab->free ? slab_free_blocks(slab) : 0};

    hak_slab_add_chain(slab, free, set);
    hak_slab_add_blank(slab, set);
}

hak_class backend_is_block(const void *address)
{
    hak_class cls = tag_class(slab_tag_at(address));

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
