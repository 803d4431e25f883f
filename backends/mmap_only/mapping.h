/* SPDX-License-Identifier: MIT */
/* Ranges of mapped granules: what slabs and large blocks are made of.
 *
 *   mmap ──► taken ──► free, dirty ──► taken again …
 *                          └─ due, or too many ──► munmap ──refused──► purged: free, clean
 *
 * A free range is dirty (its pages hold memory) or clean (they do not: the rest of a batch, or one that
 * could not be unmapped). Free neighbours of one kind are one range. Dirty ranges are given out
 * first; those that were not used for CONFIG_PURGE_DELAY_MS are unmapped, and so are the oldest as
 * soon as there are more of them than core/dirty_bound.h allows: hak_dirty_max bytes, or what the program needs time
 * and again. A clean range goes with its neighbour.
 *
 * THE LIMIT ON MAPPINGS. The kernel allows a process vm.max_map_count of them and fails every mmap,
 * also the program's own, beyond that. Mapped neighbours melt into one mapping, so what ours cost is
 * the number of places where mapped granules begin, and two for each block that was moved, as that
 * melts with nothing. From 7/8 of the limit on nothing is unmapped that has mapped neighbours on both
 * sides: it is purged and waits as a clean range. From 15/16 on nothing more is mapped.
 *
 * invariant: neighbouring free ranges are of different kinds
 * invariant: dirty bytes <= that bound whenever no thread is inside a function of this file
 *
 * Every function may be called by any thread; each takes the lock HAK_RANK_EXTENTS, and the kernel is
 * called without it. Between two threads it is the tag that keeps them apart: a range loses its tags
 * before it is unmapped and gets them after it was mapped. */
#ifndef HAK_MMAP_ONLY_MAPPING_H
#define HAK_MMAP_ONLY_MAPPING_H

#include "backends/mmap_only/page_map.h"

/* `granules` neighbouring ones from a multiple of `align` granules on; if none are free, at least
 * `batch` are mapped. *zeroed: whether they read as zeros. Both ends are tagged TAG_TAKEN.
 * NULL: out of memory, or of mappings. */
struct slab *mapping_alloc(size_t granules, size_t align, size_t batch, bool *zeroed);

/* Frees a range. */
void mapping_free(struct slab *range);

/* Cuts a taken range down to `granules` and frees the rest. */
void mapping_trim(struct slab *range, size_t granules);

/* Makes a taken range longer where it lies. false: not possible. */
bool mapping_extend(struct slab *range, size_t granules);

/* Moves a taken range to where it can be `granules` long, without copying, and gives its old place back.
 * NULL: not possible, nothing has changed. */
struct slab *mapping_move(struct slab *range, size_t granules);

/* Unmaps dirty ranges that are due at `now`, a bounded number of bytes. Returns whether there are more. */
bool mapping_release_due(uint32_t now);

/* Unmaps all dirty ranges and the clean ones. Returns whether any were. */
bool mapping_release_all(void);

/* Bytes that are mapped. Any thread may ask. */
size_t mapping_bytes(void);

/* Whether there is anything due some time; a hint. */
bool mapping_dirty(void);

void mapping_lock(void);
void mapping_unlock(void);

/* For tests. */
struct mapping_figures {
    size_t mapped;   /* granules */
    size_t dirty;    /* granules */
    size_t clean;    /* granules */
    size_t mappings; /* what they may cost */
    size_t limit;    /* the kernel's */
};
struct mapping_figures mapping_figures(void);

/* Walks all free ranges. */
bool mapping_valid(void);

#endif
