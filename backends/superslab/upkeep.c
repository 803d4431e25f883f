/* SPDX-License-Identifier: MIT */
#include <limits.h>

#include "backends/superslab/common.h"
#include "backends/superslab/remote.h"
#include "backends/superslab/shard.h"
#include "core/kept.h"
#include "core/upkeep.h"

/* Bound on the system calls of one tick, so that no malloc waits long. */
enum { CALLS_MOST = 64 };

static bool upkeep_is_due(const struct hak_shard *shard, uint32_t now)
{
    return shard->round_class == HAK_CLASSES && hak_clock_due(shard->round_at, now, HAK_ROUND_MS);
}

/* Moves the round on to a class, whose kept chains are sorted first. */
static void upkeep_visit_class(struct hak_shard *shard, unsigned index)
{
    shard->round_class = index;
    if (index < HAK_CLASSES) {
        hak_kept_sort(&shard->lists->kept, shard, hak_class_at(index));
        shard->round_slab = shard->lists->open[index];
    }
}

static void upkeep_start(struct hak_shard *shard, uint32_t now)
{
    shard->round_at = now;
    remote_send_all(shard);
    remote_collect(shard);
    upkeep_visit_class(shard, 0);
}

/* Continues a round. Slabs that were touched less than `least` ms ago are skipped. Returns whether the round is over, and
 * adds the system calls to *purged. */
static bool upkeep_step(struct hak_shard *shard, uint32_t now, uint32_t least, unsigned *purged)
{
    struct hak_effort left = HAK_EFFORT_OF_TICK;
    unsigned most = *purged + CALLS_MOST;

    while (shard->round_class < HAK_CLASSES) {
        hak_class cls = hak_class_at(shard->round_class);
        struct slab *slab;
        while ((slab = shard->round_slab) != NULL) {
            if (left.looks-- == 0 || left.walks == 0 || *purged >= most)
                return false;
            shard->round_slab = slab->next;
            if (!hak_slab_settles(slab, now, least))
                continue;
            if (slab->used == 0) {
                open_delete(shard, cls, slab, false);
                continue;
            }
            *purged += slab_purge_pages(slab);
            if (!slab_has_linked(slab)) {
                open_remove(shard, cls, slab);
                open_last(shard, cls, slab);
            }
            left.walks--;
        }
        upkeep_visit_class(shard, shard->round_class + 1);
    }
    return true;
}

/* Begins a round if one is due, and continues it. Returns whether there is more to do. */
static bool upkeep_go_on(struct hak_shard *shard, uint32_t now)
{
    unsigned purged = 0;

    shard->ticked_at = now;
    if (upkeep_is_due(shard, now))
        upkeep_start(shard, now);
    return !upkeep_step(shard, now, HAK_ROUND_MS, &purged);
}

/* Does the upkeep of one parked heap, whose owner has ended. Each round of this shard visits all of them, one at a tick. */
static void upkeep_ended(struct hak_shard *shard, uint32_t now)
{
    struct hak_shard *claimed = hak_heap_claim(shard->claims++);

    if (claimed == NULL) {
        shard->claims = UINT_MAX; /* until the next round */
        return;
    }
    if (upkeep_go_on(claimed, now))
        shard->behind = true;
    hak_heap_release(claimed);
}

/* Continues the round of a common shard, unless it is locked. Returns whether there is more to do. */
static bool upkeep_common(unsigned at, uint32_t now)
{
    struct hak_shard *common = common_try(at);

    if (common == NULL)
        return false;
    atomic_store_relaxed(&common->seen_at, now);
    bool more = upkeep_go_on(common, now);
    common_unlock(at);
    return more;
}

/* `seen_at` is left alone: the caller is not the owner, which may sleep. */
bool backend_upkeep(struct hak_shard *shard)
{
    uint32_t now = hak_clock_ms();
    bool more = hak_extents_are_dirty() && hak_extents_purge_due(now);

    space_tick(now);
    for (unsigned i = 0; i < COMMONS; i++)
        more = upkeep_common(i, now) || more;
    return upkeep_go_on(shard, now) || more;
}

void backend_tick(struct hak_shard *shard)
{
    uint32_t now = hak_clock_ms();
    unsigned purged = 0;

    if (!hak_tick_begins(&shard->ticked_at, shard->behind, now))
        return;
    atomic_store_relaxed(&shard->seen_at, now);
    space_tick(now);
    shard->behind = hak_extents_are_dirty() && hak_extents_purge_due(now);
    if (upkeep_is_due(shard, now)) {
        upkeep_start(shard, now);
        shard->claims = 0;
    }
    if (!upkeep_step(shard, now, HAK_ROUND_MS, &purged))
        shard->behind = true;
    if (shard->claims != UINT_MAX)
        upkeep_ended(shard, now);
    remote_tend_sleepers(shard);
    if (upkeep_common(shard->common++ % COMMONS, now))
        shard->behind = true;
}

/* Makes a whole round at once. Returns whether any pages of partly live slabs went back. */
static bool upkeep_purge_shard(struct hak_shard *shard)
{
    unsigned purged = 0;

    backend_settle(shard);
    upkeep_visit_class(shard, 0);
    while (!upkeep_step(shard, hak_clock_ms(), 0, &purged))
        ;
    return purged > 0;
}

bool backend_trim(struct hak_shard *shard)
{
    bool purged = upkeep_purge_shard(shard);

    purged = hak_trim_parked(upkeep_purge_shard) || purged;
    for (unsigned i = 0; i < COMMONS; i++) {
        struct hak_shard *common = common_lock(i);
        if (common) {
            purged = upkeep_purge_shard(common) || purged;
            common_unlock(i);
        }
    }
    return hak_extents_purge_all() || purged;
}
