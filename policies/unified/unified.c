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
    return hak_bins_held(&cache->bins, cls);
}

void frontend_walk(const struct hak_cache *cache, bool (*visit)(void *block, void *context),
                   void *context)
{
    hak_bins_walk(&cache->bins, visit, context);
}

void frontend_init(struct hak_cache *cache)
{
    hak_bins_init(&cache->bins, HAK_CACHE_BYTES);
}

void frontend_empty(struct hak_cache *cache, struct hak_shard *shard)
{
    hak_bins_empty(&cache->bins, shard);
}

void frontend_tick(struct hak_cache *cache, struct hak_shard *shard)
{
    hak_bins_tick(&cache->bins, shard);
}

bool frontend_valid(const struct hak_cache *cache)
{
    return hak_bins_valid(&cache->bins) && cache->bins.budget == HAK_CACHE_BYTES;
}
