/* SPDX-License-Identifier: MIT */
/* Statistics and walks over blocks. Both take all locks, as fork does, and read everything.
 *
 * How a figure is known to be exact: a thread in a cold path of its heap has set `inside`, and counts it in
 * `cold_paths` when it leaves; a hit changes what the cache holds. All three are read before and after. If no
 * heap was inside, and nothing differs, the figures are those of the moment when the first look was over.
 * A thread without a heap works under the locks, or in one atomic step. */
#include <hakmem/hakmem.h>
#include <hakmem/stats.h>

#include <errno.h>
#include <string.h>

#include "core/fork.h"
#include "core/heap.h"
#include "core/os.h"
#include "core/page_set.h"
#include "core/words.h"

_Static_assert(HAK_STATS_CLASSES == HAK_CLASSES_MOST, "the header promises as many");

/* Blocks that one heap may hold free. */
static const size_t HELD_BLOCKS_MOST = CONFIG_CACHE_BYTES / CONFIG_MIN_BLOCK;

/* ── whether heaps were used meanwhile ───────────────────────────────────────────────────────────── */

struct look {
    bool quiet;      /* no heap but the caller's is inside */
    uint64_t digest; /* of all that changes when a heap is used */
    uint64_t heaps;
    uint64_t parked;
};

static void stats_mix(struct look *look, uint64_t value)
{
    look->digest = (look->digest ^ value) * 0x9e3779b97f4a7c15u;
    look->digest ^= look->digest >> 29;
}

/* Blocks of a class in a heap's cache. A number larger than any cache holds was read while the owner changed it. */
static size_t stats_held_by(const struct hak_heap *heap, hak_class cls)
{
    size_t held = frontend_held(&heap->cache, cls);

    return held <= HELD_BLOCKS_MOST ? held : 0;
}

/* Looks at all heaps; with `stats`, also adds what caches hold. */
static struct look stats_look(struct hak_stats *stats)
{
    struct look look = {.quiet = true};

    for (const struct hak_heap *heap = hak_heap_all(); heap; heap = heap->all_next) {
        if (hak_is_inside(&heap->inside))
            look.quiet = false;
        atomic_fence_acquire();
        look.heaps++;
        look.parked += heap->parked;
        stats_mix(&look, atomic_load_relaxed(&heap->cold_paths));
        for (unsigned i = 0; i < HAK_CLASSES; i++) {
            size_t held = stats_held_by(heap, hak_class_at(i));
            stats_mix(&look, held);
            if (stats)
                stats->by_class[i].cached += held;
        }
    }
    atomic_fence_acquire();
    return look;
}

static bool stats_were_quiet(struct look before, struct look after)
{
    return before.quiet && after.quiet && before.digest == after.digest;
}

/* ── stopping ────────────────────────────────────────────────────────────────────────────────── */

/* Takes all locks, unless this thread holds them: a fork handler of the program's may ask for statistics. Returns what
 * stats_resume is to be told. */
static bool stats_stop(void)
{
    bool stops = !hak_lock_is_forking();

    if (stops)
        hak_lock_all();
    atomic_begin_racy_reads();
    return stops;
}

static void stats_resume(bool stopped)
{
    atomic_end_racy_reads();
    if (stopped)
        hak_unlock_all();
}

/* ── counting ────────────────────────────────────────────────────────────────────────────────── */

static void stats_add_extent(const struct hak_extent *extent, void *context)
{
    struct hak_stats *stats = context;

    stats->mapped += extent->size;
    if (extent->kind == HAK_EXTENT_LARGE) {
        stats->large += extent->size;
        stats->large_blocks++;
    } else if (extent->kind == HAK_EXTENT_DIRTY) {
        stats->dirty += extent->size;
    } else if (extent->kind == HAK_EXTENT_CLEAN) {
        stats->clean += extent->size;
    } else {
        struct hak_stats_class *entry = &stats->by_class[hak_class_index(extent->cls)];
        entry->slabs++;
        entry->live += extent->cut - extent->free; /* what is not in the slab, for now */
        entry->free += extent->free;
        stats->slabs += extent->size;
        stats->purged += extent->purged;
    }
}

static bool stats_add_kept(void *block, void *context)
{
    struct hak_stats *stats = context;
    hak_class cls = backend_is_block(block);

    if (cls != HAK_CLASS_NONE)
        stats->by_class[hak_class_index(cls)].kept++;
    return cls != HAK_CLASS_NONE;
}

static void stats_add_traffic(struct hak_stats_class *entry, const struct hak_traffic *traffic)
{
    entry->refills += atomic_load_relaxed(&traffic->refills);
    entry->refilled += atomic_load_relaxed(&traffic->refilled);
    entry->flushes += atomic_load_relaxed(&traffic->flushes);
    entry->flushed += atomic_load_relaxed(&traffic->flushed);
}

static void stats_add_carried(struct hak_stats_class *entry, struct hak_traffic_total total)
{
    entry->refills += total.refills;
    entry->refilled += total.refilled;
    entry->flushes += total.flushes;
    entry->flushed += total.flushed;
}

static uint64_t stats_less(uint64_t from, uint64_t what)
{
    return from > what ? from - what : 0;
}

/* `live` has been counted as what is not in slabs: takes cached and kept blocks off, and sums up. */
static void stats_sum_up(struct hak_stats *stats)
{
    stats->classes = HAK_CLASSES;
    for (unsigned i = 0; i < HAK_CLASSES; i++) {
        struct hak_stats_class *entry = &stats->by_class[i];
        entry->size = hak_class_sizes[i];
        entry->live = stats_less(entry->live, entry->cached + entry->kept);
        stats->live_blocks += entry->live;
        stats->live += entry->live * entry->size;
        stats->cached += entry->cached * entry->size;
        stats->kept += entry->kept * entry->size;
        stats->free += entry->free * entry->size;
    }
    stats->uncut =
        stats_less(stats->slabs, stats->live + stats->cached + stats->kept + stats->free);
    stats->live_blocks += stats->large_blocks;
}

static void stats_count(struct hak_stats *stats)
{
    bool stopped = stats_stop();
    struct look before = stats_look(stats);

    for (const struct hak_heap *heap = hak_heap_all(); heap; heap = heap->all_next) {
        backend_walk_kept(&heap->shard, stats_add_kept, stats);
        for (unsigned i = 0; i < HAK_CLASSES; i++)
            stats_add_traffic(&stats->by_class[i], &heap->counted.traffic[i]);
    }
    for (unsigned i = 0; i < HAK_CLASSES; i++) {
        stats->by_class[i].cached += store_held(hak_class_at(i));
        stats_add_carried(&stats->by_class[i], hak_traffic_carried(hak_class_at(i)));
    }
    backend_walk(stats_add_extent, stats);
    stats->heaps = before.heaps;
    stats->parked = before.parked;
    stats->metadata = backend_metadata() + before.heaps * sizeof(struct hak_heap);
    stats->exact = stats_were_quiet(before, stats_look(NULL));
    stats_resume(stopped);
    stats_sum_up(stats);
}

/* The kernel may merge our mapping with a neighbour's, so test both ends. */
static bool stats_is_ours(uintptr_t from, uintptr_t to)
{
    return backend_has((const void *)from) || backend_has((const void *)(to - 1));
}

hak_export size_t hak_stats_get(struct hak_stats *stats, size_t size)
{
    /* Before the first heap the back end has nothing, and may just be getting ready. */
    struct hak_stats all = {.huge = hak_heap_all() ? os_huge_bytes(stats_is_ours) : 0};
    size_t filled = size < sizeof(all) ? size : sizeof(all);

    stats_count(&all);
    memset(stats, 0, size);
    memcpy(stats, &all, filled);
    return filled;
}

/* ── walking over blocks ─────────────────────────────────────────────────────────────────────── */

struct stats_walk {
    bool (*visit)(void *block, size_t size, bool large, void *context);
    void *context;
    const void **held; /* blocks that are free and in no slab, sorted */
    size_t count;
    size_t room;
    bool over;
};

static bool stats_walk_add_held(void *block, void *context)
{
    struct stats_walk *walk = context;

    if (backend_is_block(block) == HAK_CLASS_NONE)
        return false;
    /* A list that its owner changes meanwhile may seem to have no end. */
    if (walk->count == walk->room)
        return false;
    walk->held[walk->count++] = block;
    return true;
}

static void stats_walk_list_held(struct stats_walk *walk)
{
    walk->count = 0;
    for (const struct hak_heap *heap = hak_heap_all(); heap; heap = heap->all_next) {
        backend_walk_kept(&heap->shard, stats_walk_add_held, walk);
        frontend_walk(&heap->cache, stats_walk_add_held, walk);
    }
    store_walk(stats_walk_add_held, walk);
}

static bool stats_walk_count(void *block, void *context)
{
    size_t *stats_count = context;

    if (backend_is_block(block) == HAK_CLASS_NONE || *stats_count == HELD_BLOCKS_MOST)
        return false;
    ++*stats_count;
    return true;
}

/* Room for all that may be held: a heap's cache and shard have a budget, the store is counted. */
static size_t stats_walk_room(void)
{
    size_t room = 1;

    for (const struct hak_heap *heap = hak_heap_all(); heap; heap = heap->all_next) {
        size_t blocks = 0;
        backend_walk_kept(&heap->shard, stats_walk_count, &blocks);
        for (unsigned i = 0; i < HAK_CLASSES && blocks < HELD_BLOCKS_MOST; i++)
            blocks += stats_held_by(heap, hak_class_at(i));
        room += blocks < HELD_BLOCKS_MOST ? blocks : HELD_BLOCKS_MOST;
    }
    for (unsigned i = 0; i < HAK_CLASSES; i++)
        room += store_held(hak_class_at(i));
    return room;
}

static void stats_walk_sift_down(const void **array, size_t root, size_t end)
{
    for (size_t child; (child = 2 * root + 1) < end; root = child) {
        child += child + 1 < end && array[child] < array[child + 1];
        if (array[root] >= array[child])
            return;
        const void *moved = array[root];
        array[root] = array[child];
        array[child] = moved;
    }
}

/* Heapsort: it needs no memory, and qsort may allocate. */
static void stats_walk_sort(const void **array, size_t stats_count)
{
    for (size_t i = stats_count / 2; i-- > 0;)
        stats_walk_sift_down(array, i, stats_count);
    for (size_t end = stats_count; end-- > 1;) {
        const void *moved = array[0];
        array[0] = array[end];
        array[end] = moved;
        stats_walk_sift_down(array, 0, end);
    }
}

/* The index of the first block in the sorted list that is not below `address`. */
static size_t stats_walk_held_from(const struct stats_walk *walk, const void *address)
{
    size_t low = 0;

    for (size_t high = walk->count; low < high;) {
        size_t middle = (low + high) / 2;
        if (walk->held[middle] < address)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static void stats_walk_slab(struct stats_walk *walk, const struct hak_extent *slab)
{
    uint64_t free[HAK_SLAB_BLOCKS_MOST / 64];
    size_t size = hak_class_size(slab->cls);

    hak_words_clear(free, HAK_SLAB_BLOCKS_MOST / 64);
    backend_free_blocks(slab, free);
    for (size_t i = stats_walk_held_from(walk, slab->base);
         i < walk->count && (const char *)walk->held[i] < slab->base + slab->size; i++)
        hak_set_add(free, (size_t)((const char *)walk->held[i] - slab->base) / size);
    for (uint32_t i = 0; i < slab->cut && !walk->over; i++)
        if (!hak_set_has(free, i))
            walk->over = !walk->visit(slab->base + i * size, size, false, walk->context);
}

static void stats_walk_extent(const struct hak_extent *extent, void *context)
{
    struct stats_walk *walk = context;

    if (walk->over)
        return;
    if (extent->kind == HAK_EXTENT_SLAB)
        stats_walk_slab(walk, extent);
    else if (extent->kind == HAK_EXTENT_LARGE)
        walk->over = !walk->visit(extent->base, extent->size, true, walk->context);
}

hak_export bool hak_walk(bool (*visit)(void *block, size_t size, bool large, void *context),
                         void *context)
{
    struct stats_walk walk = {.visit = visit, .context = context};
    bool stopped = stats_stop();
    struct look before = stats_look(NULL);
    bool exact = false;

    walk.room = stats_walk_room();
    size_t bytes = (walk.room * sizeof(*walk.held) + os_page_size() - 1) & ~(os_page_size() - 1);
    walk.held = os_map(bytes);
    if (walk.held) {
        stats_walk_list_held(&walk);
        stats_walk_sort(walk.held, walk.count);
        backend_walk(stats_walk_extent, &walk);
        exact = stats_were_quiet(before, stats_look(NULL)) && walk.count < walk.room && !walk.over;
        os_unmap(walk.held, bytes);
    }
    stats_resume(stopped);
    if (walk.held == NULL)
        errno = ENOMEM;
    return exact;
}
