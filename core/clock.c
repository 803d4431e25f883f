/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "core/clock.h"

#include <time.h>

uint32_t hak_clock_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    return (uint32_t)now.tv_sec * 1000u + (uint32_t)(now.tv_nsec / 1000000);
}
