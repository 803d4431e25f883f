/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "core/purger.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "core/kernel.h"

/* A process with less memory than this gets no purge thread. */
static const size_t FOOTPRINT_LEAST = (size_t)4 << 20;

/* Cold paths of malloc before a forked child gets a purge thread, as most such children end soon, and before
 * another attempt after one that failed. */
enum { CALLS_IN_CHILD = 64, CALLS_TO_RETRY = 4096 };

/* Milliseconds between two passes; what is freed becomes due within two of them. */
enum { PASS_MS = CONFIG_PURGE_DELAY_MS / 2 < 10 ? 10 : CONFIG_PURGE_DELAY_MS / 2 };

/* Passes after the last cold path until all that can be given back has been: what caches let go, kept chains, and dirty
 * extents each take up to two. */
enum { PASSES_MOST = 8 };

/* Milliseconds between two looks whether the process has another thread, once the main thread has ended. */
enum { ALONE_MS = PASS_MS < 100 ? (int)PASS_MS : 100 };

/* Bytes of address space, of which a few pages are touched. The program's thread-local variables lie there too. */
static const size_t STACK_BYTES = (size_t)256 << 10;

uint32_t hak_purger_news = HAK_PURGER_NEWS;
bool hak_purger_started; /* atomic */

static struct hak_lock purger_lock = {.rank = HAK_RANK_PURGE};
static bool allowed;          /* atomic */
static uint32_t calls_left;   /* of malloc before it is tried; atomic, and counted loosely */
static uint32_t main_ended;   /* atomic */
static sigset_t program_mask; /* of the thread that started it */

void hak_purger_rouse(void)
{
    if (__atomic_exchange_n(&hak_purger_news, HAK_PURGER_NEWS, __ATOMIC_RELEASE) == HAK_PURGER_IDLE)
        kernel_futex_wake(&hak_purger_news, 1);
}

/* ── passes ──────────────────────────────────────────────────────────────────────────────────── */

/* The store's due work, from a heap that no thread has. Returns whether there is more. */
static bool purger_tend_store(void)
{
    bool more = false;

    if (!HAK_HAS_STORE)
        return false;
    hak_lock(&purger_lock);
    struct hak_heap *heap = hak_heap_take();
    if (heap) {
        hak_heap_enter(heap);
        more = store_upkeep(&heap->shard);
        backend_settle(&heap->shard);
        hak_heap_release(&heap->shard);
    }
    hak_unlock(&purger_lock);
    return more;
}

/* One step of the due work in a heap, unless its owner is in a cold path. Returns whether there is more to do now: not if
 * the owner or a forking thread waits, so that it has time to wake up before the next pass. */
static bool purger_tend_heap(struct hak_heap *heap)
{
    bool more = false;

    hak_lock(&purger_lock);
    if (hak_lock_try(&heap->inside.lock)) {
        atomic_fence_release();
        more = backend_upkeep(&heap->shard) && !hak_lock_is_awaited(&heap->inside.lock) &&
               !hak_lock_is_awaited(&purger_lock);
        hak_inside_leave(&heap->inside);
    }
    hak_unlock(&purger_lock);
    return more;
}

static void purger_pass(void)
{
    while (purger_tend_store())
        continue;
    for (struct hak_heap *heap = hak_heap_all(); heap; heap = heap->all_next)
        if (!__atomic_exchange_n(&heap->inside.ticked, false, __ATOMIC_RELAXED))
            while (purger_tend_heap(heap))
                continue;
}

static bool purger_is_store_empty(void)
{
    size_t held = 0;

    for (unsigned i = 0; i < HAK_CLASSES; i++)
        held += store_held(hak_class_at(i));
    return held == 0;
}

/* ── the thread ──────────────────────────────────────────────────────────────────────────────── */

/* Whether the main thread has ended and the purge thread is the only one left. false where the kernel does not tell. */
static bool purger_is_alone(void)
{
    char text[512];
    long file = kernel_open("/proc/self/stat");
    long length = file < 0 ? 0 : kernel_read(file, text, sizeof(text) - 1);

    if (file >= 0)
        kernel_close(file);
    text[length > 0 ? length : 0] = '\0';
    /* pid (name) state …, and the number of threads as the 18th word from the state on */
    char *at = strrchr(text, ')');
    bool is_zombie = at && at[1] == ' ' && at[2] == 'Z';
    for (int word = 0; at && word < 18; word++)
        at = strchr(at + 1, ' ');
    return is_zombie && at && strtol(at, NULL, 10) == 2;
}

/* Until the main thread ends, or has ended and another look is due. */
static void purger_sleep(uint32_t ms)
{
    static uint32_t nothing; /* no thread wakes a waiter on it */

    if (atomic_load_relaxed(&main_ended))
        hak_clock_wait(&nothing, 0, ms);
    else
        hak_clock_wait(&main_ended, 0, ms);
}

/* Sleeps until there is something to do. */
static void purger_idle(void)
{
    uint32_t none = HAK_PURGER_NO_NEWS;

    if (!atomic_cas_strong_acq_rel(&hak_purger_news, &none, HAK_PURGER_IDLE))
        return;
    while (atomic_load_acquire(&hak_purger_news) == HAK_PURGER_IDLE)
        hak_clock_wait(&hak_purger_news, HAK_PURGER_IDLE, HAK_FOREVER);
}

/* Returns, as the last thread of the process, when the main thread has ended and so have all others: that ends
 * the process, as it would without this one. */
static void *purger_live(void *unused)
{
    unsigned passes = 0;

    pthread_setname_np(pthread_self(), "hakmem-purge");
    for (;;) {
        purger_sleep(atomic_load_relaxed(&main_ended) ? (uint32_t)ALONE_MS : (uint32_t)PASS_MS);
        if (atomic_load_relaxed(&main_ended) && purger_is_alone())
            break;
        passes++;
        if (atomic_exchange_acquire(&hak_purger_news, HAK_PURGER_NO_NEWS) == HAK_PURGER_NEWS)
            passes = 0;
        purger_pass();
        if (passes >= PASSES_MOST && !atomic_load_relaxed(&main_ended) && purger_is_store_empty())
            purger_idle();
    }
    pthread_sigmask(SIG_SETMASK, &program_mask, NULL); /* exit handlers may run here */
    return unused;
}

/* Returns an error number. */
static int purger_create(size_t stack_bytes)
{
    pthread_attr_t attributes;
    pthread_t thread;
    int error = pthread_attr_init(&attributes);

    if (error)
        return error;
    error = pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    if (error == 0 && stack_bytes > 0)
        error = pthread_attr_setstacksize(&attributes, stack_bytes);
    if (error == 0)
        error = pthread_create(&thread, &attributes, purger_live, NULL);
    pthread_attr_destroy(&attributes);
    return error;
}

void hak_purger_allow(void)
{
    atomic_store_relaxed(&allowed, true);
}

/* Making a thread allocates. `started` is set before, so that the nested call makes no second one. */
void hak_purger_start(const struct hak_heap *heap)
{
    int saved = errno;
    sigset_t all;
    bool started = false;
    uint32_t left = atomic_load_relaxed(&calls_left);

    if (left > 0) {
        atomic_store_relaxed(&calls_left, left - 1);
        return;
    }
    if (!heap->armed || backend_footprint() < FOOTPRINT_LEAST || !atomic_load_relaxed(&allowed) ||
        hak_lock_is_forking() || !atomic_cas_strong_acq_rel(&hak_purger_started, &started, true))
        return;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &program_mask);
    int error = purger_create(STACK_BYTES);
    if (error ==
        EINVAL) /* too little for the program's thread-local variables: the default size has room for them */
        error = purger_create(0);
    if (error) {
        atomic_store_relaxed(&calls_left, CALLS_TO_RETRY);
        atomic_store_relaxed(&hak_purger_started, false);
    }
    pthread_sigmask(SIG_SETMASK, &program_mask, NULL);
    errno = saved;
}

void hak_purger_thread_ends(void)
{
    if (kernel_is_main_thread()) {
        atomic_store_relaxed(&main_ended, 1);
        kernel_futex_wake(&main_ended, 1);
    }
    hak_purger_rouse();
}

/* ── fork ────────────────────────────────────────────────────────────────────────────────────── */

void hak_purger_lock(void)
{
    hak_lock(&purger_lock);
}

void hak_purger_unlock(void)
{
    hak_unlock(&purger_lock);
}

void hak_purger_fork_child(void)
{
    atomic_store_relaxed(&hak_purger_news, HAK_PURGER_NEWS);
    atomic_store_relaxed(&calls_left, CALLS_IN_CHILD);
    atomic_store_relaxed(&main_ended, 0); /* the thread that forked is the child's main thread */
    atomic_store_relaxed(&hak_purger_started, false);
    hak_unlock(&purger_lock);
}
