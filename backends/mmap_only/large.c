/* SPDX-License-Identifier: MIT */
#include "backends/mmap_only/mapping.h"
#include "backends/mmap_only/slab.h"
#include "backends/mmap_only/small.h"

/* A large block is moved by the kernel rather than copied from here on; below, copying is cheaper. */
static const size_t MOVE_GRANULES_LEAST = ((size_t)256 << 10) >> GRANULE_SHIFT;

/* Says why a pointer is no block. */
_Noreturn static hak_cold void large_reject(const void *pointer, const char *call)
{
    size_t granule = (uintptr_t)pointer >> ADDRESS_BITS ? 0 : granule_of(pointer);
    const struct slab *range = page_map_range_around(granule);

    if (range == NULL)
        hak_fatal_pointer(call, pointer, "not from this allocator");
    if (page_map_tag(range->first) == TAG_LARGE)
        hak_fatal_pointer(call, pointer, "inside a large block, not its start");
    hak_fatal_pointer(call, pointer, "not a live block (freed twice?)");
}

/* The slab of a live small block, or the range of a large one; anything else stops the process. */
static struct slab *large_checked_block(const void *pointer, const char *call, bool *large)
{
    unsigned tag = slab_tag_at(pointer);

    *large = tag == TAG_LARGE;
    if (*large && (uintptr_t)pointer % GRANULE_SIZE == 0)
        return page_map_slab(granule_of(pointer));
    if (tag_class(tag) >= HAK_CLASS_END)
        large_reject(pointer, call);
    struct slab *slab = slab_of(pointer);
    if (!slab_on_grid(slab, pointer))
        hak_fatal_pointer(call, pointer, HAK_NOT_A_BLOCK);
    return slab;
}

static void large_free(struct slab *range, const void *pointer, const char *call)
{
    uint16_t *tag = page_map_tag_at(page_map.root, (uintptr_t)pointer);

    uint16_t expected = TAG_LARGE;

    /* Of two threads that free it, one finds the tag changed. */
    if (!atomic_cas_strong_acq_rel(tag, &expected, (uint16_t)TAG_TAKEN))
        large_reject(pointer, call);
    mapping_free(range);
}

void backend_free(struct hak_shard *shard, void *pointer, const char *call)
{
    bool large;

    (void)shard;
    if (pointer == NULL)
        return;
    struct slab *range = large_checked_block(pointer, call, &large);
    if (large)
        large_free(range, pointer, call);
    else
        small_sort(tag_class(slab_tag_at(pointer)), (struct hak_chain){pointer, 1});
}

static size_t large_granules(size_t size)
{
    return (size + GRANULE_SIZE - 1) >> GRANULE_SHIFT;
}

/* Slabs are shared: one that others have emptied is free already. */
struct hak_large backend_large_alloc(struct hak_shard *shard, size_t size, size_t align)
{
    struct hak_large large = {NULL, false};
    struct slab *range = mapping_alloc(
        large_granules(size), align > GRANULE_SIZE ? align >> GRANULE_SHIFT : 1, 0, &large.zeroed);

    (void)shard;
    if (range) {
        page_map_set_tag(range->first, TAG_LARGE);
        large.base = granule_address(range->first);
    }
    return large;
}

size_t backend_usable_size(const void *pointer, const char *call)
{
    bool large;
    const struct slab *range = large_checked_block(pointer, call, &large);

    return large ? (size_t)range->granules << GRANULE_SHIFT : range->block_size;
}

bool backend_owns(const void *pointer)
{
    if ((uintptr_t)pointer >> ADDRESS_BITS != 0)
        return false;
    /* The start of a block has a tag; only for what is no such thing the slow search is made. */
    return slab_tag_at(pointer) != TAG_NONE || page_map_range_around(granule_of(pointer)) != NULL;
}

/* Asked of any address, by a thread that nothing else has told of a new leaf. */
bool backend_has(const void *address)
{
    uintptr_t high = (uintptr_t)address >> 32;

    return high < ROOT_ENTRIES && atomic_load_acquire(&page_map.root[high]) != 0 &&
           slab_tag_at(address) != TAG_NONE;
}

bool backend_resize(void *pointer, size_t size)
{
    struct slab *range = page_map_slab(granule_of(pointer));
    size_t granules = large_granules(size);

    if (granules < range->granules)
        mapping_trim(range, granules);
    return granules <= range->granules || mapping_extend(range, granules);
}

void *backend_move(void *pointer, size_t size)
{
    struct slab *range = page_map_slab(granule_of(pointer));

    if (range->granules < MOVE_GRANULES_LEAST)
        return NULL;
    struct slab *to = mapping_move(range, large_granules(size));
    if (to == NULL) {
        page_map_set_tag(range->first, TAG_LARGE);
        return NULL;
    }
    page_map_set_tag(to->first, TAG_LARGE);
    return granule_address(to->first);
}
