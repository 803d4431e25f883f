/* SPDX-License-Identifier: MIT */
#include "core/backend.h"

#include "core/lock.h"
#include "core/os.h"
#include "core/page_set.h"

#define GRANULE ((size_t)1 << COMMONS_GRANULE_SHIFT)

/* A slab is as long as gives this many blocks and wastes no more than one part in WASTE_PART. */
enum { BLOCKS_LEAST = 8, WASTE_PART = 8 };

/* Descriptions of runs are mapped so many bytes at a time, and never unmapped. */
static const size_t ARENA_BYTES = (size_t)64 << 10;

static struct hak_lock lock = {.rank = HAK_RANK_EXTENTS}; /* of all that follows */
static struct commons_leaf *map[COMMONS_ROOTS];           /* read without it */
static struct commons_run *open[HAK_CLASSES];
static struct commons_run *spare; /* descriptions that describe nothing */
static size_t empty_bytes;

/* ── the map ─────────────────────────────────────────────────────────────────────────────────── */

/* The entry of an address; NULL: no memory for it. pre: the lock is held */
static struct commons_run **entry(const char *address)
{
    size_t granule = (uintptr_t)address >> COMMONS_GRANULE_SHIFT;
    struct commons_leaf **leaf = &map[granule >> COMMONS_LEAF_SHIFT];

    if (*leaf == NULL)
        atomic_store_release(leaf, os_map(sizeof(**leaf)));
    return *leaf ? &(*leaf)->run[granule % ((size_t)1 << COMMONS_LEAF_SHIFT)] : NULL;
}

/* The part of a run that the map describes. */
static size_t described(const struct commons_run *run)
{
    return run->cls == HAK_CLASS_NONE ? GRANULE : run->size;
}

static void forget(const struct commons_run *run, size_t bytes)
{
    for (size_t offset = 0; offset < bytes; offset += GRANULE)
        atomic_store_release(entry(run->base + offset), NULL);
}

static bool describe(struct commons_run *run)
{
    for (size_t offset = 0; offset < described(run); offset += GRANULE) {
        struct commons_run **place = entry(run->base + offset);
        if (place == NULL) {
            forget(run, offset);
            return false;
        }
        atomic_store_release(place, run);
    }
    return true;
}

/* ── runs ────────────────────────────────────────────────────────────────────────────────────── */

/* Gives a range back. What the kernel does not take (it can be at its limit of mappings) costs
 * addresses, and no memory. */
static void unmap(char *base, size_t size)
{
    if (size > 0 && !os_unmap(base, size))
        os_purge(base, size);
}

/* pre: align is a power of two, GRANULE at least; size is a multiple of GRANULE */
static char *map_aligned(size_t size, size_t align)
{
    char *base = os_map(size);

    /* Mappings mostly lie one below the other, so that one after an aligned one is aligned. */
    if (base == NULL || (uintptr_t)base % align == 0)
        return base;
    unmap(base, size);
    if ((base = os_map(size + align)) == NULL)
        return NULL;
    size_t before = -(uintptr_t)base & (align - 1);
    unmap(base, before);
    unmap(base + before + size, align - before);
    return base + before;
}

static struct commons_run *run_describe(void)
{
    if (spare == NULL) {
        struct commons_run *fresh = os_map(ARENA_BYTES);
        for (size_t i = 0; fresh && i < ARENA_BYTES / sizeof(*fresh); i++) {
            fresh[i].next = spare;
            spare = &fresh[i];
        }
    }
    struct commons_run *run = spare;
    if (run)
        spare = run->next;
    return run;
}

static void run_delete(struct commons_run *run)
{
    forget(run, described(run));
    unmap(run->base, run->size);
    run->next = spare;
    spare = run;
}

/* pre: the lock is held; cls may be HAK_CLASS_NONE */
static struct commons_run *run_new(size_t size, size_t align, hak_class cls)
{
    struct commons_run *run = run_describe();

    if (run == NULL)
        return NULL;
    size = (size + GRANULE - 1) & ~(GRANULE - 1);
    *run = (struct commons_run){.size = size, .cls = cls};
    run->base = map_aligned(size, align < GRANULE ? GRANULE : align);
    if (run->base)
        os_advise_huge_pages(run->base, size);
    if (run->base && describe(run))
        return run;
    if (run->base)
        unmap(run->base, size);
    run->next = spare;
    spare = run;
    return NULL;
}

/* ── slabs ───────────────────────────────────────────────────────────────────────────────────── */

static void list(struct commons_run *slab)
{
    struct commons_run **head = &open[hak_class_index(slab->cls)];

    slab->previous = NULL;
    slab->next = *head;
    if (*head)
        (*head)->previous = slab;
    *head = slab;
}

static void unlist(struct commons_run *slab)
{
    if (slab->next)
        slab->next->previous = slab->previous;
    if (slab->previous)
        slab->previous->next = slab->next;
    else
        open[hak_class_index(slab->cls)] = slab->next;
}

static bool reclaim(void)
{
    bool any = false;

    for (unsigned i = 0; i < HAK_CLASSES; i++)
        for (struct commons_run *slab = open[i], *next; slab; slab = next) {
            next = slab->next;
            if (slab->used > 0)
                continue;
            empty_bytes -= slab->size;
            unlist(slab);
            run_delete(slab);
            any = true;
        }
    return any;
}

static struct commons_run *slab_new(hak_class cls)
{
    size_t block_size = hak_class_size(cls);
    size_t size = GRANULE;

    while (size / block_size < BLOCKS_LEAST || size % block_size > size / WASTE_PART)
        size += GRANULE;
    struct commons_run *slab = run_new(size, block_size & -block_size, cls);
    if (slab == NULL && reclaim())
        slab = run_new(size, block_size & -block_size, cls);
    if (slab == NULL)
        return NULL;
    slab->block_size = block_size;
    slab->capacity = (uint32_t)(size / block_size);
    empty_bytes += slab->size;
    list(slab);
    return slab;
}

static bool on_grid(const struct commons_run *run, const void *block)
{
    size_t offset = (size_t)((const char *)block - run->base);

    return offset < run->capacity * run->block_size && offset % run->block_size == 0;
}

/* A free block of an open slab. pre: the lock is held */
static struct hak_block *slab_take(struct commons_run *slab)
{
    struct hak_block *block = slab->free;

    if (block == NULL) {
        block = (struct hak_block *)(void *)(slab->base + slab->cut * slab->block_size);
        slab->cut++;
    } else if (block->next && !on_grid(slab, block->next)) {
        hak_unlock(&lock);
        hak_fatal_pointer("malloc()", block, "a free block was written to");
    } else {
        slab->free = block->next;
    }
    if (slab->used++ == 0)
        empty_bytes -= slab->size;
    if (slab->used == slab->capacity)
        unlist(slab);
    return block;
}

/* pre: the lock is held; the block is one of the slab's */
static void slab_put(struct commons_run *slab, void *freed)
{
    struct hak_block *block = freed;

    block->next = slab->free;
    slab->free = block;
    if (slab->used-- == slab->capacity)
        list(slab);
    if (slab->used > 0)
        return;
    if (empty_bytes + slab->size > CONFIG_COMMONS_EMPTY_MAX) {
        unlist(slab);
        run_delete(slab);
    } else {
        empty_bytes += slab->size;
    }
}

/* The run whose block this pointer is; of class cls, if that is one. Anything else ends the process. */
static struct commons_run *checked(const void *pointer, hak_class cls, const char *call)
{
    struct commons_run *run = commons_find(map, COMMONS_ROOTS, pointer);

    if (run == NULL || (cls != HAK_CLASS_NONE && run->cls != cls))
        hak_fatal_pointer(call, pointer, "not a block");
    if (run->cls == HAK_CLASS_NONE ? pointer != run->base : !on_grid(run, pointer))
        hak_fatal_pointer(call, pointer, "not the start of a block");
    return run;
}

/* ── batches ─────────────────────────────────────────────────────────────────────────────────── */

/* A block of the class; NULL: out of memory. pre: the lock is held */
static struct hak_block *take(hak_class cls)
{
    struct commons_run *slab = open[hak_class_index(cls)];

    if (slab == NULL)
        slab = slab_new(cls);
    return slab ? slab_take(slab) : NULL;
}

size_t backend_refill_array(struct hak_shard *shard, hak_class cls, void **out, size_t max)
{
    size_t count = 0;

    (void)shard;
    hak_lock(&lock);
    while (count < max && (out[count] = take(cls)) != NULL)
        count++;
    hak_unlock(&lock);
    return count;
}

struct hak_chain backend_refill_chain(struct hak_shard *shard, hak_class cls, size_t max)
{
    struct hak_chain chain = {NULL, 0};
    struct hak_block **link = &chain.head;

    (void)shard;
    hak_lock(&lock);
    while (chain.count < max && (*link = take(cls)) != NULL) {
        link = &(*link)->next;
        chain.count++;
    }
    *link = NULL;
    hak_unlock(&lock);
    return chain;
}

void backend_return_array(struct hak_shard *shard, hak_class cls, void *const *in, size_t count)
{
    (void)shard;
    /* Checked before the lock is taken: who ends a process holds none. */
    for (size_t i = 0; i < count; i++)
        checked(in[i], cls, "free()");
    hak_lock(&lock);
    for (size_t i = 0; i < count; i++)
        slab_put(checked(in[i], cls, "free()"), in[i]);
    hak_unlock(&lock);
}

void backend_return_chain(struct hak_shard *shard, hak_class cls, struct hak_chain chain)
{
    const struct hak_block *block = chain.head;

    (void)shard;
    for (size_t i = 0; i < chain.count; i++, block = block->next)
        checked(block, cls, "free()");
    hak_lock(&lock);
    for (struct hak_block *next; chain.count > 0; chain.count--, chain.head = next) {
        next = chain.head->next;
        slab_put(checked(chain.head, cls, "free()"), chain.head);
    }
    hak_unlock(&lock);
}

void backend_free(struct hak_shard *shard, void *pointer, const char *call)
{
    (void)shard;
    if (pointer == NULL)
        return;
    struct commons_run *run = checked(pointer, HAK_CLASS_NONE, call);
    hak_lock(&lock);
    if (run->cls == HAK_CLASS_NONE)
        run_delete(run);
    else
        slab_put(run, pointer);
    hak_unlock(&lock);
}

/* ── large blocks ────────────────────────────────────────────────────────────────────────────── */

struct hak_large backend_large_alloc(struct hak_shard *shard, size_t size, size_t align)
{
    (void)shard;
    hak_lock(&lock);
    struct commons_run *run = run_new(size, align, HAK_CLASS_NONE);
    if (run == NULL && reclaim())
        run = run_new(size, align, HAK_CLASS_NONE);
    hak_unlock(&lock);
    return (struct hak_large){run ? run->base : NULL, true};
}

size_t backend_usable_size(const void *pointer, const char *call)
{
    const struct commons_run *run = checked(pointer, HAK_CLASS_NONE, call);

    return run->cls == HAK_CLASS_NONE ? run->size : run->block_size;
}

bool backend_owns(const void *pointer)
{
    return commons_find(map, COMMONS_ROOTS, pointer) != NULL;
}

bool backend_resize(void *pointer, size_t size)
{
    struct commons_run *run = checked(pointer, HAK_CLASS_NONE, "realloc()");

    size = (size + GRANULE - 1) & ~(GRANULE - 1);
    bool done = size == run->size;
    if (size < run->size)
        done = os_unmap(run->base + size, run->size - size);
    else if (size > run->size)
        done = os_map_at(run->base + run->size, size - run->size) == OS_PLACED;
    if (done)
        run->size = size;
    return done;
}

/* Always by copying. */
void *backend_move(void *pointer, size_t size)
{
    (void)pointer;
    (void)size;
    return NULL;
}

/* ── threads, forks, trims ───────────────────────────────────────────────────────────────────── */

bool backend_thread_init(struct hak_shard *shard)
{
    *shard = (struct hak_shard){.map = map, .roots = COMMONS_ROOTS};
    return true;
}

/* The shard holds nothing that could be given back, and nothing is ever overdue. */
void backend_thread_exit(struct hak_shard *shard)
{
    (void)shard;
}

void backend_tick(struct hak_shard *shard)
{
    (void)shard;
    hak_assert_expensive(backend_valid(shard));
}

bool backend_upkeep(struct hak_shard *shard)
{
    (void)shard;
    return false;
}

size_t backend_footprint(void)
{
    return 0;
}

size_t backend_kept(const struct hak_shard *shard)
{
    (void)shard;
    return 0;
}

bool backend_trim(struct hak_shard *shard)
{
    (void)shard;
    hak_lock(&lock);
    bool any = reclaim();
    hak_unlock(&lock);
    return any;
}

void backend_fork_prepare(void)
{
    hak_lock(&lock);
}

void backend_fork_parent(void)
{
    hak_unlock(&lock);
}

void backend_fork_child(void)
{
    hak_unlock(&lock);
}

/* ── walks: all locks are held ───────────────────────────────────────────────────────────────── */

/* What the map describes of a large block is its first granule. */
static void visit_run(const struct commons_run *run,
                      void (*visit)(const struct hak_extent *extent, void *context), void *context)
{
    struct hak_extent extent = {.kind = HAK_EXTENT_LARGE,
                                .base = run->base,
                                .size = run->size,
                                .cls = run->cls};

    if (run->cls != HAK_CLASS_NONE) {
        extent.kind = HAK_EXTENT_SLAB;
        extent.capacity = run->capacity;
        extent.cut = run->cut;
        extent.free = run->cut - run->used;
    }
    visit(&extent, context);
}

void backend_walk(void (*visit)(const struct hak_extent *extent, void *context), void *context)
{
    const struct commons_run *last = NULL;

    for (size_t root = 0; root < COMMONS_ROOTS; root++)
        for (size_t i = 0; map[root] && i < (size_t)1 << COMMONS_LEAF_SHIFT; i++) {
            const struct commons_run *run = map[root]->run[i];
            if (run && run != last)
                visit_run(last = run, visit, context);
        }
}

void backend_free_blocks(const struct hak_extent *slab, uint64_t *set)
{
    const struct commons_run *run = commons_find(map, COMMONS_ROOTS, slab->base);

    for (const struct hak_block *block = run->free; block && on_grid(run, block);
         block = block->next)
        hak_set_add(set, (size_t)((const char *)block - run->base) / run->block_size);
}

hak_class backend_is_block(const void *address)
{
    const struct commons_run *run = commons_find(map, COMMONS_ROOTS, address);

    return run && run->cls != HAK_CLASS_NONE && on_grid(run, address) ? run->cls : HAK_CLASS_NONE;
}

/* A shard keeps nothing. */
void backend_walk_kept(const struct hak_shard *shard, bool (*visit)(void *block, void *context),
                       void *context)
{
    (void)shard;
    (void)visit;
    (void)context;
}

bool backend_has(const void *address)
{
    return commons_find(map, COMMONS_ROOTS, address) != NULL;
}

size_t backend_metadata(void)
{
    size_t bytes = sizeof(map);

    for (size_t root = 0; root < COMMONS_ROOTS; root++)
        bytes += map[root] ? sizeof(*map[root]) : 0;
    return bytes;
}

/* ── invariants ──────────────────────────────────────────────────────────────────────────────── */

static bool slab_valid(const struct commons_run *slab, hak_class cls)
{
    uint32_t free = 0;

    for (const struct hak_block *block = slab->free; block; block = block->next)
        if (!on_grid(slab, block) || ++free > slab->cut)
            return false;
    return slab->cls == cls && slab->used + free == slab->cut && slab->cut <= slab->capacity &&
           slab->used < slab->capacity;
}

bool backend_valid(const struct hak_shard *shard)
{
    size_t empty = 0;
    bool valid = shard->map == map && shard->roots == COMMONS_ROOTS;

    hak_lock(&lock);
    for (unsigned i = 0; i < HAK_CLASSES; i++)
        for (struct commons_run *slab = open[i]; slab; slab = slab->next) {
            valid = valid && slab_valid(slab, hak_class_at(i));
            empty += slab->used == 0 ? slab->size : 0;
        }
    valid = valid && empty == empty_bytes;
    hak_unlock(&lock);
    return valid;
}
