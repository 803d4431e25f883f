/* SPDX-License-Identifier: MIT */
#include "core/backend.h"

#include <limits.h>

#include "backends/superslab/dense.h"
#include "backends/superslab/run.h"
#include "backends/superslab/slab.h"
#include "core/clock.h"
#include "core/crowd.h"
#include "core/lock.h"
#include "core/tuning.h"

#define OWNER_NONE    0u
#define OWNERS_MOST   ((1u << (32 - TAG_OWNER_SHIFT)) - 1)
#define SHARDS_A_PAGE 1024u

/* So many blocks of a chain are looked at to tell whether they lie together. */
enum { LOOKS_AT = 4 };

/* So many chains of others' blocks a crowded shard sends off one by one. */
enum { LONE_PUSHES_MOST = 64 };

/* Shards that crowded ones share. Two threads meet at one only if their ids differ by a multiple of it. */
enum { COMMONS = 16 };

/* A large block is moved by the kernel rather than copied from here on. Below, copying is cheaper: the pages
 * that it leaves behind are used again, while those that a move takes away have to come back one fault each. */
static const size_t MOVE_BYTES_LEAST = (size_t)1 << 20;

_Static_assert(CONFIG_REFILL_BATCH <= HAK_PACKED_MAX, "a batch fits a packed chain");
_Static_assert(OUTGOING_BYTES_MAX <= CONFIG_CACHE_BYTES / 4, "kept chains have a share");

/* ── from ids to shards ──────────────────────────────────────────────────────────────────────── */

/* Pages of pointers, indexed by owner id; a page is mapped with the first id in it, under the lock of
 * run.c, before the id is in any tag. */
static struct hak_shard **shard_pages[(OWNERS_MOST + 1) / SHARDS_A_PAGE];
static uint32_t owners = OWNER_NONE; /* the last id that was given out */

static struct hak_shard *shard_of(uint32_t tag)
{
    uint32_t owner = tag >> TAG_OWNER_SHIFT;

    return shard_pages[owner / SHARDS_A_PAGE][owner % SHARDS_A_PAGE];
}

/* Lets a shard's look-ups see the window as long as it is now. What a shard owns always lies in what it sees; of
 * the rest, its owner's frees come here and do this. */
static void see_window(struct hak_shard *shard)
{
    shard->granules = window_granules();
}

/* Gives a shard an id, under which others find it. false: out of memory. */
static bool shard_enter(struct hak_shard *shard)
{
    bool done = false;

    run_lock();
    uint32_t owner = owners + 1;
    struct hak_shard ***page = &shard_pages[owner / SHARDS_A_PAGE];
    if (owner < OWNERS_MOST && run_begin()) {
        if (*page == NULL)
            *page = os_map(SHARDS_A_PAGE * sizeof(**page));
        done = *page != NULL;
    }
    if (done) {
        atomic_store_relaxed(&(*page)[owner % SHARDS_A_PAGE], shard);
        atomic_store_release(&owners, owner);
        shard->base = window.base;
        see_window(shard);
        shard->tags = window.tags;
        shard->tag = owner << TAG_OWNER_SHIFT | CODE_CLASS;
        shard->seen_at = shard->ticked_at = shard->round_at = hak_clock_ms();
        shard->round_class = HAK_CLASSES;
    }
    run_unlock();
    return done;
}

/* Whether the tag of an address may be read. */
static bool in_window(const void *pointer)
{
    size_t granules = window_granules(); /* before the base, which is there once this is not 0 */

    return (uintptr_t)pointer - window.base < granules << GRANULE_SHIFT;
}

/* Whether an address lies in a superslab of the window. */
static bool in_superslab(const void *pointer)
{
    return in_window(pointer) && window_committed(granule_of(pointer));
}

/* Lists are mapped so many bytes at a time, and never unmapped, as heaps. */
static const size_t LISTS_BYTES = (size_t)64 << 10;

static const struct superslab_lists no_lists;

static char *lists_arena; /* under the lock of run.c */
static size_t lists_left;
static size_t lists_mapped;

static bool owns(const struct hak_shard *shard)
{
    return shard->lists != &no_lists;
}

/* Sees to it that a shard can own slabs. false: out of memory. */
static hak_cold bool begin_to_own(struct hak_shard *shard)
{
    if (owns(shard))
        return true;
    run_lock();
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
    run_unlock();
    return owns(shard);
}

bool backend_thread_init(struct hak_shard *shard)
{
    if (shard->lists == NULL) /* else what a try had that found no memory for the rest */
        shard->lists = (struct superslab_lists *)(uintptr_t)&no_lists;
    shard->crowded = hak_is_crowded();
    return (shard->crowded || begin_to_own(shard)) && shard_enter(shard);
}

/* ── slabs ───────────────────────────────────────────────────────────────────────────────────── */

static uint32_t tag_of(const struct slab *slab)
{
    return atomic_load_acquire(&window.tags[slab - window.slabs]);
}

static hak_class class_of(uint32_t tag)
{
    return (uint32_t)((tag & TAG_CODE_MASK) - CODE_CLASS);
}

static bool is_mine(const struct hak_shard *shard, uint32_t tag)
{
    return (uint32_t)(tag - shard->tag) < HAK_CLASS_END;
}

static void set_tags(const struct slab *slab, uint32_t tag)
{
    for (uint32_t i = 0; i < slab->run_granules; i++)
        atomic_store_release(&window.tags[slab - window.slabs + i], tag);
}

/* The slab of a small block. pre: its granule's tag is a class */
static struct slab *slab_of(const void *block)
{
    struct slab *slab = &window.slabs[granule_of(block)];

    return slab - slab->distance;
}

static const char NOT_A_BLOCK[] = "not the start of a block";

/* The slab of a block that came through a cache or a list: it must be a block of this class. */
static struct slab *checked_slab(const void *block, hak_class cls)
{
    if (unlikely(!in_window(block) ||
                 class_of(atomic_load_relaxed(&window.tags[granule_of(block)])) != cls))
        hak_fatal_pointer("free()", block, SLAB_BAD_LINK);
    struct slab *slab = slab_of(block);
    if (unlikely(!slab_on_grid(slab, block)))
        hak_fatal_pointer("free()", block, NOT_A_BLOCK);
    return slab;
}

/* The list of a class is circular in one direction: the first slab's `previous` is the last one, whose
 * `next` is NULL. Slabs with free blocks in lists come first, so that memory which is in use anyway is
 * handed out before blank pages and those never touched. */

static bool has_linked(const struct slab *slab)
{
    return slab->loose_count > 0 || slab->closed.top != 0;
}

static void list_first(struct hak_shard *shard, hak_class cls, struct slab *slab)
{
    struct slab **first = &shard->lists->classes[hak_class_index(cls)].open;

    slab->next = *first;
    slab->previous = *first ? (*first)->previous : slab;
    if (*first)
        (*first)->previous = slab;
    *first = slab;
    slab->listed = true;
}

static void list_last(struct hak_shard *shard, hak_class cls, struct slab *slab)
{
    struct slab **first = &shard->lists->classes[hak_class_index(cls)].open;
    struct slab *last = *first ? (*first)->previous : NULL;

    slab->next = NULL;
    slab->previous = last ? last : slab;
    if (last)
        last->next = slab;
    *(last ? &(*first)->previous : first) = slab;
    slab->listed = true;
}

static void unlist(struct hak_shard *shard, hak_class cls, struct slab *slab)
{
    struct slab **first = &shard->lists->classes[hak_class_index(cls)].open;

    if (shard->round_slab == slab)
        shard->round_slab = slab->next;
    *(slab->next ? &slab->next->previous : &(*first)->previous) = slab->previous;
    *(slab == *first ? first : &slab->previous->next) = slab->next;
    slab->listed = false;
}

/* A slab gets free blocks. */
static void list_filled(struct hak_shard *shard, hak_class cls, struct slab *slab, bool had)
{
    if (had)
        return;
    if (slab->listed)
        unlist(shard, cls, slab);
    list_first(shard, cls, slab);
}

/* Free blocks of the slab come or go. */
static void touch(const struct hak_shard *shard, struct slab *slab)
{
    slab->touched_at = shard->ticked_at | 1;
}

static struct slab *slab_new(struct hak_shard *shard, hak_class cls)
{
    size_t block_size = hak_class_size(cls);
    size_t granules = hak_slab_granules(block_size);
    bool zeroed;
    size_t align = block_size & -block_size;
    uint32_t run = run_alloc(granules, align > GRANULE_SIZE ? align >> GRANULE_SHIFT : 1, &zeroed);

    if (run == NO_RUN)
        return NULL;
    struct slab *slab = &window.slabs[run];
    slab->loose = slab->loose_tail = NULL;
    slab->closed.top = 0;
    slab->loose_count = slab->used = slab->cut = 0;
    slab->blank_pages = 0;
    touch(shard, slab);
    slab->capacity = (uint32_t)((granules << GRANULE_SHIFT) / block_size);
    slab->block_size = (uint32_t)block_size;
    hak_check(atomic_load_relaxed(&slab->remote) == 0); /* as its last life left it */
    for (uint32_t i = 0; i < granules; i++) {
        slab[i].distance = (uint16_t)i;
        slab[i].blank = 0;
    }
    set_tags(slab, shard->tag + (uint32_t)cls);
    see_window(shard);
    list_last(shard, cls, slab);
    return slab;
}

/* Gives an empty slab back. pre: it is nobody's but the caller's, and QUEUED is clear */
static void slab_delete(struct hak_shard *shard, hak_class cls, struct slab *slab, bool clean)
{
    if (slab->listed)
        unlist(shard, cls, slab);
    set_tags(slab, TAG_NONE);
    run_free((uint32_t)(slab - window.slabs), slab->run_granules, clean);
}

/* ── kept chains ─────────────────────────────────────────────────────────────────────────────── */

static void sort(struct hak_shard *shard, hak_class cls, struct hak_chain chain);

static struct hak_chain kept_pop(struct hak_shard *shard, hak_class cls, size_t max)
{
    struct hak_chain_stack *kept = &shard->lists->classes[hak_class_index(cls)].kept;
    struct hak_chain chain = hak_chain_pop(kept);

    if (chain.count == 0)
        return chain;
    if (kept->top)
        checked_slab(hak_chain_unpack(kept->top).head, cls);
    if (chain.count > max) {
        struct hak_block *last = chain.head;
        for (size_t i = 1; i < max; i++) {
            last = last->next;
            checked_slab(last, cls);
        }
        hak_chain_push(kept, (struct hak_chain){last->next, chain.count - max});
        last->next = NULL;
        chain.count = max;
    }
    shard->kept_bytes -= chain.count * hak_class_size(cls);
    return chain;
}

/* Makes room by sorting a kept chain of another class to its slabs. The classes take turns, one at a
 * call: whether or not that one has a chain, looking costs the same. */
static bool kept_evict(struct hak_shard *shard, hak_class wanting)
{
    hak_class cls = hak_class_at(shard->victim);

    shard->victim = (shard->victim + 1) % HAK_CLASSES;
    if (cls == wanting || shard->lists->classes[hak_class_index(cls)].kept.top == 0)
        return false;
    sort(shard, cls, kept_pop(shard, cls, HAK_PACKED_MAX));
    return true;
}

static bool kept_push(struct hak_shard *shard, hak_class cls, struct hak_chain chain)
{
    size_t bytes = chain.count * hak_class_size(cls);

    if (!hak_stackable(cls) || bytes > KEPT_BYTES_MAX || !owns(shard))
        return false;
    while (shard->kept_bytes + bytes > KEPT_BYTES_MAX)
        if (!kept_evict(shard, cls))
            return false;
    hak_chain_push(&shard->lists->classes[hak_class_index(cls)].kept, chain);
    shard->kept_bytes += bytes;
    return true;
}

static void kept_sort(struct hak_shard *shard, unsigned index)
{
    while (shard->lists->classes[index].kept.top)
        sort(shard, hak_class_at(index), kept_pop(shard, hak_class_at(index), HAK_PACKED_MAX));
}

static void kept_sort_all(struct hak_shard *shard)
{
    for (unsigned i = 0; i < HAK_CLASSES; i++)
        kept_sort(shard, i);
}

/* ── remote frees ────────────────────────────────────────────────────────────────────────────── */

static uint64_t remote_pack(const struct slab *slab, const void *head, size_t count, uint32_t flags)
{
    uint64_t offset = (uint64_t)((const char *)head - slab_base(slab));

    return offset << REMOTE_HEAD_SHIFT | (uint64_t)count << REMOTE_COUNT_SHIFT | flags;
}

static struct hak_chain remote_unpack(const struct slab *slab, uint64_t word)
{
    size_t count = (uint32_t)word >> REMOTE_COUNT_SHIFT;

    if (count == 0)
        return (struct hak_chain){NULL, 0};
    return (struct hak_chain){
        (struct hak_block *)(void *)(slab_base(slab) + (word >> REMOTE_HEAD_SHIFT)), count};
}

static void queue_push(struct hak_shard *shard, struct slab *slab)
{
    struct slab *head = atomic_load_relaxed(&shard->queue);

    do {
        slab->queue_next = head;
    } while (!atomic_cas_release(&shard->queue, &head, slab));
}

/* Whether a shard's owner has made no call for the purge delay, as far as can be seen. */
static bool is_asleep(const struct hak_shard *owner)
{
    return (int32_t)(hak_clock_ms() - atomic_load_relaxed(&owner->seen_at)) >=
           CONFIG_PURGE_DELAY_MS;
}

/* Granules of slabs all of whose blocks are on their remote words, and whose pages are still there;
 * atomic. It may lag behind a push, and so be below zero for a moment. */
static ptrdiff_t complete_granules;

/* So many may wait for owners that are awake: a quarter of what may be dirty. */
#define COMPLETE_GRANULES_MAX                                                                      \
    ((ptrdiff_t)(atomic_load_relaxed(&hak_dirty_max) / 4 >> GRANULE_SHIFT))

static void count_complete(ptrdiff_t granules)
{
    __atomic_fetch_add(&complete_granules, granules, __ATOMIC_RELAXED);
}

/* Gives the pages of a slab back, all of whose blocks are on its remote word, which is BUSY. */
static void purge_for_owner(struct slab *slab, uint64_t word)
{
    dense_split((uint32_t)(slab - window.slabs), slab->run_granules);
    bool purged =
        os_purge_zeroes() && os_purge(slab_base(slab), (size_t)slab->run_granules << GRANULE_SHIFT);

    if (!purged)
        count_complete(slab->run_granules);
    /* If it was refused, pages may have gone all the same. Nobody follows the links of a slab that is all free. */
    atomic_store_release(&slab->remote,
                         purged ? REMOTE_QUEUED | REMOTE_ALL_FREE : word & ~(uint64_t)REMOTE_BUSY);
}

/* Pushes a chain of blocks of one slab onto its remote word: `push` and `asleep` of slab.h. */
static void remote_push(struct slab *slab, struct hak_chain chain, struct hak_block *tail)
{
    uint64_t word = atomic_load_relaxed(&slab->remote);
    ptrdiff_t granules = slab->run_granules; /* the slab is touched no more after the push */
    uint64_t pushed;
    uint32_t flags;
    bool complete;

    do {
        struct hak_chain there = remote_unpack(slab, word);
        size_t count = there.count + chain.count;
        if (unlikely(word & (REMOTE_BUSY | REMOTE_ALL_FREE) || count > slab->capacity))
            hak_fatal_pointer("free()", chain.head, "freed twice");
        flags = REMOTE_QUEUED;
        complete = count == slab->capacity;
        if (complete && (atomic_load_relaxed(&complete_granules) >= COMPLETE_GRANULES_MAX ||
                         is_asleep(shard_of(tag_of(slab)))))
            flags |= REMOTE_BUSY;
        tail->next = there.head;
        pushed = remote_pack(slab, chain.head, count, flags);
    } while (!atomic_cas_acq_rel(&slab->remote, &word, pushed));

    /* Read after QUEUED was set, the tag names an owner that will look. */
    if (!(word & REMOTE_QUEUED))
        queue_push(shard_of(tag_of(slab)), slab);
    if (flags & REMOTE_BUSY)
        purge_for_owner(slab, pushed);
    else if (complete)
        count_complete(granules);
}

static void outgoing_send(struct superslab_outgoing *batch)
{
    if (batch->slab == NULL)
        return;
    remote_push(batch->slab, batch->chain, batch->tail);
    batch->slab = NULL;
}

static void outgoing_send_all(struct hak_shard *shard)
{
    for (int i = 0; i < OUTGOING_SLOTS; i++)
        outgoing_send(&shard->lists->outgoing[i]);
}

/* Whether a shard that has no room for batches had better do without: it has freed few of others' blocks so far, or
 * there is no memory. */
static bool is_pushing_alone(struct hak_shard *shard)
{
    if (owns(shard))
        return false;
    return shard->lone_pushes++ < LONE_PUSHES_MOST || !begin_to_own(shard);
}

/* Adds a chain of another's blocks, all of one slab, to the batch for that slab. */
static void outgoing_add(struct hak_shard *shard, struct slab *slab, struct hak_chain chain,
                         struct hak_block *last)
{
    if (is_pushing_alone(shard)) {
        remote_push(slab, chain, last);
        return;
    }
    struct superslab_outgoing *batch =
        &shard->lists->outgoing[(size_t)(slab - window.slabs) % OUTGOING_SLOTS];

    if (batch->slab != slab) {
        outgoing_send(batch);
        *batch = (struct superslab_outgoing){slab, last, chain};
    } else {
        last->next = batch->chain.head;
        batch->chain.head = chain.head;
        batch->chain.count += chain.count;
    }
    if (batch->chain.count >= CONFIG_REFILL_BATCH ||
        (batch->chain.count + 1) * slab->block_size > OUTGOING_BYTES)
        outgoing_send(batch);
}

/* Takes what others have freed of one slab: `take` of slab.h. false: somebody purges it, and it must
 * stay queued. */
static bool collect_slab(struct hak_shard *shard, struct slab *slab)
{
    hak_class cls = class_of(tag_of(slab));
    uint64_t word = atomic_load_relaxed(&slab->remote);

    do {
        if (word & REMOTE_BUSY)
            return false;
    } while (!atomic_cas_acq_rel(&slab->remote, &word, 0));

    struct hak_chain chain = remote_unpack(slab, word);
    bool purged = word & REMOTE_ALL_FREE;
    uint32_t count = purged ? slab->capacity : (uint32_t)chain.count;
    if (unlikely(slab->used < count))
        hak_fatal_pointer("free()", purged ? slab_base(slab) : (void *)chain.head, "freed twice");
    slab->used -= count;
    if (chain.count == slab->capacity)
        count_complete(-(ptrdiff_t)slab->run_granules);
    if (slab->used == 0) {
        slab_delete(shard, cls, slab, purged);
        return true;
    }
    if (chain.count == 0) /* just adopted, and nothing came meanwhile */
        return true;
    bool had = has_linked(slab);
    touch(shard, slab);
    if (hak_stackable(cls))
        hak_chain_push(&slab->closed, chain);
    else
        slab_add(slab, cls, chain, slab_nth(slab, chain.head, chain.count));
    list_filled(shard, cls, slab, had);
    return true;
}

/* Takes what others have freed of this shard's slabs. Returns whether there was anything. */
static bool collect(struct hak_shard *shard)
{
    if (atomic_load_relaxed(&shard->queue) == NULL)
        return false;
    struct slab *slab = atomic_exchange_acquire(&shard->queue, NULL);
    while (slab) {
        struct slab *next = slab->queue_next;
        if (!collect_slab(shard, slab))
            queue_push(shard, slab);
        slab = next;
    }
    return true;
}

/* Takes the queue of a shard whose owner sleeps, purges the slabs that have become complete, and puts
 * everything back: `sleeper` of slab.h. */
static void look_after_sleeper(struct hak_shard *sleeper)
{
    struct slab *slab = atomic_exchange_acquire(&sleeper->queue, NULL);

    while (slab) {
        struct slab *next = slab->queue_next;
        uint64_t word = atomic_load_relaxed(&slab->remote);
        while (!(word & (REMOTE_BUSY | REMOTE_ALL_FREE)) &&
               remote_unpack(slab, word).count == slab->capacity) {
            if (!atomic_cas_acq_rel(&slab->remote, &word, word | REMOTE_BUSY))
                continue;
            count_complete(-(ptrdiff_t)slab->run_granules);
            purge_for_owner(slab, word | REMOTE_BUSY);
            break;
        }
        queue_push(shard_of(tag_of(slab)), slab);
        slab = next;
    }
}

/* Looks for a sleeping thread's shard among the next few ids. */
static void look_after_sleepers(struct hak_shard *shard)
{
    enum { IDS_MOST = 64 };

    for (int i = 0; i < IDS_MOST && atomic_load_relaxed(&complete_granules) > 0; i++) {
        uint32_t last = atomic_load_acquire(&owners);
        shard->sleeper = shard->sleeper < last ? shard->sleeper + 1 : 1;
        struct hak_shard *other = shard_of(shard->sleeper << TAG_OWNER_SHIFT);
        if (other == shard || atomic_load_relaxed(&other->queue) == NULL || !is_asleep(other))
            continue;
        look_after_sleeper(other);
        return;
    }
}

/* ── ended threads' slabs ────────────────────────────────────────────────────────────────────── */

/* Makes slabs of class `cls` of a claimed shard this shard's own: `adopt` of slab.h. */
static bool adopt_from(struct hak_shard *shard, struct hak_shard *claimed, hak_class cls)
{
    bool adopted = false;
    struct slab *next;

    backend_thread_exit(claimed);
    for (struct slab *slab = claimed->lists->classes[hak_class_index(cls)].open; slab;
         slab = next) {
        next = slab->next;
        uint64_t word = 0;
        if (!atomic_cas_strong_acq_rel(&slab->remote, &word, REMOTE_QUEUED))
            continue;
        unlist(claimed, cls, slab);
        set_tags(slab, shard->tag + (uint32_t)cls);
        see_window(shard);
        if (has_linked(slab))
            list_first(shard, cls, slab);
        else
            list_last(shard, cls, slab);
        if (!collect_slab(shard, slab))
            queue_push(shard, slab);
        adopted = true;
    }
    return adopted;
}

static bool adopt(struct hak_shard *shard, hak_class cls)
{
    bool adopted = false;

    for (unsigned tried = 0; tried < HAK_CLAIMS_MOST && !adopted; tried++) {
        struct hak_shard *claimed = hak_heap_claim(tried);
        if (claimed == NULL)
            break;
        adopted = adopt_from(shard, claimed, cls);
        hak_heap_release(claimed);
    }
    return adopted;
}

/* ── refill ──────────────────────────────────────────────────────────────────────────────────── */

/* The first slab of a class has given: it stays first, or makes way for one that has free blocks in
 * lists, or leaves as it has nothing more. */
static void relist(struct hak_shard *shard, hak_class cls, struct slab *slab)
{
    bool exhausted = slab->blank_pages == 0 && slab->cut == slab->capacity;

    if (has_linked(slab) || (!exhausted && !(slab->next && has_linked(slab->next))))
        return;
    unlist(shard, cls, slab);
    if (!exhausted)
        list_last(shard, cls, slab);
}

/* Something from the shard's own slabs: a closed chain whole, or what loose blocks a few slabs have,
 * or fresh blocks. */
static struct hak_chain take(struct hak_shard *shard, hak_class cls, size_t max)
{
    struct hak_chain taken = {NULL, 0};
    struct slab *slab;

    while ((slab = shard->lists->classes[hak_class_index(cls)].open) != NULL && taken.count < max) {
        struct hak_chain chain;
        struct hak_block *last = NULL;
        bool is_last = true; /* of what this refill takes */

        if (taken.count > 0 && slab->loose_count == 0)
            break;
        if (!has_linked(slab) && slab->blank_pages > 0)
            slab_recut(slab, cls);
        if (slab->closed.top && taken.count == 0) {
            chain = slab_take_closed(slab, max);
        } else if (slab->loose_count > 0) {
            chain = slab_take_loose(slab, max - taken.count, &last);
            is_last = has_linked(slab);
        } else {
            chain = slab_cut(slab, max, &last);
        }
        if (last)
            last->next = taken.head;
        slab->used += (uint32_t)chain.count;
        touch(shard, slab);
        relist(shard, cls, slab);
        taken = (struct hak_chain){chain.head, taken.count + chain.count};
        if (is_last)
            break;
    }
    return taken;
}

/* A common shard: its owner is whoever holds its lock. */
struct common {
    struct hak_shard shard; /* without an id before its first use */
    struct superslab_lists lists;
};

static struct common commons[COMMONS];
static bool commons_used; /* atomic; one of them */

static struct {
    _Alignas(HAK_CACHE_LINE) struct hak_lock lock;
} common_locks[COMMONS] = {[0 ... COMMONS - 1] = {.lock = {.rank = HAK_RANK_SLABS}}};

/* Locks the common shard of a crowded one, or the next that nobody has. */
static unsigned common_lock(const struct hak_shard *shard)
{
    unsigned mine = (shard->tag >> TAG_OWNER_SHIFT) % COMMONS;

    for (unsigned i = 0; i < COMMONS; i++)
        if (hak_lock_try(&common_locks[(mine + i) % COMMONS].lock))
            return (mine + i) % COMMONS;
    hak_lock(&common_locks[mine].lock);
    return mine;
}

/* pre: its lock is held. false: out of memory */
static bool common_begin(struct common *common)
{
    if (common->shard.tag != 0)
        return true;
    common->shard.lists = &common->lists;
    atomic_store_relaxed(&commons_used, true);
    return shard_enter(&common->shard);
}

/* Blocks from a common shard. None: the shard has used the class and takes from slabs of its own,
 * or there is no memory. */
static hak_cold struct hak_chain take_common(struct hak_shard *shard, hak_class cls, size_t max)
{
    uint8_t *refills = &shard->refills[hak_class_index(cls)];
    size_t batch = hak_crowd_batch(*refills, hak_class_size(cls));
    struct hak_chain chain = {NULL, 0};

    if (batch == 0)
        return chain;
    ++*refills;
    max = batch < max ? batch : max;
    unsigned at = common_lock(shard);
    struct hak_shard *common = &commons[at].shard;
    if (common_begin(&commons[at])) {
        common->ticked_at = hak_clock_ms();
        atomic_store_relaxed(&common->seen_at, common->ticked_at);
        collect(common);
        chain = take(common, cls, max);
        if (chain.count == 0 && slab_new(common, cls))
            chain = take(common, cls, max);
    }
    hak_unlock(&common_locks[at].lock);
    return chain;
}

struct hak_chain backend_refill_chain(struct hak_shard *shard, hak_class cls, size_t max)
{
    struct hak_chain chain = kept_pop(shard, cls, max);

    if (chain.count == 0 && unlikely(shard->crowded))
        chain = take_common(shard, cls, max);
    if (chain.count > 0 || unlikely(!owns(shard) && !begin_to_own(shard)))
        return chain;
    collect(shard);
    chain = take(shard, cls, max);
    if (chain.count == 0 && adopt(shard, cls))
        chain = take(shard, cls, max);
    if (chain.count == 0 && slab_new(shard, cls))
        chain = take(shard, cls, max);
    if (chain.count == 0 && shard->kept_bytes > 0) {
        /* Out of memory, but for what is kept for other classes. */
        kept_sort_all(shard);
        if (slab_new(shard, cls))
            chain = take(shard, cls, max);
    }
    return chain;
}

/* Writes the first blocks of a chain to out[0 .. count-1]; returns the one after them. */
static struct hak_block *spread(hak_class cls, struct hak_block *block, void **out, size_t count)
{
    out += count;
    for (ptrdiff_t i = -(ptrdiff_t)count; i < 0;) {
        struct hak_grid grid = slab_grid_of(checked_slab(block, cls));
        do {
            out[i] = block;
            block = block->next;
        } while (++i < 0 && hak_grid_has(&grid, block));
    }
    return block;
}

/* Blocks of a kept chain into out[0 .. max-1]; returns how many. */
static size_t kept_spread(struct hak_shard *shard, hak_class cls, void **out, size_t max)
{
    struct hak_chain chain = kept_pop(shard, cls, HAK_PACKED_MAX);
    size_t count = chain.count < max ? chain.count : max;
    struct hak_block *rest = spread(cls, chain.head, out, count);

    if (chain.count > count) {
        checked_slab(rest, cls);
        chain = (struct hak_chain){rest, chain.count - count};
        hak_chain_push(&shard->lists->classes[hak_class_index(cls)].kept, chain);
        shard->kept_bytes += chain.count * hak_class_size(cls);
    }
    return count;
}

/* Blocks never cut into out[0 .. max-1], if the slab in use has no others; returns how many. */
static size_t cut_spread(struct hak_shard *shard, hak_class cls, void **out, size_t max)
{
    struct slab *slab = shard->lists->classes[hak_class_index(cls)].open;

    if (slab == NULL || has_linked(slab) || slab->blank_pages > 0)
        return 0;
    size_t count = slab_cut_array(slab, out, max);
    slab->used += (uint32_t)count;
    touch(shard, slab);
    relist(shard, cls, slab);
    return count;
}

size_t backend_refill_array(struct hak_shard *shard, hak_class cls, void **out, size_t max)
{
    size_t count = kept_spread(shard, cls, out, max);

    if (count > 0)
        return count;
    collect(shard);
    count = cut_spread(shard, cls, out, max);
    if (count > 0)
        return count;
    struct hak_chain chain = backend_refill_chain(shard, cls, max);
    spread(cls, chain.head, out, chain.count);
    return chain.count;
}

/* ── return ──────────────────────────────────────────────────────────────────────────────────── */

/* Takes blocks of one slab back: into the slab if it is this shard's, else on their way. */
static void give(struct hak_shard *shard, hak_class cls, struct slab *slab, struct hak_chain chain,
                 struct hak_block *last)
{
    /* Another's: under CONFIG_REMOTE_FREE_KEEP, or when a fork has parked a heap with kept chains. */
    if (!is_mine(shard, tag_of(slab))) {
        outgoing_add(shard, slab, chain, last);
        return;
    }
    if (unlikely(slab->used < chain.count))
        hak_fatal_pointer("free()", chain.head, "freed twice");
    slab->used -= (uint32_t)chain.count;
    if (slab->used == 0) {
        /* Nobody else holds a block, so nobody can have freed one. */
        if (unlikely(atomic_load_relaxed(&slab->remote) != 0))
            hak_fatal_pointer("free()", chain.head, "freed twice");
        slab_delete(shard, cls, slab, false);
        return;
    }
    bool had = has_linked(slab);
    touch(shard, slab);
    slab_add(slab, cls, chain, last);
    list_filled(shard, cls, slab, had);
}

/* Sorts a chain to the slabs of its blocks; neighbours of one slab go together. */
static void sort(struct hak_shard *shard, hak_class cls, struct hak_chain chain)
{
    struct hak_block *block = chain.head;
    size_t left = chain.count;

    while (left > 0) {
        struct slab *slab = checked_slab(block, cls);
        char *base = slab_base(slab);
        size_t size = (size_t)slab->run_granules << GRANULE_SHIFT;
        struct hak_chain same = {block, 1};
        struct hak_block *last = block;
        struct hak_block *next = NULL;
        while (--left > 0) {
            next = last->next;
            if ((size_t)((char *)next - base) >= size)
                break;
            if (unlikely(!slab_on_grid(slab, next)))
                hak_fatal_pointer("free()", next, NOT_A_BLOCK);
            last = next;
            same.count++;
        }
        give(shard, cls, slab, same, last);
        block = next;
    }
}

/* Whether a chain is worth keeping as it is: its blocks lie together, as far as the first few tell. One whose
 * blocks are scattered would be handed out again as scattered, and each costs the program a miss in its caches;
 * sorted to slabs, the next refill is from one of them. No link is followed out of the granule. */
static bool worth_keeping(struct hak_chain chain)
{
    const struct hak_block *block = chain.head;

    if (enabled(CONFIG_KEEP_SCATTERED))
        return true;
    for (int i = 1; i < LOOKS_AT && (size_t)i < chain.count; i++) {
        const struct hak_block *next = block->next;
        if (((uintptr_t)next ^ (uintptr_t)block) >> GRANULE_SHIFT != 0)
            return false;
        block = next;
    }
    return true;
}

void backend_return_chain(struct hak_shard *shard, hak_class cls, struct hak_chain chain)
{
    if (!worth_keeping(chain) || !kept_push(shard, cls, chain))
        sort(shard, cls, chain);
}

/* Links blocks without looking at them: each link is checked when it is followed, as in any chain. */
void backend_return_array(struct hak_shard *shard, hak_class cls, void *const *in, size_t count)
{
    backend_return_chain(shard, cls, hak_chain_of(in, count));
}

/* ── large blocks, foreign pointers ──────────────────────────────────────────────────────────── */

/* Says why a pointer is no block. */
_Noreturn static hak_cold void reject(const void *pointer, const char *call)
{
    if (!in_window(pointer))
        hak_fatal_pointer(call, pointer, "not from this allocator");
    for (size_t granule = granule_of(pointer); granule > 0; granule--) {
        uint32_t tag = atomic_load_relaxed(&window.tags[granule]);
        if (tag == TAG_LARGE && granule + window.slabs[granule].run_granules > granule_of(pointer))
            hak_fatal_pointer(call, pointer, "inside a large block, not its start");
        if (tag != TAG_NONE || !window_committed(granule))
            break;
    }
    hak_fatal_pointer(call, pointer, "not a live block (freed twice?)");
}

/* The slab of a live small block, or the run of a large one; anything else stops the process. */
static struct slab *checked_block(const void *pointer, const char *call, bool *large)
{
    uint32_t tag = in_window(pointer) ? atomic_load_relaxed(&window.tags[granule_of(pointer)]) : 0;

    *large = tag == TAG_LARGE;
    if (*large && (uintptr_t)pointer % GRANULE_SIZE == 0)
        return &window.slabs[granule_of(pointer)];
    if (class_of(tag) >= HAK_CLASS_END)
        reject(pointer, call);
    struct slab *slab = slab_of(pointer);
    if (!slab_on_grid(slab, pointer))
        hak_fatal_pointer(call, pointer, NOT_A_BLOCK);
    return slab;
}

/* A large block that was moved is a mapping of its own until it is freed. Grown in its place since, it ends
 * in the window's mapping, and is two when it is moved again, and so on. The kernel limits the number of
 * mappings (vm.max_map_count, 65530 by default), and each of ours splits another. Beyond this many, blocks
 * are copied, into one again. */
enum { MOVED_MOST = 8192, MOVED_MOST_OF_BLOCK = 32 };
static uint32_t moved_mappings;

static void mark_moved(struct slab *run, unsigned mappings)
{
    __atomic_fetch_add(&moved_mappings, mappings - run->moved, __ATOMIC_RELAXED);
    run->moved = (uint8_t)mappings;
}

/* Puts fresh memory in the place of a moved block's, so that its mapping melts into the window's. */
static bool renew(uint32_t first, size_t granules)
{
    if (!os_map_over(granule_address(first), granules << GRANULE_SHIFT))
        return false;
    os_advise_huge_pages(granule_address(first), granules << GRANULE_SHIFT);
    return true;
}

static void large_free(struct slab *run, const void *pointer, const char *call)
{
    uint32_t first = (uint32_t)(run - window.slabs);

    /* Of two threads that free it, one finds the tag gone; the other has the block to itself from here on. */
    if (atomic_exchange_acquire(&window.tags[first], TAG_NONE) != TAG_LARGE)
        reject(pointer, call);
    size_t granules = run->run_granules;
    unsigned moved = run->moved;
    if (moved)
        mark_moved(run, 0);
    run_free(first, granules, moved && renew(first, granules));
}

void backend_free(struct hak_shard *shard, void *pointer, const char *call)
{
    bool large;

    if (pointer == NULL)
        return;
    struct slab *slab = checked_block(pointer, call, &large);
    if (large) {
        large_free(slab, pointer, call);
        return;
    }
    struct hak_block *block = pointer;
    struct hak_chain chain = {block, 1};
    if (shard == NULL) {
        remote_push(slab, chain, block);
        return;
    }
    see_window(shard);
    outgoing_add(shard, slab, chain, block);
}

static uint32_t large_new(size_t size, size_t align, bool *zeroed)
{
    size_t granules = (size + GRANULE_SIZE - 1) >> GRANULE_SHIFT;
    uint32_t run;

    if (granules + (align >> GRANULE_SHIFT) > WINDOW_GRANULES)
        return NO_RUN;
    run = run_alloc(granules, align <= GRANULE_SIZE ? 1 : align >> GRANULE_SHIFT, zeroed);
    if (run != NO_RUN) {
        window.slabs[run].moved = 0;
        atomic_store_relaxed(&window.tags[run], TAG_LARGE);
    }
    return run;
}

struct hak_large backend_large_alloc(struct hak_shard *shard, size_t size, size_t align)
{
    struct hak_large large = {NULL, false};

    if (shard)
        collect(shard);
    uint32_t run = large_new(size, align, &large.zeroed);

    if (run != NO_RUN)
        large.base = granule_address(run);
    return large;
}

size_t backend_usable_size(const void *pointer, const char *call)
{
    bool large;
    const struct slab *slab = checked_block(pointer, call, &large);

    return large ? (size_t)slab->run_granules << GRANULE_SHIFT : slab->block_size;
}

bool backend_owns(const void *pointer)
{
    return in_superslab(pointer);
}

bool backend_resize(void *pointer, size_t size)
{
    uint32_t run = granule_of(pointer);
    size_t granules = (size + GRANULE_SIZE - 1) >> GRANULE_SHIFT;
    size_t now = window.slabs[run].run_granules;

    if (granules < now)
        run_trim(run, granules,
                 window.slabs[run].moved && renew(run + (uint32_t)granules, now - granules));
    return granules <= now || run_extend(run, granules);
}

/* Asked once. */
static bool charges_committed(void)
{
    static uint8_t answer; /* relaxed atomic; 0: not asked yet, 1: no, 2: yes */
    uint8_t known = atomic_load_relaxed(&answer);

    if (known == 0) {
        known = os_charges_committed() ? 2 : 1;
        atomic_store_relaxed(&answer, known);
    }
    return known == 2;
}

void *backend_move(void *pointer, size_t size)
{
    uint32_t from = granule_of(pointer);
    size_t bytes = (size_t)window.slabs[from].run_granules << GRANULE_SHIFT;
    bool zeroed;
    unsigned mappings;

    /* Where memory is charged the kernel may unmap the target and then refuse. */
    if (bytes < MOVE_BYTES_LEAST || charges_committed() ||
        atomic_load_relaxed(&moved_mappings) >= MOVED_MOST)
        return NULL;
    uint32_t to = large_new(size, 1, &zeroed);
    if (to == NO_RUN)
        return NULL;
    mark_moved(&window.slabs[to], 1);
    mappings = os_move(pointer, granule_address(to), bytes, MOVED_MOST_OF_BLOCK);
    if (mappings == 0) {
        large_free(&window.slabs[to], granule_address(to), "realloc()");
        return NULL;
    }
    mark_moved(&window.slabs[to], mappings);
    mark_moved(&window.slabs[from], 1); /* for the kernel keeps the emptied mappings apart */
    large_free(&window.slabs[from], pointer, "realloc()");
    return granule_address(to);
}

/* Any thread may ask. */
size_t backend_kept(const struct hak_shard *shard)
{
    size_t bytes = shard->kept_bytes;

    for (int i = 0; i < OUTGOING_SLOTS; i++) {
        const struct slab *slab = atomic_load_relaxed(&shard->lists->outgoing[i].slab);
        if (slab)
            bytes += shard->lists->outgoing[i].chain.count * slab->block_size;
    }
    return bytes;
}

size_t backend_footprint(void)
{
    return window_bytes();
}

/* ── life of a shard ─────────────────────────────────────────────────────────────────────────── */

void backend_thread_exit(struct hak_shard *shard)
{
    kept_sort_all(shard);
    outgoing_send_all(shard);
    collect(shard);
}

void backend_fork_prepare(void)
{
    hak_lock(&common_locks[0].lock);
    for (unsigned i = 1; i < COMMONS; i++)
        hak_lock_nested(&common_locks[i].lock);
    run_lock();
}

void backend_fork_parent(void)
{
    run_unlock();
    for (unsigned i = COMMONS; i-- > 0;)
        hak_unlock(&common_locks[i].lock);
}

void backend_fork_child(void)
{
    backend_fork_parent();
}

/* Memory that has not been used for so long, in milliseconds, is purged by the next round; and rounds
 * begin as often, so that all is done within CONFIG_PURGE_DELAY_MS. */
enum { ROUND_MS = CONFIG_PURGE_DELAY_MS / 2 };

/* What one tick does of a round, so that no malloc waits long: slabs looked at, slabs whose free
 * blocks are walked, calls of the operating system. */
enum { LOOKS_MOST = 256, WALKS_MOST = 16, CALLS_MOST = 64 };

static bool is_round_due(const struct hak_shard *shard, uint32_t now)
{
    return shard->round_class == HAK_CLASSES && (uint64_t)(now - shard->round_at) + 1 > ROUND_MS;
}

/* Lets the round visit a class: first what is kept of it goes to its slabs. */
static void round_class(struct hak_shard *shard, unsigned index)
{
    shard->round_class = index;
    if (index < HAK_CLASSES) {
        kept_sort(shard, index);
        shard->round_slab = shard->lists->classes[index].open;
    }
}

static void round_start(struct hak_shard *shard, uint32_t now)
{
    shard->round_at = now;
    outgoing_send_all(shard);
    collect(shard);
    round_class(shard, 0);
}

/* Goes on with a round; slabs that were touched less than `least` ms ago are left alone. Returns whether
 * it is over, and adds to *purged. */
static bool round_step(struct hak_shard *shard, uint32_t now, uint32_t least, unsigned *purged)
{
    unsigned looks = 0;
    unsigned walks = 0;
    unsigned most = *purged + CALLS_MOST;

    while (shard->round_class < HAK_CLASSES) {
        hak_class cls = hak_class_at(shard->round_class);
        struct slab *slab;
        while ((slab = shard->round_slab) != NULL) {
            if (looks++ == LOOKS_MOST || walks == WALKS_MOST || *purged >= most)
                return false;
            shard->round_slab = slab->next;
            if (slab->touched_at == 0 || now - slab->touched_at + 1 < least)
                continue;
            slab->touched_at = 0;
            *purged += slab_purge_pages(slab, cls);
            if (!has_linked(slab)) {
                unlist(shard, cls, slab);
                list_last(shard, cls, slab);
            }
            walks++;
        }
        round_class(shard, shard->round_class + 1);
    }
    return true;
}

/* Begins a round if one is due, and goes on with it. Returns whether there is more to do. */
static bool round_go_on(struct hak_shard *shard, uint32_t now)
{
    unsigned purged = 0;

    shard->ticked_at = now;
    if (is_round_due(shard, now))
        round_start(shard, now);
    return !round_step(shard, now, ROUND_MS, &purged);
}

/* The slabs of a thread that has ended: what others have freed of them comes back here. One heap at a
 * time; each round of this shard looks at all. */
static void look_after_ended(struct hak_shard *shard, uint32_t now)
{
    struct hak_shard *claimed = hak_heap_claim(shard->claims++);

    if (claimed == NULL) {
        shard->claims = UINT_MAX; /* until the next round */
        return;
    }
    if (round_go_on(claimed, now))
        shard->behind = true;
    hak_heap_release(claimed);
}

/* One step of a common shard's round, unless somebody is at it. Returns whether there is more to do. */
static bool look_after_common(unsigned at, uint32_t now)
{
    struct hak_shard *common = &commons[at].shard;
    bool more = false;

    if (!atomic_load_relaxed(&commons_used) || !hak_lock_try(&common_locks[at].lock))
        return false;
    if (common->tag != 0) {
        atomic_store_relaxed(&common->seen_at, now);
        more = round_go_on(common, now);
    }
    hak_unlock(&common_locks[at].lock);
    return more;
}

/* No sign of life: whether the owner sleeps is still to be seen. */
bool backend_upkeep(struct hak_shard *shard)
{
    uint32_t now = hak_clock_ms();
    bool more = run_dirty() && run_purge_due(now);

    dense_tick(now);
    for (unsigned i = 0; i < COMMONS; i++)
        more = look_after_common(i, now) || more;
    return round_go_on(shard, now) || more;
}

void backend_tick(struct hak_shard *shard)
{
    uint32_t now = hak_clock_ms();
    unsigned purged = 0;

    if (now == shard->ticked_at && !shard->behind)
        return;
    shard->ticked_at = now;
    atomic_store_relaxed(&shard->seen_at, now);
    dense_tick(now);
    shard->behind = run_dirty() && run_purge_due(now);
    if (is_round_due(shard, now)) {
        round_start(shard, now);
        shard->claims = 0;
    }
    if (!round_step(shard, now, ROUND_MS, &purged))
        shard->behind = true;
    if (shard->claims != UINT_MAX)
        look_after_ended(shard, now);
    look_after_sleepers(shard);
    if (look_after_common(shard->common++ % COMMONS, now))
        shard->behind = true;
    hak_assert_expensive(backend_valid(shard));
}

/* All that a shard can give back, at once. Returns whether there was anything in partly live slabs. */
static bool purge_shard(struct hak_shard *shard)
{
    unsigned purged = 0;

    backend_thread_exit(shard);
    round_class(shard, 0);
    while (!round_step(shard, hak_clock_ms(), 0, &purged))
        ;
    return purged > 0;
}

bool backend_trim(struct hak_shard *shard)
{
    bool purged = purge_shard(shard);

    for (unsigned tried = 0;; tried++) {
        struct hak_shard *claimed = hak_heap_claim(tried);
        if (claimed == NULL)
            break;
        purged = purge_shard(claimed) || purged;
        hak_heap_release(claimed);
    }
    for (unsigned i = 0; i < COMMONS; i++) {
        hak_lock(&common_locks[i].lock);
        if (commons[i].shard.tag != 0)
            purged = purge_shard(&commons[i].shard) || purged;
        hak_unlock(&common_locks[i].lock);
    }
    return run_purge_all() || purged;
}

/* ── walks ───────────────────────────────────────────────────────────────────────────────────── */

/* What is on its remote word; a slab with all blocks free may be just being purged, or have no chain more. */
static uint32_t remote_blocks(const struct slab *slab, uint64_t word)
{
    return word & REMOTE_ALL_FREE ? slab->capacity : (uint32_t)remote_unpack(slab, word).count;
}

static size_t purged_bytes(const struct slab *slab, uint64_t word)
{
    if (word & REMOTE_ALL_FREE)
        return (size_t)slab->run_granules << GRANULE_SHIFT;
    return slab->blank_pages * os_page_size();
}

static struct hak_extent extent_of(const struct slab *run, size_t granules)
{
    static const enum hak_extent_kind KINDS[] =
        {[RUN_DIRTY] = HAK_EXTENT_DIRTY, [RUN_CLEAN] = HAK_EXTENT_CLEAN};
    struct hak_extent extent = {.base = slab_base(run), .size = granules << GRANULE_SHIFT};
    uint32_t tag = tag_of(run);

    if (run->state != RUN_USED) {
        extent.kind = KINDS[run->state];
    } else if (class_of(tag) < HAK_CLASS_END) {
        uint64_t word = atomic_load_acquire(&run->remote);
        uint32_t back = run->cut - run->used + remote_blocks(run, word);
        extent.kind = HAK_EXTENT_SLAB;
        extent.cls = class_of(tag);
        extent.capacity = run->capacity;
        extent.cut = run->cut < run->capacity ? run->cut : run->capacity;
        extent.free = back < extent.cut ? back : extent.cut;
        extent.purged = purged_bytes(run, word);
    } else {
        /* one that is just changing hands counts as free */
        extent.kind = tag == TAG_LARGE ? HAK_EXTENT_LARGE : HAK_EXTENT_DIRTY;
    }
    return extent;
}

void backend_walk(void (*visit)(const struct hak_extent *extent, void *context), void *context)
{
    size_t left = window_bytes() >> GRANULE_SHIFT;

    for (size_t granule = 0; granule < window_granules() && left > 0;) {
        size_t length = SUPERSLAB_GRANULES;
        if (window_committed(granule)) {
            const struct slab *run = &window.slabs[granule];
            struct hak_extent extent = extent_of(run, length = run->run_granules);
            left -= length;
            if (granule > 0) /* which is never given out */
                visit(&extent, context);
        }
        granule += length;
    }
}

/* The numbers of the blocks of a chain, as far as its links stay in the slab. */
static void add_numbers(const struct slab *slab, struct hak_chain chain, uint64_t *set)
{
    const struct hak_block *block = chain.head;

    for (size_t left = chain.count; left > 0 && slab_on_grid(slab, block); left--) {
        hak_set_add(set, (uint32_t)((const char *)block - slab_base(slab)) / slab->block_size);
        block = block->next;
    }
}

void backend_free_blocks(const struct hak_extent *extent, uint64_t *set)
{
    const struct slab *slab = &window.slabs[granule_of(extent->base)];
    uint64_t word = atomic_load_acquire(&slab->remote);
    hak_packed_chain packed = slab->closed.top;

    for (uint32_t i = 0; word & REMOTE_ALL_FREE && i < extent->cut; i++)
        hak_set_add(set, i);
    add_numbers(slab, remote_unpack(slab, word), set);
    add_numbers(slab, (struct hak_chain){slab->loose, slab->loose_count}, set);
    for (size_t chains = 0; packed && chains < slab->capacity; chains++) {
        struct hak_chain chain = hak_chain_unpack(packed);
        if (!slab_on_grid(slab, chain.head))
            break;
        add_numbers(slab, chain, set);
        packed = ((struct hak_chain_head *)chain.head)->below;
    }
    slab_add_blank(slab, set);
}

hak_class backend_is_block(const void *address)
{
    if (!in_superslab(address))
        return HAK_CLASS_NONE;
    hak_class cls = class_of(atomic_load_acquire(&window.tags[granule_of(address)]));
    return cls < HAK_CLASS_END && slab_on_grid(slab_of(address), address) ? cls : HAK_CLASS_NONE;
}

static void walk_chain(struct hak_chain chain, bool (*visit)(void *block, void *context),
                       void *context)
{
    struct hak_block *block = chain.head;

    for (size_t left = chain.count; left > 0 && visit(block, context); left--)
        block = block->next;
}

void backend_walk_kept(const struct hak_shard *shard, bool (*visit)(void *block, void *context),
                       void *context)
{
    for (unsigned i = 0; i < HAK_CLASSES; i++) {
        hak_packed_chain packed = shard->lists->classes[i].kept.top;
        for (size_t bytes = 0; packed && bytes <= KEPT_BYTES_MAX;) {
            struct hak_chain chain = hak_chain_unpack(packed);
            if (backend_is_block(chain.head) == HAK_CLASS_NONE)
                break;
            packed = ((struct hak_chain_head *)chain.head)->below;
            bytes += chain.count * hak_class_sizes[i];
            walk_chain(chain, visit, context);
        }
    }
    for (int i = 0; i < OUTGOING_SLOTS; i++)
        if (shard->lists->outgoing[i].slab)
            walk_chain(shard->lists->outgoing[i].chain, visit, context);
}

bool backend_has(const void *address)
{
    return in_superslab(address);
}

size_t backend_metadata(void)
{
    return window_metadata() + (owners / SHARDS_A_PAGE + 1) * SHARDS_A_PAGE * sizeof(void *) +
           lists_mapped;
}

/* The invariants of slab.h, but those that need other threads to stand still. */
static bool slab_valid(const struct hak_shard *shard, const struct slab *slab, hak_class cls)
{
    size_t loose = 0;
    size_t closed = 0;

    for (const struct hak_block *b = slab->loose; loose < slab->loose_count; b = b->next, loose++)
        if (!slab_on_grid(slab, b) || (loose + 1 == slab->loose_count && b != slab->loose_tail))
            return false;
    for (hak_packed_chain packed = slab->closed.top; packed;) {
        struct hak_chain chain = hak_chain_unpack(packed);
        packed = ((struct hak_chain_head *)chain.head)->below;
        closed += chain.count;
        for (const struct hak_block *b = chain.head; chain.count > 0; b = b->next, chain.count--)
            if (!slab_on_grid(slab, b))
                return false;
    }
    return slab->used + loose + closed + slab_blank_blocks(slab) == slab->cut &&
           slab->cut <= slab->capacity && slab->listed && tag_of(slab) == shard->tag + cls &&
           slab->block_size == hak_class_size(cls);
}

bool backend_valid(const struct hak_shard *shard)
{
    size_t kept = 0;

    for (unsigned i = 0; i < HAK_CLASSES; i++) {
        const struct slab *first = shard->lists->classes[i].open;
        const struct slab *previous = first ? first->previous : NULL;
        for (const struct slab *slab = first; slab; slab = slab->next) {
            if (slab->previous != previous || !slab_valid(shard, slab, hak_class_at(i)))
                return false;
            if (slab != first && has_linked(slab) && !has_linked(previous))
                return false;
            previous = slab;
        }
        if (first && first->previous != previous)
            return false;
        for (hak_packed_chain packed = shard->lists->classes[i].kept.top; packed;) {
            struct hak_chain chain = hak_chain_unpack(packed);
            packed = ((struct hak_chain_head *)chain.head)->below;
            kept += chain.count * hak_class_sizes[i];
        }
    }
    for (int i = 0; i < OUTGOING_SLOTS; i++) {
        const struct superslab_outgoing *batch = &shard->lists->outgoing[i];
        if (batch->slab && batch->chain.count > 1 &&
            batch->chain.count * batch->slab->block_size > OUTGOING_BYTES)
            return false;
    }
    return kept == shard->kept_bytes && kept <= KEPT_BYTES_MAX;
}
