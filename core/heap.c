/* SPDX-License-Identifier: MIT */
#include "core/heap.h"

#include "core/crowd.h"
#include "core/os.h"
#include "gen/inline_abi.h"

/* Heaps are mapped this many bytes at a time. */
static const size_t ARENA_BYTES = (size_t)64 << 10;

const struct hak_heap hak_heap_empty;
const struct hak_heap hak_heap_ended;
const struct hak_heap_row hak_heap_row;

_Thread_local struct hak_heap *hak_heap_mine = (struct hak_heap *)(uintptr_t)&hak_heap_empty;
/* An alias, by the name that hakmem/inline.h uses, if the configuration has that header. */
HAK_INLINE_ABI;

static struct hak_lock heaps_lock = {.rank = HAK_RANK_HEAPS};
static struct hak_heap *all;          /* atomic; those behind it do not change */
static struct hak_heap *parked_first; /* the heap parked last */
static char *arena;                   /* what is left of the last mapping of heaps */
static size_t arena_left;

_Static_assert(sizeof(struct hak_heap) % HAK_CACHE_LINE == 0, "heaps share no cache line");

/* Memory for one heap: zeroed. */
static struct hak_heap *heap_map(void)
{
    size_t size = sizeof(struct hak_heap);

    if (arena_left < size) {
        size_t bytes = size < ARENA_BYTES ? ARENA_BYTES : size + os_page_size();
        bytes &= ~(os_page_size() - 1);
        arena = os_map(bytes);
        arena_left = arena ? bytes : 0;
        if (arena == NULL)
            return NULL;
    }
    struct hak_heap *heap = (struct hak_heap *)(void *)arena;
    arena += size;
    arena_left -= size;
    return heap;
}

/* pre: heaps_lock is held */
static struct hak_heap *heap_new(void)
{
    struct hak_heap *heap = heap_map();

    if (heap == NULL)
        return NULL;
    if (!backend_init(&heap->shard)) {
        arena = (char *)heap; /* zero as before: the next one takes it */
        arena_left += sizeof(struct hak_heap);
        return NULL;
    }
    frontend_init(&heap->cache);
    hak_inside_init(&heap->inside);
    heap->all_next = all;
    atomic_store_release(&all, heap);
    atomic_store_relaxed(&hak_crowd_heaps, hak_crowd_heaps + 1);
    return heap;
}

/* pre: heaps_lock is held */
static void heap_park(struct hak_heap *heap)
{
    heap->parked = true;
    atomic_store_relaxed(&heap->parked_next, parked_first);
    atomic_store_relaxed(&parked_first, heap);
}

/* pre: heaps_lock is held */
static struct hak_heap *heap_unpark(struct hak_heap **link)
{
    struct hak_heap *heap = *link;

    atomic_store_relaxed(link, heap->parked_next);
    heap->parked = false;
    return heap;
}

struct hak_heap *hak_heap_take(void)
{
    hak_lock(&heaps_lock);
    struct hak_heap *heap = parked_first ? heap_unpark(&parked_first) : heap_new();
    hak_unlock(&heaps_lock);
    return heap;
}

struct hak_heap *hak_heap_all(void)
{
    return atomic_load_acquire(&all);
}

void hak_heap_lock(void)
{
    hak_lock(&heaps_lock);
}

void hak_heap_unlock(void)
{
    hak_unlock(&heaps_lock);
}

void hak_heap_park_others(const struct hak_heap *mine)
{
    for (struct hak_heap *heap = all; heap; heap = heap->all_next) {
        if (heap == mine || heap->parked || hak_is_inside(&heap->inside))
            continue;
        frontend_forget(&heap->cache);
        heap_park(heap);
    }
}

void hak_heap_tick(struct hak_heap *heap)
{
    frontend_tick(&heap->cache, &heap->shard);
    backend_tick(&heap->shard);
    hak_inside_tick(&heap->inside);
}

/* Enters a heap that is no longer parked. NULL: there is none. */
static struct hak_shard *heap_claimed(struct hak_heap *heap)
{
    if (heap == NULL)
        return NULL;
    hak_heap_enter(heap);
    return &heap->shard;
}

struct hak_shard *hak_heap_claim(unsigned skip)
{
    struct hak_heap *heap = NULL;

    if (atomic_load_relaxed(&parked_first) == NULL)
        return NULL;
    hak_lock(&heaps_lock);
    struct hak_heap **link = &parked_first;
    while (*link && skip-- > 0)
        link = &(*link)->parked_next;
    if (*link)
        heap = heap_unpark(link);
    hak_unlock(&heaps_lock);
    return heap_claimed(heap);
}

/* The link to the first of a few parked heaps that offers something; NULL: none does. Heaps are never unmapped, so that a
 * thread without the lock finds heaps, too, if perhaps not the parked ones. */
static struct hak_heap **
heap_find_offer(bool (*offers)(const struct hak_shard *shard, hak_class cls), hak_class cls)
{
    struct hak_heap **link = &parked_first;
    struct hak_heap *heap;

    for (unsigned i = 0; i < HAK_CLAIMS_MOST && (heap = atomic_load_relaxed(link)) != NULL; i++) {
        if (offers(&heap->shard, cls))
            return link;
        link = &heap->parked_next;
    }
    return NULL;
}

struct hak_shard *hak_heap_claim_offer(bool (*offers)(const struct hak_shard *shard, hak_class cls),
                                       hak_class cls)
{
    if (likely(heap_find_offer(offers, cls) == NULL))
        return NULL;
    hak_lock(&heaps_lock);
    struct hak_heap **link = heap_find_offer(offers, cls);
    struct hak_heap *heap = link ? heap_unpark(link) : NULL;
    hak_unlock(&heaps_lock);
    return heap_claimed(heap);
}

void hak_heap_release(struct hak_shard *shard)
{
    struct hak_heap *heap = hak_container_of(shard, struct hak_heap, shard);

    hak_inside_leave(&heap->inside);
    hak_lock(&heaps_lock);
    heap_park(heap);
    hak_unlock(&heaps_lock);
}
