/* SPDX-License-Identifier: MIT */
#include "core/store.h"
#include "core/crowd.h"

/* Full magazines that one tick gives back to the slabs. */
enum { REAP_FULL = 8 };

static void magazine_load_round(struct magazine_bin *bin, void *block)
{
    bin->loaded->rounds[bin->count++] = block;
}

static void *magazine_take_round(struct magazine_bin *bin)
{
    return bin->loaded->rounds[--bin->count];
}

static void magazine_give_back(struct hak_shard *shard, hak_class cls, void *const *rounds,
                               size_t count)
{
    if (count == 0)
        return;
    hak_return_array(shard, cls, rounds, count);
}

/* The magazine beside the loaded one: empty, or full. */
struct previous {
    struct magazine *magazine; /* NULL: none yet */
    bool full;
};

static struct previous magazine_previous_of(const struct hak_cache *cache, hak_class cls)
{
    unsigned index = hak_class_index(cls);

    return (struct previous){cache->previous[index], cache->state[index].previous_full};
}

static void magazine_set_previous(struct hak_cache *cache, hak_class cls, struct magazine *magazine,
                                  bool full)
{
    cache->previous[hak_class_index(cls)] = magazine;
    cache->state[hak_class_index(cls)].previous_full = full;
}

/* ── what a class may have ───────────────────────────────────────────────────────────────────── */

/* What a cache leaves to the depot; one that may hold nothing is no thread's. */
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

/* Gives back what the depot holds beyond what threads leave to it. */
static void magazine_give_surplus(struct hak_shard *shard)
{
    struct magazine *full;
    hak_class cls;

    while ((full = depot_take_surplus(&cls)) != NULL) {
        magazine_give_back(shard, cls, full->rounds, full->capacity);
        depot_drop(full);
    }
}

/* A magazine leaves the cache: a full one to the depot if that takes it, else block by block. */
static void magazine_release(struct hak_cache *cache, struct hak_shard *shard, hak_class cls,
                             struct magazine *magazine, uint32_t count)
{
    struct magazine *empty = magazine;

    if (count == magazine->capacity)
        empty = depot_give_full(cache->home, cls, magazine);
    if (empty == magazine)
        magazine_give_back(shard, cls, magazine->rounds, count);
    if (empty)
        depot_give_empty(cache->home, cls, empty);
}

static void magazine_release_class(struct hak_cache *cache, struct hak_shard *shard, hak_class cls)
{
    struct magazine_bin *bin = magazine_bin_of(cache, cls);
    struct previous previous = magazine_previous_of(cache, cls);

    if (bin->loaded)
        magazine_release(cache, shard, cls, bin->loaded, bin->count);
    if (previous.magazine)
        magazine_release(cache, shard, cls, previous.magazine,
                         previous.full ? previous.magazine->capacity : 0);
    *bin = (struct magazine_bin){NULL, 0, 0};
    magazine_set_previous(cache, cls, NULL, false);
    magazine_set_limit(cache, cls, 0);
}

/* Lets a class have magazines of so many places; the classes take turns in giving theirs up for that.
 * pre: limit <= depot_rounds_most(cls), so that there is room without the others */
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
    magazine_give_surplus(shard);
}

/* Every magazine comes in here. Another thread may just have made them larger. */
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
            magazine_give_back(shard, cls, full->rounds, full->capacity);
            depot_drop(full);
        }
        depot_drop_empty(cls);
    }
}

/* A batch from the back end; when it has no more memory, what lies in the depot may help. */
static uint32_t magazine_batch(struct hak_shard *shard, hak_class cls, void **out, size_t most)
{
    size_t count = hak_refill_array(shard, cls, out, most);

    if (unlikely(count == 0)) {
        store_empty(shard);
        count = hak_refill_array(shard, cls, out, most);
    }
    return (uint32_t)count;
}

/* Sees to it that the empty loaded magazine is as large as magazines of the class now are. false: there
 * is none, and no memory for one. */
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

/* One block, for which there is no magazine. */
static hak_cold void *magazine_refill_single(struct hak_shard *shard, hak_class cls)
{
    void *block;

    return magazine_batch(shard, cls, &block, 1) > 0 ? block : NULL;
}

/* Whether a crowded cache should do without magazines of the class. */
static bool magazine_barely_uses(const struct hak_cache *cache, hak_class cls)
{
    return cache->crowded &&
           hak_crowd_batch(cache->state[hak_class_index(cls)].singles, hak_class_size(cls)) > 0;
}

void *frontend_refill(struct hak_cache *cache, struct hak_shard *shard, hak_class cls)
{
    struct magazine_bin *bin = magazine_bin_of(cache, cls);
    struct previous previous = magazine_previous_of(cache, cls);
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

/* An empty magazine from elsewhere. NULL: there is none to be had. */
static hak_cold struct magazine *magazine_another(struct hak_cache *cache, hak_class cls)
{
    if (magazine_barely_uses(cache, cls)) {
        cache->state[hak_class_index(cls)].singles++;
        return NULL;
    }
    if (depot_rounds(cls) == 0)
        return NULL;
    return depot_take_empty(cache->home, cls);
}

/* The depot has not taken a full magazine: its blocks go to the back end. What is then empty may be
 * smaller than magazines now are. */
static hak_cold struct magazine *magazine_emptied(struct hak_shard *shard, hak_class cls,
                                                  struct magazine *full)
{
    magazine_give_back(shard, cls, full->rounds, full->capacity);
    if (full->capacity == depot_rounds(cls))
        return full;
    depot_drop(full);
    return NULL;
}

/* There is no second magazine, perhaps not even one. */
static hak_cold void magazine_flush_without(struct hak_cache *cache, struct hak_shard *shard,
                                            hak_class cls, void *block)
{
    struct magazine_bin *bin = magazine_bin_of(cache, cls);

    if (bin->capacity == 0) {
        magazine_give_back(shard, cls, &block, 1);
        return;
    }
    magazine_give_back(shard, cls, bin->loaded->rounds, bin->count);
    bin->count = 0;
    magazine_load_round(bin, block);
}

void frontend_flush(struct hak_cache *cache, struct hak_shard *shard, hak_class cls, void *block)
{
    struct magazine_bin *bin = magazine_bin_of(cache, cls);
    struct previous previous = magazine_previous_of(cache, cls);
    struct magazine *mine = bin->loaded;
    struct magazine *empty = previous.magazine;

    if (previous.full) {
        struct magazine *full = empty;
        empty = depot_give_full(cache->home, cls, full);
        if (unlikely(empty == full))
            empty = magazine_emptied(shard, cls, full);
    }
    if (unlikely(empty == NULL) && (empty = magazine_another(cache, cls)) == NULL) {
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
    /* Whoever owns the cache may be changing it, so that a count need not be that of the magazine. */
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
    magazine_give_surplus(shard);
}

/* Magazines come and go on cold paths only; what a hit changes, and a fork may see half-changed, is
 * a round and the count. So the magazines are whole. */
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

/* Gives the blocks of idle classes to the slabs; not to the depot, where they would lie for as long again. The
 * magazines stay. */
static void magazine_empty_idle(struct hak_cache *cache, struct hak_shard *shard)
{
    for (unsigned i = 0; i < HAK_CLASSES; i++) {
        hak_class cls = hak_class_at(i);
        struct magazine_bin *bin = magazine_bin_of(cache, cls);
        struct previous previous = magazine_previous_of(cache, cls);
        const void *top = bin->count > 0 ? bin->loaded->rounds[bin->count - 1] : NULL;
        if (!hak_idle_class(&cache->idle, cls, top))
            continue;
        if (bin->count > 0)
            magazine_give_back(shard, cls, bin->loaded->rounds, bin->count);
        bin->count = 0;
        if (previous.full)
            magazine_give_back(shard, cls, previous.magazine->rounds, previous.magazine->capacity);
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

    magazine_give_surplus(shard); /* after a fork has ended threads */
    for (int i = 0; i < REAP_FULL && (full = depot_reap(now, &cls)) != NULL; i++) {
        magazine_give_back(shard, cls, full->rounds, full->capacity);
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
        struct previous previous = magazine_previous_of(cache, hak_class_at(i));
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
