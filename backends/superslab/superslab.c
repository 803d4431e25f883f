/* SPDX-License-Identifier: MIT */
/* The life of a shard, and all locks. */
#include "backends/superslab/common.h"
#include "backends/superslab/remote.h"
#include "backends/superslab/shard.h"
#include "core/crowd.h"
#include "core/kept.h"

bool backend_init(struct hak_shard *shard)
{
    if (shard->lists == NULL) /* else what a try had that found no memory for the rest */
        shard->lists = (struct superslab_lists *)(uintptr_t)&shard_no_lists;
    shard->crowded = hak_is_crowded();
    return (shard->crowded || shard_own(shard)) && shard_enter(shard);
}

void backend_settle(struct hak_shard *shard)
{
    hak_kept_sort_all(&shard->lists->kept, shard);
    remote_send_all(shard);
    remote_collect(shard);
    open_delete_empty(shard, SIZE_MAX);
}

void backend_lock(void)
{
    common_lock_all();
    hak_extents_lock();
}

void backend_unlock(void)
{
    hak_extents_unlock();
    common_unlock_all();
}
