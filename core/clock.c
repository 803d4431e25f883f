/* SPDX-License-Identifier: MIT */
#include "core/clock.h"

#include "core/kernel.h"

uint32_t hak_clock_ms(void)
{
    struct timespec now = kernel_clock(CLOCK_MONOTONIC_COARSE);

    return (uint32_t)now.tv_sec * 1000u + (uint32_t)(now.tv_nsec / 1000000);
}

void hak_clock_wait(uint32_t *word, uint32_t value, uint32_t ms)
{
    struct timespec time = {ms / 1000, (long)(ms % 1000) * 1000000};

    kernel_futex_wait(word, value, ms == HAK_FOREVER ? NULL : &time);
}
