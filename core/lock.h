/* SPDX-License-Identifier: MIT */
/* A lock for cold paths: one word, a futex when contended, nothing to initialise.
 *
 * Locks have ranks; a thread takes them in ascending rank only, and fork takes them all. In a build
 * with CONFIG_ASSERT_LEVEL >= 1 a thread that breaks the order stops the process. */
#ifndef HAK_LOCK_H
#define HAK_LOCK_H

#include "core/types.h"

enum hak_rank {
    HAK_RANK_PURGE = 1,   /* what the purge thread is at, if there is one */
    HAK_RANK_INSIDE = 2,  /* a heap, for the length of a cold path, if there is a purge thread */
    HAK_RANK_HEAPS = 3,   /* the list of heaps, and which are parked */
    HAK_RANK_STORE = 4,   /* a front end's store of blocks that threads share */
    HAK_RANK_SLABS = 5,   /* a back end's slabs of one class, where threads share them */
    HAK_RANK_EXTENTS = 6, /* the back end's memory shared by all threads */
};

/* 0 free, 1 taken, 2 taken and somebody may sleep */
struct hak_lock {
    uint32_t state;
    enum hak_rank rank;
};

/* Between true and false the calling thread, which holds all locks, forks: for it alone, taking and
 * releasing them does nothing. So other libraries' fork handlers, which may run after ours have taken
 * the locks, can allocate. */
void hak_lock_forking(bool forking);

/* Whether the calling thread is between the two. */
bool hak_lock_is_forking(void);

/* The calling thread ends the process, with a heap locked it may be. For it locks up to HAK_RANK_INSIDE are free
 * from now on, so that a handler of SIGABRT may allocate. */
void hak_lock_dying(void);

void hak_lock(struct hak_lock *lock);

/* false: somebody has it, and nothing has changed. */
bool hak_lock_try(struct hak_lock *lock);

/* Takes a lock of a rank that the thread holds already. Only code that takes all locks of a rank in
 * one order does: fork, and checks of what they guard. */
void hak_lock_nested(struct hak_lock *lock);

void hak_unlock(struct hak_lock *lock);

/* Whether somebody sleeps until the lock is free; a hint. */
bool hak_lock_is_awaited(const struct hak_lock *lock);

#endif
