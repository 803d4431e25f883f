/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "core/fork.h"

#include <pthread.h>

#include "core/heap.h"
#include "core/purger.h"

/* glibc's lock on the list of streams. fork takes it after the handlers, and a thread that flushes all streams
 * holds it while a stream's own write function may allocate. So it comes before our locks. */
extern void _IO_list_lock(void) __attribute__((weak));
extern void _IO_list_unlock(void) __attribute__((weak));
extern void _IO_list_resetlock(void) __attribute__((weak));

void hak_lock_all(void)
{
    hak_purger_lock();
    hak_heap_lock();
    frontend_lock();
    backend_lock();
    hak_lock_forking(true);
}

/* Up to the lock of the heaps, exclusive: what parent and child have in common. */
static void fork_unlock(void)
{
    hak_lock_forking(false);
    backend_unlock();
    frontend_unlock();
}

void hak_unlock_all(void)
{
    fork_unlock();
    hak_heap_unlock();
    hak_purger_unlock();
}

static void fork_prepare(void)
{
    if (_IO_list_lock)
        _IO_list_lock();
    hak_lock_all();
}

static void fork_parent(void)
{
    hak_unlock_all();
    if (_IO_list_unlock)
        _IO_list_unlock();
}

static void fork_child(void)
{
    fork_unlock();
    hak_heap_park_others(hak_heap_mine);
    hak_heap_unlock();
    hak_purger_fork_child();
    if (_IO_list_resetlock)
        _IO_list_resetlock();
}

/* Registers handlers before any other library's; where libc's names are overridden (override_fork.c). */
extern int hak_atfork_first(void (*prepare)(void), void (*parent)(void), void (*child)(void))
    __attribute__((weak, visibility("hidden")));

void hak_fork_handle(void)
{
    static bool asked; /* atomic; also by a call further out, as registering may allocate */
    int error;

    if (likely(atomic_load_relaxed(&asked)) || __atomic_exchange_n(&asked, true, __ATOMIC_RELAXED))
        return;
    if (hak_atfork_first)
        error = hak_atfork_first(fork_prepare, fork_parent, fork_child);
    else
        error = pthread_atfork(fork_prepare, fork_parent, fork_child);
    if (error)
        atomic_store_relaxed(&asked, false);
    else
        hak_purger_allow();
}
