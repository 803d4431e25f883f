/* SPDX-License-Identifier: MIT */
/* All locks at once, and fork.
 *
 * A fork copies one thread and every lock as it is. So the handlers take all locks before it and release them in the
 * parent and in the child, where the heaps of the threads that are gone are parked or frozen (heap.h). */
#ifndef HAK_FORK_H
#define HAK_FORK_H

#include "core/types.h"

/* Takes all locks, in the order of their ranks, and releases them: what threads share stands still in between. The
 * thread that holds them may call what takes those locks.
 * pre: this thread does not hold them already (hak_lock_is_forking) */
void hak_lock_all(void);
void hak_unlock_all(void);

/* Registers the handlers of fork, unless that is done. It is called by the first constructor of the program or
 * library that we are part of, by the first thread that gets a heap, and before another library's handlers are
 * registered, whichever comes first: before that, no thread forks while another holds a lock of ours.
 * pre: no lock of ours is held, as libc may allocate */
void hak_fork_handle(void);

#endif
