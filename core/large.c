/* SPDX-License-Identifier: MIT */
/* Large blocks: used extents whose first granule has TAG_LARGE. And what else of the contract is the same over any space.
 *
 * A back end includes this file in one of its own, after its space and its slabs (core/slab.h). It adds
 * backend_large_alloc and backend_free, which differ in what happens to small blocks, and slab_describe. */
#include "core/extents.h"

/* Says why a pointer is no block. */
_Noreturn static hak_cold void large_reject(const void *pointer, const char *call)
{
    if (!space_reaches(pointer))
        hak_fatal_pointer(call, pointer, "not from this allocator");
    uint32_t extent = hak_extents_around(space_granule(pointer));
    if (extent != HAK_NO_EXTENT && space_tag_of(space_address(extent)) == TAG_LARGE)
        hak_fatal_pointer(call, pointer, "inside a large block, not its start");
    hak_fatal_pointer(call, pointer, "not a live block (freed twice?)");
}

/* The slab of a live small block; NULL: a live large one; anything else stops the process. */
static inline __attribute__((always_inline)) struct slab *large_checked_block(const void *pointer,
                                                                              const char *call)
{
    uint32_t tag = space_tag_of(pointer);

    if (likely(tag_class(tag) < HAK_CLASS_END)) {
        struct hak_slab_place place = hak_slab_place(pointer);
        if (unlikely(!hak_slab_begins(place)))
            hak_fatal_pointer(call, pointer, HAK_NOT_A_BLOCK);
        return place.slab;
    }
    if (tag != TAG_LARGE || (uintptr_t)pointer % HAK_SLAB_GRANULE != 0)
        large_reject(pointer, call);
    return NULL;
}

static size_t large_granules(size_t size)
{
    return (size + HAK_SLAB_GRANULE - 1) >> HAK_GRANULE_SHIFT;
}

static size_t large_align(size_t align)
{
    return align > HAK_SLAB_GRANULE ? align >> HAK_GRANULE_SHIFT : 1;
}

/* Makes an extent a block; HAK_NO_EXTENT: there is no memory for one. */
static struct hak_large large_begin(uint32_t first, bool zeroed)
{
    if (first == HAK_NO_EXTENT)
        return (struct hak_large){NULL, false};
    space_set_tag(first, TAG_LARGE);
    return (struct hak_large){space_address(first), zeroed};
}

/* The extent of a block, which is none any more. */
static uint32_t large_end(const void *pointer, const char *call)
{
    uint32_t first = space_granule(pointer);

    /* Of two threads that free it, one finds the tag gone; the other has the block to itself from here on. */
    if (space_take_tag(first) != TAG_LARGE)
        large_reject(pointer, call);
    return first;
}

static inline struct hak_large large_alloc(size_t size, size_t align)
{
    bool zeroed = false;
    uint32_t first = hak_extents_alloc(large_granules(size), large_align(align), 0, &zeroed);

    return large_begin(first, zeroed);
}

static inline void large_free(const void *pointer, const char *call)
{
    hak_extents_free(large_end(pointer, call), false);
}

size_t backend_usable_size(const void *pointer, const char *call)
{
    const struct slab *slab = large_checked_block(pointer, call);

    return slab ? slab->block_size
                : hak_extents_length(space_granule(pointer)) << HAK_GRANULE_SHIFT;
}

bool backend_has(const void *address)
{
    return space_owns(address);
}

bool backend_resize(void *pointer, size_t size)
{
    uint32_t first = space_granule(pointer);
    size_t length = hak_extents_length(first);
    size_t granules = large_granules(size);

    if (granules < length)
        hak_extents_trim(first, granules);
    return granules <= length || hak_extents_extend(first, granules);
}

void *backend_move(void *pointer, size_t size)
{
    uint32_t from = space_granule(pointer);

    space_set_tag(from, TAG_NONE); /* it may be another's before space_move returns */
    uint32_t to = space_move(from, large_granules(size));
    space_set_tag(to == HAK_NO_EXTENT ? from : to, TAG_LARGE);
    return to == HAK_NO_EXTENT ? NULL : space_address(to);
}

size_t backend_footprint(void)
{
    return hak_extents_bytes();
}

static struct hak_extent large_describe(uint32_t first)
{
    const struct hak_extent_node *node = space_node(first);
    void *base = space_address(first);
    struct hak_extent extent = {.base = base, .size = (size_t)node->granules << HAK_GRANULE_SHIFT};
    uint32_t tag = space_tag_of(base);

    if (node->state != HAK_NODE_USED) {
        extent.kind = node->state == HAK_NODE_DIRTY ? HAK_EXTENT_DIRTY : HAK_EXTENT_CLEAN;
    } else if (tag_class(tag) < HAK_CLASS_END) {
        extent.kind = HAK_EXTENT_SLAB;
        extent.cls = tag_class(tag);
        slab_describe(slab_of(base), &extent);
    } else {
        /* An extent that is just changing hands counts as free. */
        extent.kind = tag == TAG_LARGE ? HAK_EXTENT_LARGE : HAK_EXTENT_DIRTY;
    }
    return extent;
}

void backend_walk(void (*visit)(const struct hak_extent *extent, void *context), void *context)
{
    for (uint32_t at = HAK_NO_EXTENT; (at = hak_extents_next(at)) != HAK_NO_EXTENT;) {
        struct hak_extent extent = large_describe(at);
        visit(&extent, context);
    }
}
