/* SPDX-License-Identifier: MIT */
/* Huge pages for units that are dense (CONFIG_HUGE_PAGES_DENSE).
 *
 *   small pages ── nearly all granules given out and nearly all pages in memory, at two sweeps ──► one huge page
 *        ▲                                                                                          │
 *        └─────────────── split, as soon as a part of it is to be purged ◄──────────────────────────┘
 *
 * The window's advice stays "no huge pages": the kernel makes none by itself, and none come back
 * unnoticed. A unit is collapsed by one call of a tick, while its blocks are in use. With
 * CONFIG_HUGE_PAGES_ALWAYS the advice is the reverse, and only the splitting is done here.
 *
 * invariant: used == granules of the unit that are in use
 * invariant: `huge` is set from a collapse until the next split; it is a hint, as both are
 * sync: all but `huge` under hak_extents_lock; `huge` is a relaxed atomic */
#ifndef HAK_SPACES_DENSE_H
#define HAK_SPACES_DENSE_H

#include "core/spaces/window/window.h"

/* Granules begin or end to be used. pre: the lock is held */
void dense_note_use(uint32_t first, size_t granules, bool used);

/* Before pages in these granules are given back: huge pages that do not lie in them whole are split. */
void dense_split(uint32_t first, size_t granules);

/* Whether some of these granules lie in a huge page. */
bool dense_is_huge(uint32_t first, size_t granules);

/* Goes on with a sweep over the units: the next one that has been dense for a whole sweep; 0: none for now.
 * pre: the lock is held */
size_t dense_next(uint32_t now);

/* Makes a huge page of a unit if nearly all of it is in memory. */
void dense_collapse(size_t unit);

/* Collapses one unit at most. Takes the lock. */
static inline void dense_tick(uint32_t now)
{
    if (!enabled(CONFIG_HUGE_PAGES_DENSE))
        return;
    hak_extents_lock();
    size_t unit = dense_next(now);
    hak_extents_unlock();
    if (unit > 0)
        dense_collapse(unit);
}

#endif
