/* SPDX-License-Identifier: MIT */
#include "backends/mmap_only/shared.h"

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
        struct hak_slab_shape shape = slab_shape(range);
        extent.kind = HAK_EXTENT_SLAB;
        extent.cls = tag_class(tag);
        extent.capacity = range->capacity;
        extent.cut = range->cut;
        extent.free = range->cut - range->used;
        for (size_t page = 0; range->blank_blocks > 0 && page < hak_pages_cut(&shape); page++)
            extent.purged += slab_is_blank(range, page) * os_page_size();
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
    struct hak_slab_shape shape = slab_shape(slab);
    const struct hak_block *block = slab->free;
    size_t left = slab->free ? slab_free_blocks(slab) : 0;

    for (; left > 0 && slab_on_grid(slab, block); left--, block = block->next)
        hak_set_add(set, (uint32_t)((const char *)block - shape.base) / shape.block_size);
    slab_add_blank(slab, &shape, set);
}

hak_class backend_is_block(const void *address)
{
    hak_class cls = tag_class(slab_tag_at(address));

    return cls < HAK_CLASS_END && slab_on_grid(slab_of(address), address) ? cls : HAK_CLASS_NONE;
}

void backend_walk_kept(const struct hak_shard *shard, bool (*visit)(void *block, void *context),
                       void *context)
{
    for (unsigned i = 0; i < HAK_CLASSES; i++) {
        hak_packed_chain packed = shard->kept[i].top;
        for (size_t bytes = 0; packed && bytes <= HAK_KEPT_BYTES;) {
            struct hak_chain chain = hak_chain_unpack(packed);
            struct hak_block *block = chain.head;
            if (backend_is_block(block) == HAK_CLASS_NONE)
                break;
            packed = ((struct hak_chain_head *)chain.head)->below;
            bytes += chain.count * hak_class_sizes[i];
            for (size_t left = chain.count; left > 0 && visit(block, context); left--)
                block = block->next;
        }
    }
}

static bool walk_slab_valid(const struct slab *slab, hak_class cls)
{
    struct hak_slab_shape shape = slab_shape(slab);
    size_t count = 0;
    size_t free = slab_free_blocks(slab);
    size_t blank = 0;

    for (size_t page = 0; page < hak_pages_cut(&shape); page++)
        if (slab_is_blank(slab, page))
            blank += hak_first_in_page(&shape, page + 1) - hak_first_in_page(&shape, page);
    for (const struct hak_block *block = slab->free; count < free; block = block->next, count++)
        if (block == NULL || !slab_on_grid(slab, block))
            return false;
    return slab->used > 0 && slab->used <= slab->cut && slab->cut <= slab->capacity &&
           (free > 0) == (slab->free != NULL) && blank == slab->blank_blocks &&
           shared_has_something(slab) && slab->listed && !slab->being_purged &&
           slab->block_size == hak_class_size(cls) && tag_class(page_map_tag(slab->first)) == cls;
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
    size_t kept = 0;

    for (unsigned i = 0; i < HAK_CLASSES; i++) {
        for (hak_packed_chain packed = shard->kept[i].top; packed;) {
            struct hak_chain chain = hak_chain_unpack(packed);
            packed = ((struct hak_chain_head *)chain.head)->below;
            kept += chain.count * hak_class_sizes[i];
        }
        if (!walk_class_valid(hak_class_at(i)))
            return false;
    }
    return kept == shard->kept_bytes && kept <= HAK_KEPT_BYTES;
}
