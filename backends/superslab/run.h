/* SPDX-License-Identifier: MIT */
/* Runs of granules: what slabs and large blocks are made of.
 *
 * The committed part of the window is tiled by runs. A free run is dirty (its pages hold memory) or
 * clean (they do not). Free neighbours of one kind are one run. Dirty runs are given out first; those
 * that have not been used for CONFIG_PURGE_DELAY_MS are purged, and so are the oldest as soon as there
 * are more of them than core/dirty_bound.h allows: hak_dirty_max bytes, or what the program needs time and again. Whole
 * superslabs are unmapped rather than purged; but as much as hak_dirty_max of those that were too many is kept mapped, as
 * spares, for CONFIG_PURGE_DELAY_MS.
 *            what the kernel refuses to take
 *
 * Every function may be called by any thread; each takes the lock HAK_RANK_EXTENTS. */
#ifndef HAK_SUPERSLAB_RUN_H
#define HAK_SUPERSLAB_RUN_H

#include "backends/superslab/window.h"

/* Granule 0 is never given out, so that it can mean "none". */
#define NO_RUN 0u

/* Begins the window, if it is not there yet. pre: the lock is held. false: no memory. */
bool run_begin(void);

/* `granules` neighbouring granules from a multiple of `align` granules on, in the address space.
 * NO_RUN: out of memory. *zeroed: whether they read as zeros. */
uint32_t run_alloc(size_t granules, size_t align, bool *zeroed);

/* Frees a run, or the tail of one that run_trim has cut off. Its tags are 0 already. `clean`: its pages
 * have been purged and read as zeros. */
void run_free(uint32_t first, size_t granules, bool clean);

/* Grows a used run by taking granules from its next neighbour. false: not free, or too short. */
bool run_extend(uint32_t first, size_t granules);

/* Cuts a used run down to `granules` and frees the rest; `clean` as in run_free. */
void run_trim(uint32_t first, size_t granules, bool clean);

/* Purges dirty runs that are due at `now`, up to a bound. Returns whether there are more. */
bool run_purge_due(uint32_t now);

/* Purges all dirty runs and unmaps the spare superslabs. Returns whether any memory went back. */
bool run_purge_all(void);

/* Whether there is anything to purge; a hint. */
bool run_dirty(void);

/* The window's lock, for what else is shared by all shards. */
void run_lock(void);
void run_unlock(void);

/* Walks all runs. For tests; no other thread may be inside a function of this file. */
bool run_valid(void);

#endif
