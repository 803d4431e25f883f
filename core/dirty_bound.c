/* SPDX-License-Identifier: MIT */
#include "core/dirty_bound.h"

#include "core/clock.h"

/* The most that `extra` may be. */
static const size_t EXTRA_MOST =
    CONFIG_DIRTY_BURST_MAX > CONFIG_DIRTY_MAX
        ? ((size_t)(CONFIG_DIRTY_BURST_MAX - CONFIG_DIRTY_MAX) << 20) / HAK_SLAB_GRANULE
        : 0;

/* Whether the program has said how much may wait. */
static bool dirty_bound_is_set(void)
{
    return hak_dirty_max != (size_t)CONFIG_DIRTY_MAX << 20;
}

static size_t dirty_bound_less_of(size_t a, size_t b)
{
    return a < b ? a : b;
}

static size_t dirty_bound_more_of(size_t a, size_t b)
{
    return a > b ? a : b;
}

size_t hak_dirty_most(const struct hak_dirty_bound *bound, size_t used)
{
    size_t used_of_late = dirty_bound_more_of(bound->used_most, bound->used_before);
    size_t gone = used_of_late > used ? used_of_late - used : 0;
    size_t share = used / 100 * CONFIG_DIRTY_SHARE;
    size_t room = dirty_bound_more_of(gone, share);

    if (dirty_bound_is_set())
        return hak_dirty_floor();
    return dirty_bound_more_of(hak_dirty_floor(),
                               dirty_bound_less_of(hak_dirty_floor() + bound->extra, room));
}

static void dirty_bound_end_interval(struct hak_dirty_bound *bound, size_t used, size_t dirty,
                                     uint32_t now)
{
    size_t swing = bound->most - bound->least;

    bound->extra =
        dirty_bound_less_of(bound->extra, dirty_bound_more_of(swing, bound->swing_before));
    bound->swing_before = swing;
    bound->given_back /= 2;
    bound->used_before = bound->used_most;
    bound->used_most = used;
    bound->least = bound->most = dirty;
    bound->began = now;
}

void hak_dirty_note(struct hak_dirty_bound *bound, size_t used, size_t dirty, uint32_t now)
{
    if (hak_clock_due(bound->began, now, CONFIG_PURGE_DELAY_MS))
        dirty_bound_end_interval(bound, used, dirty, now);
    hak_dirty_track(bound, used, dirty);
}

void hak_dirty_gave_back(struct hak_dirty_bound *bound, size_t granules)
{
    bound->given_back += granules;
}

void hak_dirty_took_fresh(struct hak_dirty_bound *bound, size_t granules)
{
    size_t missed = dirty_bound_less_of(granules, bound->given_back);

    bound->given_back -= missed;
    bound->extra = dirty_bound_less_of(bound->extra + missed, EXTRA_MOST);
}
