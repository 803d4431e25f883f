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

/* A process that has less than this from the system gets no purge thread. */
static const size_t FOOTPRINT_LEAST = (size_t)4 << 20;

/* Cold paths of malloc before a child of fork gets one, as most such children end soon, and before it is
 * tried again where it could not be had. */
enum { CALLS_IN_CHILD = 64, CALLS_TO_RETRY = 4096 };

/* Between two passes; what is freed becomes due within two of them. */
enum { PASS_MS = CONFIG_PURGE_DELAY_MS / 2 < 10 ? 10 : CONFIG_PURGE_DELAY_MS / 2 };

/* So many passes after the last cold path all that can be given back has been: what caches let go, what is
 * kept at hand, and what is dirty each take up to two. */
enum { PASSES_MOST = 8 };

/* Between two looks whether the process has another thread, once the main thread has ended. */
enum { ALONE_MS = PASS_MS < 100 ? (int)PASS_MS : 100 };

/* Addresses, of which a few pages are touched. It must also hold the program's thread-local variables. */
static const size_t STACK_BYTES = (size_t)256 << 10;

uint32_t hak_purger_news = HAK_PURGER_NEWS;
bool hak_purger_started; /* atomic */

static struct hak_lock lock = {.rank = HAK_RANK_PURGE};
static uint32_t calls_left;   /* of malloc before it is tried; atomic, and counted loosely */
static uint32_t main_ended;   /* atomic */
static sigset_t program_mask; /* of the thread that started it */

void hak_purger_rouse(void)
{
    if (__atomic_exchange_n(&hak_purger_news, HAK_PURGER_NEWS, __ATOMIC_RELEASE) == HAK_PURGER_IDLE)
        kernel_futex_wake(&hak_purger_news, 1);
}

/* ── passes ──────────────────────────────────────────────────────────────────────────────────── */

/* What the threads share of the front end, from a heap that is nobody's. Returns whether there is more. */
static bool tend_store(void)
{
    bool more = false;

    hak_lock(&lock);
    struct hak_heap *heap = hak_heap_take();
    if (heap) {
        hak_heap_enter(heap);
        more = frontend_upkeep(&heap->cache, &heap->shard);
        backend_thread_exit(&heap->shard);
        hak_heap_release(&heap->shard);
    }
    hak_unlock(&lock);
    return more;
}

/* One step of what is overdue in a heap, unless somebody is in it. Returns whether there is more to do now: who
 * waits, the heap's owner or a thread that forks, has time to wake up before the next pass. */
static bool tend_heap(struct hak_heap *heap)
{
    bool more = false;

    hak_lock(&lock);
    if (hak_lock_try(&heap->inside.lock)) {
        atomic_fence_release();
        more = backend_upkeep(&heap->shard) && !hak_lock_is_awaited(&heap->inside.lock) &&
               !hak_lock_is_awaited(&lock);
        hak_inside_leave(&heap->inside);
    }
    hak_unlock(&lock);
    return more;
}

static void pass(void)
{
    while (tend_store())
        continue;
    for (struct hak_heap *heap = hak_heap_all(); heap; heap = heap->all_next)
        if (!__atomic_exchange_n(&heap->inside.ticked, false, __ATOMIC_RELAXED))
            while (tend_heap(heap))
                continue;
}

static bool is_store_empty(void)
{
    size_t held = 0;

    for (unsigned i = 0; i < HAK_CLASSES; i++)
        held += frontend_held(NULL, hak_class_at(i));
    return held == 0;
}

/* ── the thread ──────────────────────────────────────────────────────────────────────────────── */

/* Whether the main thread has ended and no other than this one is left. What the kernel does not tell, it
 * takes for no. */
static bool is_alone(void)
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
static void sleep_for(uint32_t ms)
{
    static uint32_t nothing; /* that anybody would wake it for */

    if (atomic_load_relaxed(&main_ended))
        hak_clock_wait(&nothing, 0, ms);
    else
        hak_clock_wait(&main_ended, 0, ms);
}

/* Sleeps until there is something to do. */
static void idle(void)
{
    uint32_t none = HAK_PURGER_NO_NEWS;

    if (!atomic_cas_strong_acq_rel(&hak_purger_news, &none, HAK_PURGER_IDLE))
        return;
    while (atomic_load_acquire(&hak_purger_news) == HAK_PURGER_IDLE)
        hak_clock_wait(&hak_purger_news, HAK_PURGER_IDLE, HAK_FOREVER);
}

/* Returns, as the last thread of the process, when the main thread has ended and so have all others: that ends
 * the process, as it would without this one. */
static void *live(void *unused)
{
    unsigned passes = 0;

    pthread_setname_np(pthread_self(), "hakmem-purge");
    for (;;) {
        sleep_for(atomic_load_relaxed(&main_ended) ? (uint32_t)ALONE_MS : (uint32_t)PASS_MS);
        if (atomic_load_relaxed(&main_ended) && is_alone())
            break;
        passes++;
        if (atomic_exchange_acquire(&hak_purger_news, HAK_PURGER_NO_NEWS) == HAK_PURGER_NEWS)
            passes = 0;
        pass();
        if (passes >= PASSES_MOST && !atomic_load_relaxed(&main_ended) && is_store_empty())
            idle();
    }
    pthread_sigmask(SIG_SETMASK, &program_mask, NULL); /* exit handlers may run here */
    return unused;
}

/* Returns an error number. */
static int create(size_t stack_bytes)
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
        error = pthread_create(&thread, &attributes, live, NULL);
    pthread_attr_destroy(&attributes);
    return error;
}

/* Making a thread allocates: that the thread counts as started keeps this from being done twice. */
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
    if (!heap->armed || backend_footprint() < FOOTPRINT_LEAST || !hak_heap_knows_fork() ||
        !atomic_cas_strong_acq_rel(&hak_purger_started, &started, true))
        return;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &program_mask);
    int error = create(STACK_BYTES);
    if (error ==
        EINVAL) /* too little for the program's thread-local variables: as much as its own have */
        error = create(0);
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

void hak_purger_fork_prepare(void)
{
    hak_lock(&lock);
}

void hak_purger_fork_parent(void)
{
    hak_unlock(&lock);
}

void hak_purger_fork_child(void)
{
    atomic_store_relaxed(&hak_purger_news, HAK_PURGER_NEWS);
    atomic_store_relaxed(&calls_left, CALLS_IN_CHILD);
    atomic_store_relaxed(&main_ended, 0); /* the thread that forked is the child's main thread */
    atomic_store_relaxed(&hak_purger_started, false);
    hak_unlock(&lock);
}
