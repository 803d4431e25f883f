/* SPDX-License-Identifier: MIT */
/* The window: a space (core/space.h) that is one range of addresses. Every block of the process lies in it, and two arrays
 * below it describe its granules.
 *
 *   tags    ┌────┬────┬────┬─ …     4 bytes a granule: owner << 12 | code
 *           └────┴────┴────┴─
 *   slabs   ┌────┬────┬────┬─ …     128 bytes a granule (slab.h)
 *           └────┴────┴────┴─
 *   window  ┌─────────┬─────────┬─ …  2 MiB superslabs of 32 granules, 2^CONFIG_WINDOW_LOG2 bytes
 *           └─────────┴─────────┴─
 *
 * The three are a choice of addresses; nothing is reserved. A superslab is mapped at its place when wanted and unmapped
 * when its memory goes back; a place that another mapping has taken is skipped. The kernel merges neighbours, as all of
 * the window has the same protection and advice. Superslab 0 is never mapped, so that granule 0 can mean "none".
 *
 * `granules` is the length of the window so far: up to the last superslab that was ever mapped, in steps of 64 MiB.
 * It only grows. The tags below it are mapped, so that any index below it may be read, whatever the pointer. Slabs are
 * mapped with the first superslab of each step, and like the tags never unmapped: 132 KiB for 64 MiB.
 *
 * invariant: a superslab is committed (mapped, and the window's) or not; tags and slabs of a committed one are mapped
 * invariant: the tag of a granule that holds no block is 0
 * sync: everything but reading tags, slabs, `granules` and what is committed happens under hak_extents_lock */
#ifndef HAK_SUPERSLAB_WINDOW_H
#define HAK_SUPERSLAB_WINDOW_H

#include "core/atomic.h"
#include "core/extents.h"

#define GRANULE_SHIFT      HAK_GRANULE_SHIFT
#define GRANULE_SIZE       HAK_SLAB_GRANULE
#define SUPERSLAB_SHIFT    21
#define SUPERSLAB_SIZE     ((size_t)1 << SUPERSLAB_SHIFT)
#define SUPERSLAB_GRANULES ((uint32_t)(SUPERSLAB_SIZE / GRANULE_SIZE))
#define WINDOW_GRANULES    ((size_t)1 << (CONFIG_WINDOW_LOG2 - GRANULE_SHIFT))
#define WINDOW_SUPERSLABS  (WINDOW_GRANULES / SUPERSLAB_GRANULES)

/* A superslab that is mapped anew costs three system calls. */
#define SPACE_GRANULES_MOST WINDOW_GRANULES
#define SPACE_UNIT          SUPERSLAB_GRANULES
#define SPACE_KEEPS_SPARES  true

struct slab;

struct window {
    uintptr_t base;     /* multiple of SUPERSLAB_SIZE; 0 before space_begin */
    size_t granules;    /* length so far; atomic */
    uint32_t *tags;     /* indexed by granule; relaxed atomics */
    struct slab *slabs; /* indexed by granule */
};

extern struct window window;

/* Whether the granule's superslab is committed: its entry in `slabs` may be touched. Any thread may ask. */
bool window_committed(size_t granule);

/* Bytes of the arrays that describe granules, as far as they are mapped. Any thread may ask. */
size_t window_metadata(void);

/* The length of the window so far: the tags of all granules below may be read. Any thread may ask. */
static inline size_t window_granules(void)
{
    return atomic_load_acquire(&window.granules);
}

static inline void *granule_address(uint32_t granule)
{
    return (void *)(window.base + ((uintptr_t)granule << GRANULE_SHIFT));
}

/* pre: the address lies in the window */
static inline uint32_t granule_of(const void *address)
{
    return (uint32_t)(((uintptr_t)address - window.base) >> GRANULE_SHIFT);
}

#include "backends/superslab/slab.h"

#endif
