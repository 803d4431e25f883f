/* SPDX-License-Identifier: MIT */
#include "core/frontend.h"
#include "core/lock.h"
#include "core/os.h"
#include "core/words.h"

/* The first limit of an array: low, so that a program which wants a few blocks of a size gets few. The next miss doubles it. */
static const uint32_t START_SLOTS = 8;

enum { SLOT = sizeof(void *) };

static struct hotmag_bound *hotmag_bound_of(struct hak_cache *cache, hak_class cls)
{
    return &cache->bound[hak_class_index(cls)];
}

static uint32_t hotmag_held(const struct hak_cache *cache, hak_class cls)
{
    const struct hotmag_array *array = &cache->array[hak_class_index(cls)];

    return cache->bound[hak_class_index(cls)].limit - (uint32_t)((array->end - array->last) / SLOT);
}

/* The offset of the row's lowest slot, which is NULL. */
static uintptr_t hotmag_bottom_of(const struct hak_cache *cache, hak_class cls)
{
    unsigned index = hak_class_index(cls);

    return cache->array[index].end - cache->bound[index].limit * (uintptr_t)SLOT;
}

/* The slots of an array, the oldest block's first. */
static void **hotmag_slots_of(const struct hak_cache *cache, hak_class cls)
{
    return hotmag_slot_at(cache, hotmag_bottom_of(cache, cls)) + 1;
}

/* Makes the lowest `count` slots the array's blocks. */
static void hotmag_set_held(struct hak_cache *cache, hak_class cls, uint32_t count)
{
    hotmag_array_of(cache, cls)->last = hotmag_bottom_of(cache, cls) + count * (uintptr_t)SLOT;
}

/* How many blocks a refill asks for and a flush returns. pre: limit > 0 */
static uint32_t hotmag_batch(const struct hotmag_bound *bound)
{
    uint32_t half = (bound->limit + 1u) / 2;

    return half < CONFIG_REFILL_BATCH ? half : CONFIG_REFILL_BATCH;
}

/* ── rows ────────────────────────────────────────────────────────────────────────────────────── */

/* Bytes of the pieces that rows are cut from, and of a row. */
enum { ROWS_BYTES = 64 << 10, ROW_BYTES = (CONFIG_HOTMAG_SLOTS + 1) * SLOT };

static struct {
    struct hak_lock lock;
    char *rest;  /* the unused end of the newest piece. Synchronization: lock, as for `left` */
    size_t left; /* its bytes */
} rows = {.lock = {.rank = HAK_RANK_STORE}};

/* A row, zeroed. NULL: out of memory. */
static void *hotmag_row_new(void)
{
    void *row = NULL;

    hak_lock(&rows.lock);
    if (rows.left < ROW_BYTES) {
        rows.rest = os_map(ROWS_BYTES);
        rows.left = rows.rest ? ROWS_BYTES : 0;
    }
    if (rows.rest) {
        row = rows.rest;
        rows.rest += ROW_BYTES;
        rows.left -= ROW_BYTES;
    }
    hak_unlock(&rows.lock);
    return row;
}

static uint32_t hotmag_start_limit(const struct hotmag_bound *bound)
{
    return enabled(CONFIG_CACHE_ADAPTIVE) && bound->most > START_SLOTS ? START_SLOTS : bound->most;
}

/* Gives a class its row, at its first use. Without memory for one the class goes on holding nothing. pre: most > 0 */
static hak_cold void hotmag_begin(struct hak_cache *cache, hak_class cls)
{
    struct hotmag_array *array = hotmag_array_of(cache, cls);
    struct hotmag_bound *bound = hotmag_bound_of(cache, cls);
    void *row = hotmag_row_new();

    if (row == NULL)
        return;
    bound->limit = (uint16_t)hotmag_start_limit(bound);
    array->last = (uintptr_t)row - (uintptr_t)&cache->none;
    array->end = array->last + bound->limit * (uintptr_t)SLOT;
}

/* Doubles the limit of a class that has missed or overflowed. pre: limit < most */
static hak_cold void hotmag_grow(struct hak_cache *cache, hak_class cls)
{
    struct hotmag_bound *bound = hotmag_bound_of(cache, cls);
    uint32_t limit = 2u * bound->limit < bound->most ? 2u * bound->limit : bound->most;

    if (bound->limit == 0) {
        hotmag_begin(cache, cls);
        return;
    }
    hotmag_array_of(cache, cls)->end += (limit - bound->limit) * (uintptr_t)SLOT;
    bound->limit = (uint16_t)limit;
}

/* ── refill and flush ────────────────────────────────────────────────────────────────────────── */

static void hotmag_return(struct hak_shard *shard, hak_class cls, void *const *blocks,
                          uint32_t count)
{
    hak_return_array(shard, cls, blocks, count);
}

static void *hotmag_refill(struct hak_cache *cache, struct hak_shard *shard, hak_class cls)
{
    struct hotmag_array *array = hotmag_array_of(cache, cls);
    struct hotmag_bound *bound = hotmag_bound_of(cache, cls);
    void *single = NULL;
    void **blocks = &single; /* for a class that may hold nothing */
    uint32_t wanted = 1;

    if (bound->limit < bound->most)
        hotmag_grow(cache, cls);
    if (bound->limit > 0) {
        blocks = hotmag_slot_at(cache, array->last) + 1; /* the lowest: the array has just missed */
        wanted = hotmag_batch(bound);
    }
    uint32_t count = (uint32_t)hak_refill_array(shard, cls, blocks, wanted);
    if (count == 0)
        return NULL;
    if (bound->limit > 0)
        array->last += (count - 1) * (uintptr_t)SLOT;
    return blocks[count - 1];
}

static void hotmag_flush(struct hak_cache *cache, struct hak_shard *shard, hak_class cls,
                         void *block)
{
    struct hotmag_bound *bound = hotmag_bound_of(cache, cls);

    if (bound->limit < bound->most) {
        hotmag_grow(cache, cls);
    } else if (bound->limit > 0) {
        void **blocks = hotmag_slots_of(cache, cls);
        uint32_t older = hotmag_batch(bound);
        size_t stay = bound->limit - older;
        hotmag_return(shard, cls, blocks, older);
        hak_words_copy(blocks, blocks + older, stay);
        blocks[stay] = block;
        hotmag_array_of(cache, cls)->last -= (older - 1) * (uintptr_t)SLOT;
        return;
    }
    if (!frontend_free(cache, cls, block)) /* the class may hold nothing */
        hotmag_return(shard, cls, &block, 1);
}

void *frontend_refill(struct hak_cache *cache, struct hak_shard *shard, hak_class cls)
{
    if (hotmag_is_hot(cls))
        return hotmag_refill(cache, shard, cls);
    return hak_bins_refill(&cache->bins, shard, cls);
}

void frontend_flush(struct hak_cache *cache, struct hak_shard *shard, hak_class cls, void *block)
{
    if (hotmag_is_hot(cls))
        hotmag_flush(cache, shard, cls, block);
    else
        hak_bins_flush(&cache->bins, shard, cls, block);
}

size_t frontend_held(const struct hak_cache *cache, hak_class cls)
{
    if (hotmag_is_hot(cls))
        return hotmag_held(cache, cls);
    return hak_bins_held(&cache->bins, cls);
}

void frontend_walk(const struct hak_cache *cache, bool (*visit)(void *block, void *context),
                   void *context)
{
    for (unsigned i = 0; i < HAK_CLASSES; i++) {
        hak_class cls = hak_class_at(i);
        uint32_t count = hotmag_is_hot(cls) ? hotmag_held(cache, cls) : 0;
        for (uint32_t n = 0; n < count && visit(hotmag_slots_of(cache, cls)[n], context); n++)
            ;
    }
    hak_bins_walk(&cache->bins, visit, context);
}

/* Sets the `most` of each hot class and returns the bytes of all of them together: at most half of the budget, or all of it
 * when every class is hot. Each class in turn, the smallest first, takes an equal share of what is left, so that what small
 * classes do not need goes to the larger ones. */
static size_t hotmag_bounds_init(struct hak_cache *cache)
{
    size_t bytes = HOTMAG_COUNT < HAK_CLASSES ? HAK_CACHE_BYTES / 2 : HAK_CACHE_BYTES;
    size_t left = bytes;
    unsigned place = 0;

    for (unsigned i = 0; i < HAK_CLASSES; i++) {
        if (!hotmag_is_hot(hak_class_at(i)))
            continue;
        size_t share = left / (HOTMAG_COUNT - place) / hak_class_sizes[i];
        size_t most = share < CONFIG_HOTMAG_SLOTS ? share : CONFIG_HOTMAG_SLOTS;
        cache->bound[i].most = (uint16_t)most;
        left -= most * hak_class_sizes[i];
        place++;
    }
    return bytes - left;
}

void frontend_init(struct hak_cache *cache)
{
    hak_bins_init(&cache->bins, HAK_CACHE_BYTES - hotmag_bounds_init(cache));
}

static void hotmag_array_empty(struct hak_cache *cache, struct hak_shard *shard, hak_class cls)
{
    uint32_t count = hotmag_held(cache, cls);

    if (count > 0)
        hotmag_return(shard, cls, hotmag_slots_of(cache, cls), count);
    hotmag_set_held(cache, cls, 0);
}

static void hotmag_empty(struct hak_cache *cache, struct hak_shard *shard)
{
    for (unsigned i = 0; i < HAK_CLASSES; i++)
        if (hotmag_is_hot(hak_class_at(i)))
            hotmag_array_empty(cache, shard, hak_class_at(i));
    hak_bins_empty(&cache->bins, shard);
}

static void hotmag_empty_idle(struct hak_cache *cache, struct hak_shard *shard)
{
    for (unsigned i = 0; i < HAK_CLASSES; i++) {
        hak_class cls = hak_class_at(i);
        if (hotmag_is_hot(cls) &&
            hak_idle_class(&cache->idle, cls, *hotmag_slot_at(cache, cache->array[i].last)))
            hotmag_array_empty(cache, shard, cls);
    }
}

void frontend_empty(struct hak_cache *cache, struct hak_shard *shard)
{
    hotmag_empty(cache, shard);
}

void frontend_forget(struct hak_cache *cache)
{
    for (unsigned i = 0; i < HAK_CLASSES; i++) {
        hak_class cls = hak_class_at(i);
        if (!hotmag_is_hot(cls) || cache->bound[i].limit == 0)
            continue;
        uintptr_t bottom = hotmag_bottom_of(cache, cls); /* the class keeps its row */
        cache->bound[i].limit = (uint16_t)hotmag_start_limit(&cache->bound[i]);
        cache->array[i].end = bottom + cache->bound[i].limit * (uintptr_t)SLOT;
        cache->array[i].last = bottom;
    }
    hak_bins_forget(&cache->bins);
}

void frontend_tick(struct hak_cache *cache, struct hak_shard *shard)
{
    if (hak_bins_tick(&cache->bins, shard))
        hotmag_empty_idle(cache, shard);
}

void frontend_lock(void)
{
    hak_lock(&rows.lock);
}

void frontend_unlock(void)
{
    hak_unlock(&rows.lock);
}

static bool hotmag_array_valid(const struct hak_cache *cache, hak_class cls)
{
    const struct hotmag_array *array = &cache->array[hak_class_index(cls)];
    const struct hotmag_bound *bound = &cache->bound[hak_class_index(cls)];
    uintptr_t bottom = hotmag_bottom_of(cache, cls);

    /* Offsets are modulo 2^64, so only differences are compared. */
    if (bound->limit > bound->most || bound->most > CONFIG_HOTMAG_SLOTS ||
        array->last - bottom > array->end - bottom || array->last % SLOT != 0 ||
        *hotmag_slot_at(cache, bottom) != NULL)
        return false;
    if (bound->limit == 0)
        return array->last == 0 && array->end == 0;
    for (uintptr_t offset = bottom; offset != array->last; offset += SLOT)
        if (*hotmag_slot_at(cache, offset + SLOT) == NULL)
            return false;
    return true;
}

bool frontend_valid(const struct hak_cache *cache)
{
    size_t bytes = cache->bins.budget;

    for (unsigned i = 0; i < HAK_CLASSES; i++) {
        if (!hotmag_is_hot(hak_class_at(i)))
            continue;
        if (!hotmag_array_valid(cache, hak_class_at(i)) ||
            hak_bins_held(&cache->bins, hak_class_at(i)) != 0)
            return false;
        bytes += cache->bound[i].most * (size_t)hak_class_sizes[i];
    }
    return bytes == HAK_CACHE_BYTES && hak_bins_valid(&cache->bins);
}
