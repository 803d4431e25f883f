/* SPDX-License-Identifier: MIT */
#include "core/frontend.h"

#include <string.h>

/* Blocks that an array may hold at first: few, so that a program which wants a few blocks of a size gets
 * few. The first miss doubles it. */
static const uint32_t START_SLOTS = 8;

static const uint32_t SLOT = sizeof(void *);

static uint32_t held(const struct hotmag_array *array)
{
    return array->limit - (array->end - array->last) / SLOT;
}

/* The slots of an array from the lowest up. */
static void **slots_of(const struct hak_cache *cache, const struct hotmag_array *array)
{
    return hotmag_slot_at(cache, array->end - array->limit * SLOT) + 1;
}

/* Says that the lowest `count` slots of an array are full. */
static void set_held(struct hotmag_array *array, uint32_t count)
{
    array->last = array->end - (array->limit - count) * SLOT;
}

/* How many blocks move at once. pre: limit > 0 */
static uint32_t batch(const struct hotmag_array *array)
{
    uint32_t half = (array->limit + 1) / 2;

    return half < CONFIG_REFILL_BATCH ? half : CONFIG_REFILL_BATCH;
}

static void give_back(struct hak_cache *cache, struct hak_shard *shard, hak_class cls,
                      void *const *blocks, uint32_t count)
{
    hak_traffic_out(&cache->bins.traffic[hak_class_index(cls)], count);
    backend_return_array(shard, cls, blocks, count);
}

/* A class that has missed or overflowed may hold twice as much. pre: limit < most */
static hak_cold void grow(struct hotmag_array *array)
{
    uint32_t limit = 2 * array->limit < array->most ? 2 * array->limit : array->most;

    array->end += (limit - array->limit) * SLOT;
    array->limit = limit;
}

static void *refill(struct hak_cache *cache, struct hak_shard *shard, hak_class cls)
{
    struct hotmag_array *array = hotmag_array_of(cache, cls);
    void *single = NULL;
    void **blocks = &single; /* of a class that may hold nothing */
    uint32_t wanted = 1;

    if (array->limit < array->most)
        grow(array);
    if (array->limit > 0) {
        blocks = slots_of(cache, array);
        wanted = batch(array);
    }
    uint32_t count = (uint32_t)backend_refill_array(shard, cls, blocks, wanted);
    if (count == 0)
        return NULL;
    hak_traffic_in(&cache->bins.traffic[hak_class_index(cls)], count);
    if (array->limit > 0)
        set_held(array, count - 1);
    return blocks[count - 1];
}

static void flush(struct hak_cache *cache, struct hak_shard *shard, hak_class cls, void *block)
{
    struct hotmag_array *array = hotmag_array_of(cache, cls);

    if (array->limit == 0) {
        give_back(cache, shard, cls, &block, 1);
        return;
    }
    if (array->limit < array->most) {
        grow(array);
    } else {
        void **blocks = slots_of(cache, array);
        uint32_t older = batch(array);
        give_back(cache, shard, cls, blocks, older);
        memmove(blocks, blocks + older, (array->limit - older) * sizeof(*blocks));
        set_held(array, array->limit - older);
    }
    frontend_free(cache, cls, block);
}

void *frontend_refill(struct hak_cache *cache, struct hak_shard *shard, hak_class cls)
{
    if (hotmag_is_hot(cls))
        return refill(cache, shard, cls);
    return hak_bins_refill(&cache->bins, shard, cls);
}

void frontend_flush(struct hak_cache *cache, struct hak_shard *shard, hak_class cls, void *block)
{
    if (hotmag_is_hot(cls))
        flush(cache, shard, cls, block);
    else
        hak_bins_flush(&cache->bins, shard, cls, block);
}

size_t frontend_held(const struct hak_cache *cache, hak_class cls)
{
    if (cache == NULL)
        return 0;
    if (hotmag_is_hot(cls))
        return held(&cache->array[hak_class_index(cls)]);
    return hak_bins_held(&cache->bins, cls);
}

void frontend_walk(const struct hak_cache *cache, bool (*visit)(void *block, void *context),
                   void *context)
{
    if (cache == NULL)
        return;
    for (unsigned i = 0; i < HAK_CLASSES; i++) {
        if (!hotmag_is_hot(hak_class_at(i)))
            continue;
        const struct hotmag_array *array = &cache->array[i];
        uint32_t count = held(array);
        for (uint32_t n = 0; n < count && visit(slots_of(cache, array)[n], context); n++)
            ;
    }
    hak_bins_walk(&cache->bins, visit, context);
}

const struct hak_traffic *frontend_traffic(const struct hak_cache *cache, hak_class cls)
{
    return &cache->bins.traffic[hak_class_index(cls)];
}

/* Makes all arrays empty, with what they may hold at first; returns the bytes that they may ever hold.
 * That is half of the budget at most, or all of it when there is no other class. Each class in turn, the
 * smallest first, has an equal share of what is left, so that what the small ones do not need goes
 * to the larger. */
static size_t init_arrays(struct hak_cache *cache)
{
    size_t bytes = HOTMAG_COUNT < HAK_CLASSES ? HOTMAG_BYTES_MAX / 2 : HOTMAG_BYTES_MAX;
    size_t left = bytes;
    unsigned place = 0;

    for (unsigned i = 0; i < HAK_CLASSES; i++) {
        if (!hotmag_is_hot(hak_class_at(i)))
            continue;
        struct hotmag_array *array = &cache->array[i];
        size_t share = left / (HOTMAG_COUNT - place) / hak_class_sizes[i];
        array->most = share < CONFIG_HOTMAG_SLOTS ? (uint32_t)share : CONFIG_HOTMAG_SLOTS;
        array->limit = array->most;
        if (enabled(CONFIG_CACHE_ADAPTIVE) && array->most > START_SLOTS)
            array->limit = START_SLOTS;
        array->last = place * (uint32_t)sizeof(cache->slot[0]);
        array->end = array->last + array->limit * SLOT;
        left -= array->most * hak_class_sizes[i];
        place++;
    }
    return bytes - left;
}

void frontend_thread_init(struct hak_cache *cache)
{
    hak_bins_init(&cache->bins, HOTMAG_BYTES_MAX - init_arrays(cache));
}

static void empty_array(struct hak_cache *cache, struct hak_shard *shard, hak_class cls)
{
    struct hotmag_array *array = hotmag_array_of(cache, cls);
    uint32_t count = held(array);

    if (count > 0)
        give_back(cache, shard, cls, slots_of(cache, array), count);
    set_held(array, 0);
}

static void empty(struct hak_cache *cache, struct hak_shard *shard)
{
    for (unsigned i = 0; i < HAK_CLASSES; i++)
        if (hotmag_is_hot(hak_class_at(i)))
            empty_array(cache, shard, hak_class_at(i));
    hak_bins_empty(&cache->bins, shard);
}

/* As the bins do: an array that is used has another block on top than at the last round. By chance it may have
 * the same; then it is refilled. */
static void empty_unused(struct hak_cache *cache, struct hak_shard *shard)
{
    for (unsigned i = 0; i < HAK_CLASSES; i++) {
        hak_class cls = hak_class_at(i);
        if (!hotmag_is_hot(cls))
            continue;
        if (*hotmag_slot_at(cache, cache->array[i].last) == cache->seen[i])
            empty_array(cache, shard, cls);
        cache->seen[i] = *hotmag_slot_at(cache, cache->array[i].last);
    }
}

void frontend_thread_exit(struct hak_cache *cache, struct hak_shard *shard)
{
    empty(cache, shard);
}

void frontend_forget(struct hak_cache *cache)
{
    init_arrays(cache);
    hak_bins_forget(&cache->bins);
}

void frontend_tick(struct hak_cache *cache, struct hak_shard *shard)
{
    if (hak_bins_tick(&cache->bins, shard))
        empty_unused(cache, shard);
    hak_assert_expensive(frontend_valid(cache));
}

/* Nothing is shared. */
bool frontend_upkeep(struct hak_cache *cache, struct hak_shard *shard)
{
    (void)cache;
    (void)shard;
    return false;
}

void frontend_trim(struct hak_cache *cache, struct hak_shard *shard)
{
    empty(cache, shard);
}

void frontend_fork_prepare(void)
{
}
void frontend_fork_parent(void)
{
}
void frontend_fork_child(void)
{
}

static bool array_valid(const struct hak_cache *cache, const struct hotmag_array *array,
                        unsigned place)
{
    uint32_t bottom = place * (uint32_t)sizeof(cache->slot[0]);

    if (array->end != bottom + array->limit * SLOT || array->limit > array->most ||
        array->most > CONFIG_HOTMAG_SLOTS || array->last < bottom || array->last > array->end ||
        array->last % SLOT != 0 || *hotmag_slot_at(cache, bottom) != NULL)
        return false;
    for (uint32_t offset = bottom + SLOT; offset <= array->last; offset += SLOT)
        if (*hotmag_slot_at(cache, offset) == NULL)
            return false;
    return true;
}

bool frontend_valid(const struct hak_cache *cache)
{
    size_t bytes = cache->bins.budget;
    unsigned place = 0;

    for (unsigned i = 0; i < HAK_CLASSES; i++) {
        if (!hotmag_is_hot(hak_class_at(i)))
            continue;
        if (!array_valid(cache, &cache->array[i], place++) ||
            hak_bins_held(&cache->bins, hak_class_at(i)) != 0)
            return false;
        bytes += cache->array[i].most * (size_t)hak_class_sizes[i];
    }
    return bytes == HOTMAG_BYTES_MAX && hak_bins_valid(&cache->bins);
}
