/* SPDX-License-Identifier: MIT */
#include "core/backend.h"

#include "core/clock.h"
#include "core/lock.h"
#include "core/slab.h"
#include "core/upkeep.h"
#include "gen/space.c"

static struct hak_lock commons_lock = {.rank = HAK_RANK_SLABS}; /* of all slabs */
static struct slab *commons_open[HAK_CLASSES];

/* ── what core's slabs and large blocks want to know ─────────────────────────────────────────── */

static inline hak_class tag_class(uint32_t tag)
{
    return (uint32_t)(tag - CODE_CLASS);
}

static inline char *slab_base(const struct slab *slab)
{
    return space_base(slab);
}

static inline struct slab *slab_granule(const struct slab *slab, size_t index)
{
    return space_step(slab, (ptrdiff_t)index);
}

static inline hak_class slab_class_at(const void *pointer)
{
    return tag_class(space_tag_of(pointer));
}

static inline struct slab *slab_granule_at(const void *pointer)
{
    return space_slab(space_granule(pointer));
}

static inline struct slab *slab_of(const void *pointer)
{
    const struct slab *granule = slab_granule_at(pointer);

    return space_step(granule, -(ptrdiff_t)granule->distance);
}

static void slab_describe(const struct slab *slab, struct hak_extent *extent)
{
    extent->capacity = slab->capacity;
    extent->cut = slab->cut;
    extent->free = slab->cut - slab->used;
}

#include "core/large.c"

/* ── slabs ───────────────────────────────────────────────────────────────────────────────────── */

static void commons_list(struct slab *slab, hak_class cls)
{
    struct slab **first = &commons_open[hak_class_index(cls)];

    slab->next = *first;
    *first = slab;
    slab->listed = true;
}

static void commons_unlist(struct slab *slab, hak_class cls)
{
    struct slab **link = &commons_open[hak_class_index(cls)];

    while (*link != slab)
        link = &(*link)->next;
    *link = slab->next;
    slab->listed = false;
}

static void commons_tag(const struct slab *slab, uint32_t tag)
{
    for (uint32_t i = 0; i < slab->extent.granules; i++)
        space_set_tag(space_number(slab) + i, tag);
}

/* A new slab. NULL: out of memory. */
static struct slab *commons_new(hak_class cls)
{
    size_t size = hak_class_size(cls);
    size_t granules = hak_slab_granules(size);
    size_t align = large_granules(size & -size);
    bool zeroed;
    uint32_t first = hak_extents_alloc(granules, align, 0, &zeroed);

    if (first == HAK_NO_EXTENT)
        return NULL;
    struct slab *slab = space_slab(first);
    hak_slab_begin(slab, cls, granules);
    slab->free = NULL;
    commons_tag(slab, (uint32_t)cls + CODE_CLASS);
    commons_list(slab, cls);
    return slab;
}

/* A block of the class; NULL: out of memory. pre: the lock is held */
static struct hak_block *commons_take(hak_class cls)
{
    struct slab *slab = commons_open[hak_class_index(cls)];

    if (slab == NULL && (slab = commons_new(cls)) == NULL)
        return NULL;
    struct hak_block *block = slab->free;
    if (block == NULL) {
        hak_slab_cut(slab, 1);
        block = hak_slab_block(slab, slab->cut - 1);
    } else if (block->next == NULL || slab_on_grid(slab, block->next)) {
        slab->free = block->next;
    } else {
        hak_unlock(&commons_lock);
        hak_fatal_pointer("malloc()", block, HAK_BAD_LINK);
    }
    if (++slab->used == slab->capacity)
        commons_unlist(slab, cls);
    return block;
}

/* pre: the lock is held; the block is one of the slab's */
static void commons_put(struct slab *slab, hak_class cls, struct hak_block *block)
{
    block->next = slab->free;
    slab->free = block;
    if (!slab->listed)
        commons_list(slab, cls);
    if (--slab->used == 0) {
        commons_unlist(slab, cls);
        commons_tag(slab, TAG_NONE);
        hak_extents_free(space_number(slab), false);
    }
}

/* ── the contract ────────────────────────────────────────────────────────────────────────────── */

bool backend_init(struct hak_shard *shard)
{
    space_view_update(&shard->view);
    return true;
}

void backend_lock(void)
{
    hak_lock(&commons_lock);
    hak_extents_lock();
}

void backend_unlock(void)
{
    hak_extents_unlock();
    hak_unlock(&commons_lock);
}

struct hak_chain backend_refill_chain(struct hak_shard *shard, hak_class cls, size_t max)
{
    struct hak_chain chain = {NULL, 0};
    struct hak_block *block;

    hak_lock(&commons_lock);
    while (chain.count < max && (block = commons_take(cls)) != NULL) {
        block->next = chain.head;
        chain = (struct hak_chain){block, chain.count + 1};
    }
    hak_unlock(&commons_lock);
    space_view_update(&shard->view);
    return chain;
}

void backend_return_chain(struct hak_shard *shard, hak_class cls, struct hak_chain chain)
{
    struct hak_block *block = chain.head, *next;

    (void)shard;
    /* Checked before the lock is taken: a thread that stops the process holds none. */
    for (size_t i = 0; i < chain.count; i++, block = block->next)
        hak_slab_checked(block, cls);
    hak_lock(&commons_lock);
    for (block = chain.head; chain.count > 0; chain.count--, block = next) {
        next = block->next;
        commons_put(slab_of(block), cls, block);
    }
    hak_unlock(&commons_lock);
}

void backend_free(struct hak_shard *shard, void *pointer, const char *call)
{
    if (pointer == NULL)
        return;
    if (large_checked_block(pointer, call))
        backend_return_chain(shard, slab_class_at(pointer), (struct hak_chain){pointer, 1});
    else
        large_free(pointer, call);
}

struct hak_large backend_large_alloc(struct hak_shard *shard, size_t size, size_t align)
{
    (void)shard;
    return large_alloc(size, align);
}

bool backend_upkeep(struct hak_shard *shard)
{
    (void)shard;
    return hak_extents_are_dirty() && hak_extents_purge_due(hak_clock_ms());
}

void backend_tick(struct hak_shard *shard)
{
    if (hak_tick_begins(&shard->ticked_at, shard->behind, hak_clock_ms()))
        shard->behind = backend_upkeep(shard);
}

bool backend_trim(struct hak_shard *shard)
{
    (void)shard;
    return hak_extents_purge_all();
}

/* ── statistics, walks, invariants ───────────────────────────────────────────────────────────── */

void backend_free_blocks(const struct hak_extent *extent, uint64_t *set)
{
    const struct slab *slab = slab_of(extent->base);

    hak_slab_add_chain(slab, (struct hak_chain){slab->free, slab->cut - slab->used}, set);
}

hak_class backend_is_block(const void *address)
{
    hak_class cls = slab_class_at(address);

    return cls < HAK_CLASS_END && slab_on_grid(slab_of(address), address) ? cls : HAK_CLASS_NONE;
}

size_t backend_metadata(void)
{
    return space_metadata();
}

static bool commons_slab_valid(const struct slab *slab, hak_class cls)
{
    uint32_t free = 0;

    for (const struct hak_block *block = slab->free; block && slab_on_grid(slab, block); free++)
        block = free < slab->cut - slab->used ? block->next : NULL;
    return hak_slab_valid(slab, cls) && slab->listed && slab->used > 0 &&
           free == slab->cut - slab->used && slab->used < slab->capacity;
}

bool backend_valid(const struct hak_shard *shard)
{
    bool valid = true;

    (void)shard;
    hak_lock(&commons_lock);
    for (unsigned i = 0; i < HAK_CLASSES; i++)
        for (const struct slab *slab = commons_open[i]; slab; slab = slab->next)
            valid = valid && commons_slab_valid(slab, hak_class_at(i));
    hak_unlock(&commons_lock);
    return valid;
}
