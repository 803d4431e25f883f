/* SPDX-License-Identifier: MIT */
/* The one clock that decay and upkeep read, and the one timed wait. clock.c holds nothing else, so that a test program
 * can define both functions itself and drive time: the linker then leaves clock.o in the archive. */
#ifndef HAK_CLOCK_H
#define HAK_CLOCK_H

#include "core/types.h"

/* Milliseconds of a monotonic clock that costs no system call; coarse (a few ms). Wraps: compare differences.
 * Leaves errno as it was. */
uint32_t hak_clock_ms(void);

/* Whether what began at `since` has lasted for `ms` milliseconds. A stamp that another thread has just made may lie after
 * this thread's `now`: it counts as due at once, rather than after the wrap. */
static inline bool hak_clock_due(uint32_t since, uint32_t now, uint32_t ms)
{
    return now - since >= ms;
}

/* Wait without a limit. */
#define HAK_FOREVER UINT32_MAX

/* Waits while *word is `value`, for at most `ms` milliseconds, or until a thread that has changed it wakes the waiter
 * (kernel_futex_wake). May return early for no reason. */
void hak_clock_wait(uint32_t *word, uint32_t value, uint32_t ms);

#endif
