/* SPDX-License-Identifier: MIT */
#include "backends/mmap_only/shared.h"
#include "core/crowd.h"
#include "core/kept.h"

bool backend_init(struct hak_shard *shard)
{
    space_view_update(&shard->view);
    shard->crowded = hak_is_crowded();
    return true;
}

void backend_settle(struct hak_shard *shard)
{
    hak_kept_sort_all(&shard->kept, shard);
}

size_t backend_metadata(void)
{
    return space_metadata();
}

void backend_lock(void)
{
    for (unsigned i = 0; i < HAK_CLASSES; i++)
        if (i == 0)
            hak_lock(&shared_classes[i].lock);
        else
            hak_lock_nested(&shared_classes[i].lock);
    hak_extents_lock();
}

void backend_unlock(void)
{
    hak_extents_unlock();
    for (unsigned i = HAK_CLASSES; i-- > 0;)
        hak_unlock(&shared_classes[i].lock);
}
