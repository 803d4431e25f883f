/* SPDX-License-Identifier: MIT */
#include "core/clock.h"

#include "core/kernel.h"

uint32_t hak_clock_ms(void)
{
    struct timespec now = kernel_clock(CLOCK_MONOTONIC_COARSE);

    return (uint32_t)now.tv_sec * 1000u + (uint32_t)(now.tv_nsec / 1000000);
}
