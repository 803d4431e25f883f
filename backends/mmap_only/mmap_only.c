/* SPDX-License-Identifier: MIT */
#include "core/backend.h"
#include "core/block_grid.h"
#include "core/crowd.h"

#include "backends/mmap_only/mapping.h"
#include "core/clock.h"
#include "core/lock.h"
#include "core/page_set.h"
#include "core/os.h"

/* Fresh blocks are cut a page's worth at a time: a program that wants one block touches one page. */
#define CUT_BYTES ((size_t)4096)

/* Blocks that come back are sorted to so many slabs before the class's lock is taken for them. */
enum { GROUPS_MOST = 32 };

/* A large block is moved by the kernel rather than copied from here on; below, copying is cheaper. */
static const size_t MOVE_GRANULES_LEAST = ((size_t)256 << 10) >> GRANULE_SHIFT;

_Static_assert(enabled(CONFIG_REMOTE_FREE_KEEP),
               "no slab has an owner to whom a block could return");

_Static_assert(GRANULE_SIZE == HAK_SLAB_GRANULE, "as page_set.h has it");

/* The slabs of a class that have something to give. */
struct shared_class {
    _Alignas(HAK_CACHE_LINE) struct hak_lock lock;
    struct range *filled; /* with free blocks */
    struct range *blank;  /* with nothing but pages to cut */

    /* A round of upkeep visits every slab that is filled. */
    uint32_t round_at;        /* when the last one began; relaxed reads without the lock */
    struct range *round_slab; /* the next one; relaxed reads without the lock */
    struct range *trim_slab;  /* likewise of a trim, which leaves no slab for later */
};

static struct shared_class classes[HAK_CLASSES] = {
    [0 ... HAK_CLASSES - 1] = {.lock = {.rank = HAK_RANK_SLABS}},
};

static struct shared_class *lock_class(hak_class cls)
{
    struct shared_class *shared = &classes[hak_class_index(cls)];

    hak_lock(&shared->lock);
    return shared;
}

/* ── slabs ───────────────────────────────────────────────────────────────────────────────────── */

static const char FREED_TWICE[] = "freed twice";
static const char NOT_A_BLOCK[] = "not the start of a block";
static const char BAD_LINK[] = "a free block was written to";

static unsigned tag_of(const void *pointer)
{
    if ((uintptr_t)pointer >> ADDRESS_BITS != 0)
        return TAG_NONE;
    return page_map_tag(granule_of(pointer));
}

static hak_class class_of(unsigned tag)
{
    return (uint32_t)(tag - CODE_CLASS);
}

static struct hak_block *block_at(const struct hak_slab_shape *shape, uint32_t index)
{
    return (struct hak_block *)(void *)(shape->base + (size_t)index * shape->block_size);
}

static char *slab_base(const struct range *slab)
{
    return granule_address(slab->first);
}

/* The slab of a small block. pre: its granule's tag is a class */
static struct range *slab_of(const void *block)
{
    size_t granule = granule_of(block);

    return page_map_range(granule - page_map_range(granule)->distance);
}

static bool on_grid(const struct range *slab, const void *block)
{
    size_t offset = (size_t)((const char *)block - slab_base(slab));

    /* 32 bits, as a slab is no longer: that division is much the cheaper one. */
    return offset < (size_t)slab->capacity * slab->block_size &&
           (uint32_t)offset % slab->block_size == 0;
}

/* The slab of a block that came through a cache or a list: it must be a block of this class. */
static struct range *checked_slab(const void *block, hak_class cls)
{
    if (unlikely(class_of(tag_of(block)) != cls))
        hak_fatal_pointer("free()", block, BAD_LINK);
    struct range *slab = slab_of(block);
    if (unlikely(!on_grid(slab, block)))
        hak_fatal_pointer("free()", block, NOT_A_BLOCK);
    return slab;
}

static struct hak_grid grid_of(const struct range *slab)
{
    return hak_grid_of(slab_base(slab), slab->block_size, slab->capacity);
}

/* Blocks on its list of free ones. */
static size_t free_in(const struct range *slab)
{
    return slab->cut - slab->used - slab->blank_blocks;
}

static bool has_something(const struct range *slab)
{
    return slab->free || slab->blank_blocks > 0 || slab->cut < slab->capacity;
}

/* On the list where it belongs, if on any. */
static void list(struct shared_class *shared, struct range *slab)
{
    struct range **first = slab->free ? &shared->filled : &shared->blank;

    if (!has_something(slab))
        return;
    slab->next = *first;
    slab->previous = NULL;
    if (*first)
        (*first)->previous = slab;
    *first = slab;
    slab->listed = true;
}

static void unlist(struct shared_class *shared, struct range *slab)
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

/* hak_clock_ms of the last tick, as near as slabs need it; relaxed atomic. */
static uint32_t clock_ticked;

/* Free blocks of the slab come or go. */
static void touch(struct range *slab)
{
    slab->touched_at = atomic_load_relaxed(&clock_ticked) | 1;
}

/* A slab that is not listed yet. */
static struct range *slab_new(hak_class cls)
{
    size_t block_size = hak_class_size(cls);
    size_t granules = hak_slab_granules(block_size);
    size_t align = block_size & -block_size;
    bool zeroed;
    struct range *slab = mapping_alloc(granules, align > GRANULE_SIZE ? align >> GRANULE_SHIFT : 1,
                                       CONFIG_SLAB_BATCH, &zeroed);

    if (slab == NULL)
        return NULL;
    slab->free = NULL;
    slab->used = slab->cut = 0;
    slab->capacity = (uint16_t)((granules << GRANULE_SHIFT) / block_size);
    slab->block_size = (uint32_t)block_size;
    slab->blank_blocks = 0;
    slab->listed = slab->purged = false;
    touch(slab);
    for (uint32_t i = 0; i < granules; i++) {
        page_map_range(slab->first + i)->distance = (uint16_t)i;
        page_map_range(slab->first + i)->blank = 0;
        page_map_set_tag(slab->first + i, (unsigned)(cls + CODE_CLASS));
    }
    return slab;
}

/* Gives empty slabs, linked by `next` and listed nowhere, back. */
static void delete_slabs(struct range *slab)
{
    while (slab) {
        struct range *next = slab->next;
        for (size_t i = 1; i + 1 < slab->granules; i++)
            page_map_set_tag(slab->first + i, TAG_NONE);
        page_map_set_tag(slab->first + slab->granules - 1, TAG_TAKEN);
        page_map_set_tag(slab->first, TAG_TAKEN);
        mapping_free(slab);
        slab = next;
    }
}

/* ── refill ──────────────────────────────────────────────────────────────────────────────────── */

/* What one look at the shared slabs gives. */
struct taken {
    struct hak_chain chain; /* free blocks */
    char *fresh;            /* else: blocks never used or blank, not linked yet */
    size_t fresh_count;
    const struct hak_block *broken; /* a free block whose link leads off the grid */
};

/* Up to `max` free blocks of a slab on top of the chain, whose end is `last`. */
static void take_free(struct range *slab, size_t max, struct taken *taken)
{
    struct hak_block *head = slab->free;
    struct hak_block *last = head;
    size_t free = free_in(slab);
    size_t wanted = max - taken->chain.count;
    size_t count = 1;

    wanted = wanted < free ? wanted : free;
    for (; count < wanted; count++) {
        if (unlikely(!on_grid(slab, last->next)))
            break;
        last = last->next;
    }
    struct hak_block *rest = last->next;
    if (unlikely(count < free && !on_grid(slab, rest))) {
        taken->broken = last;
        return;
    }
    slab->free = count < free ? rest : NULL;
    slab->used += (uint32_t)count;
    last->next = taken->chain.head;
    taken->chain = (struct hak_chain){head, taken->chain.count + count};
}

static struct hak_slab_shape shape_of(const struct range *slab)
{
    return (struct hak_slab_shape){slab_base(slab), slab->block_size, slab->capacity, slab->cut};
}

/* All blocks that begin in one blank page: it may be more than a refill wants. */
static void take_blank(struct range *slab, struct taken *taken)
{
    struct hak_slab_shape shape = shape_of(slab);
    struct range *granule = slab;
    size_t page = 0;

    while (granule->blank == 0) {
        page += hak_pages_of_granule();
        granule = page_map_range(slab->first + page / hak_pages_of_granule());
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
static void take_fresh(struct range *slab, size_t max, struct taken *taken)
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
static struct taken take(struct shared_class *shared, size_t max)
{
    struct taken taken = {{NULL, 0}, NULL, 0, NULL};
    struct range *slab;

    while ((slab = shared->filled) != NULL && taken.chain.count < max && taken.broken == NULL) {
        take_free(slab, max, &taken);
        touch(slab);
        if (slab->free)
            break;
        unlist(shared, slab);
        list(shared, slab);
    }
    slab = shared->blank;
    if (taken.chain.count > 0 || taken.broken || slab == NULL)
        return taken;
    if (slab->blank_blocks > 0)
        take_blank(slab, &taken);
    else
        take_fresh(slab, max, &taken);
    touch(slab);
    if (!has_something(slab))
        unlist(shared, slab);
    return taken;
}

/* Links fresh blocks. It touches them first, so it is done without a lock. */
static struct hak_chain link_fresh(char *base, size_t size, size_t count)
{
    char *end = base + (count - 1) * size;

    for (char *block = base; block < end; block += size)
        ((struct hak_block *)(void *)block)->next = (struct hak_block *)(void *)(block + size);
    ((struct hak_block *)(void *)end)->next = NULL;
    return (struct hak_chain){(struct hak_block *)(void *)base, count};
}

static struct hak_chain chain_of(struct taken taken, hak_class cls)
{
    if (unlikely(taken.broken != NULL))
        hak_fatal_pointer("malloc()", taken.broken, BAD_LINK);
    if (taken.fresh_count > 0)
        return link_fresh(taken.fresh, hak_class_size(cls), taken.fresh_count);
    return taken.chain;
}

static struct hak_chain take_shared(hak_class cls, size_t max)
{
    struct shared_class *shared = lock_class(cls);
    struct taken taken = take(shared, max);

    hak_unlock(&shared->lock);
    return chain_of(taken, cls);
}

/* From a slab that is made for it. */
static struct hak_chain take_new(hak_class cls, size_t max)
{
    struct range *slab = slab_new(cls);

    if (slab == NULL)
        return (struct hak_chain){NULL, 0};
    struct taken taken = {{NULL, 0}, NULL, 0, NULL};
    struct shared_class *shared = lock_class(cls);
    take_fresh(slab, max,
               &taken); /* of this one, whatever has come meanwhile: it must not be empty */
    list(shared, slab);
    hak_unlock(&shared->lock);
    return chain_of(taken, cls);
}

/* ── return ──────────────────────────────────────────────────────────────────────────────────── */

/* Blocks of one slab. */
struct group {
    struct range *slab;
    struct hak_block *head, *last;
    uint32_t count;
};

/* A slab has got free blocks; `had` says whether it had some. An empty one goes from its list to *empty. One that
 * is being purged is on none, and not empty. */
static void relist(struct shared_class *shared, struct range *slab, bool had, struct range **empty)
{
    if (slab->listed && (!had || slab->used == 0))
        unlist(shared, slab);
    if (slab->used == 0) {
        slab->next = *empty;
        *empty = slab;
    } else if (!slab->listed && !slab->purged) {
        list(shared, slab);
    }
}

/* Gives a group back to its slab; an empty slab goes from the list to *empty. */
static bool give(struct shared_class *shared, const struct group *group, struct range **empty)
{
    struct range *slab = group->slab;

    if (unlikely(slab->used < group->count))
        return false;
    struct hak_block *free = slab->free;
    group->last->next = free;
    slab->free = group->head;
    slab->used -= group->count;
    touch(slab);
    relist(shared, slab, free != NULL, empty);
    return true;
}

static void give_all(hak_class cls, const struct group *groups, size_t count)
{
    struct range *empty = NULL;
    size_t given = 0;
    struct shared_class *shared = lock_class(cls);

    while (given < count && give(shared, &groups[given], &empty))
        given++;
    hak_unlock(&shared->lock);
    if (unlikely(given < count))
        hak_fatal_pointer("free()", groups[given].head, FREED_TWICE);
    delete_slabs(empty);
}

/* Puts blocks into groups, neighbours of one slab together, and gives those back. */
struct sorter {
    hak_class cls;
    size_t count;
    struct group groups[GROUPS_MOST];
};

static void sorter_add(struct sorter *sorter, struct hak_block *block)
{
    struct group *group = sorter->count > 0 ? &sorter->groups[sorter->count - 1] : NULL;

    if (group && on_grid(group->slab, block)) {
        group->last->next = block;
        group->last = block;
        group->count++;
        return;
    }
    struct range *slab = checked_slab(block, sorter->cls);
    if (sorter->count == GROUPS_MOST) {
        give_all(sorter->cls, sorter->groups, sorter->count);
        sorter->count = 0;
    }
    sorter->groups[sorter->count++] = (struct group){slab, block, block, 1};
}

static void sorter_end(struct sorter *sorter)
{
    if (sorter->count > 0)
        give_all(sorter->cls, sorter->groups, sorter->count);
}

static void sort(hak_class cls, struct hak_chain chain)
{
    struct sorter sorter;
    struct hak_block *block = chain.head;

    sorter.cls = cls;
    sorter.count = 0;
    for (size_t left = chain.count; left > 0; left--) {
        struct hak_block *next = left > 1 ? block->next : NULL;
        sorter_add(&sorter, block);
        block = next;
    }
    sorter_end(&sorter);
}

/* ── kept chains ─────────────────────────────────────────────────────────────────────────────── */

static struct hak_chain kept_pop(struct hak_shard *shard, hak_class cls, size_t max)
{
    struct hak_chain_stack *kept = &shard->kept[hak_class_index(cls)];
    struct hak_chain chain = hak_chain_pop(kept);

    if (chain.count == 0)
        return chain;
    if (kept->top)
        checked_slab(hak_chain_unpack(kept->top).head, cls);
    if (chain.count > max) {
        struct hak_block *last = chain.head;
        for (size_t i = 1; i < max; i++) {
            last = last->next;
            checked_slab(last, cls);
        }
        hak_chain_push(kept, (struct hak_chain){last->next, chain.count - max});
        last->next = NULL;
        chain.count = max;
    }
    shard->kept_bytes -= chain.count * hak_class_size(cls);
    return chain;
}

/* Makes room: a kept chain of another class goes to its slabs. The classes take turns, one at a call. */
static bool kept_evict(struct hak_shard *shard, hak_class wanting)
{
    hak_class cls = hak_class_at(shard->victim);

    shard->victim = (shard->victim + 1) % HAK_CLASSES;
    if (cls == wanting || shard->kept[hak_class_index(cls)].top == 0)
        return false;
    sort(cls, kept_pop(shard, cls, HAK_PACKED_MAX));
    return true;
}

static bool kept_push(struct hak_shard *shard, hak_class cls, struct hak_chain chain)
{
    size_t bytes = chain.count * hak_class_size(cls);

    if (!hak_stackable(cls) || bytes > HAK_KEPT_BYTES || chain.count > HAK_PACKED_MAX)
        return false;
    while (shard->kept_bytes + bytes > HAK_KEPT_BYTES)
        if (!kept_evict(shard, cls))
            return false;
    hak_chain_push(&shard->kept[hak_class_index(cls)], chain);
    shard->kept_bytes += bytes;
    return true;
}

static void kept_sort_all(struct hak_shard *shard)
{
    for (unsigned i = 0; i < HAK_CLASSES; i++)
        while (shard->kept[i].top)
            sort(hak_class_at(i), kept_pop(shard, hak_class_at(i), HAK_PACKED_MAX));
}

/* A blank page may have had more blocks than are wanted. */
static struct hak_chain shortened(struct hak_shard *shard, hak_class cls, struct hak_chain chain,
                                  size_t max)
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
static size_t crowd_most(struct hak_shard *shard, hak_class cls, size_t max)
{
    uint8_t *refills = &shard->refills[hak_class_index(cls)];
    size_t batch = shard->crowded ? hak_crowd_batch(*refills, hak_class_size(cls)) : 0;

    if (batch == 0)
        return max;
    ++*refills;
    return batch < max ? batch : max;
}

/* ── the contract: small blocks ──────────────────────────────────────────────────────────────── */

struct hak_chain backend_refill_chain(struct hak_shard *shard, hak_class cls, size_t max)
{
    struct hak_chain chain = kept_pop(shard, cls, max);

    if (chain.count > 0)
        return chain;
    max = crowd_most(shard, cls, max);
    chain = take_shared(cls, max);
    if (chain.count == 0)
        chain = take_new(cls, max);
    if (chain.count == 0 && shard->kept_bytes > 0) {
        /* Out of memory, but for what is kept for other classes. */
        kept_sort_all(shard);
        chain = take_new(cls, max);
    }
    if (chain.count == 0) /* another thread may have freed some meanwhile */
        chain = take_shared(cls, max);
    return chain.count > max ? shortened(shard, cls, chain, max) : chain;
}

size_t backend_refill_array(struct hak_shard *shard, hak_class cls, void **out, size_t max)
{
    struct hak_chain chain = backend_refill_chain(shard, cls, max);
    struct hak_block *block = chain.head;

    for (size_t i = 0; i < chain.count;) {
        struct hak_grid grid = grid_of(checked_slab(block, cls));
        do {
            out[i] = block;
            block = block->next;
        } while (++i < chain.count && hak_grid_has(&grid, block));
    }
    return chain.count;
}

void backend_return_chain(struct hak_shard *shard, hak_class cls, struct hak_chain chain)
{
    if (!kept_push(shard, cls, chain))
        sort(cls, chain);
}

/* Links blocks without looking at them: each link is checked when it is followed, as in any chain. */
void backend_return_array(struct hak_shard *shard, hak_class cls, void *const *in, size_t count)
{
    backend_return_chain(shard, cls, hak_chain_of(in, count));
}

/* ── large blocks, foreign pointers ──────────────────────────────────────────────────────────── */

/* Says why a pointer is no block. */
_Noreturn static hak_cold void reject(const void *pointer, const char *call)
{
    size_t granule = (uintptr_t)pointer >> ADDRESS_BITS ? 0 : granule_of(pointer);
    const struct range *range = page_map_range_around(granule);

    if (range == NULL)
        hak_fatal_pointer(call, pointer, "not from this allocator");
    if (page_map_tag(range->first) == TAG_LARGE)
        hak_fatal_pointer(call, pointer, "inside a large block, not its start");
    hak_fatal_pointer(call, pointer, "not a live block (freed twice?)");
}

/* The slab of a live small block, or the range of a large one; anything else stops the process. */
static struct range *checked_block(const void *pointer, const char *call, bool *large)
{
    unsigned tag = tag_of(pointer);

    *large = tag == TAG_LARGE;
    if (*large && (uintptr_t)pointer % GRANULE_SIZE == 0)
        return page_map_range(granule_of(pointer));
    if (class_of(tag) >= HAK_CLASS_END)
        reject(pointer, call);
    struct range *slab = slab_of(pointer);
    if (!on_grid(slab, pointer))
        hak_fatal_pointer(call, pointer, NOT_A_BLOCK);
    return slab;
}

static void large_free(struct range *range, const void *pointer, const char *call)
{
    uint16_t *tag = page_map_tag_at(page_map.root, (uintptr_t)pointer);

    uint16_t expected = TAG_LARGE;

    /* Of two threads that free it, one finds the tag changed. */
    if (!atomic_cas_strong_acq_rel(tag, &expected, (uint16_t)TAG_TAKEN))
        reject(pointer, call);
    mapping_free(range);
}

void backend_free(struct hak_shard *shard, void *pointer, const char *call)
{
    bool large;

    (void)shard;
    if (pointer == NULL)
        return;
    struct range *range = checked_block(pointer, call, &large);
    if (large)
        large_free(range, pointer, call);
    else
        sort(class_of(tag_of(pointer)), (struct hak_chain){pointer, 1});
}

static size_t granules_for(size_t size)
{
    return (size + GRANULE_SIZE - 1) >> GRANULE_SHIFT;
}

/* Slabs are shared: one that others have emptied is free already. */
struct hak_large backend_large_alloc(struct hak_shard *shard, size_t size, size_t align)
{
    struct hak_large large = {NULL, false};
    struct range *range = mapping_alloc(
        granules_for(size), align > GRANULE_SIZE ? align >> GRANULE_SHIFT : 1, 0, &large.zeroed);

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
    const struct range *range = checked_block(pointer, call, &large);

    return large ? (size_t)range->granules << GRANULE_SHIFT : range->block_size;
}

bool backend_owns(const void *pointer)
{
    if ((uintptr_t)pointer >> ADDRESS_BITS != 0)
        return false;
    /* The start of a block has a tag; only for what is no such thing the slow search is made. */
    return tag_of(pointer) != TAG_NONE || page_map_range_around(granule_of(pointer)) != NULL;
}

bool backend_resize(void *pointer, size_t size)
{
    struct range *range = page_map_range(granule_of(pointer));
    size_t granules = granules_for(size);

    if (granules < range->granules)
        mapping_trim(range, granules);
    return granules <= range->granules || mapping_extend(range, granules);
}

void *backend_move(void *pointer, size_t size)
{
    struct range *range = page_map_range(granule_of(pointer));

    if (range->granules < MOVE_GRANULES_LEAST)
        return NULL;
    struct range *to = mapping_move(range, granules_for(size));
    if (to == NULL) {
        page_map_set_tag(range->first, TAG_LARGE);
        return NULL;
    }
    page_map_set_tag(to->first, TAG_LARGE);
    return granule_address(to->first);
}

/* ── life of a shard ─────────────────────────────────────────────────────────────────────────── */

bool backend_thread_init(struct hak_shard *shard)
{
    shard->root = page_map.root;
    shard->bound = ROOT_ENTRIES;
    shard->crowded = hak_is_crowded();
    return true;
}

void backend_thread_exit(struct hak_shard *shard)
{
    kept_sort_all(shard);
}

void backend_fork_prepare(void)
{
    for (unsigned i = 0; i < HAK_CLASSES; i++)
        if (i == 0)
            hak_lock(&classes[i].lock);
        else
            hak_lock_nested(&classes[i].lock);
    mapping_lock();
}

void backend_fork_parent(void)
{
    mapping_unlock();
    for (unsigned i = HAK_CLASSES; i-- > 0;)
        hak_unlock(&classes[i].lock);
}

void backend_fork_child(void)
{
    backend_fork_parent();
}

/* ── upkeep ──────────────────────────────────────────────────────────────────────────────────── */

/* Slabs that have not been touched for so long, in milliseconds, are purged by the next round, and rounds begin as
 * often. What is kept goes to its slabs as often, too. */
enum { ROUND_MS = CONFIG_PURGE_DELAY_MS / 2 };

/* What one tick does of a round, so that no malloc waits long: classes and slabs looked at, slabs whose free
 * blocks are walked. */
enum { CLASSES_MOST = 8, LOOKS_MOST = 256, WALKS_MOST = 16 };

static bool is_past(uint32_t since, uint32_t now)
{
    return (uint64_t)(now - since) + 1 > ROUND_MS;
}

/* Takes a slab that has not been settled since it was last touched off its list; its free blocks are the caller's.
 * An empty chain: too few of them for a page to be free, and the slab stays where it is.
 * pre: the class's lock is held */
static struct hak_chain detach(struct shared_class *shared, struct range *slab)
{
    struct hak_chain free = {slab->free, free_in(slab)};

    slab->touched_at = 0;
    if (free.count * slab->block_size < os_page_size())
        return (struct hak_chain){NULL, 0};
    unlist(shared, slab);
    slab->purged = true;
    slab->free = NULL;
    slab->used += (uint32_t)free.count;
    return free;
}

/* The next slab of a round that has been left alone for long enough. NULL: there is none among those that were looked
 * at.
 * pre: the class's lock is held */
static struct range *next_of_round(struct shared_class *shared, uint32_t now, unsigned *looks)
{
    struct range *slab;

    while ((slab = shared->round_slab) != NULL && *looks > 0) {
        --*looks;
        atomic_store_relaxed(&shared->round_slab, slab->next);
        /* The stamp may be a tick ahead. */
        if (slab->touched_at != 0 && is_past(slab->touched_at - 1, now))
            return slab;
    }
    return NULL;
}

/* Marks the blocks of a chain. Its links lead through memory of the program's, so they are checked. */
static void add_chain(const struct range *slab, const struct hak_slab_shape *shape,
                      struct hak_chain chain, struct hak_block_set *set)
{
    for (const struct hak_block *block = chain.head; chain.count > 0; chain.count--) {
        hak_block_set_add(shape, set, block);
        if (chain.count > 1 && unlikely(!on_grid(slab, block->next)))
            hak_fatal_pointer("malloc()", block, BAD_LINK);
        block = block->next;
    }
}

static bool is_blank(const struct range *slab, size_t page)
{
    const struct range *granule = page_map_range(slab->first + page / hak_pages_of_granule());

    return granule->blank >> page % hak_pages_of_granule() & 1;
}

static void add_blank(const struct range *slab, const struct hak_slab_shape *shape, uint64_t *set)
{
    for (size_t page = 0; slab->blank_blocks > 0 && page < hak_pages_cut(shape); page++)
        for (uint32_t i = hak_first_in_page(shape, page);
             is_blank(slab, page) && i < hak_first_in_page(shape, page + 1); i++)
            hak_set_add(set, i);
}

static void set_blank(struct range *slab, size_t page)
{
    page_map_range(slab->first + page / hak_pages_of_granule())->blank |=
        (uint16_t)(1u << page % hak_pages_of_granule());
}

/* Links the blocks of a set that begin in pages of another set's complement, in order of address, and gives them
 * back; those that begin in the others are blank from now on. */
static void attach(struct shared_class *shared, struct range *slab, uint32_t count,
                   const struct hak_block_set *blocks, const struct hak_page_set *going)
{
    struct hak_slab_shape shape = shape_of(slab);
    struct hak_chain chain = {NULL, 0};
    struct hak_block *last = NULL;
    struct range *empty = NULL;

    for (size_t page = hak_pages_cut(&shape); page-- > 0;) {
        if (is_blank(slab, page) || hak_set_has(going->words, page))
            continue;
        uint32_t first = hak_first_in_page(&shape, page);
        for (uint32_t i = hak_first_in_page(&shape, page + 1); i-- > first;) {
            if (!hak_set_has(blocks->words, i))
                continue;
            struct hak_block *block = block_at(&shape, i);
            block->next = chain.head;
            last = last ? last : block;
            chain = (struct hak_chain){block, chain.count + 1};
        }
    }
    hak_lock(&shared->lock);
    for (size_t page = 0; page < hak_pages_cut(&shape); page++)
        if (hak_set_has(going->words, page) && !is_blank(slab, page) &&
            hak_first_in_page(&shape, page) < hak_first_in_page(&shape, page + 1))
            set_blank(slab, page);
    slab->blank_blocks += (uint16_t)(count - chain.count);
    slab->used -= count;
    slab->purged = false;
    if (chain.count > 0) {
        last->next = slab->free;
        slab->free = chain.head;
    }
    relist(shared, slab, false, &empty);
    hak_unlock(&shared->lock);
    delete_slabs(empty);
}

/* Purges the free pages of a slab that has been taken off its list, and links it again. Returns how many calls of the
 * operating system that took.
 * pre: the lock is held, but not while this goes on */
static unsigned purge(struct shared_class *shared, struct range *slab, struct hak_chain free)
{
    struct hak_slab_shape shape = shape_of(slab);
    struct hak_block_set blocks;

    hak_unlock(&shared->lock);
    hak_block_set_clear(&shape, &blocks);
    add_chain(slab, &shape, free, &blocks);
    add_blank(slab, &shape, blocks.words);
    struct hak_page_set going = hak_free_pages(&shape, &blocks);
    unsigned calls = hak_purge_pages(&shape, &going);
    attach(shared, slab, (uint32_t)free.count, &blocks, &going);
    hak_lock(&shared->lock);
    return calls;
}

/* Begins a round of a class if one is due, and goes on with it. Returns whether it is over. */
static bool round_go_on(struct shared_class *shared, uint32_t now, unsigned *looks, unsigned *walks)
{
    struct range *slab;

    /* Single pages of huge ones stay. */
    if (enabled(CONFIG_HUGE_PAGES_ALWAYS))
        return true;
    if (!is_past(atomic_load_relaxed(&shared->round_at), now) &&
        atomic_load_relaxed(&shared->round_slab) == NULL)
        return true;
    hak_lock(&shared->lock);
    if (shared->round_slab == NULL && is_past(shared->round_at, now)) {
        atomic_store_relaxed(&shared->round_at, now);
        atomic_store_relaxed(&shared->round_slab, shared->filled);
    }
    while (*walks > 0 && (slab = next_of_round(shared, now, looks)) != NULL) {
        struct hak_chain free = detach(shared, slab);
        if (free.count > 0) {
            --*walks;
            purge(shared, slab, free);
        }
    }
    bool over = shared->round_slab == NULL;
    hak_unlock(&shared->lock);
    return over;
}

/* The class that the next tick looks at; relaxed atomic. */
static unsigned round_class;

/* Rounds of a few classes. Returns whether there is more to do. */
static bool tend_classes(uint32_t now, unsigned classes_most)
{
    unsigned index = atomic_load_relaxed(&round_class);
    unsigned looks = LOOKS_MOST;
    unsigned walks = WALKS_MOST;
    bool over = true;

    for (unsigned i = 0; i < classes_most && over; i++) {
        over = round_go_on(&classes[index], now, &looks, &walks);
        index = over ? (index + 1) % HAK_CLASSES : index;
    }
    atomic_store_relaxed(&round_class, index);
    return !over;
}

/* Purges all free pages of a class's slabs, however lately they were touched. Two threads that trim at the same time
 * share one walk: the second begins it anew, and both go on until it has come to the end.
 * Returns whether any went back. */
static bool trim_class(struct shared_class *shared)
{
    struct range *slab;
    unsigned calls = 0;

    if (enabled(CONFIG_HUGE_PAGES_ALWAYS))
        return false;
    hak_lock(&shared->lock);
    shared->trim_slab = shared->filled;
    while ((slab = shared->trim_slab) != NULL) {
        shared->trim_slab = slab->next;
        if (slab->touched_at == 0)
            continue;
        struct hak_chain free = detach(shared, slab);
        if (free.count > 0)
            calls += purge(shared, slab, free);
    }
    hak_unlock(&shared->lock);
    return calls > 0;
}

static void tend_kept(struct hak_shard *shard, uint32_t now)
{
    if (is_past(shard->kept_since, now)) {
        shard->kept_since = now;
        kept_sort_all(shard);
    }
}

bool backend_upkeep(struct hak_shard *shard)
{
    uint32_t now = hak_clock_ms();
    bool more = mapping_dirty() && mapping_release_due(now);

    atomic_store_relaxed(&clock_ticked, now);
    tend_kept(shard, now);
    return tend_classes(now, HAK_CLASSES) || more;
}

void backend_tick(struct hak_shard *shard)
{
    uint32_t now = hak_clock_ms();

    if (now == shard->ticked_at && !shard->behind)
        return;
    shard->ticked_at = now;
    atomic_store_relaxed(&clock_ticked, now);
    shard->behind = mapping_dirty() && mapping_release_due(now);
    tend_kept(shard, now);
    if (tend_classes(now, CLASSES_MOST))
        shard->behind = true;
    hak_assert_expensive(backend_valid(shard));
}

size_t backend_kept(const struct hak_shard *shard)
{
    return shard->kept_bytes;
}

size_t backend_footprint(void)
{
    return mapping_bytes();
}

bool backend_trim(struct hak_shard *shard)
{
    bool purged = false;

    kept_sort_all(shard);
    /* A fork may have left some with the heaps of threads that are no more. */
    for (unsigned tried = 0;; tried++) {
        struct hak_shard *claimed = hak_heap_claim(tried);
        if (claimed == NULL)
            break;
        kept_sort_all(claimed);
        hak_heap_release(claimed);
    }
    for (unsigned i = 0; i < HAK_CLASSES; i++)
        purged |= trim_class(&classes[i]);
    return mapping_release_all() || purged;
}

/* ── walks: all locks are held, so that only what a shard keeps can change ───────────────────── */

struct walk {
    void (*visit)(const struct hak_extent *extent, void *context);
    void *context;
};

static void visit_range(const struct range *range, size_t first, unsigned tag,
                        const struct walk *walk)
{
    struct hak_extent extent = {.base = granule_address(first),
                                .size = (size_t)range->granules << GRANULE_SHIFT};

    if (class_of(tag) < HAK_CLASS_END) {
        struct hak_slab_shape shape = shape_of(range);
        extent.kind = HAK_EXTENT_SLAB;
        extent.cls = class_of(tag);
        extent.capacity = range->capacity;
        extent.cut = range->cut;
        extent.free = range->cut - range->used;
        for (size_t page = 0; range->blank_blocks > 0 && page < hak_pages_cut(&shape); page++)
            extent.purged += is_blank(range, page) * os_page_size();
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
        const struct range *range = page_map_range(granule);
        bool begins = tag == TAG_LARGE || tag == TAG_FREE ||
                      (class_of(tag) < HAK_CLASS_END && range->distance == 0);
        if (begins)
            visit_range(range, granule, tag, walk);
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
    const struct range *slab = page_map_range(granule_of(extent->base));
    struct hak_slab_shape shape = shape_of(slab);
    const struct hak_block *block = slab->free;
    size_t left = slab->free ? free_in(slab) : 0;

    for (; left > 0 && on_grid(slab, block); left--, block = block->next)
        hak_set_add(set, (uint32_t)((const char *)block - shape.base) / shape.block_size);
    add_blank(slab, &shape, set);
}

hak_class backend_is_block(const void *address)
{
    hak_class cls = class_of(tag_of(address));

    return cls < HAK_CLASS_END && on_grid(slab_of(address), address) ? cls : HAK_CLASS_NONE;
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

/* Asked of any address, by a thread that nothing else has told of a new leaf. */
bool backend_has(const void *address)
{
    uintptr_t high = (uintptr_t)address >> 32;

    return high < ROOT_ENTRIES && atomic_load_acquire(&page_map.root[high]) != 0 &&
           tag_of(address) != TAG_NONE;
}

size_t backend_metadata(void)
{
    return page_map_bytes();
}

static bool slab_valid(const struct range *slab, hak_class cls)
{
    struct hak_slab_shape shape = shape_of(slab);
    size_t count = 0;
    size_t free = free_in(slab);
    size_t blank = 0;

    for (size_t page = 0; page < hak_pages_cut(&shape); page++)
        if (is_blank(slab, page))
            blank += hak_first_in_page(&shape, page + 1) - hak_first_in_page(&shape, page);
    for (const struct hak_block *block = slab->free; count < free; block = block->next, count++)
        if (block == NULL || !on_grid(slab, block))
            return false;
    return slab->used > 0 && slab->used <= slab->cut && slab->cut <= slab->capacity &&
           (free > 0) == (slab->free != NULL) && blank == slab->blank_blocks &&
           has_something(slab) && slab->listed && !slab->purged &&
           slab->block_size == hak_class_size(cls) && class_of(page_map_tag(slab->first)) == cls;
}

static bool list_valid(const struct range *first, hak_class cls, bool filled)
{
    const struct range *previous = NULL;
    bool valid = true;

    for (const struct range *slab = first; slab && valid; slab = slab->next) {
        valid =
            slab->previous == previous && slab_valid(slab, cls) && (slab->free != NULL) == filled;
        previous = slab;
    }
    return valid;
}

static bool class_valid(hak_class cls)
{
    struct shared_class *shared = lock_class(cls);
    bool valid = list_valid(shared->filled, cls, true) && list_valid(shared->blank, cls, false);

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
        if (!class_valid(hak_class_at(i)))
            return false;
    }
    return kept == shard->kept_bytes && kept <= HAK_KEPT_BYTES;
}
