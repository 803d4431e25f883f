/* SPDX-License-Identifier: MIT */
#include "backends/mmap_only/shared.h"

struct shared_class shared_classes[HAK_CLASSES] = {
    [0 ... HAK_CLASSES - 1] = {.lock = {.rank = HAK_RANK_SLABS}},
};

struct shared_class *shared_lock(hak_class cls)
{
    struct shared_class *shared = &shared_classes[hak_class_index(cls)];

    hak_lock(&shared->lock);
    return shared;
}

bool shared_has_something(const struct slab *slab)
{
    return slab->free || slab->blank_blocks > 0 || slab->cut < slab->capacity;
}

void shared_list(struct shared_class *shared, struct slab *slab)
{
    struct slab **first = slab->free ? &shared->filled : &shared->blank;

    if (!shared_has_something(slab))
        return;
    slab->next = *first;
    slab->previous = NULL;
    if (*first)
        (*first)->previous = slab;
    *first = slab;
    slab->listed = true;
}

void shared_unlist(struct shared_class *shared, struct slab *slab)
{
    if (shared->round_slab == slab)
        atomic_store_relaxed(&shared->round_slab, slab->next);
    if (shared->trim_slab == slab)
        shared->trim_slab = slab->next;
    if (slab->next)
        slab->next->previous = slab->previous;
    if (slab->previous)
        slab->previous->next = slab->next;
    else
        *(shared->filled == slab ? &shared->filled : &shared->blank) = slab->next;
    slab->listed = false;
}

void shared_relist(struct shared_class *shared, struct slab *slab, bool had, struct slab **empty)
{
    if (slab->listed && (!had || slab->used == 0))
        shared_unlist(shared, slab);
    if (slab->used == 0) {
        slab->next = *empty;
        *empty = slab;
    } else if (!slab->listed && !slab->being_purged) {
        shared_list(shared, slab);
    }
}

uint32_t shared_clock;

struct slab *shared_new(hak_class cls)
{
    size_t block_size = hak_class_size(cls);
    size_t granules = hak_slab_granules(block_size);
    size_t align = block_size & -block_size;
    bool zeroed;
    uint32_t first = hak_extents_alloc(granules, align > GRANULE_SIZE ? align >> GRANULE_SHIFT : 1,
                                       CONFIG_SLAB_BATCH, &zeroed);

    if (first == HAK_NO_EXTENT)
        return NULL;
    struct slab *slab = space_slab(first);
    slab->first = first;
    slab->free = NULL;
    hak_slab_begin(slab, cls, granules);
    slab->listed = slab->being_purged = false;
    shared_touch(slab);
    for (size_t i = 0; i < granules; i++)
        space_set_tag(slab->first + (uint32_t)i, (uint32_t)(cls + CODE_CLASS));
    return slab;
}

void shared_delete(struct slab *slab)
{
    while (slab) {
        struct slab *next = slab->next;
        for (size_t i = 0; i < slab->extent.granules; i++)
            space_set_tag(slab->first + (uint32_t)i, TAG_NONE);
        hak_extents_free(slab->first, false);
        slab = next;
    }
}
