/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "core/thread.h"

#include <pthread.h>

#include "core/fork.h"
#include "core/kernel.h"
#include "core/purger.h"
#include "core/trace.h"

static pthread_key_t exit_key;
static bool exit_key_made; /* atomic */

/* The thread ends, or it has only borrowed the heap: what the cache holds goes back to the slabs, and the heap is
 * parked. A malloc after this borrows one. */
static void thread_detach(struct hak_heap *heap)
{
    hak_heap_enter(heap);
    hak_trace(HAK_EVENT_DETACH, heap, 0);
    hak_heap_mine = (struct hak_heap *)(uintptr_t)&hak_heap_ended;
    frontend_empty(&heap->cache, &heap->shard);
    backend_settle(&heap->shard);
    heap->armed = false;
    hak_heap_release(&heap->shard);
    hak_purger_thread_ends();
}

/* What the key's value is does not matter: it may be from a time when the thread had no heap. */
static void thread_end(void *unused)
{
    (void)unused;
    if (hak_heap_is_empty(hak_heap_mine))
        hak_heap_mine = (struct hak_heap *)(uintptr_t)&hak_heap_ended;
    else
        thread_detach(hak_heap_mine);
}

/* Has the thread's end detach its heap. The heap is in TLS by now, as this may allocate; what cannot
 * be had yet (another thread is about to make the key; no memory) is tried again at a tick. */
static void thread_arm(struct hak_heap *heap)
{
    if (atomic_load_acquire(&exit_key_made))
        heap->armed = pthread_setspecific(exit_key, heap) == 0;
}

/* Gives the calling thread a heap. NULL: out of memory; the thread still has the empty heap. */
static hak_cold struct hak_heap *thread_attach(void)
{
    static bool key_wanted; /* atomic */
    struct hak_heap *heap = hak_heap_take();

    if (heap == NULL)
        return NULL;
    heap->borrowed = hak_heap_mine == &hak_heap_ended;
    hak_heap_mine = heap;
    if (!__atomic_exchange_n(&key_wanted, true, __ATOMIC_RELAXED))
        atomic_store_release(&exit_key_made, pthread_key_create(&exit_key, thread_end) == 0);
    kernel_begin();
    hak_fork_handle();
    hak_trace(HAK_EVENT_ATTACH, heap, 0);
    if (!heap->borrowed)
        thread_arm(heap);
    return heap;
}

struct hak_heap *hak_thread_enter(void)
{
    struct hak_heap *heap = hak_heap_mine;

    if (unlikely(hak_heap_is_empty(heap)) && (heap = thread_attach()) == NULL)
        return NULL;
    hak_heap_enter(heap);
    return heap;
}

/* Has the thread's end noted before it has a heap. false: that cannot be had without an allocation, which may need a thread,
 * and libc itself calls free under the locks that this would take. */
static bool thread_arm_to_free(void)
{
    enum { KEYS_AT_HAND = 32 }; /* each thread has room for their values from the start */

    return atomic_load_acquire(&exit_key_made) && exit_key < KEYS_AT_HAND &&
           pthread_setspecific(exit_key, &hak_heap_row) == 0;
}

struct hak_heap *hak_thread_enter_to_free(void)
{
    const struct hak_heap *heap = hak_heap_mine;
    size_t frees = 1;

    if (heap == &hak_heap_ended)
        return NULL;
    if (heap != &hak_heap_empty)
        frees += ((uintptr_t)heap - (uintptr_t)&hak_heap_row) / HAK_CACHE_LINE;
    if (frees == HAK_FREES_TO_ARM && !thread_arm_to_free())
        return NULL;
    if (frees == HAK_FREES_TO_ATTACH)
        return hak_thread_enter();
    hak_heap_mine = (struct hak_heap *)((uintptr_t)&hak_heap_row + frees * HAK_CACHE_LINE);
    return NULL;
}

/* Arming may allocate, so it comes after the cold path. */
void hak_thread_leave(struct hak_heap *heap)
{
    bool ticked = hak_heap_leave(heap);

    hak_purger_note();
    if (unlikely(heap->borrowed))
        thread_detach(heap);
    else if (unlikely(ticked) && unlikely(!heap->armed))
        thread_arm(heap);
}
