/* SPDX-License-Identifier: MIT */
#include "tests/contract/clock.h"

#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <time.h>

#include "core/atomic.h"
#include "core/kernel.h"

/* So many steps make a pass of time. */
enum { STEPS = 200 };

static uint32_t now = UINT32_MAX - 700; /* atomic, as all that follows */
static uint32_t ms_each_look;
static bool is_true;
static unsigned waits;

/* The thread that waits: there is none but the purge thread. */
static struct {
    bool waits;
    uint32_t *word;
    uint32_t value, from, ms;
} waiter;

/* A forked child has no thread that waits. */
static void forget_waiter(void)
{
    atomic_store_relaxed(&waiter.waits, false);
}

__attribute__((constructor)) static void begin(void)
{
    pthread_atfork(NULL, NULL, forget_waiter);
}

static uint32_t true_ms(void)
{
    struct timespec time = kernel_clock(CLOCK_MONOTONIC);

    return (uint32_t)time.tv_sec * 1000u + (uint32_t)(time.tv_nsec / 1000000);
}

uint32_t hak_clock_ms(void)
{
    if (__atomic_load_n(&is_true, __ATOMIC_ACQUIRE))
        return true_ms();
    return __atomic_add_fetch(&now, atomic_load_relaxed(&ms_each_look), __ATOMIC_ACQ_REL);
}

/* Whether the waiter's time has come. */
static bool is_due(void)
{
    uint32_t ms = atomic_load_relaxed(&waiter.ms);

    return __atomic_load_n(&is_true, __ATOMIC_ACQUIRE) ||
           (ms != HAK_FOREVER &&
            __atomic_load_n(&now, __ATOMIC_ACQUIRE) - atomic_load_relaxed(&waiter.from) >= ms);
}

static void wait_truly(uint32_t *word, uint32_t value, uint32_t ms)
{
    struct timespec time = {ms / 1000, (long)(ms % 1000) * 1000000};

    kernel_futex_wait(word, value, ms == HAK_FOREVER ? NULL : &time);
}

void hak_clock_wait(uint32_t *word, uint32_t value, uint32_t ms)
{
    if (__atomic_load_n(&is_true, __ATOMIC_ACQUIRE)) {
        wait_truly(word, value, ms);
        return;
    }
    atomic_store_relaxed(&waiter.word, word);
    atomic_store_relaxed(&waiter.value, value);
    atomic_store_relaxed(&waiter.from, __atomic_load_n(&now, __ATOMIC_ACQUIRE));
    atomic_store_relaxed(&waiter.ms, ms);
    __atomic_fetch_add(&waits, 1, __ATOMIC_RELAXED);
    atomic_store_release(&waiter.waits, true);
    while (atomic_load_acquire(word) == value && !is_due())
        kernel_futex_wait(word, value, NULL);
    atomic_store_release(&waiter.waits, false);
}

/* Until it has seen that its time has come. It may be just about to sleep, and is woken again. */
static void wake_if_due(void)
{
    while (atomic_load_acquire(&waiter.waits) && is_due()) {
        kernel_futex_wake(atomic_load_relaxed(&waiter.word), 1);
        sched_yield();
    }
}

void clock_advance(uint32_t ms)
{
    __atomic_fetch_add(&now, ms, __ATOMIC_ACQ_REL);
    wake_if_due();
}

/* Of purger.h, where there is such a thread. */
extern bool hak_purger_started __attribute__((weak));

static bool has_purge_thread(void)
{
    return &hak_purger_started && atomic_load_relaxed(&hak_purger_started);
}

void clock_settle(void)
{
    while (has_purge_thread() && !(atomic_load_acquire(&waiter.waits) && !is_due() &&
                                   atomic_load_acquire(atomic_load_relaxed(&waiter.word)) ==
                                       atomic_load_relaxed(&waiter.value)))
        sched_yield();
}

void clock_pass(uint32_t ms)
{
    uint32_t step = ms / STEPS + 1;

    clock_settle();
    for (; ms > 0; ms -= step < ms ? step : ms) {
        clock_advance(step < ms ? step : ms);
        clock_settle();
    }
}

void clock_go_by_looks(uint32_t ms_each)
{
    atomic_store_relaxed(&ms_each_look, ms_each);
}

void clock_be_true(void)
{
    __atomic_store_n(&is_true, true, __ATOMIC_RELEASE);
    wake_if_due();
}

unsigned clock_waits(void)
{
    return atomic_load_relaxed(&waits);
}
