/* SPDX-License-Identifier: MIT */
#include "backends/mmap_only/shared.h"
#include "core/crowd.h"
#include "core/kept.h"

bool backend_thread_init(struct hak_shard *shard)
{
    shard->root = page_map.root;
    shard->bound = ROOT_ENTRIES;
    shard->crowded = hak_is_crowded();
    return true;
}

void backend_thread_exit(struct hak_shard *shard)
{
    hak_kept_sort_all(&shard->kept, shard);
}

size_t backend_kept(const struct hak_shard *shard)
{
    return shard->kept.bytes;
}

size_t backend_metadata(void)
{
    return page_map_bytes();
}

void backend_fork_prepare(void)
{
    for (unsigned i = 0; i < HAK_CLASSES; i++)
        if (i == 0)
            hak_lock(&shared_classes[i].lock);
        else
            hak_lock_nested(&shared_classes[i].lock);
    hak_extents_lock();
}

void backend_fork_parent(void)
{
    hak_extents_unlock();
    for (unsigned i = HAK_CLASSES; i-- > 0;)
        hak_unlock(&shared_classes[i].lock);
}

void backend_fork_child(void)
{
    backend_fork_parent();
}
