/* SPDX-License-Identifier: MIT */
#include "backends/superslab/shard.h"

/* Classes that the hand passes for each new slab. */
enum { HAND_STEPS = 8 };

void open_set_tags(const struct slab *slab, uint32_t tag)
{
    for (uint32_t i = 0; i < slab->extent.granules; i++)
        space_set_tag(space_number(slab) + i, tag);
}

/* Notes whether a class has open slabs. */
static void open_offer(struct hak_shard *shard, hak_class cls)
{
    unsigned index = hak_class_index(cls);
    uint64_t *word = &shard->offers[index / 64];
    uint64_t bit = (uint64_t)1 << index % 64;

    atomic_store_relaxed(word, shard->lists->open[index] ? *word | bit : *word & ~bit);
}

void open_first(struct hak_shard *shard, hak_class cls, struct slab *slab)
{
    struct slab **first = &shard->lists->open[hak_class_index(cls)];

    slab->next = *first;
    slab->previous = *first ? (*first)->previous : slab;
    if (*first)
        (*first)->previous = slab;
    *first = slab;
    slab->listed = true;
    open_offer(shard, cls);
}

void open_last(struct hak_shard *shard, hak_class cls, struct slab *slab)
{
    struct slab **first = &shard->lists->open[hak_class_index(cls)];
    struct slab *last = *first ? (*first)->previous : NULL;

    slab->next = NULL;
    slab->previous = last ? last : slab;
    if (last)
        last->next = slab;
    *(last ? &(*first)->previous : first) = slab;
    slab->listed = true;
    open_offer(shard, cls);
}

void open_remove(struct hak_shard *shard, hak_class cls, struct slab *slab)
{
    struct slab **first = &shard->lists->open[hak_class_index(cls)];

    if (shard->round_slab == slab)
        shard->round_slab = slab->next;
    *(slab->next ? &slab->next->previous : &(*first)->previous) = slab->previous;
    *(slab == *first ? first : &slab->previous->next) = slab->next;
    slab->listed = false;
    open_offer(shard, cls);
}

void open_filled(struct hak_shard *shard, hak_class cls, struct slab *slab, bool had)
{
    if (had)
        return;
    if (slab->listed)
        open_remove(shard, cls, slab);
    open_first(shard, cls, slab);
}

/* The slab does not wait for its class any more, if it did. */
static void open_forget_empty(struct hak_shard *shard, hak_class cls, const struct slab *slab)
{
    struct slab **empty = &shard->lists->empty[hak_class_index(cls)];

    if (*empty == slab)
        *empty = NULL;
}

/* Deletes empty slabs that no class has needed since the hand passed them last. */
static void open_pass_hand(struct hak_shard *shard)
{
    for (int i = 0; i < HAND_STEPS; i++) {
        struct superslab_lists *lists = shard->lists;
        unsigned index = lists->hand;
        struct slab *slab = lists->empty[index];
        lists->hand = (index + 1) % HAK_CLASSES;
        if (slab && lists->empty_is_old[index])
            open_delete(shard, hak_class_at(index), slab, false);
        else
            lists->empty_is_old[index] = true;
    }
}

struct slab *open_new(struct hak_shard *shard, hak_class cls)
{
    size_t block_size = hak_class_size(cls);
    size_t granules = hak_slab_granules(block_size);
    bool zeroed;
    size_t align = block_size & -block_size;

    open_pass_hand(shard);
    if (!hak_extents_have_racked(shard_rack(shard), granules) && hak_extents_dirty() < granules)
        open_delete_empty(shard, granules);
    uint32_t run = hak_extents_take(shard_rack(shard), granules,
                                    align > GRANULE_SIZE ? align >> GRANULE_SHIFT : 1, &zeroed);

    if (run == HAK_NO_EXTENT)
        return NULL;
    struct slab *slab = space_slab(run);
    slab->loose = slab->loose_tail = NULL;
    slab->closed.top = 0;
    slab->loose_count = 0;
    hak_slab_begin(slab, cls, granules);
    slab->ahead = zeroed && block_size <= AHEAD_BLOCK && shard->lists->grows[hak_class_index(cls)];
    open_touch(shard, slab);
    hak_check(atomic_load_relaxed(&slab->remote) == 0); /* invariant of a freed extent */
    open_set_tags(slab, shard->tag + (uint32_t)cls);
    space_view_update(&shard->view);
    open_last(shard, cls, slab);
    return slab;
}

void open_delete(struct hak_shard *shard, hak_class cls, struct slab *slab, bool clean)
{
    if (slab->listed)
        open_remove(shard, cls, slab);
    open_forget_empty(shard, cls, slab);
    shard->lists->grows[hak_class_index(cls)] = false;
    /* A slab that waited had no block that another thread could free. */
    if (unlikely(!clean && atomic_load_relaxed(&slab->remote) != 0))
        hak_fatal_pointer("free()", slab_base(slab), HAK_FREED_TWICE);
    open_set_tags(slab, TAG_NONE);
    if (clean)
        hak_extents_free(space_number(slab), true);
    else
        hak_extents_put(shard_rack(shard), space_number(slab));
}

bool open_keep_empty(struct hak_shard *shard, hak_class cls, struct slab *slab)
{
    struct slab **empty = &shard->lists->empty[hak_class_index(cls)];
    const struct slab *first = shard->lists->open[hak_class_index(cls)];

    if (first && (first != slab || slab->next))
        return false;
    if (slab->cut > EMPTY_BLOCKS || (size_t)slab->cut * slab->block_size > EMPTY_BYTES)
        return false;
    *empty = slab;
    shard->lists->empty_is_old[hak_class_index(cls)] = false;
    return true;
}

void open_delete_empty(struct hak_shard *shard, size_t granules)
{
    for (unsigned i = 0; granules > 0 && i < HAK_CLASSES; i++) {
        struct slab *slab = shard->lists->empty[i];
        if (slab == NULL)
            continue;
        granules -= slab->extent.granules < granules ? slab->extent.granules : granules;
        open_delete(shard, hak_class_at(i), slab, false);
    }
}

void open_relist(struct hak_shard *shard, hak_class cls, struct slab *slab)
{
    bool exhausted = slab->blank_blocks == 0 && slab->cut == slab->capacity;

    if (slab_has_linked(slab) || (!exhausted && !(slab->next && slab_has_linked(slab->next))))
        return;
    open_remove(shard, cls, slab);
    if (!exhausted)
        open_last(shard, cls, slab);
    shard->lists->grows[hak_class_index(cls)] |= exhausted;
}

/* Something from the shard's own slabs: a closed chain whole, or what loose blocks a few slabs have,
 * or fresh blocks. */
struct hak_chain open_take(struct hak_shard *shard, hak_class cls, size_t max)
{
    struct hak_chain taken = {NULL, 0};
    struct slab *slab;

    while ((slab = shard->lists->open[hak_class_index(cls)]) != NULL && taken.count < max) {
        struct hak_chain chain;
        struct hak_block *last = NULL;
        bool is_last = true; /* of what this refill takes */

        if (taken.count > 0 && slab->loose_count == 0)
            break;
        if (!slab_has_linked(slab) && slab->blank_blocks > 0)
            slab_recut(slab, cls);
        if (slab->closed.top && taken.count == 0) {
            chain = slab_take_closed(slab, max);
        } else if (slab->loose_count > 0) {
            chain = slab_take_loose(slab, max - taken.count, &last);
            is_last = slab_has_linked(slab);
        } else {
            chain = slab_cut(slab, max, &last);
        }
        if (last)
            last->next = taken.head;
        if (unlikely(slab->used == 0))
            open_forget_empty(shard, cls, slab);
        slab->used += (uint32_t)chain.count;
        open_touch(shard, slab);
        open_relist(shard, cls, slab);
        taken = (struct hak_chain){chain.head, taken.count + chain.count};
        if (is_last)
            break;
    }
    return taken;
}
