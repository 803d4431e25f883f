/* SPDX-License-Identifier: MIT */
/* Bins: a list of free blocks for each size class, within a budget of bytes. Policies are made of them.
 *
 *   bins ─┬─ bin[0]  list  ─► b ─► b ─► ∅           room 62, limit 64
 *         │          spare ─► b ─► b ─► … ─► b      a second chain, moved as a whole
 *         ├─ bin[1]  list  ─► ∅
 *         └─ …
 *
 * A free block's first word links to the next, so a hit touches the bin and the block, nothing else.
 * Taking pops and putting pushes the list. When the list is full it becomes the spare, and the old
 * spare, the older half of the bin, goes to the back end; when it is empty the spare becomes the list.
 * So whole chains move in O(1) and no link is followed, and a program that goes up and down by less
 * than a chain never leaves the bins.
 *
 * A class may hold two chains of `limit` blocks. With CONFIG_CACHE_ADAPTIVE limits start low and double
 * when a class misses or overflows, within the bytes that the bins may hold; when those are used up
 * a class grows at the cost of another, but to no more than half of them. Without, limits are fixed.
 *
 * Where the back end says which blocks were used before, a class of 1 KiB or more that has none of them takes a free block of
 * a slightly larger class instead of fresh memory: it *borrows*. The block stays one of the larger class.
 *
 * invariant: length(list) + room == limit <= most <= the class's configured capacity / 2
 * invariant: length(spare) <= limit
 * invariant: granted == sum over classes of 2 * limit * size <= budget
 * invariant: every block in bin[c] is of class c
 */
#ifndef HAK_BINS_H
#define HAK_BINS_H

#include "core/backend.h"
#include "core/block_list.h"
#include "core/idle.h"
#include "core/traffic.h"

struct hak_bin {
    struct hak_block *head; /* of the list */
    int32_t room;           /* blocks that the list may still take */
    uint16_t limit;         /* blocks of a full list; 0 in the empty heap */
    uint16_t most;          /* the longest that it may ever be; constant */
};

_Static_assert(sizeof(struct hak_bin) == HAK_CLASS_SCALE, "a scaled class is a bin's offset");

/* Zero-filled, they are the bins of the empty heap: every list misses and no block finds room. */
struct hak_bins {
    struct hak_bin bin[HAK_CLASSES];
    hak_packed_chain spare[HAK_CLASSES];
    uint8_t borrowed[HAK_CLASSES]; /* blocks, since the class last touched fresh memory */
    struct hak_idle idle;
    unsigned victim; /* index of the class that shrinks next */
    size_t granted;  /* bytes that all bins together may hold */
    size_t budget;   /* most that may be granted; constant */
};

static inline struct hak_bin *hak_bin_of(struct hak_bins *bins, hak_class cls)
{
    return hak_pin((struct hak_bin *)(void *)((char *)bins->bin + cls));
}

/* A block; NULL: the list is empty. */
static inline void *hak_bin_take(struct hak_bin *bin)
{
    struct hak_block *block = bin->head;

    if (likely(block != NULL)) {
        bin->head = block->next;
        bin->room++;
    }
    return block;
}

/* false: no room, and nothing has changed. */
static inline bool hak_bin_put(struct hak_bin *bin, void *freed)
{
    struct hak_block *block = (struct hak_block *)freed;

    /* One subtraction in memory both counts and tests; a miss puts the one back. */
    if (unlikely(--bin->room < 0)) {
        bin->room = 0;
        return false;
    }
    block->next = bin->head;
    bin->head = block;
    return true;
}

/* The rest mirrors the functions of the same names in frontend.h. */

/* pre: zero-filled; `budget` bytes are the most that the bins may ever hold */
void hak_bins_init(struct hak_bins *bins, size_t budget);

/* pre: hak_bin_take has just missed. NULL: out of memory */
void *hak_bins_refill(struct hak_bins *bins, struct hak_shard *shard, hak_class cls);

/* pre: hak_bin_put has just refused the block */
void hak_bins_flush(struct hak_bins *bins, struct hak_shard *shard, hak_class cls, void *block);

size_t hak_bins_held(const struct hak_bins *bins, hak_class cls);
void hak_bins_walk(const struct hak_bins *bins, bool (*visit)(void *block, void *context),
                   void *context);

/* Gives the blocks of idle classes (core/idle.h) to the back end. Returns whether a round was due. */
bool hak_bins_tick(struct hak_bins *bins, struct hak_shard *shard);

/* Gives all blocks to the back end; limits stay as they have grown. */
void hak_bins_empty(struct hak_bins *bins, struct hak_shard *shard);

/* Forgets all blocks. */
void hak_bins_forget(struct hak_bins *bins);

bool hak_bins_valid(const struct hak_bins *bins);

/* How many free blocks of the class a thread's cache holds at most, as configured. */
uint32_t hak_cache_capacity(hak_class cls);

#endif
