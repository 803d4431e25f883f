/* SPDX-License-Identifier: MIT */
#include "backends/mmap_only/small.h"

#include "backends/mmap_only/shared.h"
#include "core/crowd.h"

/* Fresh blocks are cut a page's worth at a time: a program that wants one block touches one page. */
#define CUT_BYTES ((size_t)4096)

/* Blocks that come back are sorted to so many slabs before the class's lock is taken for them. */
enum { GROUPS_MOST = 32 };

/* What one look at the shared slabs gives. */
struct taken {
    struct hak_chain chain; /* free blocks */
    char *fresh;            /* else: blocks never used or blank, not linked yet */
    size_t fresh_count;
    const struct hak_block *broken; /* a free block whose link leads off the grid */
};

/* Up to `max` free blocks of a slab on top of the chain, whose end is `last`. */
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

/* All blocks that begin in one blank page: it may be more than a refill wants. */
static void small_take_blank(struct slab *slab, struct taken *taken)
{
    struct hak_slab_shape shape = slab_shape(slab);
    struct slab *granule = slab;
    size_t page = 0;

    while (granule->blank == 0) {
        page += hak_pages_of_granule();
        granule = page_map_slab(slab->first + page / hak_pages_of_granule());
    }
    page += (size_t)__builtin_ctz(granule->blank);
    granule->blank &= (uint16_t)(granule->blank - 1);
    uint32_t first = hak_first_in_page(&shape, page);
    taken->fresh = shape.base + (size_t)first * shape.block_size;
    taken->fresh_count = hak_first_in_page(&shape, page + 1) - first;
    slab->blank_blocks -= (uint16_t)taken->fresh_count;
    slab->used += (uint32_t)taken->fresh_count;
}

/* Up to a page's worth of blocks that were never used. */
static void small_take_fresh(struct slab *slab, size_t max, struct taken *taken)
{
    size_t size = slab->block_size;
    size_t count = size < CUT_BYTES ? CUT_BYTES / size : 1;
    size_t left = slab->capacity - slab->cut;

    count = count < max ? count : max;
    count = count < left ? count : left;
    taken->fresh = slab_base(slab) + slab->cut * size;
    taken->fresh_count = count;
    slab->cut += (uint32_t)count;
    slab->used += (uint32_t)count;
}

/* Free blocks of as many slabs as it takes; where there are none, blank or fresh ones. */
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

/* Links fresh blocks. It touches them first, so it is done without a lock. */
static struct hak_chain small_link_fresh(char *base, size_t size, size_t count)
{
    char *end = base + (count - 1) * size;

    for (char *block = base; block < end; block += size)
        ((struct hak_block *)(void *)block)->next = (struct hak_block *)(void *)(block + size);
    ((struct hak_block *)(void *)end)->next = NULL;
    return (struct hak_chain){(struct hak_block *)(void *)base, count};
}

static struct hak_chain small_chain_of(struct taken taken, hak_class cls)
{
    if (unlikely(taken.broken != NULL))
        hak_fatal_pointer("malloc()", taken.broken, SLAB_BAD_LINK);
    if (taken.fresh_count > 0)
        return small_link_fresh(taken.fresh, hak_class_size(cls), taken.fresh_count);
    return taken.chain;
}

static struct hak_chain small_take_shared(hak_class cls, size_t max)
{
    struct shared_class *shared = shared_lock(cls);
    struct taken taken = small_take(shared, max);

    hak_unlock(&shared->lock);
    return small_chain_of(taken, cls);
}

/* From a slab that is made for it. */
static struct hak_chain small_take_new(hak_class cls, size_t max)
{
    struct slab *slab = shared_new(cls);

    if (slab == NULL)
        return (struct hak_chain){NULL, 0};
    struct taken taken = {{NULL, 0}, NULL, 0, NULL};
    struct shared_class *shared = shared_lock(cls);
    small_take_fresh(slab, max,
                     &taken); /* of this one, whatever has come meanwhile: it must not be empty */
    shared_list(shared, slab);
    hak_unlock(&shared->lock);
    return small_chain_of(taken, cls);
}

/* Blocks of one slab. */
struct group {
    struct slab *slab;
    struct hak_block *head, *last;
    uint32_t count;
};

/* Gives a group back to its slab; an empty slab goes from the list to *empty. */
static bool small_give(struct shared_class *shared, const struct group *group, struct slab **empty)
{
    struct slab *slab = group->slab;

    if (unlikely(slab->used < group->count))
        return false;
    struct hak_block *free = slab->free;
    group->last->next = free;
    slab->free = group->head;
    slab->used -= group->count;
    shared_touch(slab);
    shared_relist(shared, slab, free != NULL, empty);
    return true;
}

static void small_give_all(hak_class cls, const struct group *groups, size_t count)
{
    struct slab *empty = NULL;
    size_t given = 0;
    struct shared_class *shared = shared_lock(cls);

    while (given < count && small_give(shared, &groups[given], &empty))
        given++;
    hak_unlock(&shared->lock);
    if (unlikely(given < count))
        hak_fatal_pointer("free()", groups[given].head, SLAB_FREED_TWICE);
    shared_delete(empty);
}

/* Puts blocks into groups, neighbours of one slab together, and gives those back. */
struct sorter {
    hak_class cls;
    size_t count;
    struct group groups[GROUPS_MOST];
};

static void small_sorter_add(struct sorter *sorter, struct hak_block *block)
{
    struct group *group = sorter->count > 0 ? &sorter->groups[sorter->count - 1] : NULL;

    if (group && slab_on_grid(group->slab, block)) {
        group->last->next = block;
        group->last = block;
        group->count++;
        return;
    }
    struct slab *slab = slab_checked(block, sorter->cls);
    if (sorter->count == GROUPS_MOST) {
        small_give_all(sorter->cls, sorter->groups, sorter->count);
        sorter->count = 0;
    }
    sorter->groups[sorter->count++] = (struct group){slab, block, block, 1};
}

static void small_sorter_end(struct sorter *sorter)
{
    if (sorter->count > 0)
        small_give_all(sorter->cls, sorter->groups, sorter->count);
}

void small_sort(hak_class cls, struct hak_chain chain)
{
    struct sorter sorter;
    struct hak_block *block = chain.head;

    sorter.cls = cls;
    sorter.count = 0;
    for (size_t left = chain.count; left > 0; left--) {
        struct hak_block *next = left > 1 ? block->next : NULL;
        small_sorter_add(&sorter, block);
        block = next;
    }
    small_sorter_end(&sorter);
}

static struct hak_chain small_kept_pop(struct hak_shard *shard, hak_class cls, size_t max)
{
    struct hak_chain_stack *kept = &shard->kept[hak_class_index(cls)];
    struct hak_chain chain = hak_chain_pop(kept);

    if (chain.count == 0)
        return chain;
    if (kept->top)
        slab_checked(hak_chain_unpack(kept->top).head, cls);
    if (chain.count > max) {
        struct hak_block *last = chain.head;
        for (size_t i = 1; i < max; i++) {
            last = last->next;
            slab_checked(last, cls);
        }
        hak_chain_push(kept, (struct hak_chain){last->next, chain.count - max});
        last->next = NULL;
        chain.count = max;
    }
    shard->kept_bytes -= chain.count * hak_class_size(cls);
    return chain;
}

/* Makes room: a kept chain of another class goes to its slabs. The classes take turns, one at a call. */
static bool small_kept_evict(struct hak_shard *shard, hak_class wanting)
{
    hak_class cls = hak_class_at(shard->victim);

    shard->victim = (shard->victim + 1) % HAK_CLASSES;
    if (cls == wanting || shard->kept[hak_class_index(cls)].top == 0)
        return false;
    small_sort(cls, small_kept_pop(shard, cls, HAK_PACKED_MAX));
    return true;
}

static bool small_kept_push(struct hak_shard *shard, hak_class cls, struct hak_chain chain)
{
    size_t bytes = chain.count * hak_class_size(cls);

    if (!hak_stackable(cls) || bytes > HAK_KEPT_BYTES || chain.count > HAK_PACKED_MAX)
        return false;
    while (shard->kept_bytes + bytes > HAK_KEPT_BYTES)
        if (!small_kept_evict(shard, cls))
            return false;
    hak_chain_push(&shard->kept[hak_class_index(cls)], chain);
    shard->kept_bytes += bytes;
    return true;
}

void small_kept_sort_all(struct hak_shard *shard)
{
    for (unsigned i = 0; i < HAK_CLASSES; i++)
        while (shard->kept[i].top)
            small_sort(hak_class_at(i), small_kept_pop(shard, hak_class_at(i), HAK_PACKED_MAX));
}

/* A blank page may have had more blocks than are wanted. */
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

/* Of a crowded shard the first refills of a class are small, so that it has few blocks of a class that it barely
 * uses. */
static size_t small_crowd_most(struct hak_shard *shard, hak_class cls, size_t max)
{
    uint8_t *refills = &shard->refills[hak_class_index(cls)];
    size_t batch = shard->crowded ? hak_crowd_batch(*refills, hak_class_size(cls)) : 0;

    if (batch == 0)
        return max;
    ++*refills;
    return batch < max ? batch : max;
}

struct hak_chain backend_refill_chain(struct hak_shard *shard, hak_class cls, size_t max)
{
    struct hak_chain chain = small_kept_pop(shard, cls, max);

    if (chain.count > 0)
        return chain;
    max = small_crowd_most(shard, cls, max);
    chain = small_take_shared(cls, max);
    if (chain.count == 0)
        chain = small_take_new(cls, max);
    if (chain.count == 0 && shard->kept_bytes > 0) {
        /* Out of memory, but for what is kept for other classes. */
        small_kept_sort_all(shard);
        chain = small_take_new(cls, max);
    }
    if (chain.count == 0) /* another thread may have freed some meanwhile */
        chain = small_take_shared(cls, max);
    return chain.count > max ? small_shortened(shard, cls, chain, max) : chain;
}

size_t backend_refill_array(struct hak_shard *shard, hak_class cls, void **out, size_t max)
{
    struct hak_chain chain = backend_refill_chain(shard, cls, max);
    struct hak_block *block = chain.head;

    for (size_t i = 0; i < chain.count;) {
        struct hak_grid grid = slab_grid_of(slab_checked(block, cls));
        do {
            out[i] = block;
            block = block->next;
        } while (++i < chain.count && hak_grid_has(&grid, block));
    }
    return chain.count;
}

void backend_return_chain(struct hak_shard *shard, hak_class cls, struct hak_chain chain)
{
    if (!small_kept_push(shard, cls, chain))
        small_sort(cls, chain);
}

/* Links blocks without looking at them: each link is checked when it is followed, as in any chain. */
void backend_return_array(struct hak_shard *shard, hak_class cls, void *const *in, size_t count)
{
    backend_return_chain(shard, cls, hak_chain_of(in, count));
}
