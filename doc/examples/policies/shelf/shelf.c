/* SPDX-License-Identifier: MIT */
#include "core/frontend.h"

void *frontend_refill(struct hak_cache *cache, struct hak_shard *shard, hak_class cls)
{
    struct shelf *shelf = &cache->shelf[hak_class_index(cls)];
    uint32_t batch = shelf->batch > 0 ? shelf->batch : 1;

    /* There is always one slot at least, so that a shelf without capacity can pass one block on. */
    shelf->count = (uint32_t)hak_refill_array(shard, cls, shelf->slot, batch);
    shelf->batch = batch * 2 < shelf->capacity / 2 ? batch * 2 : shelf->capacity / 2;
    return frontend_alloc(cache, cls);
}

/* Gives the oldest `count` blocks of a shelf to the back end. */
static void shelf_give(struct hak_cache *cache, struct hak_shard *shard, hak_class cls,
                       uint32_t count)
{
    struct shelf *shelf = &cache->shelf[hak_class_index(cls)];

    if (count > 0)
        hak_return_array(shard, cls, shelf->slot, count);
    shelf->count -= count;
    hak_words_copy(shelf->slot, shelf->slot + count, shelf->count);
}

void frontend_flush(struct hak_cache *cache, struct hak_shard *shard, hak_class cls, void *block)
{
    struct shelf *shelf = &cache->shelf[hak_class_index(cls)];

    shelf_give(cache, shard, cls, shelf->capacity - shelf->capacity / 2);
    shelf->slot[shelf->count++] = block;
    if (shelf->capacity == 0)
        shelf_give(cache, shard, cls, 1);
}

size_t frontend_held(const struct hak_cache *cache, hak_class cls)
{
    return cache->shelf[hak_class_index(cls)].count;
}

void frontend_walk(const struct hak_cache *cache, bool (*visit)(void *block, void *context),
                   void *context)
{
    for (unsigned i = 0; i < HAK_CLASSES; i++)
        for (uint32_t n = 0; n < cache->shelf[i].count; n++)
            if (!visit(cache->shelf[i].slot[n], context))
                break;
}

void frontend_init(struct hak_cache *cache)
{
    for (unsigned i = 0; i < HAK_CLASSES; i++) {
        size_t share = HAK_CACHE_BYTES / HAK_CLASSES / hak_class_sizes[i];
        cache->shelf[i].capacity =
            share < CONFIG_SHELF_SLOTS ? (uint32_t)share : CONFIG_SHELF_SLOTS;
    }
}

void frontend_empty(struct hak_cache *cache, struct hak_shard *shard)
{
    for (unsigned i = 0; i < HAK_CLASSES; i++)
        shelf_give(cache, shard, hak_class_at(i), cache->shelf[i].count);
}

void frontend_tick(struct hak_cache *cache, struct hak_shard *shard)
{
    if (!hak_idle_round(&cache->idle, hak_clock_ms()))
        return;
    for (unsigned i = 0; i < HAK_CLASSES; i++) {
        const struct shelf *shelf = &cache->shelf[i];
        const void *top = shelf->count > 0 ? shelf->slot[shelf->count - 1] : NULL;
        if (hak_idle_class(&cache->idle, hak_class_at(i), top))
            shelf_give(cache, shard, hak_class_at(i), shelf->count);
    }
}

bool frontend_valid(const struct hak_cache *cache)
{
    size_t bytes = 0;

    for (unsigned i = 0; i < HAK_CLASSES; i++) {
        if (cache->shelf[i].count > cache->shelf[i].capacity)
            return false;
        bytes += cache->shelf[i].capacity * (size_t)hak_class_sizes[i];
    }
    return bytes <= HAK_CACHE_BYTES;
}
