/* SPDX-License-Identifier: MIT */
/* How this back end describes a granule of its space (core/space.h): a tag, and a description: for extents
 * (core/extents.h), and as the first granule of a slab. Included by superslab.h.
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
 * invariant: a slab with used == 0 is its class's empty one, of which the shard has one at most, or is given back: without tags,
 *            as a free extent or on a rack (core/rack.h)
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
#ifndef HAK_SUPERSLAB_GRANULE_H
#define HAK_SUPERSLAB_GRANULE_H

#include "core/atomic.h"
#include "core/block_list.h"
#include "core/extents.h"

typedef uint32_t space_tag;

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
    bool ahead;     /* its pages get memory before they are touched */
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

#include "gen/space.h"

#endif
