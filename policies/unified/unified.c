/* SPDX-License-Identifier: MIT */
#include "core/frontend.h"

void *frontend_refill(struct hak_cache *cache, struct hak_shard *shard, hak_class cls)
{
    return hak_bins_refill(&cache->bins, shard, cls);
}

void frontend_flush(struct hak_cache *cache, struct hak_shard *shard, hak_class cls, void *block)
{
    hak_bins_flush(&cache->bins, shard, cls, block);
}

size_t frontend_held(const struct hak_cache *cache, hak_class cls)
{
    return cache ? hak_bins_held(&cache->bins, cls) : 0;
}

void frontend_walk(const struct hak_cache *cache, bool (*visit)(void *block, void *context),
                   void *context)
{
    if (cache)
        hak_bins_walk(&cache->bins, visit, context);
}

const struct hak_traffic *frontend_traffic(const struct hak_cache *cache, hak_class cls)
{
    return &cache->bins.traffic[hak_class_index(cls)];
}

void frontend_thread_init(struct hak_cache *cache)
{
    hak_bins_init(&cache->bins, HAK_CACHE_BYTES);
}

void frontend_thread_exit(struct hak_cache *cache, struct hak_shard *shard)
{
    hak_bins_empty(&cache->bins, shard);
}

void frontend_forget(struct hak_cache *cache)
{
    hak_bins_forget(&cache->bins);
}

void frontend_tick(struct hak_cache *cache, struct hak_shard *shard)
{
    hak_bins_tick(&cache->bins, shard);
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
    hak_bins_empty(&cache->bins, shard);
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
    return hak_bins_valid(&cache->bins) && cache->bins.budget == HAK_CACHE_BYTES;
}
