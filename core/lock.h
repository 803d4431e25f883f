/* SPDX-License-Identifier: MIT */
/* A lock for cold paths: one word, a futex when contended, nothing to initialise.
 *
 * Locks have ranks; a thread takes them in ascending rank only, and fork takes them all. In a build
 * with CONFIG_ASSERT_LEVEL >= 1 a thread that breaks the order stops the process. */
#ifndef HAK_LOCK_H
#define HAK_LOCK_H

#include "core/types.h"

enum hak_rank {
    HAK_RANK_PURGE = 1,   /* the purge thread's state, if there is one */
    HAK_RANK_INSIDE = 2,  /* a heap, for the length of a cold path, if there is a purge thread */
    HAK_RANK_HEAPS = 3,   /* the list of heaps, and which are parked */
    HAK_RANK_STORE = 4,   /* the store of a front end that shares blocks among threads */
    HAK_RANK_SLABS = 5,   /* the slabs of one class, in a back end whose slabs are shared */
    HAK_RANK_EXTENTS = 6, /* extents and the space */
};

/* 0: free, 1: taken, 2: taken and a thread may sleep on it */
struct hak_lock {
    uint32_t state;
    enum hak_rank rank;
};

/* The calling thread holds all locks and is about to fork (true), or has forked (false). In between, taking and releasing
 * a lock does nothing for this thread, so that other libraries' fork handlers, which may run after ours have taken the
 * locks, can allocate. */
void hak_lock_forking(bool forking);

/* Whether the calling thread is between these two calls. */
bool hak_lock_is_forking(void);

/* The calling thread is about to end the process, possibly with a heap locked. From now on locks up to HAK_RANK_INSIDE do
 * nothing for this thread, so that a SIGABRT handler may allocate. */
void hak_lock_dying(void);

void hak_lock(struct hak_lock *lock);

/* Takes the lock if it is free. false: it is not, and nothing has changed. */
bool hak_lock_try(struct hak_lock *lock);

/* Takes another lock of a rank that the thread already holds. Only for code that takes all locks of the rank in one order:
 * fork, and checks of what the locks guard. */
void hak_lock_nested(struct hak_lock *lock);

void hak_unlock(struct hak_lock *lock);

/* Whether a thread sleeps until the lock is free; a hint. */
bool hak_lock_is_awaited(const struct hak_lock *lock);

#endif
