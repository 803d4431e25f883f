/* SPDX-License-Identifier: MIT */
#include "policies/magazine/depot.h"

#include "core/bins.h"
#include "core/frontend.h"
#include "core/os.h"

/* Most cells that one call of depot_reap looks at, and most empty magazines that it drops of each. */
enum { REAP_CELLS = 8, REAP_EMPTY = 8 };

struct depot depot = {
    .stripes[0 ... CONFIG_DEPOT_STRIPES - 1].cells[0 ... HAK_CLASSES - 1].lock.rank =
        HAK_RANK_STORE,
};

/* Most places of a magazine: half of the largest CACHE_BLOCKS_*. */
enum { ROUNDS_MOST = 512 };

/* ── memory for magazines ────────────────────────────────────────────────────────────────────── */

/* Magazines are cut from arenas in whole cache lines, so that those of two threads share none. */
static const size_t DEPOT_ARENA_BYTES = (size_t)64 << 10;

#define LINES_OF(capacity)                                                                         \
    ((sizeof(struct magazine) + (capacity) * sizeof(void *) + HAK_CACHE_LINE - 1) / HAK_CACHE_LINE)
#define LINES_MOST LINES_OF((size_t)ROUNDS_MOST)

static struct {
    struct hak_lock lock;
    struct magazine *
        free[LINES_MOST + 1]; /* by length in cache lines. Synchronization: lock, as for the rest */
    char *arena;              /* the unused end of the newest arena */
    size_t arena_lines;
} memory = {.lock.rank = HAK_RANK_STORE};

/* pre: memory.lock is held; lines > 0 */
static void depot_memory_put(void *unused, size_t lines)
{
    struct magazine *magazine = unused;

    magazine->next = memory.free[lines];
    memory.free[lines] = magazine;
}

/* pre: memory.lock is held */
static struct magazine *depot_memory_cut(size_t lines)
{
    if (memory.arena_lines < lines) {
        char *arena = os_map(DEPOT_ARENA_BYTES);
        if (arena == NULL)
            return NULL;
        if (memory.arena_lines > 0)
            depot_memory_put(memory.arena, memory.arena_lines);
        memory.arena = arena;
        memory.arena_lines = DEPOT_ARENA_BYTES / HAK_CACHE_LINE;
    }
    struct magazine *magazine = (struct magazine *)(void *)memory.arena;
    memory.arena += lines * HAK_CACHE_LINE;
    memory.arena_lines -= lines;
    return magazine;
}

static struct magazine *depot_memory_take(hak_class cls)
{
    uint32_t capacity = depot_rounds(cls);
    size_t lines = LINES_OF(capacity);

    hak_lock(&memory.lock);
    struct magazine *magazine = memory.free[lines];
    if (magazine)
        memory.free[lines] = magazine->next;
    else
        magazine = depot_memory_cut(lines);
    hak_unlock(&memory.lock);
    if (magazine) {
        magazine->capacity = capacity;
        magazine->bytes = capacity * (uint32_t)hak_class_size(cls);
    }
    return magazine;
}

void depot_drop(struct magazine *magazine)
{
    hak_lock(&memory.lock);
    depot_memory_put(magazine, LINES_OF(magazine->capacity));
    hak_unlock(&memory.lock);
}

static void depot_drop_all(struct magazine *magazine)
{
    while (magazine) {
        struct magazine *next = magazine->next;
        depot_drop(magazine);
        magazine = next;
    }
}

/* ── how large magazines are ─────────────────────────────────────────────────────────────────── */

static size_t depot_min(size_t a, size_t b)
{
    return a < b ? a : b;
}

uint32_t depot_rounds_most(hak_class cls)
{
    size_t size = hak_class_size(cls);
    /* Two magazines of one class take at most half of the budget, or their class would drive out all others at each miss.
     * With fixed capacities each class has an equal share. */
    size_t share = HAK_CACHE_BYTES / 2 / (enabled(CONFIG_CACHE_ADAPTIVE) ? 2 : HAK_CLASSES);
    size_t rounds = depot_min(share, CONFIG_MAGAZINE_BYTES) / size;

    if (size > share)
        return 0;
    rounds = depot_min(rounds, hak_cache_capacity(cls) / 2);
    return rounds > 0 ? (uint32_t)depot_min(rounds, ROUNDS_MOST) : 1;
}

/* The places of a class's first magazines: so many that two such magazines of every class fit into the budget, unless
 * their blocks are too large for that. With more, classes that are in use would drive each other out at each miss. */
static uint32_t depot_rounds_first(hak_class cls)
{
    size_t share = HAK_CACHE_BYTES / 2 / HAK_CLASSES / hak_class_size(cls);
    size_t rounds = depot_min(share > 0 ? share : 1, CONFIG_MAGAZINE_ROUNDS);

    return (uint32_t)depot_min(rounds, depot_rounds_most(cls));
}

struct depot_stripe *depot_home(void)
{
    for (unsigned i = 0; i < HAK_CLASSES; i++) {
        uint32_t most = depot_rounds_most(hak_class_at(i));
        uint32_t none = 0;
        uint32_t first =
            enabled(CONFIG_CACHE_ADAPTIVE) ? depot_rounds_first(hak_class_at(i)) : most;
        atomic_cas_strong_acq_rel(&depot.rounds[i], &none, first);
    }
    uint32_t home = __atomic_fetch_add(&depot.homes, 1, __ATOMIC_RELAXED);
    return &depot.stripes[home % CONFIG_DEPOT_STRIPES];
}

static void depot_grow(hak_class cls)
{
    uint32_t rounds = depot_rounds(cls);
    uint32_t wanted = (uint32_t)depot_min(2 * (size_t)rounds, depot_rounds_most(cls));

    /* Several cells of a class may get here at the same time; one of them doubles it. */
    if (wanted > rounds)
        atomic_cas_strong_acq_rel(&depot.rounds[hak_class_index(cls)], &rounds, wanted);
}

/* ── cells ───────────────────────────────────────────────────────────────────────────────────── */

static struct depot_stripe *const stripes_end = depot.stripes + CONFIG_DEPOT_STRIPES;

static struct depot_cell *depot_cell_of(struct depot_stripe *stripe, hak_class cls)
{
    return hak_pin(&stripe->cells[hak_class_index(cls)]);
}

static void depot_cell_lock(struct depot_cell *cell)
{
    if (likely(hak_lock_try(&cell->lock)))
        return;
    hak_lock(&cell->lock);
    atomic_store_relaxed(&cell->contended, cell->contended + 1);
}

static void depot_list_push(struct magazine_list *list, struct magazine *magazine)
{
    magazine->next = list->top;
    atomic_store_relaxed(&list->top, magazine);
    list->count++;
}

static struct magazine *depot_list_pop(struct magazine_list *list)
{
    struct magazine *magazine = list->top;

    if (magazine) {
        atomic_store_relaxed(&list->top, magazine->next);
        list->count--;
        list->least = list->least < list->count ? list->least : list->count;
    }
    return magazine;
}

static bool depot_list_is_empty(const struct magazine_list *list)
{
    return atomic_load_relaxed(&list->top) == NULL;
}

/* Most bytes that a stripe may hold now. */
static size_t depot_share_most(void)
{
    return depot_min(__atomic_load_n(&depot.room, __ATOMIC_SEQ_CST) / CONFIG_DEPOT_STRIPES,
                     DEPOT_SHARE);
}

/* Counts the bytes of a full magazine that comes into the stripe. false: the stripe may not hold that much more. A thread
 * that takes room away meanwhile is either seen here, or sees these bytes and takes them out again.
 * pre: for this and the next, a cell of the stripe is locked, so that the invariant holds for a thread with all locks */
static bool depot_share_add(struct depot_stripe *stripe, size_t bytes)
{
    if (likely(__atomic_add_fetch(&stripe->bytes, bytes, __ATOMIC_SEQ_CST) <= depot_share_most()))
        return true;
    __atomic_fetch_sub(&stripe->bytes, bytes, __ATOMIC_RELAXED);
    return false;
}

static void depot_share_remove(struct depot_stripe *stripe, size_t bytes)
{
    __atomic_fetch_sub(&stripe->bytes, bytes, __ATOMIC_RELAXED);
}

/* The next stripe, in a circle. */
static struct depot_stripe *depot_stripe_next(struct depot_stripe *stripe)
{
    return stripe + 1 < stripes_end ? stripe + 1 : depot.stripes;
}

static inline struct magazine *depot_take_full_of(struct depot_stripe *stripe, hak_class cls,
                                                  struct magazine *empty)
{
    struct depot_cell *cell = depot_cell_of(stripe, cls);

    if (depot_list_is_empty(&cell->full))
        return NULL;
    depot_cell_lock(cell);
    struct magazine *full = depot_list_pop(&cell->full);
    struct magazine *outgrown = NULL;
    if (likely(full != NULL)) {
        depot_share_remove(stripe, full->bytes);
        if (unlikely(empty && empty->capacity < full->capacity))
            outgrown = empty;
        else if (empty)
            depot_list_push(&cell->empty, empty);
    }
    hak_unlock(&cell->lock);
    if (unlikely(outgrown != NULL))
        depot_drop(outgrown);
    return full;
}

static hak_cold struct magazine *depot_take_full_elsewhere(struct depot_stripe *home, hak_class cls,
                                                           struct magazine *empty)
{
    struct magazine *full = NULL;

    for (struct depot_stripe *stripe = depot_stripe_next(home); full == NULL && stripe != home;
         stripe = depot_stripe_next(stripe))
        full = depot_take_full_of(stripe, cls, empty);
    return full;
}

struct magazine *depot_take_full(struct depot_stripe *home, hak_class cls, struct magazine *empty)
{
    struct magazine *full = depot_take_full_of(home, cls, empty);

    return likely(full != NULL) ? full : depot_take_full_elsewhere(home, cls, empty);
}

static inline struct magazine *depot_give_full_to(struct depot_stripe *stripe, hak_class cls,
                                                  struct magazine *full)
{
    struct depot_cell *cell = depot_cell_of(stripe, cls);
    struct magazine *empty = full;

    depot_cell_lock(cell);
    if (likely(depot_share_add(stripe, full->bytes))) {
        depot_list_push(&cell->full, full);
        empty = depot_list_pop(&cell->empty);
    }
    hak_unlock(&cell->lock);
    return empty;
}

static hak_cold struct magazine *depot_give_full_elsewhere(struct depot_stripe *home, hak_class cls,
                                                           struct magazine *full)
{
    struct magazine *empty = full;

    for (struct depot_stripe *stripe = depot_stripe_next(home); empty == full && stripe != home;
         stripe = depot_stripe_next(stripe))
        empty = depot_give_full_to(stripe, cls, full);
    return empty;
}

struct magazine *depot_give_full(struct depot_stripe *home, hak_class cls, struct magazine *full)
{
    struct magazine *empty = depot_give_full_to(home, cls, full);

    return likely(empty != full) ? empty : depot_give_full_elsewhere(home, cls, full);
}

void depot_change_room(size_t bytes)
{
    __atomic_fetch_add(&depot.room, bytes, __ATOMIC_SEQ_CST);
}

struct magazine *depot_take_surplus(hak_class *cls)
{
    for (struct depot_stripe *stripe = depot.stripes; stripe < stripes_end; stripe++) {
        if (likely(__atomic_load_n(&stripe->bytes, __ATOMIC_SEQ_CST) <= depot_share_most()))
            continue;
        for (unsigned i = HAK_CLASSES; i-- > 0;) { /* the largest first */
            *cls = hak_class_at(i);
            struct magazine *full = depot_take_full_of(stripe, *cls, NULL);
            if (full)
                return full;
        }
    }
    return NULL;
}

static struct magazine *depot_take_empty_of(struct depot_stripe *stripe, hak_class cls)
{
    struct depot_cell *cell = depot_cell_of(stripe, cls);

    while (!depot_list_is_empty(&cell->empty)) {
        depot_cell_lock(cell);
        struct magazine *empty = depot_list_pop(&cell->empty);
        hak_unlock(&cell->lock);
        if (empty && empty->capacity == depot_rounds(cls))
            return empty;
        if (empty) /* outgrown */
            depot_drop(empty);
    }
    return NULL;
}

struct magazine *depot_take_empty(struct depot_stripe *home, hak_class cls)
{
    struct magazine *empty = depot_take_empty_of(home, cls);

    for (struct depot_stripe *stripe = depot_stripe_next(home); empty == NULL && stripe != home;
         stripe = depot_stripe_next(stripe))
        empty = depot_take_empty_of(stripe, cls);
    return empty ? empty : depot_memory_take(cls);
}

void depot_give_empty(struct depot_stripe *home, hak_class cls, struct magazine *empty)
{
    struct depot_cell *cell = depot_cell_of(home, cls);

    if (empty->capacity != depot_rounds(cls)) {
        depot_drop(empty);
        return;
    }
    depot_cell_lock(cell);
    depot_list_push(&cell->empty, empty);
    hak_unlock(&cell->lock);
}

/* ── intervals ───────────────────────────────────────────────────────────────────────────────── */

/* Pops a magazine that was not needed in the interval; NULL: all of them were. */
static struct magazine *depot_list_pop_surplus(struct magazine_list *list)
{
    uint32_t least = list->least;

    if (least == 0)
        return NULL;
    struct magazine *magazine = depot_list_pop(list);
    list->least = least - 1;
    return magazine;
}

/* pre: the cell is locked and its interval over */
static void depot_cell_end_interval(struct depot_cell *cell, hak_class cls, uint32_t now)
{
    if (enabled(CONFIG_CACHE_ADAPTIVE) && cell->contended >= DEPOT_CONTENDED)
        depot_grow(cls);
    atomic_store_relaxed(&cell->contended, 0);
    atomic_store_relaxed(&cell->began, now);
    cell->full.least = cell->full.count;
    cell->empty.least = cell->empty.count;
}

/* Whether the cell's interval is over, and its end would change anything. */
static bool depot_cell_is_due(const struct depot_cell *cell, uint32_t now)
{
    return hak_clock_due(atomic_load_relaxed(&cell->began), now, CONFIG_DEPOT_INTERVAL_MS) &&
           (!depot_list_is_empty(&cell->full) || !depot_list_is_empty(&cell->empty) ||
            atomic_load_relaxed(&cell->contended) > 0);
}

struct magazine *depot_reap(uint32_t now, hak_class *cls)
{
    uint32_t at = atomic_load_relaxed(&depot.reaped);

    for (int looked = 0; looked < REAP_CELLS; looked++) {
        struct depot_stripe *stripe = &depot.stripes[at / HAK_CLASSES];
        *cls = hak_class_at(at % HAK_CLASSES);
        struct depot_cell *cell = depot_cell_of(stripe, *cls);
        struct magazine *full = NULL;
        struct magazine *dropped = NULL;
        bool done = true;
        if (depot_cell_is_due(cell, now)) {
            depot_cell_lock(cell);
            for (int i = 0; i < REAP_EMPTY && cell->empty.least > 0; i++) {
                struct magazine *empty = depot_list_pop_surplus(&cell->empty);
                empty->next = dropped;
                dropped = empty;
            }
            full = depot_list_pop_surplus(&cell->full);
            if (full)
                depot_share_remove(stripe, full->bytes);
            done = cell->full.least == 0 && cell->empty.least == 0;
            if (done)
                depot_cell_end_interval(cell, *cls, now);
            hak_unlock(&cell->lock);
        }
        depot_drop_all(dropped);
        at = done ? (at + 1) % (CONFIG_DEPOT_STRIPES * HAK_CLASSES) : at;
        /* Another thread that reaps may set the position back: some cells are then looked at twice. */
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
    for (struct depot_stripe *stripe = depot.stripes; stripe < stripes_end; stripe++) {
        struct depot_cell *cell = depot_cell_of(stripe, cls);
        if (depot_list_is_empty(&cell->empty))
            continue;
        depot_cell_lock(cell);
        struct magazine *dropped = cell->empty.top;
        atomic_store_relaxed(&cell->empty.top, NULL);
        cell->empty.count = cell->empty.least = 0;
        hak_unlock(&cell->lock);
        depot_drop_all(dropped);
    }
}

/* ── all of it ───────────────────────────────────────────────────────────────────────────────── */

size_t depot_held(hak_class cls)
{
    size_t held = 0;

    for (struct depot_stripe *stripe = depot.stripes; stripe < stripes_end; stripe++) {
        struct depot_cell *cell = depot_cell_of(stripe, cls);
        hak_lock(&cell->lock);
        for (const struct magazine *full = cell->full.top; full; full = full->next)
            held += full->capacity;
        hak_unlock(&cell->lock);
    }
    return held;
}

void depot_walk(bool (*visit)(void *block, void *context), void *context)
{
    for (uint32_t at = 0; at < CONFIG_DEPOT_STRIPES * HAK_CLASSES; at++) {
        struct depot_cell *cell =
            depot_cell_of(&depot.stripes[at / HAK_CLASSES], hak_class_at(at % HAK_CLASSES));
        hak_lock(&cell->lock);
        for (const struct magazine *full = cell->full.top; full; full = full->next)
            for (uint32_t i = 0; i < full->capacity && visit(full->rounds[i], context); i++)
                ;
        hak_unlock(&cell->lock);
    }
}

void depot_lock(void)
{
    hak_lock(&memory.lock);
    for (struct depot_stripe *stripe = depot.stripes; stripe < stripes_end; stripe++)
        for (unsigned i = 0; i < HAK_CLASSES; i++)
            hak_lock_nested(&stripe->cells[i].lock);
}

void depot_unlock(void)
{
    for (struct depot_stripe *stripe = depot.stripes; stripe < stripes_end; stripe++)
        for (unsigned i = 0; i < HAK_CLASSES; i++)
            hak_unlock(&stripe->cells[i].lock);
    hak_unlock(&memory.lock);
}

static bool depot_list_valid(const struct magazine_list *list, hak_class cls, size_t *bytes)
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
    for (struct depot_stripe *stripe = depot.stripes; stripe < stripes_end; stripe++) {
        size_t full = 0;
        size_t empty = 0;
        for (unsigned i = 0; i < HAK_CLASSES; i++) {
            hak_class cls = hak_class_at(i);
            const struct depot_cell *cell = depot_cell_of(stripe, cls);
            valid = valid && depot_rounds(cls) <= depot_rounds_most(cls) &&
                    depot_list_valid(&cell->full, cls, &full) &&
                    depot_list_valid(&cell->empty, cls, &empty);
        }
        valid = valid && full == stripe->bytes && full <= DEPOT_SHARE;
    }
    depot_unlock();
    return valid;
}
