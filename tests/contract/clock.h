/* SPDX-License-Identifier: MIT */
/* The clock of the library under test, which the test drives: it defines hak_clock_ms and hak_clock_wait in core's
 * place. Time stands still until a test says that some has passed, on a fast machine as on a busy one.
 *
 * It begins shortly before it wraps, so that most tests see that, too. A child of fork has a clock of its own, which
 * goes on from its parent's. */
#ifndef HAK_TESTS_CONTRACT_CLOCK_H
#define HAK_TESTS_CONTRACT_CLOCK_H

#include <stdint.h>

#include "core/clock.h"

/* Some time passes at once. A purge thread whose time has come begins to work meanwhile. */
void clock_advance(uint32_t ms);

/* Some time passes, little by little, and after each step a purge thread does all that it would. */
void clock_pass(uint32_t ms);

/* Returns when the purge thread, if there is one, waits and has nothing to do before more time passes. */
void clock_settle(void);

/* From now on every look at the clock takes so long: time goes by what is done. 0: it stands still again. */
void clock_go_by_looks(uint32_t ms_each);

/* From now on it is the true time that passes, for what no thread is there to drive. */
void clock_be_true(void);

/* How often a thread has begun to wait. */
unsigned clock_waits(void);

#endif
