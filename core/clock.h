/* SPDX-License-Identifier: MIT */
/* The one clock that decay and upkeep read. clock.c holds nothing else, so that a test program can define
 * hak_clock_ms itself and drive time: the linker then leaves clock.o in the archive. */
#ifndef HAK_CLOCK_H
#define HAK_CLOCK_H

#include "core/types.h"

/* Milliseconds of a monotonic clock that costs no system call; coarse (a few ms). Wraps: compare differences.
 * Leaves errno as it was. */
uint32_t hak_clock_ms(void);

#endif
