/* SPDX-License-Identifier: MIT */
#include "backends/superslab/remote.h"

#include "backends/superslab/shard.h"
#include "core/clock.h"
#include "core/tuning.h"

/* Remote chains that a crowded shard pushes one by one before it gets room for batches. */
enum { LONE_PUSHES_MOST = 64 };

/* Slabs that one refill adopts. */
enum { ADOPTED_MOST = 8 };

static uint64_t remote_pack(const struct slab *slab, const void *head, size_t count, uint32_t flags)
{
    uint64_t offset = (uint64_t)((const char *)head - slab_base(slab));

    return offset << REMOTE_HEAD_SHIFT | (uint64_t)count << REMOTE_COUNT_SHIFT | flags;
}

static void remote_queue(struct hak_shard *shard, struct slab *slab)
{
    struct slab *head = atomic_load_relaxed(&shard->queue);

    do {
        slab->queue_next = head;
    } while (!atomic_cas_release(&shard->queue, &head, slab));
}

/* Whether a shard's owner has not ticked for the purge delay. */
static bool remote_is_asleep(const struct hak_shard *owner)
{
    return (int32_t)(hak_clock_ms() - atomic_load_relaxed(&owner->seen_at)) >=
           CONFIG_PURGE_DELAY_MS;
}

/* Granules of complete slabs: all blocks are on the remote word, and the pages still hold memory. Atomic; the count may lag
 * behind a push, and so be negative for a moment. */
static ptrdiff_t complete_granules;

/* Bound on complete slabs that wait for owners that are awake: a quarter of DIRTY_MAX. */
#define COMPLETE_GRANULES_MAX                                                                      \
    ((ptrdiff_t)(atomic_load_relaxed(&hak_dirty_max) / 4 >> GRANULE_SHIFT))

static void remote_count_complete(ptrdiff_t granules)
{
    __atomic_fetch_add(&complete_granules, granules, __ATOMIC_RELAXED);
}

/* Purges the pages of a complete slab on behalf of its owner. pre: the caller set BUSY in the remote word */
static void remote_purge_for_owner(struct slab *slab, uint64_t word)
{
    bool purged = os_purge_zeroes() && space_purge(space_number(slab), slab->extent.granules);

    if (!purged)
        remote_count_complete(slab->extent.granules);
    /* A refused purge may have taken some pages. No thread follows the links of a complete slab. */
    atomic_store_release(&slab->remote,
                         purged ? REMOTE_QUEUED | REMOTE_ALL_FREE : word & ~(uint64_t)REMOTE_BUSY);
}

void remote_push(struct slab *slab, struct hak_chain chain, struct hak_block *tail)
{
    uint64_t word = atomic_load_relaxed(&slab->remote);
    ptrdiff_t granules =
        slab->extent.granules; /* read before the push, after which the slab may be gone */
    uint64_t pushed;
    uint32_t flags;
    bool complete;

    do {
        struct hak_chain there = remote_unpack(slab, word);
        size_t count = there.count + chain.count;
        if (unlikely(word & (REMOTE_BUSY | REMOTE_ALL_FREE) || count > slab->capacity))
            hak_fatal_pointer("free()", chain.head, HAK_FREED_TWICE);
        flags = REMOTE_QUEUED;
        complete = count == slab->capacity;
        if (complete && (atomic_load_relaxed(&complete_granules) >= COMPLETE_GRANULES_MAX ||
                         remote_is_asleep(shard_of(slab_tag(slab)))))
            flags |= REMOTE_BUSY;
        tail->next = there.head;
        pushed = remote_pack(slab, chain.head, count, flags);
    } while (!atomic_cas_acq_rel(&slab->remote, &word, pushed));

    /* While QUEUED is set the owner does not change: the tag read now names the one that will take. */
    if (!(word & REMOTE_QUEUED))
        remote_queue(shard_of(slab_tag(slab)), slab);
    if (flags & REMOTE_BUSY)
        remote_purge_for_owner(slab, pushed);
    else if (complete)
        remote_count_complete(granules);
}

static void remote_send(struct superslab_outgoing *batch)
{
    if (batch->slab == NULL)
        return;
    remote_push(batch->slab, batch->chain, batch->tail);
    batch->slab = NULL;
}

void remote_send_all(struct hak_shard *shard)
{
    for (int i = 0; i < OUTGOING_SLOTS; i++)
        remote_send(&shard->lists->outgoing[i]);
}

/* Whether a shard pushes remote chains one by one: a crowded shard that has pushed few so far, or that finds no memory for
 * batches. */
static bool remote_sends_alone(struct hak_shard *shard)
{
    if (shard_owns(shard))
        return false;
    return shard->lone_pushes++ < LONE_PUSHES_MOST || !shard_own(shard);
}

void remote_add(struct hak_shard *shard, struct slab *slab, struct hak_chain chain,
                struct hak_block *last)
{
    if (remote_sends_alone(shard)) {
        remote_push(slab, chain, last);
        return;
    }
    struct superslab_outgoing *batch = &shard->lists->outgoing[space_number(slab) % OUTGOING_SLOTS];

    if (batch->slab != slab) {
        remote_send(batch);
        *batch = (struct superslab_outgoing){slab, last, chain};
    } else {
        last->next = batch->chain.head;
        batch->chain.head = chain.head;
        batch->chain.count += chain.count;
    }
    if (batch->chain.count >= CONFIG_REFILL_BATCH ||
        (batch->chain.count + 1) * slab->block_size > OUTGOING_BYTES)
        remote_send(batch);
}

/* Takes the blocks that other threads have freed of one slab: `take` of slab.h. false: another thread purges the slab, which
 * must stay queued. */
static bool remote_collect_slab(struct hak_shard *shard, struct slab *slab)
{
    hak_class cls = tag_class(slab_tag(slab));
    uint64_t word = atomic_load_relaxed(&slab->remote);

    do {
        if (word & REMOTE_BUSY)
            return false;
    } while (!atomic_cas_acq_rel(&slab->remote, &word, 0));

    struct hak_chain chain = remote_unpack(slab, word);
    bool purged = word & REMOTE_ALL_FREE;
    uint32_t count = purged ? slab->capacity : (uint32_t)chain.count;
    if (unlikely(slab->used < count))
        hak_fatal_pointer("free()", purged ? slab_base(slab) : (void *)chain.head, HAK_FREED_TWICE);
    slab->used -= count;
    if (chain.count == slab->capacity)
        remote_count_complete(-(ptrdiff_t)slab->extent.granules);
    if (slab->used == 0) {
        open_delete(shard, cls, slab, purged);
        return true;
    }
    if (chain.count == 0) /* the slab was just adopted, and no block came meanwhile */
        return true;
    bool had = slab_has_linked(slab);
    open_touch(shard, slab);
    if (hak_stackable(cls))
        hak_chain_push(&slab->closed, chain);
    else
        slab_add(slab, cls, chain, slab_nth(slab, chain.head, chain.count));
    open_filled(shard, cls, slab, had);
    return true;
}

bool remote_collect(struct hak_shard *shard)
{
    if (atomic_load_relaxed(&shard->queue) == NULL)
        return false;
    struct slab *slab = atomic_exchange_acquire(&shard->queue, NULL);
    while (slab) {
        struct slab *next = slab->queue_next;
        if (!remote_collect_slab(shard, slab))
            remote_queue(shard, slab);
        slab = next;
    }
    return true;
}

/* Takes the queue of a shard whose owner sleeps, purges its complete slabs, and queues all again: `sleeper` of slab.h. */
static void remote_tend_sleeper(struct hak_shard *sleeper)
{
    struct slab *slab = atomic_exchange_acquire(&sleeper->queue, NULL);

    while (slab) {
        struct slab *next = slab->queue_next;
        uint64_t word = atomic_load_relaxed(&slab->remote);
        while (!(word & (REMOTE_BUSY | REMOTE_ALL_FREE)) &&
               remote_unpack(slab, word).count == slab->capacity) {
            if (!atomic_cas_acq_rel(&slab->remote, &word, word | REMOTE_BUSY))
                continue;
            remote_count_complete(-(ptrdiff_t)slab->extent.granules);
            remote_purge_for_owner(slab, word | REMOTE_BUSY);
            break;
        }
        remote_queue(shard_of(slab_tag(slab)), slab);
        slab = next;
    }
}

void remote_tend_sleepers(struct hak_shard *shard)
{
    enum { IDS_MOST = 64 };

    for (int i = 0; i < IDS_MOST && atomic_load_relaxed(&complete_granules) > 0; i++) {
        uint32_t last = atomic_load_acquire(&shard_owners);
        shard->sleeper = shard->sleeper < last ? shard->sleeper + 1 : 1;
        struct hak_shard *other = shard_of(shard->sleeper << TAG_OWNER_SHIFT);
        if (other == shard || atomic_load_relaxed(&other->queue) == NULL ||
            !remote_is_asleep(other))
            continue;
        remote_tend_sleeper(other);
        return;
    }
}

/* Whether a parked shard may have a slab of a class to give: an open one, or one that opens or becomes empty when what other
 * threads have freed of it is collected. */
static bool remote_offers(const struct hak_shard *shard, hak_class cls)
{
    unsigned index = hak_class_index(cls);

    return (atomic_load_relaxed(&shard->offers[index / 64]) >> index % 64 & 1) != 0 ||
           atomic_load_relaxed(&shard->queue) != NULL;
}

/* Moves open slabs of a class from a claimed shard to this one, a few: `adopt` of slab.h. */
static bool remote_adopt_from(struct hak_shard *shard, struct hak_shard *claimed, hak_class cls)
{
    unsigned adopted = 0;
    struct slab *next;

    backend_settle(claimed);
    for (struct slab *slab = claimed->lists->open[hak_class_index(cls)];
         slab && adopted < ADOPTED_MOST; slab = next) {
        next = slab->next;
        if (slab == claimed->lists->empty[hak_class_index(cls)]) {
            open_delete(claimed, cls, slab, false);
            continue;
        }
        uint64_t word = 0;
        if (!atomic_cas_strong_acq_rel(&slab->remote, &word, REMOTE_QUEUED))
            continue;
        open_remove(claimed, cls, slab);
        open_set_tags(slab, shard->tag + (uint32_t)cls);
        space_view_update(&shard->view);
        if (slab_has_linked(slab))
            open_first(shard, cls, slab);
        else
            open_last(shard, cls, slab);
        if (!remote_collect_slab(shard, slab))
            remote_queue(shard, slab);
        adopted++;
    }
    return adopted > 0;
}

bool remote_adopt(struct hak_shard *shard, hak_class cls)
{
    bool adopted = false;

    for (unsigned tried = 0; tried < HAK_CLAIMS_MOST && !adopted; tried++) {
        struct hak_shard *claimed = hak_heap_claim_offer(remote_offers, cls);
        if (claimed == NULL)
            break;
        adopted = remote_adopt_from(shard, claimed, cls);
        hak_heap_release(claimed);
    }
    return adopted;
}
