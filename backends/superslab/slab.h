/* SPDX-License-Identifier: MIT */
/* The description of a granule: for extents (core/extents.h), and as the first granule of a slab.
 *
 * A slab is an extent that is cut into blocks of one class and belongs to one shard. Its blocks are cut
 * lazily, in address order:
 *
 *   0 ─────────────── cut ─────────────── capacity
 *   │ used or free     │ never touched      │ (rest, too small for a block)
 *
 *   free blocks:  loose ─► b ─► b              being built; its last block is loose_tail
 *                 closed ─► chain ─► chain     whole chains, each fit for one refill (block_list.h)
 *
 * The owner purges pages that only free blocks overlap once the slab was left alone for a while (core/slab.h).
 *
 * invariant: used + loose_count + sum of the closed chains' counts + blocks that begin in blank pages
 *            == cut <= capacity
 *            (`used` counts what is live, in caches, kept by the shard, and on the remote word)
 * invariant: listed == the slab is on its shard's list of slabs with something to give
 * invariant: a slab with used == 0 is given back
 *
 * The first cache line is the owner's alone: the thread that owns the shard whose id the tag holds.
 * The second is shared: `remote` and `queue_next` by the protocol below, `extent` as extents.h says.
 *
 * THE REMOTE WORD, by which a block goes back to a slab of another's
 *
 *   63        32 31       8 7        0
 *   ┌───────────┬──────────┬──────────┐   a stack of blocks, linked through their first words
 *   │ head      │ count    │ flags    │   head: offset of the first block in the slab
 *   └───────────┴──────────┴──────────┘
 *
 *   push     any thread: CAS a chain onto the stack and QUEUED into the flags. If QUEUED was clear,
 *            read the tag *after* that and push the slab on that heap's queue. Touch the slab's
 *            fields no more.
 *   take     the owner, for each slab on its queue: CAS the word to 0; the chain is the owner's.
 *   adopt    the owner of both shards: CAS the word from 0 to QUEUED (leave the slab if it is not 0),
 *            store the tag, then take; a BUSY slab goes on the new owner's queue, as the thread
 *            that set BUSY found QUEUED set and has not queued it.
 *   asleep   the push that brings the count to the capacity knows that every block is free and on
 *            this word. If the owner has not been seen for the purge delay, its CAS also sets BUSY;
 *            it then purges the pages and sets the word to QUEUED and ALL_FREE. A taker leaves a
 *            BUSY slab queued; an ALL_FREE one it gives back as fresh memory.
 *   sleeper  any thread's tick, for an owner that has not been seen for the purge delay: exchange its
 *            queue for nothing, and have its slabs to itself; for each whose count is the capacity, CAS
 *            BUSY into the word and purge as above; push each slab back on the queue of its owner.
 *
 * While QUEUED is set a slab changes neither owner nor class, is not given back, and is on one queue, once. No thread pops a
 * single block off the word, so there is no ABA. Nothing is ever half-linked, so a fork may happen anywhere: the child loses
 * at most the slabs that another thread was purging or queueing. tests/model checks this protocol.
 */
#ifndef HAK_SUPERSLAB_SLAB_H
#define HAK_SUPERSLAB_SLAB_H

#include "backends/superslab/window.h"
#include "core/backend.h"
#include "core/page_set.h"

#define REMOTE_QUEUED      1u /* on an owner's queue, or its owner is being changed */
#define REMOTE_BUSY        2u /* a thread purges its pages */
#define REMOTE_ALL_FREE    4u /* its pages are purged, every block is free */
#define REMOTE_COUNT_SHIFT 8
#define REMOTE_HEAD_SHIFT  32

/* A tag: the owner's id, and below it a code. A class's code is its scaled value plus CODE_CLASS, so
 * that tag - heap's tag is the class, ready to use, if and only if the block is the heap's own. */
#define TAG_OWNER_SHIFT 12
#define TAG_CODE_MASK   ((1u << TAG_OWNER_SHIFT) - 1)
#define TAG_NONE        0u
#define TAG_LARGE       TAG_CODE_MASK /* the first granule of a large block, owner 0 */
#define CODE_CLASS      HAK_CLASS_SCALE

struct slab {
    struct hak_block *loose;
    struct hak_block *loose_tail;
    struct hak_chain_stack closed;
    uint32_t loose_count;
    uint32_t used;
    uint32_t cut;
    bool listed;
    uint16_t blank; /* of this granule, the pages that are blank; a bit each, every granule's own */
    uint16_t blank_blocks; /* of the slab, those that begin in blank pages */
    uint32_t
        touched_at; /* hak_clock_ms when free blocks last came or went, | 1; 0: pages are settled */
    struct slab *next; /* on the shard's list */
    struct slab *previous;

    /* shared; the sizes do not change while the slab is one */
    _Alignas(HAK_CACHE_LINE) uint64_t remote; /* atomic */
    uint32_t block_size;                      /* bytes */
    uint32_t capacity;                        /* blocks */
    struct slab *queue_next; /* written by the thread that set QUEUED, then the queue's owner */
    struct hak_extent_node extent; /* under hak_extents_lock, but see extents.h */
    uint16_t distance;             /* granules back to the first of its slab */
};

_Static_assert(sizeof(struct slab) == 128, "two lines, 32 slabs to a 4 KiB page");

/* ── the window as a space ───────────────────────────────────────────────────────────────────── */

static inline void *space_address(uint32_t granule)
{
    return granule_address(granule);
}

static inline uint32_t space_granule(const void *address)
{
    return granule_of(address);
}

static inline struct hak_extent_node *space_node(uint32_t granule)
{
    return &window.slabs[granule].extent;
}

static inline bool space_has(uint32_t granule)
{
    return window_committed(granule);
}

static inline bool space_reaches(const void *address)
{
    size_t granules = window_granules(); /* before the base, which is there once this is not 0 */

    return ((uintptr_t)address - window.base) >> GRANULE_SHIFT < granules;
}

static inline bool space_owns(const void *address)
{
    return space_reaches(address) && window_committed(granule_of(address));
}

static inline uint32_t space_tag_of(const void *address)
{
    if (unlikely(!space_reaches(address)))
        return TAG_NONE;
    return atomic_load_relaxed(&window.tags[((uintptr_t)address - window.base) >> GRANULE_SHIFT]);
}

static inline void space_set_tag(uint32_t granule, uint32_t tag)
{
    atomic_store_relaxed(&window.tags[granule], tag);
}

static inline uint32_t space_take_tag(uint32_t granule)
{
    return atomic_exchange_acquire(&window.tags[granule], TAG_NONE);
}

/* ── slabs ───────────────────────────────────────────────────────────────────────────────────── */

#include "core/slab.h"

static inline char *slab_base(const struct slab *slab)
{
    /* a granule's number is its description's offset in a smaller unit */
    uintptr_t offset = (uintptr_t)slab - (uintptr_t)window.slabs;

    return (char *)window.base + offset * (GRANULE_SIZE / sizeof(struct slab));
}

static inline uint32_t slab_tag(const struct slab *slab)
{
    return atomic_load_acquire(&window.tags[slab - window.slabs]);
}

static inline hak_class tag_class(uint32_t tag)
{
    return (uint32_t)((tag & TAG_CODE_MASK) - CODE_CLASS);
}

static inline struct slab *slab_granule(const struct slab *slab, size_t index)
{
    return &window.slabs[slab - window.slabs + (ptrdiff_t)index];
}

static inline hak_class slab_class_at(const void *pointer)
{
    return tag_class(space_tag_of(pointer));
}

static inline struct slab *slab_of(const void *block)
{
    struct slab *slab = &window.slabs[((uintptr_t)block - window.base) >> GRANULE_SHIFT];

    return slab - slab->distance;
}

static inline bool slab_has_linked(const struct slab *slab)
{
    return slab->loose_count > 0 || slab->closed.top != 0;
}

/* Only the owner calls the rest. */

/* The last of the first `count` blocks of a chain. */
struct hak_block *slab_nth(const struct slab *slab, struct hak_block *head, size_t count);

static inline void slab_close_loose(struct slab *slab)
{
    hak_chain_push(&slab->closed, (struct hak_chain){slab->loose, slab->loose_count});
    slab->loose = slab->loose_tail = NULL;
    slab->loose_count = 0;
}

/* Adds free blocks, first to last linked, to a slab's free ones. */
static inline void slab_add(struct slab *slab, hak_class cls, struct hak_chain chain,
                            struct hak_block *last)
{
    if (slab->loose_count > 0 && slab->loose_count + chain.count > CONFIG_REFILL_BATCH &&
        hak_stackable(cls))
        slab_close_loose(slab);
    last->next = slab->loose;
    if (slab->loose == NULL)
        slab->loose_tail = last;
    slab->loose = chain.head;
    slab->loose_count += (uint32_t)chain.count;
}

/* Takes up to `max` loose blocks; blocks of the next closed chain; fresh blocks, a page's worth at most. Empty: there are
 * none. */
struct hak_chain slab_take_loose(struct slab *slab, size_t max, struct hak_block **last);
struct hak_chain slab_take_closed(struct slab *slab, size_t max);
struct hak_chain slab_cut(struct slab *slab, size_t max, struct hak_block **last);

/* Makes the blocks of one blank page free ones again. pre: blank_blocks > 0 */
void slab_recut(struct slab *slab, hak_class cls);

/* Purges the pages that only free blocks overlap; they are blank afterwards. Returns the number of system calls. */
unsigned slab_purge_pages(struct slab *slab);

/* Completes what a walk says of a slab: capacity, cut, free, purged. */
void slab_describe(const struct slab *slab, struct hak_extent *extent);

#endif
