/* SPDX-License-Identifier: MIT */
/* Which heap a thread has, and the cold paths of malloc and free in it.
 *
 *   empty heap ── attach ──► a heap of its own ── the thread exits, detach ──► ended: an empty heap again
 *
 * A thread finds its heap through one pointer in initial-exec TLS, hak_heap_mine, which starts out at the constant
 * empty heap. The cold path of malloc attaches a heap. A thread that only frees gets one after HAK_FREES_TO_ATTACH frees, as
 * without one it can send no batches to others; until then the pointer moves along hak_heap_row, which counts them without
 * a variable in TLS. Libc frees a thread's last blocks when nothing would detach a heap any more. So a thread first has its
 * end noted, after HAK_FREES_TO_ARM frees; when that comes, it attaches no heap from then on.
 *
 * When a thread exits, destructors may still allocate after its heap was parked. The thread then borrows a heap
 * for the length of one cold path, as nothing would tell when to park that one. */
#ifndef HAK_THREAD_H
#define HAK_THREAD_H

#include "core/heap.h"

/* Opens a cold path of the calling thread's heap, which it gets if it has none: a parked one, or a new one. NULL: out
 * of memory; the thread still has the empty heap. May call libc, which may allocate: not to be called under a lock. */
struct hak_heap *hak_thread_enter(void);

/* The same for a free by a thread that has an empty heap. NULL: most often, it has none yet. Calls nothing that allocates. */
struct hak_heap *hak_thread_enter_to_free(void);

/* Closes it. Does due work now and then, and detaches a borrowed heap. */
void hak_thread_leave(struct hak_heap *heap);

#endif
