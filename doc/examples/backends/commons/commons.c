/* SPDX-License-Identifier: MIT */
#include "core/backend.h"

#include "core/lock.h"
#include "core/os.h"

static struct hak_lock lock = {.rank = HAK_RANK_EXTENTS}; /* of all that follows */
static struct commons_leaf *map[COMMONS_ROOTS];           /* read without it */
static struct commons_extent *open[HAK_CLASSES];
static struct commons_extent *spare; /* descriptions that describe nothing */
static size_t metadata;              /* bytes of leaves and descriptions */
static const struct hak_shard everybody = {.map = map, .roots = COMMONS_ROOTS};

/* Memory for a leaf or a description, zeroed. NULL: there is none. */
static void *describe(size_t size)
{
    void *memory = os_map(size);

    metadata += memory ? size : 0;
    return memory;
}

/* Has the map lead from each granule of an extent to `to`. false: no memory for a leaf. */
static bool map_set(const struct commons_extent *extent, struct commons_extent *to)
{
    for (size_t offset = 0; offset < extent->is.size; offset += HAK_SLAB_GRANULE) {
        size_t granule = (uintptr_t)(extent->is.base + offset) / HAK_SLAB_GRANULE;
        struct commons_leaf **leaf = &map[granule / COMMONS_LEAF];
        if (*leaf == NULL && to)
            atomic_store_release(leaf, describe(sizeof(**leaf)));
        if (*leaf == NULL)
            return false;
        atomic_store_release(&(*leaf)->extent[granule % COMMONS_LEAF], to);
    }
    return true;
}

static void extent_delete(struct commons_extent *extent)
{
    if (extent->is.base) {
        map_set(extent, NULL);
        /* A kernel at its limit of mappings refuses: that costs addresses, but no memory. */
        if (!os_unmap(extent->is.base, extent->is.size))
            os_purge(extent->is.base, extent->is.size);
    }
    extent->next = spare;
    spare = extent;
}

/* NULL: out of memory. pre: the lock is held */
static struct commons_extent *extent_new(enum hak_extent_kind kind, hak_class cls, size_t size,
                                         size_t align)
{
    struct commons_extent *fresh = spare ? NULL : describe(os_page_size());

    for (size_t i = 0; fresh && i < os_page_size() / sizeof(*fresh); i++) {
        fresh[i].next = spare;
        spare = &fresh[i];
    }
    struct commons_extent *extent = spare;
    if (extent == NULL)
        return NULL;
    spare = extent->next;
    size = (size + HAK_SLAB_GRANULE - 1) & ~(HAK_SLAB_GRANULE - 1);
    *extent = (struct commons_extent){{.kind = kind, .size = size, .cls = cls}, .block_size = size};
    extent->is.base = os_map_aligned(size, align < HAK_SLAB_GRANULE ? HAK_SLAB_GRANULE : align);
    if (extent->is.base && map_set(extent, extent)) {
        os_advise_huge_pages(extent->is.base, size);
        return extent;
    }
    extent_delete(extent);
    return NULL;
}

/* ── slabs ───────────────────────────────────────────────────────────────────────────────────── */

static void slab_list(struct commons_extent *slab)
{
    struct commons_extent **first = &open[hak_class_index(slab->is.cls)];

    slab->next = *first;
    *first = slab;
    slab->listed = true;
}

static void slab_unlist(struct commons_extent *slab)
{
    struct commons_extent **link = &open[hak_class_index(slab->is.cls)];

    while (*link != slab)
        link = &(*link)->next;
    *link = slab->next;
    slab->listed = false;
}

static struct commons_extent *slab_new(hak_class cls)
{
    size_t size = hak_class_size(cls);
    struct commons_extent *slab =
        extent_new(HAK_EXTENT_SLAB, cls, hak_slab_granules(size) * HAK_SLAB_GRANULE, size & -size);

    if (slab) {
        slab->block_size = size;
        slab->is.capacity = (uint32_t)(slab->is.size / size);
        slab_list(slab);
    }
    return slab;
}

static bool on_grid(const struct commons_extent *slab, const void *block)
{
    size_t offset = (size_t)((const char *)block - slab->is.base);

    return offset < slab->is.capacity * slab->block_size && offset % slab->block_size == 0;
}

/* A block of the class; NULL: out of memory. pre: the lock is held */
static struct hak_block *slab_take(hak_class cls)
{
    struct commons_extent *slab = open[hak_class_index(cls)];

    if (slab == NULL && (slab = slab_new(cls)) == NULL)
        return NULL;
    struct hak_block *block = slab->list;
    if (block == NULL) {
        block = (struct hak_block *)(void *)(slab->is.base + slab->is.cut++ * slab->block_size);
    } else if (block->next == NULL || on_grid(slab, block->next)) {
        slab->list = block->next;
        slab->is.free--;
    } else {
        backend_unlock();
        hak_fatal_pointer("malloc()", block, "a free block was written to");
    }
    if (slab->is.free == 0 && slab->is.cut == slab->is.capacity)
        slab_unlist(slab);
    return block;
}

/* pre: the lock is held; the block is one of the slab's */
static void slab_put(struct commons_extent *slab, struct hak_block *block)
{
    block->next = slab->list;
    slab->list = block;
    slab->is.free++;
    if (!slab->listed)
        slab_list(slab);
    if (slab->is.free == slab->is.cut) {
        slab_unlist(slab);
        extent_delete(slab);
    }
}

/* The extent of which this is a block; of class cls, if that is one. Anything else ends the process. */
static struct commons_extent *checked(const void *pointer, hak_class cls, const char *call)
{
    struct commons_extent *extent = commons_find(&everybody, pointer);

    if (extent == NULL || (cls != HAK_CLASS_NONE && extent->is.cls != cls))
        hak_fatal_pointer(call, pointer, "not a block");
    if (extent->is.kind == HAK_EXTENT_LARGE ? pointer != extent->is.base
                                            : !on_grid(extent, pointer))
        hak_fatal_pointer(call, pointer, "not the start of a block");
    return extent;
}

/* ── the contract ────────────────────────────────────────────────────────────────────────────── */

bool backend_init(struct hak_shard *shard)
{
    *shard = everybody;
    return true;
}

void backend_lock(void)
{
    hak_lock(&lock);
}

void backend_unlock(void)
{
    hak_unlock(&lock);
}

struct hak_chain backend_refill_chain(struct hak_shard *shard, hak_class cls, size_t max)
{
    struct hak_chain chain = {NULL, 0};
    struct hak_block *block;

    (void)shard;
    backend_lock();
    while (chain.count < max && (block = slab_take(cls)) != NULL) {
        block->next = chain.head;
        chain = (struct hak_chain){block, chain.count + 1};
    }
    backend_unlock();
    return chain;
}

void backend_return_chain(struct hak_shard *shard, hak_class cls, struct hak_chain chain)
{
    struct hak_block *block = chain.head, *next;

    (void)shard;
    /* Checked before the lock is taken: a thread that stops the process holds none. */
    for (size_t i = 0; i < chain.count; i++, block = block->next)
        checked(block, cls, "free()");
    backend_lock();
    for (block = chain.head; chain.count > 0; chain.count--, block = next) {
        next = block->next;
        slab_put(commons_find(&everybody, block), block);
    }
    backend_unlock();
}

void backend_free(struct hak_shard *shard, void *pointer, const char *call)
{
    struct commons_extent *extent = pointer ? checked(pointer, HAK_CLASS_NONE, call) : NULL;

    (void)shard;
    backend_lock();
    if (extent && extent->is.kind == HAK_EXTENT_LARGE)
        extent_delete(extent);
    else if (extent)
        slab_put(extent, pointer);
    backend_unlock();
}

struct hak_large backend_large_alloc(struct hak_shard *shard, size_t size, size_t align)
{
    (void)shard;
    backend_lock();
    struct commons_extent *extent = extent_new(HAK_EXTENT_LARGE, HAK_CLASS_NONE, size, align);
    backend_unlock();
    return (struct hak_large){extent ? extent->is.base : NULL, true};
}

size_t backend_usable_size(const void *pointer, const char *call)
{
    return checked(pointer, HAK_CLASS_NONE, call)->block_size;
}

bool backend_has(const void *address)
{
    return commons_find(&everybody, address) != NULL;
}

/* ── statistics, walks, invariants ───────────────────────────────────────────────────────────── */

void backend_walk(void (*visit)(const struct hak_extent *extent, void *context), void *context)
{
    const struct commons_extent *last = NULL;

    for (size_t root = 0; root < COMMONS_ROOTS; root++)
        for (size_t i = 0; map[root] && i < COMMONS_LEAF; i++) {
            const struct commons_extent *extent = map[root]->extent[i];
            if (extent && extent != last)
                visit(&extent->is, context);
            last = extent ? extent : last;
        }
}

void backend_free_blocks(const struct hak_extent *slab, uint64_t *set)
{
    const struct commons_extent *extent = commons_find(&everybody, slab->base);

    for (const struct hak_block *block = extent->list; block && on_grid(extent, block);
         block = block->next)
        hak_set_add(set, (size_t)((const char *)block - slab->base) / extent->block_size);
}

hak_class backend_is_block(const void *address)
{
    const struct commons_extent *extent = commons_find(&everybody, address);

    return extent && on_grid(extent, address) ? extent->is.cls : HAK_CLASS_NONE;
}

size_t backend_metadata(void)
{
    return sizeof(map) + metadata;
}

static bool slab_valid(const struct commons_extent *slab, hak_class cls)
{
    uint32_t free = 0;

    for (const struct hak_block *block = slab->list; block && on_grid(slab, block); free++)
        block = free < slab->is.free ? block->next : NULL;
    return slab->is.cls == cls && slab->listed && free == slab->is.free && free < slab->is.cut &&
           slab->is.cut <= slab->is.capacity;
}

bool backend_valid(const struct hak_shard *shard)
{
    bool valid = shard->map == map;

    backend_lock();
    for (unsigned i = 0; i < HAK_CLASSES; i++)
        for (const struct commons_extent *slab = open[i]; slab; slab = slab->next)
            valid = valid && slab_valid(slab, hak_class_at(i));
    backend_unlock();
    return valid;
}
