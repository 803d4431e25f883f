/* SPDX-License-Identifier: MIT */
#include "backends/mmap_only/small.h"

#include "backends/mmap_only/shared.h"
#include "core/crowd.h"
#include "core/kept.h"

/* Slabs to which blocks are returned under one acquisition of the class's lock. */
enum { GROUPS_MOST = 32 };

/* Blocks taken from the shared slabs under one acquisition of the lock. */
struct taken {
    struct hak_chain chain;  /* free blocks */
    struct hak_block *fresh; /* else: fresh or blank blocks, not linked yet */
    size_t fresh_count;
    const struct hak_block *broken; /* a free block whose link leaves the grid */
};

/* Prepends free blocks of a slab to what was taken, up to `max` in all. */
static void small_take_free(struct slab *slab, size_t max, struct taken *taken)
{
    struct hak_block *head = slab->free;
    struct hak_block *last = head;
    size_t free = slab_free_blocks(slab);
    size_t wanted = max - taken->chain.count;
    size_t count = 1;

    wanted = wanted < free ? wanted : free;
    for (; count < wanted; count++) {
        if (unlikely(!slab_on_grid(slab, last->next)))
            break;
        last = last->next;
    }
    struct hak_block *rest = last->next;
    if (unlikely(count < free && !slab_on_grid(slab, rest))) {
        taken->broken = last;
        return;
    }
    slab->free = count < free ? rest : NULL;
    slab->used += (uint32_t)count;
    last->next = taken->chain.head;
    taken->chain = (struct hak_chain){head, taken->chain.count + count};
}

/* Takes all blocks that begin in one blank page, which may be more than a refill wants. */
static void small_take_blank(struct slab *slab, struct taken *taken)
{
    uint32_t first;
    uint32_t count = hak_slab_take_blank(slab, &first);

    taken->fresh = hak_slab_block(slab, first);
    taken->fresh_count = count;
    slab->used += count;
}

/* Takes up to a page's worth of fresh blocks. */
static void small_take_fresh(struct slab *slab, size_t max, struct taken *taken)
{
    uint32_t count = hak_slab_cut(slab, max);

    taken->fresh = hak_slab_block(slab, slab->cut - count);
    taken->fresh_count = count;
    slab->used += count;
}

/* Takes free blocks of as many slabs as needed; if there are none, blank or fresh ones of one slab. */
static struct taken small_take(struct shared_class *shared, size_t max)
{
    struct taken taken = {{NULL, 0}, NULL, 0, NULL};
    struct slab *slab;

    while ((slab = shared->filled) != NULL && taken.chain.count < max && taken.broken == NULL) {
        small_take_free(slab, max, &taken);
        shared_touch(slab);
        if (slab->free)
            break;
        shared_unlist(shared, slab);
        shared_list(shared, slab);
    }
    slab = shared->blank;
    if (taken.chain.count > 0 || taken.broken || slab == NULL)
        return taken;
    if (slab->blank_blocks > 0)
        small_take_blank(slab, &taken);
    else
        small_take_fresh(slab, max, &taken);
    shared_touch(slab);
    if (!shared_has_something(slab))
        shared_unlist(shared, slab);
    return taken;
}

/* The taken blocks as a chain. Fresh blocks are linked here, outside of the lock, because that touches their pages first. */
static struct hak_chain small_chain_of(struct taken taken, hak_class cls)
{
    if (unlikely(taken.broken != NULL))
        hak_fatal_pointer("malloc()", taken.broken, HAK_BAD_LINK);
    struct hak_block *last;
    if (taken.fresh_count > 0)
        return hak_slab_link(taken.fresh, hak_class_size(cls), taken.fresh_count, &last);
    return taken.chain;
}

static struct hak_chain small_take_shared(hak_class cls, size_t max)
{
    struct shared_class *shared = shared_lock(cls);
    struct taken taken = small_take(shared, max);

    hak_unlock(&shared->lock);
    return small_chain_of(taken, cls);
}

/* Takes blocks of a new slab. */
static struct hak_chain small_take_new(hak_class cls, size_t max)
{
    struct slab *slab = shared_new(cls);

    if (slab == NULL)
        return (struct hak_chain){NULL, 0};
    struct taken taken = {{NULL, 0}, NULL, 0, NULL};
    struct shared_class *shared = shared_lock(cls);
    small_take_fresh(
        slab, max,
        &taken); /* even if others have returned some meanwhile: a listed slab is never empty */
    shared_list(shared, slab);
    hak_unlock(&shared->lock);
    return small_chain_of(taken, cls);
}

/* Returns blocks to their slab; an empty slab goes to *empty. false: more blocks than were used */
static bool small_give(struct shared_class *shared, const struct hak_slab_blocks *group,
                       struct slab **empty)
{
    struct slab *slab = group->slab;

    if (unlikely(slab->used < group->chain.count))
        return false;
    struct hak_block *free = slab->free;
    group->last->next = free;
    slab->free = group->chain.head;
    slab->used -= (uint32_t)group->chain.count;
    shared_touch(slab);
    shared_relist(shared, slab, free != NULL, empty);
    return true;
}

static void small_give_all(hak_class cls, const struct hak_slab_blocks *groups, size_t count)
{
    struct slab *empty = NULL;
    size_t given = 0;
    struct shared_class *shared = shared_lock(cls);

    while (given < count && small_give(shared, &groups[given], &empty))
        given++;
    hak_unlock(&shared->lock);
    if (unlikely(given < count))
        hak_fatal_pointer("free()", groups[given].chain.head, HAK_FREED_TWICE);
    shared_delete(empty);
}

void small_sort(hak_class cls, struct hak_chain chain)
{
    struct hak_slab_blocks groups[GROUPS_MOST];

    while (chain.count > 0) {
        size_t count = 0;
        while (chain.count > 0 && count < GROUPS_MOST)
            groups[count++] = hak_slab_split(cls, &chain);
        small_give_all(cls, groups, count);
    }
}

void kept_sort(struct hak_shard *shard, hak_class cls, struct hak_chain chain)
{
    (void)shard;
    small_sort(cls, chain);
}

/* Returns the blocks beyond `max` that a blank page had. */
static struct hak_chain small_shortened(struct hak_shard *shard, hak_class cls,
                                        struct hak_chain chain, size_t max)
{
    struct hak_block *last = chain.head;

    for (size_t i = 1; i < max; i++)
        last = last->next;
    backend_return_chain(shard, cls, (struct hak_chain){last->next, chain.count - max});
    last->next = NULL;
    return (struct hak_chain){chain.head, max};
}

struct hak_chain backend_refill_chain(struct hak_shard *shard, hak_class cls, size_t max)
{
    struct hak_chain chain = hak_kept_pop(&shard->kept, cls, max);

    if (chain.count > 0)
        return chain;
    size_t few = shard->crowded ? hak_crowd_refill(&shard->refills[hak_class_index(cls)],
                                                   hak_class_size(cls), max)
                                : 0;
    max = few > 0 ? few : max;
    chain = small_take_shared(cls, max);
    if (chain.count == 0)
        chain = small_take_new(cls, max);
    if (chain.count == 0 && shard->kept.bytes > 0) {
        /* Out of memory: kept chains of other classes may free an extent. */
        hak_kept_sort_all(&shard->kept, shard);
        chain = small_take_new(cls, max);
    }
    if (chain.count == 0) /* other threads may have returned some meanwhile */
        chain = small_take_shared(cls, max);
    return chain.count > max ? small_shortened(shard, cls, chain, max) : chain;
}

struct hak_grid backend_grid(const void *block, hak_class cls)
{
    return hak_slab_grid(hak_slab_checked(block, cls));
}

void backend_return_chain(struct hak_shard *shard, hak_class cls, struct hak_chain chain)
{
    if (!hak_kept_push(&shard->kept, shard, cls, chain, HAK_KEPT_BYTES))
        small_sort(cls, chain);
}
