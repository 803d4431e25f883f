/* SPDX-License-Identifier: MIT */
#include "backends/mmap_only/shared.h"
#include "core/kept.h"
#include "core/upkeep.h"

/* Classes that one tick looks at. */
enum { CLASSES_MOST = 8 };

/* Takes a slab off its list, and its free blocks, which are the caller's. Empty: too few for a free page, and nothing has
 * changed.
 * pre: the class's lock is held */
static struct hak_chain upkeep_detach(struct shared_class *shared, struct slab *slab)
{
    struct hak_chain free = {slab->free, slab_free_blocks(slab)};

    if (free.count * slab->block_size < os_page_size())
        return (struct hak_chain){NULL, 0};
    shared_unlist(shared, slab);
    slab->being_purged = true;
    slab->free = NULL;
    slab->used += (uint32_t)free.count;
    return free;
}

/* The next slab of a round that settles. NULL: none among those that the tick may still look at.
 * pre: the class's lock is held */
static struct slab *upkeep_next(struct shared_class *shared, uint32_t now, struct hak_effort *left)
{
    struct slab *slab;

    while ((slab = shared->round_slab) != NULL && left->looks > 0) {
        left->looks--;
        atomic_store_relaxed(&shared->round_slab, slab->next);
        if (hak_slab_settles(slab, now, HAK_ROUND_MS))
            return slab;
    }
    return NULL;
}

/* The chains that hak_slab_relink makes, as one. */
struct relinked {
    struct hak_chain chain;
    struct hak_block *last;
};

static void upkeep_add_relinked(void *context, struct hak_chain chain, struct hak_block *last)
{
    struct relinked *all = context;

    last->next = all->chain.head;
    all->last = all->last ? all->last : last;
    all->chain = (struct hak_chain){chain.head, all->chain.count + chain.count};
}

/* Returns `count` detached blocks: those that begin in purged pages become blank, the others free, in order of address. */
static void upkeep_attach(struct shared_class *shared, struct slab *slab, uint32_t count,
                          const struct hak_block_set *blocks, const struct hak_page_set *going)
{
    struct relinked rest = {{NULL, 0}, NULL};
    struct slab *empty = NULL;

    hak_slab_relink(slab, blocks, going, SIZE_MAX, upkeep_add_relinked, &rest);
    hak_lock(&shared->lock);
    hak_slab_set_blank(slab, going);
    slab->used -= count;
    slab->being_purged = false;
    if (rest.last) {
        rest.last->next = slab->free;
        slab->free = rest.chain.head;
    }
    shared_relist(shared, slab, false, &empty);
    hak_unlock(&shared->lock);
    shared_delete(empty);
}

/* Purges the free pages of a detached slab and attaches it. Returns the number of system calls.
 * pre: the class's lock is held; it is released meanwhile */
static unsigned upkeep_purge(struct shared_class *shared, struct slab *slab, struct hak_chain free)
{
    struct hak_slab_shape shape = hak_slab_shape(slab);
    struct hak_block_set blocks;

    hak_unlock(&shared->lock);
    hak_block_set_clear(&shape, &blocks);
    const struct hak_block *broken = hak_slab_add_chain(slab, free, blocks.words);
    if (unlikely(broken != NULL))
        hak_fatal_pointer("malloc()", broken, HAK_BAD_LINK);
    hak_slab_add_blank(slab, blocks.words);
    struct hak_page_set going = hak_free_pages(&shape, &blocks);
    unsigned calls = hak_purge_pages(&shape, &going);
    upkeep_attach(shared, slab, (uint32_t)free.count, &blocks, &going);
    hak_lock(&shared->lock);
    return calls;
}

/* Begins a round of a class if one is due, and continues it. Returns whether it is over. */
static bool upkeep_go_on(struct shared_class *shared, uint32_t now, struct hak_effort *left)
{
    struct slab *slab;

    /* A purge would split huge pages. */
    if (enabled(CONFIG_HUGE_PAGES_ALWAYS))
        return true;
    if (!hak_clock_due(atomic_load_relaxed(&shared->round_at), now, HAK_ROUND_MS) &&
        atomic_load_relaxed(&shared->round_slab) == NULL)
        return true;
    hak_lock(&shared->lock);
    if (shared->round_slab == NULL && hak_clock_due(shared->round_at, now, HAK_ROUND_MS)) {
        atomic_store_relaxed(&shared->round_at, now);
        atomic_store_relaxed(&shared->round_slab, shared->filled);
    }
    while (left->walks > 0 && (slab = upkeep_next(shared, now, left)) != NULL) {
        struct hak_chain free = upkeep_detach(shared, slab);
        if (free.count > 0) {
            left->walks--;
            upkeep_purge(shared, slab, free);
        }
    }
    bool over = shared->round_slab == NULL;
    hak_unlock(&shared->lock);
    return over;
}

/* The class that the next tick looks at; relaxed atomic. */
static unsigned upkeep_class;

/* Continues the rounds of a few classes. Returns whether there is more to do. */
static bool upkeep_classes(uint32_t now, unsigned classes_most)
{
    unsigned index = atomic_load_relaxed(&upkeep_class);
    struct hak_effort left = HAK_EFFORT_OF_TICK;
    bool over = true;

    for (unsigned i = 0; i < classes_most && over; i++) {
        over = upkeep_go_on(&shared_classes[index], now, &left);
        index = over ? (index + 1) % HAK_CLASSES : index;
    }
    atomic_store_relaxed(&upkeep_class, index);
    return !over;
}

/* Purges all free pages of a class's slabs at once. Threads that trim at the same time share one walk: each begins it anew,
 * and all continue until it has reached the end. Returns whether any pages went back. */
static bool upkeep_trim_class(struct shared_class *shared)
{
    struct slab *slab;
    unsigned calls = 0;

    if (enabled(CONFIG_HUGE_PAGES_ALWAYS))
        return false;
    hak_lock(&shared->lock);
    shared->trim_slab = shared->filled;
    while ((slab = shared->trim_slab) != NULL) {
        shared->trim_slab = slab->next;
        if (!hak_slab_settles(slab, 0, 0))
            continue;
        struct hak_chain free = upkeep_detach(shared, slab);
        if (free.count > 0)
            calls += upkeep_purge(shared, slab, free);
    }
    hak_unlock(&shared->lock);
    return calls > 0;
}

static void upkeep_kept(struct hak_shard *shard, uint32_t now)
{
    if (hak_clock_due(shard->kept_since, now, HAK_ROUND_MS)) {
        shard->kept_since = now;
        hak_kept_sort_all(&shard->kept, shard);
    }
}

bool backend_upkeep(struct hak_shard *shard)
{
    uint32_t now = hak_clock_ms();
    bool more = hak_extents_are_dirty() && hak_extents_purge_due(now);

    atomic_store_relaxed(&shared_clock, now);
    upkeep_kept(shard, now);
    return upkeep_classes(now, HAK_CLASSES) || more;
}

void backend_tick(struct hak_shard *shard)
{
    uint32_t now = hak_clock_ms();

    if (!hak_tick_begins(&shard->ticked_at, shard->behind, now))
        return;
    atomic_store_relaxed(&shared_clock, now);
    shard->behind = hak_extents_are_dirty() && hak_extents_purge_due(now);
    upkeep_kept(shard, now);
    if (upkeep_classes(now, CLASSES_MOST))
        shard->behind = true;
}

/* Sorts a shard's kept chains. Returns false, as that alone gives no memory back. */
static bool upkeep_sort_kept(struct hak_shard *shard)
{
    hak_kept_sort_all(&shard->kept, shard);
    return false;
}

bool backend_trim(struct hak_shard *shard)
{
    bool purged = upkeep_sort_kept(shard);

    hak_trim_parked(upkeep_sort_kept); /* a fork parks heaps with kept chains */
    for (unsigned i = 0; i < HAK_CLASSES; i++)
        purged |= upkeep_trim_class(&shared_classes[i]);
    return hak_extents_purge_all() || purged;
}
