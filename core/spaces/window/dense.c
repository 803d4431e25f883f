/* SPDX-License-Identifier: MIT */
#include "core/spaces/window/dense.h"

#include "core/atomic.h"
#include "core/clock.h"

/* One part in so many of a dense unit may be free. */
enum { FREE_PART = 32 };

/* Units looked at in one tick. */
enum { LOOKS_MOST = 256 };

static const size_t PAGES_LEAST = UNIT_SIZE / 4096 * (FREE_PART - 1) / FREE_PART;

struct dense_fill {
    uint8_t used;        /* granules given out */
    uint8_t full_before; /* nearly all, at the last sweep too */
    uint8_t huge;
};

static struct dense_fill
    *fills;               /* by unit; NULL: there is no memory for it, and nothing gets dense */
static size_t fills_end;  /* after the last unit of which something was given out */
static size_t cursor;     /* of the sweep; 0: none is under way */
static uint32_t sweep_at; /* when the last one began */

static bool dense_is_full(const struct dense_fill *fill)
{
    return fill->used >= UNIT_GRANULES - UNIT_GRANULES / FREE_PART;
}

static struct dense_fill *dense_map_fills(void)
{
    size_t size = WINDOW_UNITS * sizeof(*fills) + os_page_size() - 1;

    return os_map(size & ~(os_page_size() - 1));
}

void dense_note_use(uint32_t first, size_t granules, bool used)
{
    size_t end = (first + granules - 1) / UNIT_GRANULES + 1;

    if (fills == NULL && fills_end == 0)
        atomic_store_release(&fills, dense_map_fills());
    fills_end = end > fills_end ? end : fills_end;
    for (size_t granule = first; fills && granule < first + granules; granule++) {
        struct dense_fill *fill = &fills[granule / UNIT_GRANULES];
        fill->used = (uint8_t)(fill->used + (used ? 1 : -1));
        if (!dense_is_full(fill))
            fill->full_before = false;
    }
}

/* Clears the mark. */
static bool dense_was_huge(size_t unit)
{
    struct dense_fill *all = atomic_load_acquire(&fills);

    return enabled(CONFIG_HUGE_PAGES_ALWAYS) ||
           (all && __atomic_exchange_n(&all[unit].huge, 0, __ATOMIC_RELAXED));
}

void dense_split(uint32_t first, size_t granules)
{
    size_t end = first + granules;

    if (!enabled(CONFIG_HUGE_PAGES_DENSE) && !enabled(CONFIG_HUGE_PAGES_ALWAYS))
        return;
    for (size_t unit = first / UNIT_GRANULES; unit * UNIT_GRANULES < end; unit++) {
        size_t start = unit * UNIT_GRANULES;
        bool whole = start >= first && start + UNIT_GRANULES <= end;
        if (dense_was_huge(unit) && !whole)
            os_split_huge_page(space_address(start > first ? (uint32_t)start : first));
    }
}

bool dense_is_huge(uint32_t first, size_t granules)
{
    struct dense_fill *all = enabled(CONFIG_HUGE_PAGES_DENSE) ? atomic_load_acquire(&fills) : NULL;
    bool huge = false;

    for (size_t unit = first / UNIT_GRANULES; all && unit * UNIT_GRANULES < first + granules;
         unit++)
        huge = huge || atomic_load_relaxed(&all[unit].huge);
    return huge;
}

size_t dense_next(uint32_t now)
{
    if (cursor == 0 && !hak_clock_due(sweep_at, now, CONFIG_PURGE_DELAY_MS / 2))
        return 0;
    if (cursor == 0)
        sweep_at = now;
    for (int looks = 0; fills && looks < LOOKS_MOST && cursor < fills_end; looks++) {
        struct dense_fill *fill = &fills[cursor++];
        if (!dense_is_full(fill) || atomic_load_relaxed(&fill->huge))
            continue;
        if (fill->full_before)
            return cursor - 1;
        fill->full_before = true;
    }
    if (cursor >= fills_end)
        cursor = 0;
    return 0;
}

void dense_collapse(size_t unit)
{
    void *base = space_address((uint32_t)(unit * UNIT_GRANULES));

    if (os_resident_pages(base, UNIT_SIZE) >= PAGES_LEAST && os_collapse(base, UNIT_SIZE))
        atomic_store_relaxed(&fills[unit].huge, 1);
}
