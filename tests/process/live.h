/* SPDX-License-Identifier: MIT */
/* How many blocks are live, exactly, as the library under test counts them. */
#ifndef LIVE_H
#define LIVE_H

#include <sched.h>
#include "../../core/include/hakmem/stats.h"
#include "check.h"

size_t hak_stats_get(struct hak_stats *stats, size_t size) __attribute__((weak));

/* Asks again while another thread, which can only be the library's own, is just inside of it. */
static inline long live_blocks(void)
{
    static struct hak_stats stats;

    CHECK(hak_stats_get);
    while (hak_stats_get(&stats, sizeof stats), !stats.exact)
        sched_yield();
    return (long)stats.live_blocks;
}

#endif
