/* SPDX-License-Identifier: MIT */
/* Extents: neighbouring granules of a space (core/space.h) in one state.
 *
 *   space_map ──► clean ──► used ──► dirty ──► used again …
 *                   ▲                  └─ due, or too many ──► purged or unmapped
 *                   └────────────────────────────────────────────┘
 *
 * A used extent is a slab or a large block. A free one is dirty (its pages hold memory) or clean (they do not). Dirty
 * extents are used first. Those that have not been used for CONFIG_PURGE_DELAY_MS go back to the operating system, and so
 * do the oldest as soon as there are more of them than core/dirty_bound.h allows. What the kernel refuses to take stays
 * dirty. Short ones may wait on a rack (core/rack.h): used extents here, dirty ones in statistics.
 *
 *   length lists   one length each up to 32 granules, then four lists to a doubling
 *   age            dirty extents, oldest first; an extent that joins an older one takes that one's age, so that
 *                  memory becomes due in time however its neighbours change
 *
 * invariant: the first and the last granule of an extent know its length; granules inside are marked as such
 * invariant: neighbouring free extents differ in state, or are clean and differ in whether they read as zeros
 * invariant: dirty granules <= the bound, but for what the kernel refuses, whenever no thread is inside a function; with those on
 *            racks, which are at most the bound's floor, as soon as one is freed under the lock
 *
 * Any thread may call; each function takes the lock HAK_RANK_EXTENTS, but for hak_extents_take and _put, which mostly do
 * not, and hak_extents_purge_due while nothing is due. The kernel is called without it: the granules in
 * question are a used extent that only the caller knows of. The owner of a used extent may read its length and `moved`
 * without the lock. */
#ifndef HAK_EXTENTS_H
#define HAK_EXTENTS_H

#include "core/space.h"

/* A used extent of this length from a multiple of `align` granules, a power of two, in the address space. If none is
 * free, at least `batch` granules are mapped. *zeroed: whether it reads as zeros. HAK_NO_EXTENT: out of memory. */
uint32_t hak_extents_alloc(size_t granules, size_t align, size_t batch, bool *zeroed);

/* Frees a used extent. `clean`: its pages have been purged and read as zeros. */
void hak_extents_free(uint32_t first, bool clean);

/* Likewise without the lock, where the rack has one of this length, or room for one. Callers that take and free at the same
 * time should name racks of their own; the number is taken modulo HAK_RACKS.
 * sync: takes HAK_RANK_EXTENTS if need be */
uint32_t hak_extents_take(unsigned rack, size_t granules, size_t align, bool *zeroed);
void hak_extents_put(unsigned rack, uint32_t first);

/* Whether a rack has an extent of this length; a hint, exact where no other thread takes from it. */
bool hak_extents_have_racked(unsigned rack, size_t granules);

/* Cuts a used extent down and frees the rest. */
void hak_extents_trim(uint32_t first, size_t granules);

/* Makes a used extent longer where it lies. false: not possible, and nothing has changed. */
bool hak_extents_extend(uint32_t first, size_t granules);

/* The length of a used extent. For its owner. */
static inline size_t hak_extents_length(uint32_t first)
{
    return space_node(first)->granules;
}

/* Gives back what is due at `now` (hak_clock_ms), up to a bound. Returns whether there is more. */
bool hak_extents_purge_due(uint32_t now);

/* Gives back all that is free. Returns whether any memory went. */
bool hak_extents_purge_all(void);

/* Whether anything will be due some time; a hint. */
bool hak_extents_are_dirty(void);

/* Granules that are free and dirty, without those on racks; a hint. */
size_t hak_extents_dirty(void);

/* Bytes that are mapped. */
size_t hak_extents_bytes(void);

/* The lock, also for what else all shards share. */
void hak_extents_lock(void);
void hak_extents_unlock(void);

/* The extent in which a granule lies; HAK_NO_EXTENT: none. Slow for the inside of a large block. Without the lock it is
 * a hint. */
uint32_t hak_extents_around(uint32_t granule);

/* The extent after `first`, in order of addresses; the first of all after HAK_NO_EXTENT. HAK_NO_EXTENT: no more.
 * pre: the lock is held */
uint32_t hak_extents_next(uint32_t first);

/* ── what a space calls, with the lock held ──────────────────────────────────────────────────── */

/* Fresh granules, which read as zeros, become a free extent. Returns the one that they are part of. */
uint32_t hak_extents_add(uint32_t first, size_t granules);

/* Granules are mapped as a used extent; or no longer mapped, or about to be unmapped. */
void hak_extents_enter(uint32_t first, size_t granules);
void hak_extents_leave(uint32_t first, size_t granules);

/* Says of how many mappings, which merge with no neighbour, a used extent consists; 0 for one as any other. */
void hak_extents_set_moved(uint32_t first, unsigned mappings);

/* Mappings of the kernel's that the space costs at most, without and with those of moved extents; the kernel's limit. */
struct hak_extents_mappings {
    size_t unmoved, all, limit;
};
struct hak_extents_mappings hak_extents_mappings(void);

/* ── for tests ───────────────────────────────────────────────────────────────────────────────── */

struct hak_extents_figures {
    size_t mapped, dirty, clean; /* granules; those on racks are in use */
};
struct hak_extents_figures hak_extents_figures(void);

/* Whether the invariants hold. Walks all extents. */
bool hak_extents_valid(void);

#endif
