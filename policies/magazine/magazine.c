/* SPDX-License-Identifier: MIT */
#include "core/store.h"
#include "core/crowd.h"

/* Most full magazines that one round of upkeep empties into the slabs. */
enum { REAP_FULL = 8 };

static void magazine_load_round(struct magazine_bin *bin, void *block)
{
    bin->loaded->rounds[bin->count++] = block;
}

static void *magazine_take_round(struct magazine_bin *bin)
{
    return bin->loaded->rounds[--bin->count];
}

static void magazine_return(struct hak_shard *shard, hak_class cls, void *const *rounds,
                            size_t count)
{
    if (count == 0)
        return;
    hak_return_array(shard, cls, rounds, count);
}

/* The second magazine, next to the loaded one: empty, or full. */
struct magazine_previous {
    struct magazine *magazine; /* NULL: none yet */
    bool full;
};

static struct magazine_previous magazine_previous_of(const struct hak_cache *cache, hak_class cls)
{
    unsigned index = hak_class_index(cls);

    return (struct magazine_previous){cache->previous[index], cache->state[index].previous_full};
}

static void magazine_set_previous(struct hak_cache *cache, hak_class cls, struct magazine *magazine,
                                  bool full)
{
    cache->previous[hak_class_index(cls)] = magazine;
    cache->state[hak_class_index(cls)].previous_full = full;
}

/* ── what a class may have ───────────────────────────────────────────────────────────────────── */

/* Bytes that a cache leaves to the depot. A cache without any magazine may be that of a parked heap and leaves none. */
static size_t magazine_room_of(const struct hak_cache *cache)
{
    return cache->granted > 0 ? HAK_CACHE_BYTES - cache->granted : 0;
}

static void magazine_set_limit(struct hak_cache *cache, hak_class cls, uint32_t limit)
{
    uint16_t *now = &cache->limit[hak_class_index(cls)];
    size_t room = magazine_room_of(cache);

    cache->granted += 2 * ((size_t)limit - *now) * hak_class_size(cls);
    *now = (uint16_t)limit;
    depot_change_room(magazine_room_of(cache) - room);
}

/* Returns the blocks that the depot holds beyond the bytes that threads leave to it. */
static void magazine_return_surplus(struct hak_shard *shard)
{
    struct magazine *full;
    hak_class cls;

    while ((full = depot_take_surplus(&cls)) != NULL) {
        magazine_return(shard, cls, full->rounds, full->capacity);
        depot_drop(full);
    }
}

/* Takes a magazine with `count` blocks out of the cache. A full one goes to the depot, if the depot takes it; otherwise the
 * blocks go to the back end. */
static void magazine_release(struct hak_cache *cache, struct hak_shard *shard, hak_class cls,
                             struct magazine *magazine, uint32_t count)
{
    struct magazine *empty = magazine;

    if (count == magazine->capacity)
        empty = depot_give_full(cache->home, cls, magazine);
    if (empty == magazine)
        magazine_return(shard, cls, magazine->rounds, count);
    if (empty)
        depot_give_empty(cache->home, cls, empty);
}

static void magazine_release_class(struct hak_cache *cache, struct hak_shard *shard, hak_class cls)
{
    struct magazine_bin *bin = magazine_bin_of(cache, cls);
    struct magazine_previous previous = magazine_previous_of(cache, cls);

    if (bin->loaded)
        magazine_release(cache, shard, cls, bin->loaded, bin->count);
    if (previous.magazine)
        magazine_release(cache, shard, cls, previous.magazine,
                         previous.full ? previous.magazine->capacity : 0);
    *bin = (struct magazine_bin){NULL, 0, 0};
    magazine_set_previous(cache, cls, NULL, false);
    magazine_set_limit(cache, cls, 0);
}

/* Lets a class have two magazines of `limit` places. Where the budget is used up, the other classes give up theirs, by turns.
 * pre: limit <= depot_rounds_most(cls), so that the class fits in once the others have */
static hak_cold void magazine_grant(struct hak_cache *cache, struct hak_shard *shard, hak_class cls,
                                    uint32_t limit)
{
    size_t more = 2 * (size_t)(limit - cache->limit[hak_class_index(cls)]) * hak_class_size(cls);

    while (cache->granted + more > HAK_CACHE_BYTES) {
        if (cache->victim != hak_class_index(cls))
            magazine_release_class(cache, shard, hak_class_at(cache->victim));
        cache->victim = (cache->victim + 1) % HAK_CLASSES;
    }
    magazine_set_limit(cache, cls, limit);
    magazine_return_surplus(shard);
}

/* Makes a magazine the loaded one, and makes room for it in the budget: it is larger than the class's last one when magazines
 * have grown meanwhile. */
static void magazine_load(struct hak_cache *cache, struct hak_shard *shard, hak_class cls,
                          struct magazine *magazine, uint32_t count)
{
    if (unlikely(magazine->capacity > cache->limit[hak_class_index(cls)]))
        magazine_grant(cache, shard, cls, magazine->capacity);
    *magazine_bin_of(cache, cls) = (struct magazine_bin){magazine, count, magazine->capacity};
}

/* ── refill ──────────────────────────────────────────────────────────────────────────────────── */

void store_empty(struct hak_shard *shard)
{
    for (unsigned i = 0; i < HAK_CLASSES; i++) {
        hak_class cls = hak_class_at(i);
        struct magazine *full;
        while ((full = depot_take_full(depot.stripes, cls, NULL)) != NULL) {
            magazine_return(shard, cls, full->rounds, full->capacity);
            depot_drop(full);
        }
        depot_drop_empty(cls);
    }
}

/* Blocks from the back end. When it is out of memory, the depot's blocks go back to the slabs first. */
static uint32_t magazine_batch(struct hak_shard *shard, hak_class cls, void **out, size_t most)
{
    size_t count = hak_refill_array(shard, cls, out, most);

    if (unlikely(count == 0)) {
        store_empty(shard);
        count = hak_refill_array(shard, cls, out, most);
    }
    return (uint32_t)count;
}

/* Replaces the empty loaded magazine by one of the class's present size. false: the class has no magazine, and there is no
 * memory for one. */
static bool magazine_renew(struct hak_cache *cache, struct hak_shard *shard, hak_class cls)
{
    struct magazine_bin *bin = magazine_bin_of(cache, cls);
    struct magazine *mine = bin->loaded;

    if (bin->capacity == depot_rounds(cls))
        return bin->capacity > 0;
    struct magazine *larger = depot_take_empty(cache->home, cls);
    if (larger == NULL)
        return mine != NULL;
    magazine_load(cache, shard, cls, larger, 0);
    if (mine)
        depot_drop(mine);
    return true;
}

/* A block for a class without a magazine. */
static hak_cold void *magazine_refill_single(struct hak_shard *shard, hak_class cls)
{
    void *block;

    return magazine_batch(shard, cls, &block, 1) > 0 ? block : NULL;
}

/* Whether the cache is crowded and has not used the class enough to get magazines for it. */
static bool magazine_barely_uses(const struct hak_cache *cache, hak_class cls)
{
    return cache->crowded &&
           hak_crowd_batch(cache->state[hak_class_index(cls)].singles, hak_class_size(cls)) > 0;
}

void *frontend_refill(struct hak_cache *cache, struct hak_shard *shard, hak_class cls)
{
    struct magazine_bin *bin = magazine_bin_of(cache, cls);
    struct magazine_previous previous = magazine_previous_of(cache, cls);
    struct magazine *mine = bin->loaded;

    if (previous.full) {
        magazine_load(cache, shard, cls, previous.magazine, previous.magazine->capacity);
        magazine_set_previous(cache, cls, mine, false);
        return magazine_take_round(bin);
    }
    if (mine == NULL && magazine_barely_uses(cache, cls)) {
        cache->state[hak_class_index(cls)].singles++;
        return magazine_refill_single(shard, cls);
    }
    struct magazine *full = depot_take_full(cache->home, cls, mine);
    if (full) {
        magazine_load(cache, shard, cls, full, full->capacity);
        return magazine_take_round(bin);
    }
    if (!magazine_renew(cache, shard, cls))
        return magazine_refill_single(shard, cls);
    bin->count =
        magazine_batch(shard, cls, bin->loaded->rounds,
                       bin->capacity < CONFIG_REFILL_BATCH ? bin->capacity : CONFIG_REFILL_BATCH);
    return bin->count > 0 ? magazine_take_round(bin) : NULL;
}

/* ── flush ───────────────────────────────────────────────────────────────────────────────────── */

/* An empty magazine from the depot. NULL: the class gets none, or there is no memory for one. */
static hak_cold struct magazine *magazine_take_empty(struct hak_cache *cache, hak_class cls)
{
    if (magazine_barely_uses(cache, cls)) {
        cache->state[hak_class_index(cls)].singles++;
        return NULL;
    }
    if (depot_rounds(cls) == 0)
        return NULL;
    return depot_take_empty(cache->home, cls);
}

/* Returns the blocks of a full magazine that the depot has refused. Returns the empty magazine; NULL if it was smaller than
 * the class's magazines now are, and has been dropped. */
static hak_cold struct magazine *magazine_return_full(struct hak_shard *shard, hak_class cls,
                                                      struct magazine *full)
{
    magazine_return(shard, cls, full->rounds, full->capacity);
    if (full->capacity == depot_rounds(cls))
        return full;
    depot_drop(full);
    return NULL;
}

/* Makes room in a class that can get no second magazine: its only one is emptied. A class without any returns the block. */
static hak_cold void magazine_flush_without(struct hak_cache *cache, struct hak_shard *shard,
                                            hak_class cls, void *block)
{
    struct magazine_bin *bin = magazine_bin_of(cache, cls);

    if (bin->capacity == 0) {
        magazine_return(shard, cls, &block, 1);
        return;
    }
    magazine_return(shard, cls, bin->loaded->rounds, bin->count);
    bin->count = 0;
    magazine_load_round(bin, block);
}

void frontend_flush(struct hak_cache *cache, struct hak_shard *shard, hak_class cls, void *block)
{
    struct magazine_bin *bin = magazine_bin_of(cache, cls);
    struct magazine_previous previous = magazine_previous_of(cache, cls);
    struct magazine *mine = bin->loaded;
    struct magazine *empty = previous.magazine;

    if (previous.full) {
        struct magazine *full = empty;
        empty = depot_give_full(cache->home, cls, full);
        if (unlikely(empty == full))
            empty = magazine_return_full(shard, cls, full);
    }
    if (unlikely(empty == NULL) && (empty = magazine_take_empty(cache, cls)) == NULL) {
        magazine_set_previous(cache, cls, NULL, false);
        magazine_flush_without(cache, shard, cls, block);
        return;
    }
    magazine_set_previous(cache, cls, mine, mine != NULL);
    magazine_load(cache, shard, cls, empty, 0);
    magazine_load_round(bin, block);
}

/* ── the rest ────────────────────────────────────────────────────────────────────────────────── */

size_t frontend_held(const struct hak_cache *cache, hak_class cls)
{
    unsigned index = hak_class_index(cls);

    const struct magazine *full =
        cache->state[index].previous_full ? atomic_load_relaxed(&cache->previous[index]) : NULL;
    return cache->bin[index].count + (full ? full->capacity : 0);
}

void frontend_walk(const struct hak_cache *cache, bool (*visit)(void *block, void *context),
                   void *context)
{
    /* The owner may be exchanging magazines, so the count that is read may belong to another magazine. */
    for (unsigned i = 0; i < HAK_CLASSES; i++) {
        const struct magazine *loaded = atomic_load_relaxed(&cache->bin[i].loaded);
        const struct magazine *full =
            cache->state[i].previous_full ? atomic_load_relaxed(&cache->previous[i]) : NULL;
        uint32_t count = atomic_load_relaxed(&cache->bin[i].count);
        if (loaded == NULL)
            count = 0;
        else if (count > loaded->capacity)
            count = loaded->capacity;
        for (uint32_t n = 0; n < count && visit(loaded->rounds[n], context); n++)
            ;
        for (uint32_t n = 0; full && n < full->capacity && visit(full->rounds[n], context); n++)
            ;
    }
}

void frontend_init(struct hak_cache *cache)
{
    cache->home = depot_home();
    cache->crowded = hak_is_crowded();
    cache->ticked_at = hak_clock_ms();
}

void frontend_empty(struct hak_cache *cache, struct hak_shard *shard)
{
    for (unsigned i = 0; i < HAK_CLASSES; i++)
        magazine_release_class(cache, shard, hak_class_at(i));
    magazine_return_surplus(shard);
}

/* Only cold paths exchange magazines; a hit changes a round and the count, and a fork may see one of them changed and not the
 * other. So the magazines themselves are whole and can be used again. */
void frontend_forget(struct hak_cache *cache)
{
    for (unsigned i = 0; i < HAK_CLASSES; i++) {
        struct magazine *held[] = {cache->bin[i].loaded, cache->previous[i]};
        for (int n = 0; n < 2; n++)
            if (held[n])
                depot_drop(held[n]);
        cache->bin[i] = (struct magazine_bin){NULL, 0, 0};
        magazine_set_previous(cache, hak_class_at(i), NULL, false);
        magazine_set_limit(cache, hak_class_at(i), 0);
    }
}

/* Returns the blocks of idle classes to the back end, because in the depot they would lie for as long again. The magazines
 * stay, empty. */
static void magazine_empty_idle(struct hak_cache *cache, struct hak_shard *shard)
{
    for (unsigned i = 0; i < HAK_CLASSES; i++) {
        hak_class cls = hak_class_at(i);
        struct magazine_bin *bin = magazine_bin_of(cache, cls);
        struct magazine_previous previous = magazine_previous_of(cache, cls);
        const void *top = bin->count > 0 ? bin->loaded->rounds[bin->count - 1] : NULL;
        if (!hak_idle_class(&cache->idle, cls, top))
            continue;
        if (bin->count > 0)
            magazine_return(shard, cls, bin->loaded->rounds, bin->count);
        bin->count = 0;
        if (previous.full)
            magazine_return(shard, cls, previous.magazine->rounds, previous.magazine->capacity);
        magazine_set_previous(cache, cls, previous.magazine, false);
    }
}

size_t store_held(hak_class cls)
{
    return depot_held(cls);
}

void store_walk(bool (*visit)(void *block, void *context), void *context)
{
    depot_walk(visit, context);
}

bool store_upkeep(struct hak_shard *shard)
{
    uint32_t now = hak_clock_ms();
    struct magazine *full;
    hak_class cls;

    magazine_return_surplus(
        shard); /* a fork ends threads, and the room that they left to the depot */
    for (int i = 0; i < REAP_FULL && (full = depot_reap(now, &cls)) != NULL; i++) {
        magazine_return(shard, cls, full->rounds, full->capacity);
        depot_drop(full);
    }
    return !depot_reaped_all();
}

void frontend_tick(struct hak_cache *cache, struct hak_shard *shard)
{
    uint32_t now = hak_clock_ms();

    if (now == cache->ticked_at)
        return;
    cache->ticked_at = now;
    if (hak_idle_round(&cache->idle, now))
        magazine_empty_idle(cache, shard);
    store_upkeep(shard);
}

void frontend_lock(void)
{
    depot_lock();
}

void frontend_unlock(void)
{
    depot_unlock();
}

bool frontend_valid(const struct hak_cache *cache)
{
    size_t granted = 0;

    for (unsigned i = 0; i < HAK_CLASSES; i++) {
        const struct magazine_bin *bin = &cache->bin[i];
        struct magazine_previous previous = magazine_previous_of(cache, hak_class_at(i));
        const struct magazine *mine = bin->loaded;
        uint32_t limit = cache->limit[i];
        if (bin->count > bin->capacity || bin->capacity != (mine ? mine->capacity : 0) ||
            bin->capacity > limit || limit > depot_rounds_most(hak_class_at(i)))
            return false;
        if (previous.magazine ? previous.magazine->capacity > limit : previous.full)
            return false;
        granted += 2 * (size_t)limit * hak_class_sizes[i];
    }
    return granted == cache->granted && granted <= HAK_CACHE_BYTES && depot_valid();
}
