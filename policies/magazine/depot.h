/* SPDX-License-Identifier: MIT */
/* The depot: full and empty magazines of each class, shared by all threads.
 *
 *   shard 0 ─┬─ cell[0]  full  ─► magazine ─► magazine     ┌── next, capacity ──┐
 *            │           empty ─► magazine                 │ round │ round │ …  │  a magazine
 *            ├─ cell[1]  …                                 └────────────────────┘
 *            └─ bytes    in all full magazines
 *   shard 1 ─── …
 *   store    ── free     memory for magazines, by size; never unmapped
 *
 * A cell holds the magazines of one class. A thread has one of the shards as its home; it looks there first,
 * and in the others when it finds nothing. To exchange two magazines takes one lock, which is held for
 * some tens of instructions; no block is touched.
 *
 * Magazines of a class are all made with as many places as depot_rounds() says. A try at a lock that
 * fails is counted; when enough did so in an interval, magazines of the class are made twice as large
 * from then on, and the smaller ones are dropped as they come back empty.
 *
 * A cell remembers the fewest full and empty magazines that it had in the interval: so many were not
 * needed, and are reaped when the interval ends.
 *
 * invariant: a magazine on a full list has capacity blocks of its cell's class
 * invariant: count == length of the list, least <= count
 * invariant: bytes == bytes of all blocks on the full lists of that shard <= DEPOT_SHARE
 * invariant: bytes in all shards <= room == sum over threads of HAK_CACHE_BYTES - what their own may hold,
 *            so that the depot fits into what threads may cache and do not
 * invariant: depot_rounds(class) <= depot_rounds_most(class)
 */
#ifndef HAK_POLICIES_MAGAZINE_DEPOT_H
#define HAK_POLICIES_MAGAZINE_DEPOT_H

#include "core/atomic.h"
#include "core/backend.h"
#include "core/lock.h"

struct magazine {
    struct magazine *next; /* in the depot or the store */
    uint32_t capacity;     /* constant, but in the store */
    uint32_t bytes;        /* of as many blocks; likewise */
    void *rounds[];
};

/* What the full magazines of one shard of the depot may hold. */
#define DEPOT_SHARE ((size_t)CONFIG_DEPOT_BYTES / CONFIG_DEPOT_SHARDS)

/* Tries that fail in one interval, and magazines grow. */
#define DEPOT_CONTENDED 16u

struct magazine_list {
    struct magazine *top; /* Synchronization: the cell's lock; relaxed reads without */
    uint32_t count;       /* Synchronization: the cell's lock */
    uint32_t least;       /* fewest in this interval. Synchronization: the cell's lock */
};

struct depot_cell {
    _Alignas(HAK_CACHE_LINE) struct hak_lock lock;
    uint32_t
        contended; /* failed tries in this interval. Synchronization: lock; relaxed reads without */
    uint32_t began; /* when the interval did. Synchronization: lock; relaxed reads without */
    struct magazine_list full;
    struct magazine_list empty;
};

struct depot_shard {
    struct depot_cell cells[HAK_CLASSES];
    size_t bytes; /* Synchronization: relaxed atomic; changed under the lock of one of the cells */
};

struct depot {
    struct depot_shard shards[CONFIG_DEPOT_SHARDS];
    uint32_t rounds[HAK_CLASSES]; /* Synchronization: relaxed atomic; only grows */
    uint32_t homes;               /* given out so far. Synchronization: relaxed atomic */
    size_t
        room; /* bytes that threads leave to the depot. Synchronization: sequentially consistent */
    uint32_t reaped; /* where the reaper is. Synchronization: relaxed atomic */
};

extern struct depot depot;

/* Places of a magazine of this class that is made now; 0: its blocks are too large for magazines. */
static inline uint32_t depot_rounds(hak_class cls)
{
    return atomic_load_relaxed(&depot.rounds[hak_class_index(cls)]);
}

/* The most that they can become. */
uint32_t depot_rounds_most(hak_class cls);

/* The home of a new cache. */
struct depot_shard *depot_home(void);

/* A full magazine, which leaves `empty`, which may be NULL, in its place. NULL: there is none, and
 * nothing has changed.
 * sync: all of these take HAK_RANK_STORE */
struct magazine *depot_take_full(struct depot_shard *home, hak_class cls, struct magazine *empty);

/* Takes a full magazine for an empty one, or for NULL if none lies beside. Returns `full` itself when the
 * depot holds all that it may; nothing has changed. */
struct magazine *depot_give_full(struct depot_shard *home, hak_class cls, struct magazine *full);

/* Threads leave more room to the depot, or less (a negative number of bytes, as it were). After that full magazines
 * are taken as long as there are too many, and their blocks given back. NULL: there are not. */
void depot_change_room(size_t bytes);
struct magazine *depot_take_surplus(hak_class *cls);

/* An empty magazine, made if there is none. NULL: out of memory. */
struct magazine *depot_take_empty(struct depot_shard *home, hak_class cls);

void depot_give_empty(struct depot_shard *home, hak_class cls, struct magazine *empty);

/* Ends intervals that are over, a few cells at a call and none beyond the last. Returns a full magazine that was
 * not needed in one; NULL: there is none for now. */
struct magazine *depot_reap(uint32_t now, hak_class *cls);

/* Whether depot_reap has just looked at the last cell. */
bool depot_reaped_all(void);

/* Frees the memory of a magazine for others, of whatever class. */
void depot_drop(struct magazine *magazine) hak_cold;

/* Drops all empty magazines of a class. */
void depot_drop_empty(hak_class cls);

size_t depot_held(hak_class cls);
void depot_walk(bool (*visit)(void *block, void *context), void *context);

/* All locks of the depot, in one order. */
void depot_lock(void);
void depot_unlock(void);

bool depot_valid(void);

#endif
