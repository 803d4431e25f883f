/* SPDX-License-Identifier: MIT */
#include "core/frontend.h"

/* Bytes of a class's first chain: small, so that a program which wants a few blocks of each of many
 * sizes touches little memory. */
static const size_t START_BYTES = 1024;

/* Most blocks of one chain: half of the class's configured capacity, at most one refill. */
static uint32_t limit_max(hak_class cls)
{
    size_t size = hak_class_size(cls);
    uint32_t capacity = size <= 16     ? CONFIG_CACHE_BLOCKS_16
                        : size <= 32   ? CONFIG_CACHE_BLOCKS_32
                        : size <= 64   ? CONFIG_CACHE_BLOCKS_64
                        : size <= 128  ? CONFIG_CACHE_BLOCKS_128
                        : size <= 256  ? CONFIG_CACHE_BLOCKS_256
                        : size <= 512  ? CONFIG_CACHE_BLOCKS_512
                        : size <= 1024 ? CONFIG_CACHE_BLOCKS_1024
                                       : CONFIG_CACHE_BLOCKS_LARGER;
    uint32_t limit = capacity / 2 < CONFIG_REFILL_BATCH ? capacity / 2 : CONFIG_REFILL_BATCH;

    return limit > 0 ? limit : 1;
}

static size_t bytes_of(hak_class cls, uint32_t limit)
{
    return 2 * (size_t)limit * hak_class_size(cls);
}

static void set_limit(struct hak_cache *cache, hak_class cls, uint32_t limit)
{
    struct unified_bin *bin = unified_bin(cache, cls);

    cache->granted += bytes_of(cls, limit) - bytes_of(cls, bin->limit);
    bin->room += (int32_t)(limit - bin->limit);
    bin->limit = limit;
}

static uint32_t length(const struct unified_bin *bin)
{
    return bin->limit - (uint32_t)bin->room;
}

static struct hak_chain take_list(struct unified_bin *bin)
{
    struct hak_chain list = {bin->head, length(bin)};

    bin->head = NULL;
    bin->room = (int32_t)bin->limit;
    return list;
}

static void put_list(struct unified_bin *bin, struct hak_chain list)
{
    bin->head = list.head;
    bin->room = (int32_t)(bin->limit - list.count);
}

/* Room for one chain more of another class: the classes take turns in giving half of what they may
 * hold, and what they hold beyond that goes to the back end. */
static bool shrink_another(struct hak_cache *cache, struct hak_shard *shard, hak_class wanting)
{
    for (unsigned tried = 0; tried < HAK_CLASSES; tried++) {
        hak_class cls = hak_class_at(cache->victim);
        struct unified_bin *bin = unified_bin(cache, cls);
        struct hak_chain *spare = &cache->spares[cache->victim];
        cache->victim = (cache->victim + 1) % HAK_CLASSES;
        if (cls == wanting || bin->limit == 0)
            continue;
        uint32_t limit = bin->limit / 2;
        if (spare->count > limit) {
            backend_return_chain(shard, cls, *spare);
            *spare = (struct hak_chain){NULL, 0};
        }
        if (length(bin) > limit)
            backend_return_chain(shard, cls, take_list(bin));
        set_limit(cache, cls, limit);
        return true;
    }
    return false;
}

/* A class that has missed or overflowed may hold twice as much, if the budget has room. */
static void grow(struct hak_cache *cache, struct hak_shard *shard, hak_class cls)
{
    uint32_t limit = unified_bin(cache, cls)->limit;
    uint32_t wanted = limit > 0 ? 2 * limit : (uint32_t)(START_BYTES / hak_class_size(cls));

    if (!enabled(CONFIG_CACHE_ADAPTIVE))
        return;
    wanted = wanted > 0 ? wanted : 1;
    wanted = wanted < limit_max(cls) ? wanted : limit_max(cls);
    /* No class gets more than half of the bytes, or it would drive out all others at each miss. */
    if (wanted <= limit || bytes_of(cls, wanted) > UNIFIED_BYTES_MAX / 2)
        return;
    size_t more = bytes_of(cls, wanted) - bytes_of(cls, limit);
    while (cache->granted + more > UNIFIED_BYTES_MAX)
        if (!shrink_another(cache, shard, cls))
            return;
    set_limit(cache, cls, wanted);
}

void *frontend_refill(struct hak_cache *cache, struct hak_shard *shard, hak_class cls)
{
    struct unified_bin *bin = unified_bin(cache, cls);
    struct hak_chain *spare = &cache->spares[hak_class_index(cls)];
    struct hak_chain chain = *spare;

    *spare = (struct hak_chain){NULL, 0};
    if (chain.count == 0) {
        grow(cache, shard, cls);
        chain = backend_refill_chain(shard, cls, bin->limit > 0 ? bin->limit : 1);
        if (chain.count == 0 || bin->limit == 0) /* a class that may hold nothing */
            return chain.head;
    }
    put_list(bin, chain);
    return frontend_alloc(cache, cls);
}

void frontend_flush(struct hak_cache *cache, struct hak_shard *shard, hak_class cls, void *block)
{
    struct unified_bin *bin = unified_bin(cache, cls);
    struct hak_chain *spare = &cache->spares[hak_class_index(cls)];
    struct hak_chain older = *spare;

    *spare = take_list(bin);
    if (older.count > 0)
        backend_return_chain(shard, cls, older);
    if (older.count > 0 || bin->limit == 0)
        grow(cache, shard, cls);
    if (!frontend_free(cache, cls, block)) {
        ((struct hak_block *)block)->next = NULL;
        backend_return_chain(shard, cls, (struct hak_chain){block, 1});
    }
}

size_t frontend_held(const struct hak_cache *cache, hak_class cls)
{
    unsigned index = hak_class_index(cls);

    return length(&cache->bins[index]) + cache->spares[index].count;
}

void frontend_walk(const struct hak_cache *cache, void (*visit)(void *block, void *context),
                   void *context)
{
    for (unsigned i = 0; i < HAK_CLASSES; i++) {
        for (struct hak_block *block = cache->bins[i].head; block; block = block->next)
            visit(block, context);
        for (struct hak_block *block = cache->spares[i].head; block; block = block->next)
            visit(block, context);
    }
}

/* With fixed limits every class has an equal share of the budget, and no more than its capacity. */
static uint32_t fixed_limit(hak_class cls)
{
    size_t share = UNIFIED_BYTES_MAX / HAK_CLASSES / bytes_of(cls, 1);

    return share < limit_max(cls) ? (uint32_t)share : limit_max(cls);
}

void frontend_thread_init(struct hak_cache *cache)
{
    if (enabled(CONFIG_CACHE_ADAPTIVE))
        return;
    for (unsigned i = 0; i < HAK_CLASSES; i++)
        set_limit(cache, hak_class_at(i), fixed_limit(hak_class_at(i)));
}

void frontend_thread_exit(struct hak_cache *cache, struct hak_shard *shard)
{
    for (unsigned i = 0; i < HAK_CLASSES; i++) {
        struct hak_chain list = take_list(&cache->bins[i]);
        if (list.count > 0)
            backend_return_chain(shard, hak_class_at(i), list);
        if (cache->spares[i].count > 0)
            backend_return_chain(shard, hak_class_at(i), cache->spares[i]);
        cache->spares[i] = (struct hak_chain){NULL, 0};
    }
}

void frontend_fork_child(struct hak_cache *cache)
{
    *cache = (struct hak_cache){.granted = 0};
    frontend_thread_init(cache);
}

void frontend_tick(struct hak_cache *cache, struct hak_shard *shard)
{
    (void)shard;
    (void)cache;
    hak_assert_expensive(frontend_valid(cache));
}

static bool chain_valid(struct hak_chain chain)
{
    while (chain.count > 0 && chain.head) {
        chain.head = chain.head->next;
        chain.count--;
    }
    return chain.count == 0 && chain.head == NULL;
}

bool frontend_valid(const struct hak_cache *cache)
{
    size_t granted = 0;

    for (unsigned i = 0; i < HAK_CLASSES; i++) {
        const struct unified_bin *bin = &cache->bins[i];
        const struct hak_chain *spare = &cache->spares[i];
        if (bin->limit > limit_max(hak_class_at(i)) || bin->room < 0 ||
            (uint32_t)bin->room > bin->limit || spare->count > bin->limit)
            return false;
        if (!chain_valid((struct hak_chain){bin->head, length(bin)}) || !chain_valid(*spare))
            return false;
        granted += bytes_of(hak_class_at(i), bin->limit);
    }
    return granted == cache->granted && granted <= UNIFIED_BYTES_MAX;
}
