/* SPDX-License-Identifier: MIT */
/* Upkeep of partly live slabs: the rounds in which a back end looks for pages that can be purged.
 *
 *   round ──► class ──► slab: untouched for HAK_ROUND_MS? ──► purge the pages that only free blocks overlap
 *
 * A round visits every slab with free blocks, a bounded part of it at each tick, so that no malloc waits long. Rounds begin
 * HAK_ROUND_MS apart, so that an unused page is purged within CONFIG_PURGE_DELAY_MS. A trim makes the whole round at once.
 *
 * A back end includes this header after core/slab.h. */
#ifndef HAK_UPKEEP_H
#define HAK_UPKEEP_H

#include "core/backend.h"
#include "core/clock.h"
#include "core/slab.h"

enum { HAK_ROUND_MS = CONFIG_PURGE_DELAY_MS / 2 };

/* What one tick may still do of a round. */
struct hak_effort {
    unsigned looks; /* slabs that are looked at */
    unsigned walks; /* slabs whose free blocks are walked */
};

#define HAK_EFFORT_OF_TICK ((struct hak_effort){256, 16})

/* Whether upkeep is due or overdue at `now`. A thread ticks once a millisecond, unless it is behind. */
static inline bool hak_tick_begins(uint32_t *ticked_at, bool behind, uint32_t now)
{
    if (now == *ticked_at && !behind)
        return false;
    *ticked_at = now;
    return true;
}

/* Whether free blocks of a slab came or went since its pages were last settled, but not within the last `ms`. Its pages
 * then count as settled, and the caller purges them. */
static inline bool hak_slab_settles(struct slab *slab, uint32_t now, uint32_t ms)
{
    /* The stamp may be a millisecond ahead, as 0 means settled. */
    if (slab->touched_at == 0 || !hak_clock_due(slab->touched_at - 1, now, ms))
        return false;
    slab->touched_at = 0;
    return true;
}

/* Calls `trim` for the shard of each parked heap, as its owner. Returns whether any call returned true. */
static inline bool hak_trim_parked(bool (*trim)(struct hak_shard *shard))
{
    bool purged = false;
    struct hak_shard *claimed;

    for (unsigned skip = 0; (claimed = hak_heap_claim(skip)) != NULL; skip++) {
        purged = trim(claimed) || purged;
        hak_heap_release(claimed);
    }
    return purged;
}

#endif
