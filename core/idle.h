/* SPDX-License-Identifier: MIT */
/* Idle classes: the size classes of a cache that its thread has not used between two rounds of upkeep.
 *
 * A hit writes no stamp, so use is inferred: the block on top of a class that is used is another one than a round
 * before. By chance it may be the same one; the class is then emptied and refilled, which costs one miss. The blocks of
 * an idle class go to the back end, so that they keep no slab alive. Rounds begin CONFIG_PURGE_DELAY_MS / 2 apart, so
 * that an idle class is empty within CONFIG_PURGE_DELAY_MS. */
#ifndef HAK_IDLE_H
#define HAK_IDLE_H

#include "core/clock.h"
#include "core/size_class.h"

/* owner: the heap's owner. Zero-filled, no class has been seen with a block. */
struct hak_idle {
    uint16_t seen[HAK_CLASSES]; /* tops at the last round, shortened; only compared */
    uint32_t round_at;          /* hak_clock_ms of that round */
};

/* Whether a round is due; it then begins at `now`. */
static inline bool hak_idle_round(struct hak_idle *idle, uint32_t now)
{
    if (likely(!hak_clock_due(idle->round_at, now, CONFIG_PURGE_DELAY_MS / 2)))
        return false;
    idle->round_at = now;
    return true;
}

/* Whether the class is idle, from the block on its top, or NULL when it has none there; the caller then empties it. To
 * be called once a round for each class. */
static inline bool hak_idle_class(struct hak_idle *idle, hak_class cls, const void *top)
{
    uint16_t *seen = &idle->seen[hak_class_index(cls)];
    uint16_t now = (uint16_t)((uintptr_t)top / HAK_CLASS_UNIT);
    bool is_idle = now == *seen;

    *seen = is_idle ? 0 : now; /* what an emptied class has on top */
    return is_idle;
}

#endif
