/* SPDX-License-Identifier: MIT */
/* The window: a space (core/space.h) that is one range of addresses. Every block of the process lies in it, and two arrays
 * below it describe its granules.
 *
 *   tags    ┌────┬────┬────┬─ …     a space_tag for each granule
 *           └────┴────┴────┴─
 *   slabs   ┌────┬────┬────┬─ …     a struct slab for each granule
 *           └────┴────┴────┴─
 *   window  ┌─────────┬─────────┬─ …  units of 2 MiB, 32 granules; 2^CONFIG_WINDOW_LOG2 bytes
 *           └─────────┴─────────┴─
 *
 * The three are a choice of addresses; nothing is reserved. A unit is mapped at its place when wanted and unmapped when
 * its memory goes back; a place that another mapping has taken is skipped. The kernel merges neighbours, as all of the
 * window has the same protection and advice. Unit 0 is never mapped, so that granule 0 can mean "none".
 *
 * `granules` is the length of the window so far: up to the last unit that was ever mapped, in steps of 64 MiB. It only
 * grows. The tags below it are mapped, so that any index below it may be read, whatever the pointer. Slabs are mapped with
 * the first unit of each step, and like the tags never unmapped: with tags of 4 bytes and slabs of 128, 132 KiB for
 * 64 MiB.
 *
 * invariant: a unit is committed (mapped, and the window's) or not; tags and slabs of a committed one are mapped
 * invariant: the tag of a granule that holds no block is 0
 * sync: everything but reading tags, slabs, `granules` and what is committed happens under hak_extents_lock */
#ifndef HAK_SPACES_WINDOW_H
#define HAK_SPACES_WINDOW_H

#include "core/atomic.h"
#include "core/extents.h"
#include "core/space_slabs.h"

#define GRANULE_SHIFT   HAK_GRANULE_SHIFT
#define GRANULE_SIZE    HAK_SLAB_GRANULE
#define UNIT_SHIFT      21
#define UNIT_SIZE       ((size_t)1 << UNIT_SHIFT)
#define UNIT_GRANULES   ((uint32_t)(UNIT_SIZE / GRANULE_SIZE))
#define WINDOW_GRANULES ((size_t)1 << (CONFIG_WINDOW_LOG2 - GRANULE_SHIFT))
#define WINDOW_UNITS    (WINDOW_GRANULES / UNIT_GRANULES)

#define SPACE_GRANULES_MOST WINDOW_GRANULES
#define SPACE_UNIT          UNIT_GRANULES

struct window {
    uintptr_t base;     /* multiple of UNIT_SIZE; 0 before space_begin */
    size_t granules;    /* length so far; atomic */
    space_tag *tags;    /* indexed by granule; relaxed atomics */
    struct slab *slabs; /* indexed by granule */
};

extern struct window window;

/* Whether the granule's unit is committed: its entry in `slabs` may be touched. Any thread may ask. */
bool window_committed(size_t granule);

/* The length of the window so far: the tags of all granules below may be read. Any thread may ask. */
static inline size_t window_granules(void)
{
    return atomic_load_acquire(&window.granules);
}

static inline void *space_address(uint32_t granule)
{
    return (void *)(window.base + ((uintptr_t)granule << GRANULE_SHIFT));
}

static inline uint32_t space_granule(const void *address)
{
    return (uint32_t)(((uintptr_t)address - window.base) >> GRANULE_SHIFT);
}

static inline struct slab *space_slab(uint32_t granule)
{
    return &window.slabs[granule];
}

static inline struct hak_extent_node *space_node(uint32_t granule)
{
    return &window.slabs[granule].extent;
}

static inline uint32_t space_number(const struct slab *slab)
{
    return (uint32_t)(slab - window.slabs);
}

static inline char *space_base(const struct slab *slab)
{
    /* a granule's number is its description's offset in a smaller unit */
    uintptr_t offset = (uintptr_t)slab - (uintptr_t)window.slabs;

    return (char *)window.base + offset * (GRANULE_SIZE / sizeof(struct slab));
}

static inline struct slab *space_step(const struct slab *slab, ptrdiff_t granules)
{
    return (struct slab *)(uintptr_t)(slab + granules);
}

static inline bool space_has(uint32_t granule)
{
    return window_committed(granule);
}

static inline bool space_reaches(const void *address)
{
    size_t granules = window_granules(); /* before the base, which is there once this is not 0 */

    return ((uintptr_t)address - window.base) >> GRANULE_SHIFT < granules;
}

static inline bool space_owns(const void *address)
{
    return space_reaches(address) && window_committed(space_granule(address));
}

static inline uint32_t space_tag_of(const void *address)
{
    if (unlikely(!space_reaches(address)))
        return TAG_NONE;
    return atomic_load_relaxed(&window.tags[((uintptr_t)address - window.base) >> GRANULE_SHIFT]);
}

static inline uint32_t space_tag_at(uint32_t granule)
{
    return atomic_load_acquire(&window.tags[granule]);
}

static inline void space_set_tag(uint32_t granule, uint32_t tag)
{
    atomic_store_release(&window.tags[granule], (space_tag)tag);
}

static inline uint32_t space_take_tag(uint32_t granule)
{
    return atomic_exchange_acquire(&window.tags[granule], (space_tag)TAG_NONE);
}

/* All but `granules` is constant once the heap exists. */
struct space_view {
    uintptr_t base;
    size_t granules;
    const space_tag *tags;
};

static inline void space_view_update(struct space_view *view)
{
    view->granules = window_granules();
    view->base = window.base;
    view->tags = window.tags;
}

static inline bool space_view_reaches(const struct space_view *view, const void *address)
{
    return ((uintptr_t)address - view->base) >> GRANULE_SHIFT < view->granules;
}

static inline uint32_t space_view_tag(const struct space_view *view, const void *address)
{
    return atomic_load_relaxed(&view->tags[((uintptr_t)address - view->base) >> GRANULE_SHIFT]);
}

#include "core/spaces/window/dense.h"

static inline void space_tick(uint32_t now)
{
    dense_tick(now);
}

#endif
