/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "core/heap.h"

#include <pthread.h>

#include "core/atomic.h"
#include "core/crowd.h"
#include "core/environment.h"
#include "core/kernel.h"
#include "core/lock.h"
#include "core/os.h"
#include "core/trace.h"
#include "core/purger.h"

/* Cold paths between two looks at the clock. */
enum { TICK_EVERY = 16 };

/* Heaps are mapped this many bytes at a time. */
static const size_t ARENA_BYTES = (size_t)64 << 10;

const struct hak_heap hak_heap_empty;
const struct hak_heap hak_heap_ended;

_Thread_local struct hak_heap *hak_heap_mine = (struct hak_heap *)(uintptr_t)&hak_heap_empty;

static struct hak_lock heaps_lock = {.rank = HAK_RANK_HEAPS};
static struct hak_heap *all;          /* atomic; those behind it do not change */
static struct hak_heap *parked_first; /* the heap parked last */
static char *arena;                   /* what is left of the last mapping of heaps */
static size_t arena_left;

static pthread_key_t exit_key;
static bool exit_key_made;

_Static_assert(sizeof(struct hak_heap) % HAK_CACHE_LINE == 0, "heaps share no cache line");

/* Memory for one heap: zeroed. */
static struct hak_heap *heap_map(void)
{
    size_t size = sizeof(struct hak_heap);

    if (arena_left < size) {
        size_t bytes = size < ARENA_BYTES ? ARENA_BYTES : size + os_page_size();
        bytes &= ~(os_page_size() - 1);
        arena = os_map(bytes);
        arena_left = arena ? bytes : 0;
        if (arena == NULL)
            return NULL;
    }
    struct hak_heap *heap = (struct hak_heap *)(void *)arena;
    arena += size;
    arena_left -= size;
    return heap;
}

/* pre: heaps_lock is held */
static struct hak_heap *heap_new(void)
{
    struct hak_heap *heap = heap_map();

    if (heap == NULL)
        return NULL;
    if (!backend_thread_init(&heap->shard)) {
        arena = (char *)heap; /* zero as before: the next one takes it */
        arena_left += sizeof(struct hak_heap);
        return NULL;
    }
    frontend_thread_init(&heap->cache);
    hak_inside_init(&heap->inside);
    heap->all_next = all;
    atomic_store_release(&all, heap);
    atomic_store_relaxed(&hak_crowd_heaps, hak_crowd_heaps + 1);
    return heap;
}

/* pre: heaps_lock is held */
static void park(struct hak_heap *heap)
{
    heap->parked = true;
    heap->parked_next = parked_first;
    atomic_store_relaxed(&parked_first, heap);
}

static struct hak_heap *unpark(struct hak_heap **link)
{
    struct hak_heap *heap = *link;

    atomic_store_relaxed(link, heap->parked_next);
    heap->parked = false;
    return heap;
}

/* The thread ends, or its heap goes for another reason: what the cache holds goes back to the slabs,
 * and the heap is parked. A malloc after this borrows one. */
static void detach(void *pointer)
{
    struct hak_heap *heap = pointer;

    hak_heap_enter(heap);
    hak_trace(HAK_EVENT_DETACH, heap, 0);
    hak_heap_mine = (struct hak_heap *)(uintptr_t)&hak_heap_ended;
    frontend_thread_exit(&heap->cache, &heap->shard);
    backend_thread_exit(&heap->shard);
    heap->armed = false;
    hak_heap_release(&heap->shard);
    hak_purger_thread_ends();
}

/* glibc's lock on the list of streams. fork takes it after the handlers; whoever flushes all streams
 * holds it while a stream's own write function may allocate. So it comes before our locks. */
extern void _IO_list_lock(void) __attribute__((weak));
extern void _IO_list_unlock(void) __attribute__((weak));
extern void _IO_list_resetlock(void) __attribute__((weak));

void hak_heap_stop(void)
{
    hak_purger_fork_prepare();
    hak_lock(&heaps_lock);
    frontend_fork_prepare();
    backend_fork_prepare();
    hak_lock_forking(true);
}

void hak_heap_resume(void)
{
    hak_lock_forking(false);
    backend_fork_parent();
    frontend_fork_parent();
    hak_unlock(&heaps_lock);
    hak_purger_fork_parent();
}

static void fork_prepare(void)
{
    if (_IO_list_lock)
        _IO_list_lock();
    hak_heap_stop();
}

static void fork_parent(void)
{
    hak_heap_resume();
    if (_IO_list_unlock)
        _IO_list_unlock();
}

static void fork_child(void)
{
    hak_lock_forking(false);
    backend_fork_child();
    frontend_fork_child();
    for (struct hak_heap *heap = all; heap; heap = heap->all_next) {
        if (heap == hak_heap_mine || heap->parked || hak_is_inside(&heap->inside))
            continue;
        frontend_forget(&heap->cache);
        park(heap);
    }
    hak_unlock(&heaps_lock);
    hak_purger_fork_child();
    if (_IO_list_resetlock)
        _IO_list_resetlock();
}

/* Registers handlers before any other library's; where libc's names are overridden (override_fork.c). */
extern int hak_atfork_first(void (*prepare)(void), void (*parent)(void), void (*child)(void))
    __attribute__((weak, visibility("hidden")));

static bool handlers_registered; /* atomic */

void hak_heap_handle_forks(void)
{
    static bool asked; /* atomic; also by a call further out, as registering may allocate */
    int error;

    if (likely(atomic_load_relaxed(&asked)) || __atomic_exchange_n(&asked, true, __ATOMIC_RELAXED))
        return;
    if (hak_atfork_first)
        error = hak_atfork_first(fork_prepare, fork_parent, fork_child);
    else
        error = pthread_atfork(fork_prepare, fork_parent, fork_child);
    atomic_store_relaxed(&handlers_registered, error == 0);
    if (error)
        atomic_store_relaxed(&asked, false);
}

bool hak_heap_knows_fork(void)
{
    return atomic_load_relaxed(&handlers_registered) && !hak_lock_is_forking();
}

static void begin(void)
{
    hak_heap_handle_forks();
    kernel_begin();
    hak_environment_read();
}

/* The linker sorts constructors by the number at the end. */
static void (*const first_constructor)(void)
    __attribute__((used, section(".init_array.00000"))) = begin;

/* Has the thread's end detach its heap. The heap is in TLS by now, as this may allocate; what cannot
 * be had yet (another thread is about to make the key; no memory) is tried again at a tick. */
static void arm(struct hak_heap *heap)
{
    if (atomic_load_acquire(&exit_key_made))
        heap->armed = pthread_setspecific(exit_key, heap) == 0;
}

struct hak_heap *hak_heap_take(void)
{
    hak_lock(&heaps_lock);
    struct hak_heap *heap = parked_first ? unpark(&parked_first) : heap_new();
    hak_unlock(&heaps_lock);
    return heap;
}

struct hak_heap *hak_heap_all(void)
{
    return atomic_load_acquire(&all);
}

struct hak_heap *hak_heap_attach(void)
{
    static bool key_wanted;
    struct hak_heap *heap = hak_heap_take();

    if (heap == NULL)
        return NULL;
    heap->borrowed = hak_heap_mine == &hak_heap_ended;
    hak_heap_mine = heap;
    if (!__atomic_exchange_n(&key_wanted, true, __ATOMIC_RELAXED))
        atomic_store_release(&exit_key_made, pthread_key_create(&exit_key, detach) == 0);
    kernel_begin();
    hak_heap_handle_forks();
    hak_trace(HAK_EVENT_ATTACH, heap, 0);
    if (!heap->borrowed)
        arm(heap);
    return heap;
}

void hak_heap_enter(struct hak_heap *heap)
{
    hak_inside_enter(&heap->inside);
}

/* Arming may allocate, so it comes after the cold path. */
static hak_cold void leave_with_tick(struct hak_heap *heap)
{
    frontend_tick(&heap->cache, &heap->shard);
    backend_tick(&heap->shard);
    hak_inside_tick(&heap->inside);
    hak_inside_leave(&heap->inside);
    hak_purger_note();
    if (heap->borrowed)
        detach(heap);
    else if (unlikely(!heap->armed))
        arm(heap);
}

void hak_heap_leave(struct hak_heap *heap)
{
    atomic_store_relaxed(&heap->cold_paths, heap->cold_paths + 1);
    if (unlikely(heap->cold_paths % TICK_EVERY == 0)) {
        leave_with_tick(heap);
        return;
    }
    hak_inside_leave(&heap->inside);
    hak_purger_note();
    if (unlikely(heap->borrowed))
        detach(heap);
}

struct hak_shard *hak_heap_claim(unsigned skip)
{
    struct hak_heap *heap = NULL;

    if (atomic_load_relaxed(&parked_first) == NULL)
        return NULL;
    hak_lock(&heaps_lock);
    struct hak_heap **link = &parked_first;
    while (*link && skip-- > 0)
        link = &(*link)->parked_next;
    if (*link)
        heap = unpark(link);
    hak_unlock(&heaps_lock);
    if (heap == NULL)
        return NULL;
    hak_heap_enter(heap);
    return &heap->shard;
}

void hak_heap_release(struct hak_shard *shard)
{
    struct hak_heap *heap = hak_container_of(shard, struct hak_heap, shard);

    hak_inside_leave(&heap->inside);
    hak_lock(&heaps_lock);
    park(heap);
    hak_unlock(&heaps_lock);
}
