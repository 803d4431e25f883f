/* SPDX-License-Identifier: MIT */
#include "backends/superslab/common.h"

#include "backends/superslab/remote.h"
#include "backends/superslab/shard.h"
#include "core/clock.h"
#include "core/crowd.h"
#include "core/lock.h"

/* A common shard. Its owner is the thread that holds its lock. */
struct common {
    struct hak_shard shard; /* without an id before its first use */
    struct superslab_lists lists;
};

static struct common commons[COMMONS];
static bool commons_used; /* atomic; whether any has an id */

static struct {
    _Alignas(HAK_CACHE_LINE) struct hak_lock lock;
} common_locks[COMMONS] = {[0 ... COMMONS - 1] = {.lock = {.rank = HAK_RANK_SLABS}}};

/* Locks the common shard that a crowded shard's id selects, or the next one that is free; returns its index. */
static unsigned common_lock_any(const struct hak_shard *shard)
{
    unsigned mine = (shard->tag >> TAG_OWNER_SHIFT) % COMMONS;

    for (unsigned i = 0; i < COMMONS; i++)
        if (hak_lock_try(&common_locks[(mine + i) % COMMONS].lock))
            return (mine + i) % COMMONS;
    hak_lock(&common_locks[mine].lock);
    return mine;
}

/* Gives a common shard its id before its first use. pre: its lock is held. false: out of memory */
static bool common_begin(struct common *common)
{
    if (common->shard.tag != 0)
        return true;
    common->shard.lists = &common->lists;
    atomic_store_relaxed(&commons_used, true);
    return shard_enter(&common->shard);
}

struct hak_chain common_take(struct hak_shard *shard, hak_class cls, size_t max)
{
    struct hak_chain chain = {NULL, 0};

    max = hak_crowd_refill(&shard->refills[hak_class_index(cls)], hak_class_size(cls), max);
    if (max == 0)
        return chain;
    unsigned at = common_lock_any(shard);
    struct hak_shard *common = &commons[at].shard;
    if (common_begin(&commons[at])) {
        common->ticked_at = hak_clock_ms();
        atomic_store_relaxed(&common->seen_at, common->ticked_at);
        remote_collect(common);
        chain = open_take(common, cls, max);
        if (chain.count == 0 && open_new(common, cls))
            chain = open_take(common, cls, max);
    }
    common_unlock(at);
    return chain;
}

static bool common_is_used(unsigned at)
{
    return commons[at].shard.tag != 0;
}

struct hak_shard *common_lock(unsigned at)
{
    hak_lock(&common_locks[at].lock);
    if (common_is_used(at))
        return &commons[at].shard;
    common_unlock(at);
    return NULL;
}

struct hak_shard *common_try(unsigned at)
{
    if (!atomic_load_relaxed(&commons_used) || !hak_lock_try(&common_locks[at].lock))
        return NULL;
    if (common_is_used(at))
        return &commons[at].shard;
    common_unlock(at);
    return NULL;
}

void common_unlock(unsigned at)
{
    hak_unlock(&common_locks[at].lock);
}

void common_lock_all(void)
{
    hak_lock(&common_locks[0].lock);
    for (unsigned i = 1; i < COMMONS; i++)
        hak_lock_nested(&common_locks[i].lock);
}

void common_unlock_all(void)
{
    for (unsigned i = COMMONS; i-- > 0;)
        common_unlock(i);
}
