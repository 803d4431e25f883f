/* SPDX-License-Identifier: MIT */
/* The window: the one range of addresses in which every block of the process lies, and the two
 * arrays beside it that describe its granules (64 KiB each).
 *
 *   tags    ┌────┬────┬────┬─ …     4 bytes a granule: owner << 12 | code
 *           └────┴────┴────┴─       read-only zeros; a page becomes writable with the first superslab
 *                                   that it describes, so that any index may be read
 *   slabs   ┌────┬────┬────┬─ …     128 bytes a granule (slab.h), behind unmapped pages; made
 *           └────┴────┴────┴─       readable together with the page of tags
 *   window  ┌─────────┬─────────┬─ …  2 MiB superslabs of 32 granules
 *           └─────────┴─────────┴─
 *
 * The window comes in one of two modes.
 *   reserved   the address range belongs to the library from the start, without memory; a superslab is
 *              made writable when wanted. 2^CONFIG_WINDOW_LOG2 bytes, less where that is refused.
 *   sparse     under a finite RLIMIT_AS, and where reserving is refused or slow, nothing is reserved: each
 *              superslab is mapped at its place when wanted, and a place that somebody else has taken
 *              is skipped.
 *
 * invariant: a superslab is committed or not; tags and slabs of a committed one are writable
 * invariant: the tag of a granule that holds no block is 0
 * sync: everything but reading tags and slabs happens under the lock of run.c */
#ifndef HAK_SUPERSLAB_WINDOW_H
#define HAK_SUPERSLAB_WINDOW_H

#include "core/os.h"

#define GRANULE_SHIFT      16
#define GRANULE_SIZE       ((size_t)1 << GRANULE_SHIFT)
#define SUPERSLAB_SHIFT    21
#define SUPERSLAB_SIZE     ((size_t)1 << SUPERSLAB_SHIFT)
#define SUPERSLAB_GRANULES ((uint32_t)(SUPERSLAB_SIZE / GRANULE_SIZE))

struct slab;

struct window {
    uintptr_t base;     /* multiple of SUPERSLAB_SIZE; 0 before window_init */
    size_t granules;    /* length */
    uint32_t *tags;     /* indexed by granule; relaxed atomics */
    struct slab *slabs; /* indexed by granule */
    bool sparse;        /* the second mode */
    bool gives_back;    /* unused superslabs are uncommitted, not just purged */
    bool charged;       /* the kernel charges memory when it is mapped */
};

extern struct window window;

/* Chooses the window. Once, before anything else here. false: no address space at all. */
bool window_init(void);

/* Commits `count` neighbouring superslabs. Returns the index of the first one's first granule;
 * false: no such place, or no memory. The memory reads as zeros. */
bool window_commit(size_t count, uint32_t *granule);

/* The reverse, for superslabs without blocks. false: the kernel refused, nothing has changed. */
bool window_uncommit(uint32_t granule, size_t count);

/* Whether the granule's superslab is committed: its entry in `slabs` may be touched. */
bool window_committed(size_t granule);

/* Bytes in committed superslabs. Any thread may ask. */
size_t window_bytes(void);

/* Bytes of the arrays that describe granules, as far as they are writable. */
size_t window_metadata(void);

static inline void *granule_address(uint32_t granule)
{
    return (void *)(window.base + ((uintptr_t)granule << GRANULE_SHIFT));
}

/* pre: the address lies in the window */
static inline uint32_t granule_of(const void *address)
{
    return (uint32_t)(((uintptr_t)address - window.base) >> GRANULE_SHIFT);
}

#endif
