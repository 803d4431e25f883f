/* SPDX-License-Identifier: MIT */
/* How much free memory may wait for its next use, before the thread that frees more gives the oldest back.
 *
 *                 floor          floor + extra
 *   ├───────────────┼──────────────────┼────────── …
 *   │ always        │ has proved useful│ given back at once
 *
 * hak_dirty_max bytes may always wait: the floor. A program that allocates and frees more than that again and again
 * would pay a system call and page faults each time. So what was given back for the sake of the bound, and then had
 * to be taken anew within a purge delay or two, is added to the bound, up to CONFIG_DIRTY_BURST_MAX MiB in all. It is taken
 * off again when what waits has not gone up and down by as much for some purge delays. A program whose need goes down
 * once keeps no more than the floor.
 *
 * A program that has set hak_dirty_max itself has the floor alone.
 *
 * What waits beyond the floor is no more than was in use of late and is not any more, so that the process never has more
 * memory because of it than it had anyway; or than CONFIG_DIRTY_SHARE percent of what is in use, whichever is more: blocks
 * that are replaced all the time, by shorter and longer ones, leave holes in proportion to what is in use.
 *
 * Sizes are in granules. Every function is called under the lock of the extents. */
#ifndef HAK_DIRTY_BOUND_H
#define HAK_DIRTY_BOUND_H

#include "core/page_set.h"
#include "core/tuning.h"

/* Zero-filled, it is the bound of a back end that has nothing yet. */
struct hak_dirty_bound {
    size_t extra; /* beyond the floor */
    size_t
        given_back; /* for the bound's sake in this interval and the last one, and not taken anew since */
    size_t least, most;  /* that waited in this interval */
    size_t swing_before; /* the difference of the two in the interval before */
    size_t used_most;    /* the most that was in use in this interval */
    size_t used_before;  /* and in the one before */
    uint32_t began;      /* hak_clock_ms; when the interval did, which is a purge delay long */
};

static inline size_t hak_dirty_floor(void)
{
    return atomic_load_relaxed(&hak_dirty_max) / HAK_SLAB_GRANULE;
}

/* How much may wait while `used` is in use. */
size_t hak_dirty_most(const struct hak_dirty_bound *bound, size_t used);

/* What is in use or waits has changed: so much is in use now, and so much waits. */
static inline void hak_dirty_track(struct hak_dirty_bound *bound, size_t used, size_t dirty)
{
    bound->used_most = bound->used_most > used ? bound->used_most : used;
    bound->least = bound->least < dirty ? bound->least : dirty;
    bound->most = bound->most > dirty ? bound->most : dirty;
}

/* Likewise, and an interval may be over: what waits may be more than it may be, then. */
void hak_dirty_note(struct hak_dirty_bound *bound, size_t used, size_t dirty, uint32_t now);

/* So much was given back because it was more than might wait. */
void hak_dirty_gave_back(struct hak_dirty_bound *bound, size_t granules);

/* So much was taken that held no memory. */
void hak_dirty_took_fresh(struct hak_dirty_bound *bound, size_t granules);

#endif
