/* SPDX-License-Identifier: MIT */
#include "backends/superslab/remote.h"
#include "backends/superslab/shard.h"
#include "core/kept.h"

/* Blocks on the remote word. An ALL_FREE slab has no chain there. */
static uint32_t walk_remote_blocks(const struct slab *slab, uint64_t word)
{
    return word & REMOTE_ALL_FREE ? slab->capacity : (uint32_t)remote_unpack(slab, word).count;
}

static size_t walk_purged_bytes(const struct slab *slab, uint64_t word)
{
    if (word & REMOTE_ALL_FREE)
        return (size_t)slab->extent.granules << GRANULE_SHIFT;
    return hak_slab_purged_bytes(slab);
}

void slab_describe(const struct slab *slab, struct hak_extent *extent)
{
    uint64_t word = atomic_load_acquire(&slab->remote);
    uint32_t back = slab->cut - slab->used + walk_remote_blocks(slab, word);

    extent->capacity = slab->capacity;
    extent->cut = slab->cut < slab->capacity ? slab->cut : slab->capacity;
    extent->free = back < extent->cut ? back : extent->cut;
    extent->purged = walk_purged_bytes(slab, word);
}

void backend_free_blocks(const struct hak_extent *extent, uint64_t *set)
{
    const struct slab *slab = space_slab(space_granule(extent->base));
    uint64_t word = atomic_load_acquire(&slab->remote);
    hak_packed_chain packed = slab->closed.top;

    for (uint32_t i = 0; word & REMOTE_ALL_FREE && i < extent->cut; i++)
        hak_set_add(set, i);
    hak_slab_add_chain(slab, remote_unpack(slab, word), set);
    hak_slab_add_chain(slab, (struct hak_chain){slab->loose, slab->loose_count}, set);
    for (size_t chains = 0; packed && chains < slab->capacity; chains++) {
        struct hak_chain chain = hak_chain_unpack(packed);
        if (!slab_on_grid(slab, chain.head))
            break;
        hak_slab_add_chain(slab, chain, set);
        packed = ((struct hak_chain_head *)chain.head)->below;
    }
    hak_slab_add_blank(slab, set);
}

hak_class backend_is_block(const void *address)
{
    if (!space_owns(address))
        return HAK_CLASS_NONE;
    hak_class cls = tag_class(space_tag_at(space_granule(address)));
    return cls < HAK_CLASS_END && slab_on_grid(slab_of(address), address) ? cls : HAK_CLASS_NONE;
}

void backend_walk_kept(const struct hak_shard *shard, bool (*visit)(void *block, void *context),
                       void *context)
{
    hak_kept_walk(&shard->lists->kept, KEPT_BYTES_MAX, visit, context);
    for (int i = 0; i < OUTGOING_SLOTS; i++)
        if (shard->lists->outgoing[i].slab)
            hak_chain_walk(shard->lists->outgoing[i].chain, visit, context);
}

/* The invariants of slab.h that hold while other threads push to the remote word. */
static bool walk_slab_valid(const struct hak_shard *shard, const struct slab *slab, hak_class cls)
{
    size_t loose = 0;
    size_t closed = 0;

    for (const struct hak_block *b = slab->loose; loose < slab->loose_count; b = b->next, loose++)
        if (!slab_on_grid(slab, b) || (loose + 1 == slab->loose_count && b != slab->loose_tail))
            return false;
    for (hak_packed_chain packed = slab->closed.top; packed;) {
        struct hak_chain chain = hak_chain_unpack(packed);
        packed = ((struct hak_chain_head *)chain.head)->below;
        closed += chain.count;
        for (const struct hak_block *b = chain.head; chain.count > 0; b = b->next, chain.count--)
            if (!slab_on_grid(slab, b))
                return false;
    }
    return slab->used + loose + closed + slab->blank_blocks == slab->cut && slab->listed &&
           hak_slab_valid(slab, cls) && shard_has(shard, slab_tag(slab));
}

bool backend_valid(const struct hak_shard *shard)
{
    for (unsigned i = 0; i < HAK_CLASSES; i++) {
        const struct slab *first = shard->lists->open[i];
        const struct slab *previous = first ? first->previous : NULL;
        for (const struct slab *slab = first; slab; slab = slab->next) {
            if (slab->previous != previous || !walk_slab_valid(shard, slab, hak_class_at(i)))
                return false;
            if (slab != first && slab_has_linked(slab) && !slab_has_linked(previous))
                return false;
            previous = slab;
        }
        if (first && first->previous != previous)
            return false;
        const struct slab *empty = shard->lists->empty[i];
        if (empty && (empty->used != 0 || !walk_slab_valid(shard, empty, hak_class_at(i))))
            return false;
    }
    for (int i = 0; i < OUTGOING_SLOTS; i++) {
        const struct superslab_outgoing *batch = &shard->lists->outgoing[i];
        if (batch->slab && batch->chain.count > 1 &&
            batch->chain.count * batch->slab->block_size > OUTGOING_BYTES)
            return false;
    }
    return hak_kept_valid(&shard->lists->kept, KEPT_BYTES_MAX);
}
