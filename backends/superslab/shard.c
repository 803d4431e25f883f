/* SPDX-License-Identifier: MIT */
#include "backends/superslab/shard.h"

#include "core/clock.h"

struct hak_shard **shard_pages[(OWNERS_MOST + 1) / SHARDS_A_PAGE];
uint32_t shard_owners = OWNER_NONE;

bool shard_enter(struct hak_shard *shard)
{
    bool done = false;

    hak_extents_lock();
    uint32_t owner = shard_owners + 1;
    struct hak_shard ***page = &shard_pages[owner / SHARDS_A_PAGE];
    if (owner < OWNERS_MOST && space_begin()) {
        if (*page == NULL)
            *page = os_map(SHARDS_A_PAGE * sizeof(**page));
        done = *page != NULL;
    }
    if (done) {
        atomic_store_relaxed(&(*page)[owner % SHARDS_A_PAGE], shard);
        atomic_store_release(&shard_owners, owner);
        space_view_update(&shard->view);
        shard->tag = owner << TAG_OWNER_SHIFT | CODE_CLASS;
        shard->seen_at = shard->ticked_at = shard->round_at = hak_clock_ms();
        shard->round_class = HAK_CLASSES;
    }
    hak_extents_unlock();
    return done;
}

/* Lists are carved from mappings of LISTS_BYTES. Like heaps they are never unmapped. */
static const size_t LISTS_BYTES = (size_t)64 << 10;

const struct superslab_lists shard_no_lists;

static char *lists_arena; /* under hak_extents_lock */
static size_t lists_left;
static size_t lists_mapped;

hak_cold bool shard_own(struct hak_shard *shard)
{
    if (shard_owns(shard))
        return true;
    hak_extents_lock();
    if (lists_left < sizeof(*shard->lists)) {
        lists_arena = os_map(LISTS_BYTES);
        lists_left = lists_arena ? LISTS_BYTES : 0;
        lists_mapped += lists_left;
    }
    if (lists_arena) {
        shard->lists = (struct superslab_lists *)(void *)lists_arena;
        lists_arena += sizeof(*shard->lists);
        lists_left -= sizeof(*shard->lists);
    }
    hak_extents_unlock();
    return shard_owns(shard);
}

size_t backend_metadata(void)
{
    return space_metadata() + (shard_owners / SHARDS_A_PAGE + 1) * SHARDS_A_PAGE * sizeof(void *) +
           lists_mapped;
}
