/* SPDX-License-Identifier: MIT */
#include "backends/superslab/dense.h"

#include "backends/superslab/run.h"
#include "core/atomic.h"

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

static struct superslab_fill *fills; /* by superslab; NULL: not there, and nothing gets dense */
static size_t fills_end;             /* after the last superslab of which something was given out */
static size_t cursor;                /* of the sweep; 0: none is under way */
static uint32_t sweep_at;            /* when the last one began */

static bool is_full(const struct superslab_fill *fill)
{
    return fill->used >= SUPERSLAB_GRANULES - SUPERSLAB_GRANULES / FREE_PART;
}

static void change(uint32_t first, size_t granules, int by)
{
    for (size_t granule = first; granule < first + granules; granule++) {
        struct superslab_fill *fill = &fills[granule / SUPERSLAB_GRANULES];
        fill->used = (uint8_t)(fill->used + by);
        if (!is_full(fill))
            fill->full_before = false;
    }
}

static struct superslab_fill *map_fills(void)
{
    size_t size = WINDOW_SUPERSLABS * sizeof(*fills) + os_page_size() - 1;

    return os_map(size & ~(os_page_size() - 1));
}

void dense_given(uint32_t first, size_t granules)
{
    size_t end = (first + granules - 1) / SUPERSLAB_GRANULES + 1;

    if (!enabled(CONFIG_HUGE_PAGES_DENSE))
        return;
    if (fills == NULL && fills_end == 0)
        atomic_store_release(&fills, map_fills());
    fills_end = end > fills_end ? end : fills_end;
    if (fills)
        change(first, granules, 1);
}

void dense_returned(uint32_t first, size_t granules)
{
    if (fills)
        change(first, granules, -1);
}

/* Clears the mark. */
static bool was_huge(size_t superslab)
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
        if (was_huge(superslab) && !whole)
            os_split_huge_page(granule_address(start > first ? (uint32_t)start : first));
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

/* The next superslab that has been nearly full for a whole sweep; fills_end: none for now.
 * pre: the lock of run.c is held */
static size_t next_full(uint32_t now)
{
    if (cursor == 0 && (uint64_t)(now - sweep_at) + 1 <= CONFIG_PURGE_DELAY_MS / 2)
        return fills_end;
    if (cursor == 0)
        sweep_at = now;
    for (int looks = 0; looks < LOOKS_MOST && cursor < fills_end; looks++) {
        struct superslab_fill *fill = &fills[cursor++];
        if (!is_full(fill) || atomic_load_relaxed(&fill->huge))
            continue;
        if (fill->full_before)
            return cursor - 1;
        fill->full_before = true;
    }
    if (cursor >= fills_end)
        cursor = 0;
    return fills_end;
}

void dense_tick(uint32_t now)
{
    if (!enabled(CONFIG_HUGE_PAGES_DENSE) || atomic_load_acquire(&fills) == NULL)
        return;
    run_lock();
    size_t superslab = next_full(now);
    bool found = superslab < fills_end;
    run_unlock();
    if (!found)
        return;
    void *base = granule_address((uint32_t)(superslab * SUPERSLAB_GRANULES));
    if (os_resident_pages(base, SUPERSLAB_SIZE) >= PAGES_LEAST && os_collapse(base, SUPERSLAB_SIZE))
        atomic_store_relaxed(&fills[superslab].huge, 1);
}
