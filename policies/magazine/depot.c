/* SPDX-License-Identifier: MIT */
#include "policies/magazine/depot.h"

#include "core/bins.h"
#include "core/frontend.h"
#include "core/os.h"

/* Cells that one call of depot_reap looks at, and empty magazines that it drops. */
enum { REAP_CELLS = 8, REAP_EMPTY = 8 };

struct depot depot = {
    .shards[0 ... CONFIG_DEPOT_SHARDS - 1].cells[0 ... HAK_CLASSES - 1].lock.rank = HAK_RANK_STORE,
};

/* Half of what a class can be configured to have. */
enum { ROUNDS_MOST = 512 };

/* ── memory for magazines ────────────────────────────────────────────────────────────────────── */

/* It is cut from arenas in whole cache lines, as magazines of two threads must not share one. */
static const size_t ARENA_BYTES = (size_t)64 << 10;

#define LINES_OF(capacity)                                                                         \
    ((sizeof(struct magazine) + (capacity) * sizeof(void *) + HAK_CACHE_LINE - 1) / HAK_CACHE_LINE)
#define LINES_MOST LINES_OF((size_t)ROUNDS_MOST)

static struct {
    struct hak_lock lock;
    struct magazine *free[LINES_MOST + 1]; /* by lines. Synchronization: lock, as for the rest */
    char *arena;                           /* what is left of the last mapping */
    size_t arena_lines;
} store = {.lock.rank = HAK_RANK_STORE};

/* pre: store.lock is held; lines > 0 */
static void store_put(void *memory, size_t lines)
{
    struct magazine *magazine = memory;

    magazine->next = store.free[lines];
    store.free[lines] = magazine;
}

/* pre: store.lock is held */
static struct magazine *store_cut(size_t lines)
{
    if (store.arena_lines < lines) {
        char *arena = os_map(ARENA_BYTES);
        if (arena == NULL)
            return NULL;
        if (store.arena_lines > 0)
            store_put(store.arena, store.arena_lines);
        store.arena = arena;
        store.arena_lines = ARENA_BYTES / HAK_CACHE_LINE;
    }
    struct magazine *magazine = (struct magazine *)(void *)store.arena;
    store.arena += lines * HAK_CACHE_LINE;
    store.arena_lines -= lines;
    return magazine;
}

static struct magazine *store_take(hak_class cls)
{
    uint32_t capacity = depot_rounds(cls);
    size_t lines = LINES_OF(capacity);

    hak_lock(&store.lock);
    struct magazine *magazine = store.free[lines];
    if (magazine)
        store.free[lines] = magazine->next;
    else
        magazine = store_cut(lines);
    hak_unlock(&store.lock);
    if (magazine) {
        magazine->capacity = capacity;
        magazine->bytes = capacity * (uint32_t)hak_class_size(cls);
    }
    return magazine;
}

void depot_drop(struct magazine *magazine)
{
    hak_lock(&store.lock);
    store_put(magazine, LINES_OF(magazine->capacity));
    hak_unlock(&store.lock);
}

static void drop_all(struct magazine *magazine)
{
    while (magazine) {
        struct magazine *next = magazine->next;
        depot_drop(magazine);
        magazine = next;
    }
}

/* ── how large magazines are ─────────────────────────────────────────────────────────────────── */

static size_t least_of(size_t a, size_t b)
{
    return a < b ? a : b;
}

uint32_t depot_rounds_most(hak_class cls)
{
    size_t size = hak_class_size(cls);
    /* Two magazines of one class have no more than half of the budget, or their class would drive out
     * all others at each miss; with fixed capacities, an equal share of it. */
    size_t share = HAK_CACHE_BYTES / 2 / (enabled(CONFIG_CACHE_ADAPTIVE) ? 2 : HAK_CLASSES);
    size_t rounds = least_of(share, CONFIG_MAGAZINE_BYTES) / size;

    if (size > share)
        return 0;
    rounds = least_of(rounds, hak_cache_capacity(cls) / 2);
    return rounds > 0 ? (uint32_t)least_of(rounds, ROUNDS_MOST) : 1;
}

/* The places that magazines of a class have at first: so many that all classes can have two such magazines
 * within the budget, if their blocks are not too large for that. With more, classes that are in use would
 * drive each other out at each miss. */
static uint32_t rounds_first(hak_class cls)
{
    size_t share = HAK_CACHE_BYTES / 2 / HAK_CLASSES / hak_class_size(cls);
    size_t rounds = least_of(share > 0 ? share : 1, CONFIG_MAGAZINE_ROUNDS);

    return (uint32_t)least_of(rounds, depot_rounds_most(cls));
}

struct depot_shard *depot_home(void)
{
    for (unsigned i = 0; i < HAK_CLASSES; i++) {
        uint32_t most = depot_rounds_most(hak_class_at(i));
        uint32_t none = 0;
        uint32_t first = enabled(CONFIG_CACHE_ADAPTIVE) ? rounds_first(hak_class_at(i)) : most;
        atomic_cas_strong_acq_rel(&depot.rounds[i], &none, first);
    }
    uint32_t home = __atomic_fetch_add(&depot.homes, 1, __ATOMIC_RELAXED);
    return &depot.shards[home % CONFIG_DEPOT_SHARDS];
}

static void grow(hak_class cls)
{
    uint32_t rounds = depot_rounds(cls);
    uint32_t wanted = (uint32_t)least_of(2 * (size_t)rounds, depot_rounds_most(cls));

    /* Cells of one class may grow it at the same time; it doubles once. */
    if (wanted > rounds)
        atomic_cas_strong_acq_rel(&depot.rounds[hak_class_index(cls)], &rounds, wanted);
}

/* ── cells ───────────────────────────────────────────────────────────────────────────────────── */

static struct depot_shard *const shards_end = depot.shards + CONFIG_DEPOT_SHARDS;

static struct depot_cell *cell_of(struct depot_shard *shard, hak_class cls)
{
    return hak_pin(&shard->cells[hak_class_index(cls)]);
}

static void lock_cell(struct depot_cell *cell)
{
    if (likely(hak_lock_try(&cell->lock)))
        return;
    hak_lock(&cell->lock);
    atomic_store_relaxed(&cell->contended, cell->contended + 1);
}

static void push(struct magazine_list *list, struct magazine *magazine)
{
    magazine->next = list->top;
    atomic_store_relaxed(&list->top, magazine);
    list->count++;
}

static struct magazine *pop(struct magazine_list *list)
{
    struct magazine *magazine = list->top;

    if (magazine) {
        atomic_store_relaxed(&list->top, magazine->next);
        list->count--;
        list->least = list->least < list->count ? list->least : list->count;
    }
    return magazine;
}

static bool is_empty(const struct magazine_list *list)
{
    return atomic_load_relaxed(&list->top) == NULL;
}

/* What a shard may hold now. */
static size_t share_most(void)
{
    return least_of(__atomic_load_n(&depot.room, __ATOMIC_SEQ_CST) / CONFIG_DEPOT_SHARDS,
                    DEPOT_SHARE);
}

/* Both are called under the lock of a cell of that shard: whoever holds all locks finds what the
 * invariant says. false: that were more than the shard may hold. Who takes room away either is seen here or
 * sees what is added, and takes it out again. */
static bool share_add(struct depot_shard *shard, size_t bytes)
{
    if (likely(__atomic_add_fetch(&shard->bytes, bytes, __ATOMIC_SEQ_CST) <= share_most()))
        return true;
    __atomic_fetch_sub(&shard->bytes, bytes, __ATOMIC_RELAXED);
    return false;
}

static void share_remove(struct depot_shard *shard, size_t bytes)
{
    __atomic_fetch_sub(&shard->bytes, bytes, __ATOMIC_RELAXED);
}

/* The shard that comes after another. */
static struct depot_shard *next_of(struct depot_shard *shard)
{
    return shard + 1 < shards_end ? shard + 1 : depot.shards;
}

static inline struct magazine *take_full_of(struct depot_shard *shard, hak_class cls,
                                            struct magazine *empty)
{
    struct depot_cell *cell = cell_of(shard, cls);

    if (is_empty(&cell->full))
        return NULL;
    lock_cell(cell);
    struct magazine *full = pop(&cell->full);
    struct magazine *outgrown = NULL;
    if (likely(full != NULL)) {
        share_remove(shard, full->bytes);
        if (unlikely(empty && empty->capacity < full->capacity))
            outgrown = empty;
        else if (empty)
            push(&cell->empty, empty);
    }
    hak_unlock(&cell->lock);
    if (unlikely(outgrown != NULL))
        depot_drop(outgrown);
    return full;
}

static hak_cold struct magazine *take_full_elsewhere(struct depot_shard *home, hak_class cls,
                                                     struct magazine *empty)
{
    struct magazine *full = NULL;

    for (struct depot_shard *shard = next_of(home); full == NULL && shard != home;
         shard = next_of(shard))
        full = take_full_of(shard, cls, empty);
    return full;
}

struct magazine *depot_take_full(struct depot_shard *home, hak_class cls, struct magazine *empty)
{
    struct magazine *full = take_full_of(home, cls, empty);

    return likely(full != NULL) ? full : take_full_elsewhere(home, cls, empty);
}

static inline struct magazine *give_full_to(struct depot_shard *shard, hak_class cls,
                                            struct magazine *full)
{
    struct depot_cell *cell = cell_of(shard, cls);
    struct magazine *empty = full;

    lock_cell(cell);
    if (likely(share_add(shard, full->bytes))) {
        push(&cell->full, full);
        empty = pop(&cell->empty);
    }
    hak_unlock(&cell->lock);
    return empty;
}

static hak_cold struct magazine *give_full_elsewhere(struct depot_shard *home, hak_class cls,
                                                     struct magazine *full)
{
    struct magazine *empty = full;

    for (struct depot_shard *shard = next_of(home); empty == full && shard != home;
         shard = next_of(shard))
        empty = give_full_to(shard, cls, full);
    return empty;
}

struct magazine *depot_give_full(struct depot_shard *home, hak_class cls, struct magazine *full)
{
    struct magazine *empty = give_full_to(home, cls, full);

    return likely(empty != full) ? empty : give_full_elsewhere(home, cls, full);
}

void depot_change_room(size_t bytes)
{
    __atomic_fetch_add(&depot.room, bytes, __ATOMIC_SEQ_CST);
}

struct magazine *depot_take_surplus(hak_class *cls)
{
    for (struct depot_shard *shard = depot.shards; shard < shards_end; shard++) {
        if (likely(__atomic_load_n(&shard->bytes, __ATOMIC_SEQ_CST) <= share_most()))
            continue;
        for (unsigned i = HAK_CLASSES; i-- > 0;) { /* the largest first */
            *cls = hak_class_at(i);
            struct magazine *full = take_full_of(shard, *cls, NULL);
            if (full)
                return full;
        }
    }
    return NULL;
}

static struct magazine *take_empty_of(struct depot_shard *shard, hak_class cls)
{
    struct depot_cell *cell = cell_of(shard, cls);

    while (!is_empty(&cell->empty)) {
        lock_cell(cell);
        struct magazine *empty = pop(&cell->empty);
        hak_unlock(&cell->lock);
        if (empty && empty->capacity == depot_rounds(cls))
            return empty;
        if (empty) /* outgrown */
            depot_drop(empty);
    }
    return NULL;
}

struct magazine *depot_take_empty(struct depot_shard *home, hak_class cls)
{
    struct magazine *empty = take_empty_of(home, cls);

    for (struct depot_shard *shard = next_of(home); empty == NULL && shard != home;
         shard = next_of(shard))
        empty = take_empty_of(shard, cls);
    return empty ? empty : store_take(cls);
}

void depot_give_empty(struct depot_shard *home, hak_class cls, struct magazine *empty)
{
    struct depot_cell *cell = cell_of(home, cls);

    if (empty->capacity != depot_rounds(cls)) {
        depot_drop(empty);
        return;
    }
    lock_cell(cell);
    push(&cell->empty, empty);
    hak_unlock(&cell->lock);
}

/* ── intervals ───────────────────────────────────────────────────────────────────────────────── */

/* Takes one magazine that was not needed in the interval off a list. */
static struct magazine *pop_surplus(struct magazine_list *list)
{
    uint32_t least = list->least;

    if (least == 0)
        return NULL;
    struct magazine *magazine = pop(list);
    list->least = least - 1;
    return magazine;
}

/* pre: the cell is locked and its interval over */
static void end_interval(struct depot_cell *cell, hak_class cls, uint32_t now)
{
    if (enabled(CONFIG_CACHE_ADAPTIVE) && cell->contended >= DEPOT_CONTENDED)
        grow(cls);
    atomic_store_relaxed(&cell->contended, 0);
    atomic_store_relaxed(&cell->began, now);
    cell->full.least = cell->full.count;
    cell->empty.least = cell->empty.count;
}

/* Whether looking at the cell now could change anything. */
static bool is_due(const struct depot_cell *cell, uint32_t now)
{
    return hak_clock_due(atomic_load_relaxed(&cell->began), now, CONFIG_DEPOT_INTERVAL_MS) &&
           (!is_empty(&cell->full) || !is_empty(&cell->empty) ||
            atomic_load_relaxed(&cell->contended) > 0);
}

struct magazine *depot_reap(uint32_t now, hak_class *cls)
{
    uint32_t at = atomic_load_relaxed(&depot.reaped);

    for (int looked = 0; looked < REAP_CELLS; looked++) {
        struct depot_shard *shard = &depot.shards[at / HAK_CLASSES];
        *cls = hak_class_at(at % HAK_CLASSES);
        struct depot_cell *cell = cell_of(shard, *cls);
        struct magazine *full = NULL;
        struct magazine *dropped = NULL;
        bool done = true;
        if (is_due(cell, now)) {
            lock_cell(cell);
            for (int i = 0; i < REAP_EMPTY && cell->empty.least > 0; i++) {
                struct magazine *empty = pop_surplus(&cell->empty);
                empty->next = dropped;
                dropped = empty;
            }
            full = pop_surplus(&cell->full);
            if (full)
                share_remove(shard, full->bytes);
            done = cell->full.least == 0 && cell->empty.least == 0;
            if (done)
                end_interval(cell, *cls, now);
            hak_unlock(&cell->lock);
        }
        drop_all(dropped);
        at = done ? (at + 1) % (CONFIG_DEPOT_SHARDS * HAK_CLASSES) : at;
        /* Another thread that reaps at the same time may set it back a little: no harm. */
        atomic_store_relaxed(&depot.reaped, at);
        if (full)
            return full;
        if (at == 0)
            break;
    }
    return NULL;
}

bool depot_reaped_all(void)
{
    return atomic_load_relaxed(&depot.reaped) == 0;
}

void depot_drop_empty(hak_class cls)
{
    for (struct depot_shard *shard = depot.shards; shard < shards_end; shard++) {
        struct depot_cell *cell = cell_of(shard, cls);
        if (is_empty(&cell->empty))
            continue;
        lock_cell(cell);
        struct magazine *dropped = cell->empty.top;
        atomic_store_relaxed(&cell->empty.top, NULL);
        cell->empty.count = cell->empty.least = 0;
        hak_unlock(&cell->lock);
        drop_all(dropped);
    }
}

/* ── all of it ───────────────────────────────────────────────────────────────────────────────── */

size_t depot_held(hak_class cls)
{
    size_t held = 0;

    for (struct depot_shard *shard = depot.shards; shard < shards_end; shard++) {
        struct depot_cell *cell = cell_of(shard, cls);
        hak_lock(&cell->lock);
        for (const struct magazine *full = cell->full.top; full; full = full->next)
            held += full->capacity;
        hak_unlock(&cell->lock);
    }
    return held;
}

void depot_walk(bool (*visit)(void *block, void *context), void *context)
{
    for (uint32_t at = 0; at < CONFIG_DEPOT_SHARDS * HAK_CLASSES; at++) {
        struct depot_cell *cell =
            cell_of(&depot.shards[at / HAK_CLASSES], hak_class_at(at % HAK_CLASSES));
        hak_lock(&cell->lock);
        for (const struct magazine *full = cell->full.top; full; full = full->next)
            for (uint32_t i = 0; i < full->capacity && visit(full->rounds[i], context); i++)
                ;
        hak_unlock(&cell->lock);
    }
}

void depot_lock(void)
{
    hak_lock(&store.lock);
    for (struct depot_shard *shard = depot.shards; shard < shards_end; shard++)
        for (unsigned i = 0; i < HAK_CLASSES; i++)
            hak_lock_nested(&shard->cells[i].lock);
}

void depot_unlock(void)
{
    for (struct depot_shard *shard = depot.shards; shard < shards_end; shard++)
        for (unsigned i = 0; i < HAK_CLASSES; i++)
            hak_unlock(&shard->cells[i].lock);
    hak_unlock(&store.lock);
}

static bool list_valid(const struct magazine_list *list, hak_class cls, size_t *bytes)
{
    uint32_t count = 0;

    for (const struct magazine *magazine = list->top; magazine;
         magazine = magazine->next, count++) {
        if (magazine->capacity == 0 || magazine->capacity > depot_rounds_most(cls))
            return false;
        if (magazine->bytes != magazine->capacity * hak_class_size(cls))
            return false;
        *bytes += magazine->bytes;
    }
    return count == list->count && list->least <= count;
}

bool depot_valid(void)
{
    bool valid = true;

    depot_lock();
    for (struct depot_shard *shard = depot.shards; shard < shards_end; shard++) {
        size_t full = 0;
        size_t empty = 0;
        for (unsigned i = 0; i < HAK_CLASSES; i++) {
            hak_class cls = hak_class_at(i);
            const struct depot_cell *cell = cell_of(shard, cls);
            valid = valid && depot_rounds(cls) <= depot_rounds_most(cls) &&
                    list_valid(&cell->full, cls, &full) && list_valid(&cell->empty, cls, &empty);
        }
        valid = valid && full == shard->bytes && full <= DEPOT_SHARE;
    }
    depot_unlock();
    return valid;
}
