/* SPDX-License-Identifier: MIT */
#include "backends/superslab/dense.h"

#include "core/atomic.h"
#include "core/clock.h"

/* One part in so many of a dense superslab may be free. */
enum { FREE_PART = 32 };

/* Superslabs looked at in one tick. */
enum { LOOKS_MOST = 256 };

static const size_t PAGES_LEAST = SUPERSLAB_SIZE / 4096 * (FREE_PART - 1) / FREE_PART;

struct superslab_fill {
    uint8_t used;        /* granules given out */
    uint8_t full_before; /* nearly all, at the last sweep too */
    uint8_t huge;
};

static struct superslab_fill
    *fills;              /* by superslab; NULL: there is no memory for it, and nothing gets dense */
static size_t fills_end; /* after the last superslab of which something was given out */
static size_t cursor;    /* of the sweep; 0: none is under way */
static uint32_t sweep_at; /* when the last one began */

static bool dense_is_full(const struct superslab_fill *fill)
{
    return fill->used >= SUPERSLAB_GRANULES - SUPERSLAB_GRANULES / FREE_PART;
}

static struct superslab_fill *dense_map_fills(void)
{
    size_t size = WINDOW_SUPERSLABS * sizeof(*fills) + os_page_size() - 1;

    return os_map(size & ~(os_page_size() - 1));
}

void dense_note_use(uint32_t first, size_t granules, bool used)
{
    size_t end = (first + granules - 1) / SUPERSLAB_GRANULES + 1;

    if (fills == NULL && fills_end == 0)
        atomic_store_release(&fills, dense_map_fills());
    fills_end = end > fills_end ? end : fills_end;
    for (size_t granule = first; fills && granule < first + granules; granule++) {
        struct superslab_fill *fill = &fills[granule / SUPERSLAB_GRANULES];
        fill->used = (uint8_t)(fill->used + (used ? 1 : -1));
        if (!dense_is_full(fill))
            fill->full_before = false;
    }
}

/* Clears the mark. */
static bool dense_was_huge(size_t superslab)
{
    struct superslab_fill *all = atomic_load_acquire(&fills);

    return enabled(CONFIG_HUGE_PAGES_ALWAYS) ||
           (all && __atomic_exchange_n(&all[superslab].huge, 0, __ATOMIC_RELAXED));
}

void dense_split(uint32_t first, size_t granules)
{
    size_t end = first + granules;

    if (!enabled(CONFIG_HUGE_PAGES_DENSE) && !enabled(CONFIG_HUGE_PAGES_ALWAYS))
        return;
    for (size_t superslab = first / SUPERSLAB_GRANULES; superslab * SUPERSLAB_GRANULES < end;
         superslab++) {
        size_t start = superslab * SUPERSLAB_GRANULES;
        bool whole = start >= first && start + SUPERSLAB_GRANULES <= end;
        if (dense_was_huge(superslab) && !whole)
            os_split_huge_page(space_address(start > first ? (uint32_t)start : first));
    }
}

bool dense_is_huge(uint32_t first, size_t granules)
{
    struct superslab_fill *all =
        enabled(CONFIG_HUGE_PAGES_DENSE) ? atomic_load_acquire(&fills) : NULL;
    bool huge = false;

    for (size_t superslab = first / SUPERSLAB_GRANULES;
         all && superslab * SUPERSLAB_GRANULES < first + granules; superslab++)
        huge = huge || atomic_load_relaxed(&all[superslab].huge);
    return huge;
}

size_t dense_next(uint32_t now)
{
    if (cursor == 0 && !hak_clock_due(sweep_at, now, CONFIG_PURGE_DELAY_MS / 2))
        return 0;
    if (cursor == 0)
        sweep_at = now;
    for (int looks = 0; fills && looks < LOOKS_MOST && cursor < fills_end; looks++) {
        struct superslab_fill *fill = &fills[cursor++];
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

void dense_collapse(size_t superslab)
{
    void *base = space_address((uint32_t)(superslab * SUPERSLAB_GRANULES));

    if (os_resident_pages(base, SUPERSLAB_SIZE) >= PAGES_LEAST && os_collapse(base, SUPERSLAB_SIZE))
        atomic_store_relaxed(&fills[superslab].huge, 1);
}
