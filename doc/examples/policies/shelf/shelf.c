/* SPDX-License-Identifier: MIT */
#include "core/frontend.h"

#include "core/clock.h"
#include "core/words.h"

void *frontend_refill(struct hak_cache *cache, struct hak_shard *shard, hak_class cls)
{
    struct shelf *shelf = &cache->shelves[hak_class_index(cls)];
    uint32_t half = shelf->capacity / 2;
    /* There is always one slot at least, so that a shelf without capacity can pass one block on. */
    size_t count = backend_refill_array(shard, cls, shelf->slot, half > 0 ? half : 1);

    if (count > 0)
        hak_traffic_in(&cache->traffic[hak_class_index(cls)], cls, count);
    shelf->count = (uint32_t)count;
    return frontend_alloc(cache, cls);
}

/* Gives the oldest `count` blocks of a shelf to the back end. */
static void give(struct hak_cache *cache, struct hak_shard *shard, hak_class cls, uint32_t count)
{
    struct shelf *shelf = &cache->shelves[hak_class_index(cls)];

    if (count == 0)
        return;
    backend_return_array(shard, cls, shelf->slot, count);
    shelf->count -= count;
    hak_words_copy(shelf->slot, shelf->slot + count, shelf->count);
    hak_traffic_out(&cache->traffic[hak_class_index(cls)], cls, count);
}

void frontend_flush(struct hak_cache *cache, struct hak_shard *shard, hak_class cls, void *block)
{
    struct shelf *shelf = &cache->shelves[hak_class_index(cls)];

    give(cache, shard, cls, shelf->capacity - shelf->capacity / 2);
    /* There is room now, but on a shelf without capacity: its block leaves at once. */
    shelf->slot[shelf->count++] = block;
    if (shelf->capacity == 0)
        give(cache, shard, cls, 1);
}

size_t frontend_held(const struct hak_cache *cache, hak_class cls)
{
    return cache ? cache->shelves[hak_class_index(cls)].count : 0;
}

void frontend_walk(const struct hak_cache *cache, bool (*visit)(void *block, void *context),
                   void *context)
{
    for (unsigned i = 0; cache && i < HAK_CLASSES; i++)
        for (uint32_t n = 0; n < cache->shelves[i].count; n++)
            if (!visit(cache->shelves[i].slot[n], context))
                break;
}

const struct hak_traffic *frontend_traffic(const struct hak_cache *cache, hak_class cls)
{
    return &cache->traffic[hak_class_index(cls)];
}

void frontend_thread_init(struct hak_cache *cache)
{
    for (unsigned i = 0; i < HAK_CLASSES; i++) {
        size_t share = HAK_CACHE_BYTES / HAK_CLASSES / hak_class_sizes[i];
        cache->shelves[i].capacity =
            share < CONFIG_SHELF_SLOTS ? (uint32_t)share : CONFIG_SHELF_SLOTS;
    }
}

void frontend_thread_exit(struct hak_cache *cache, struct hak_shard *shard)
{
    for (unsigned i = 0; i < HAK_CLASSES; i++)
        give(cache, shard, hak_class_at(i), cache->shelves[i].count);
}

void frontend_forget(struct hak_cache *cache)
{
    hak_words_clear(cache, sizeof(*cache) / sizeof(uint64_t));
    frontend_thread_init(cache);
}

void frontend_trim(struct hak_cache *cache, struct hak_shard *shard)
{
    frontend_thread_exit(cache, shard);
}

void frontend_tick(struct hak_cache *cache, struct hak_shard *shard)
{
    uint32_t now = hak_clock_ms();

    if ((uint64_t)(now - cache->round_at) + 1 <= CONFIG_PURGE_DELAY_MS / 2)
        return;
    cache->round_at = now;
    for (unsigned i = 0; i < HAK_CLASSES; i++) {
        struct shelf *shelf = &cache->shelves[i];
        if (shelf->count > 0 && shelf->slot[shelf->count - 1] == shelf->seen)
            give(cache, shard, hak_class_at(i), shelf->count);
        shelf->seen = shelf->count > 0 ? shelf->slot[shelf->count - 1] : NULL;
    }
    hak_assert_expensive(frontend_valid(cache));
}

/* No store that threads share, so nothing to do for others, and no locks. */
bool frontend_upkeep(struct hak_cache *cache, struct hak_shard *shard)
{
    (void)cache;
    (void)shard;
    return false;
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

bool frontend_valid(const struct hak_cache *cache)
{
    size_t bytes = 0;

    for (unsigned i = 0; i < HAK_CLASSES; i++) {
        const struct shelf *shelf = &cache->shelves[i];
        if (shelf->count > shelf->capacity || shelf->capacity > CONFIG_SHELF_SLOTS)
            return false;
        bytes += shelf->capacity * (size_t)hak_class_sizes[i];
    }
    return bytes <= HAK_CACHE_BYTES;
}
