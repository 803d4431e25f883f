/* SPDX-License-Identifier: MIT */
/* The depot: full and empty magazines of each class, shared by all threads.
 *
 *   stripe 0 ─┬─ cell[0]  full  ─► magazine ─► magazine     ┌── next, capacity ──┐
 *             │           empty ─► magazine                 │ round │ round │ …  │  a magazine
 *             ├─ cell[1]  …                                 └────────────────────┘
 *             └─ bytes    in all full magazines
 *   stripe 1 ─── …
 *   memory    ── free     memory for magazines, by size; never unmapped
 *
 * A cell holds the magazines of one class. Each thread has one stripe as its home; the thread looks there first, and in
 * the other stripes when it finds nothing. An exchange of two magazines takes one lock for some tens of instructions, and
 * touches no block.
 *
 * New magazines of a class have depot_rounds() places. A cell counts the tries at its lock that fail. When DEPOT_CONTENDED
 * tries fail in one interval, the class's new magazines are made twice as large, and the smaller ones are dropped as they
 * come back empty.
 *
 * A cell remembers the fewest full and the fewest empty magazines that it had during the interval: that many were not
 * needed, and are reaped when the interval ends.
 *
 * invariant: a magazine on a full list has capacity blocks of its cell's class
 * invariant: count == length of the list, least <= count
 * invariant: bytes == bytes of all blocks on the full lists of that stripe <= DEPOT_SHARE
 * invariant: bytes in all stripes <= room == sum over threads of HAK_CACHE_BYTES - granted (magazine.h),
 *            so that caches and depot together stay within the threads' budgets
 * invariant: depot_rounds(class) <= depot_rounds_most(class)
 */
#ifndef HAK_POLICIES_MAGAZINE_DEPOT_H
#define HAK_POLICIES_MAGAZINE_DEPOT_H

#include "core/atomic.h"
#include "core/backend.h"
#include "core/lock.h"

struct magazine {
    struct magazine *next; /* in a list of the depot */
    uint32_t capacity;     /* blocks; constant until the magazine is dropped */
    uint32_t bytes;        /* of that many blocks; likewise */
    void *rounds[];
};

/* Most bytes of blocks in the full magazines of one stripe. */
#define DEPOT_SHARE ((size_t)CONFIG_DEPOT_BYTES / CONFIG_DEPOT_STRIPES)

/* Failed tries at a cell's lock in one interval after which the magazines of its class grow. */
#define DEPOT_CONTENDED 16u

struct magazine_list {
    struct magazine *top; /* Synchronization: the cell's lock; relaxed reads without */
    uint32_t count;       /* Synchronization: the cell's lock */
    uint32_t least;       /* fewest in this interval. Synchronization: the cell's lock */
};

struct depot_cell {
    _Alignas(HAK_CACHE_LINE) struct hak_lock lock;
    /* Synchronization of both: the lock; relaxed reads without it. */
    uint32_t contended; /* failed tries at the lock in this interval */
    uint32_t began;     /* hak_clock_ms of the start of the interval */
    struct magazine_list full;
    struct magazine_list empty;
};

struct depot_stripe {
    struct depot_cell cells[HAK_CLASSES];
    size_t
        bytes; /* in full magazines. Synchronization: relaxed atomic; changed under the lock of one of the cells */
};

struct depot {
    struct depot_stripe stripes[CONFIG_DEPOT_STRIPES];
    uint32_t rounds[HAK_CLASSES]; /* Synchronization: relaxed atomic; only grows */
    uint32_t homes;               /* given out so far. Synchronization: relaxed atomic */
    uint32_t reaped; /* the cell that depot_reap looks at next. Synchronization: relaxed atomic */
    size_t
        room; /* bytes that threads leave to the depot. Synchronization: sequentially consistent */
};

extern struct depot depot;

/* Places of a new magazine of this class; 0: its blocks are too large for magazines. */
static inline uint32_t depot_rounds(hak_class cls)
{
    return atomic_load_relaxed(&depot.rounds[hak_class_index(cls)]);
}

/* The most places that magazines of the class can grow to. */
uint32_t depot_rounds_most(hak_class cls);

/* The home of a new cache. */
struct depot_stripe *depot_home(void);

/* Takes a full magazine and leaves `empty`, which may be NULL, in its place. NULL: there is none, and nothing has changed.
 * sync: takes HAK_RANK_STORE, as all functions below do */
struct magazine *depot_take_full(struct depot_stripe *home, hak_class cls, struct magazine *empty);

/* Gives a full magazine to the depot and returns an empty one, or NULL if the cell has none. Returns `full` itself when the
 * depot holds all that it may; nothing has changed. */
struct magazine *depot_give_full(struct depot_stripe *home, hak_class cls, struct magazine *full);

/* Adds to the bytes that threads leave to the depot, modulo 2^64: a thread that needs them itself adds a negative number.
 * The caller then takes the surplus. */
void depot_change_room(size_t bytes);

/* A full magazine from a stripe that holds more than its share, for the caller to empty and drop. NULL: there is none. */
struct magazine *depot_take_surplus(hak_class *cls);

/* An empty magazine, a new one if the depot has none. NULL: out of memory. */
struct magazine *depot_take_empty(struct depot_stripe *home, hak_class cls);

void depot_give_empty(struct depot_stripe *home, hak_class cls, struct magazine *empty);

/* Ends the intervals of the next few cells, up to the last one, that are over at `now`. Returns a full magazine that was not
 * needed in one, for the caller to empty and drop; NULL: these cells have none. */
struct magazine *depot_reap(uint32_t now, hak_class *cls);

/* Whether the last call of depot_reap has reached the last cell. */
bool depot_reaped_all(void);

/* Keeps the memory of a magazine for new magazines of any class. */
void depot_drop(struct magazine *magazine) hak_cold;

/* Drops all empty magazines of a class. */
void depot_drop_empty(hak_class cls);

/* As frontend_held and frontend_walk, for the depot. */
size_t depot_held(hak_class cls);
void depot_walk(bool (*visit)(void *block, void *context), void *context);

/* Take and release all locks of the depot. */
void depot_lock(void);
void depot_unlock(void);

/* Whether the invariants above hold. Takes all locks. */
bool depot_valid(void);

#endif
