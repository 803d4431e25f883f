/* SPDX-License-Identifier: MIT */
/* Kept chains: free blocks that a shard keeps as they came, for its own next refill.
 *
 *   chains[c] ─► chain ─► chain ─► ∅      a flush pushes one, a refill pops one, both in O(1)
 *
 * A chain that finds no room evicts those of other classes in turn: their blocks are sorted to their slabs. Every link is
 * checked when it is followed, as the program may have written to freed memory.
 *
 * A back end puts a struct hak_kept (core/block_list.h) into its shard, and includes core/slab.h before this header.
 *
 * invariant: bytes == sum over all chains of count * block size <= the back end's bound
 * owner: the shard's owner */
#ifndef HAK_KEPT_H
#define HAK_KEPT_H

#include "core/backend.h"
#include "core/slab.h"

/* Gives blocks back to their slabs. The back end defines it. */
void kept_sort(struct hak_shard *shard, hak_class cls, struct hak_chain chain);

/* The newest chain of a class, or its first `max` blocks. Empty: nothing is kept. */
static inline __attribute__((always_inline)) struct hak_chain
hak_kept_pop(struct hak_kept *kept, hak_class cls, size_t max)
{
    struct hak_chain_stack *chains = &kept->chains[hak_class_index(cls)];
    struct hak_chain chain = hak_chain_pop(chains);

    if (chain.count == 0)
        return chain;
    if (chains->top)
        hak_slab_checked(hak_chain_unpack(chains->top).head, cls);
    if (chain.count > max) {
        struct hak_block *last = chain.head;
        for (size_t i = 1; i < max; i++) {
            last = last->next;
            hak_slab_checked(last, cls);
        }
        hak_chain_push(chains, (struct hak_chain){last->next, chain.count - max});
        last->next = NULL;
        chain.count = max;
    }
    kept->bytes -= chain.count * hak_class_size(cls);
    return chain;
}

/* Sorts all kept blocks of a class. */
static inline void hak_kept_sort(struct hak_kept *kept, struct hak_shard *shard, hak_class cls)
{
    while (kept->chains[hak_class_index(cls)].top)
        kept_sort(shard, cls, hak_kept_pop(kept, cls, HAK_PACKED_MAX));
}

static inline void hak_kept_sort_all(struct hak_kept *kept, struct hak_shard *shard)
{
    for (unsigned i = 0; i < HAK_CLASSES && kept->bytes > 0; i++)
        hak_kept_sort(kept, shard, hak_class_at(i));
}

/* Makes room by sorting one chain of another class. The classes take turns, one at a call: whether or not that one has a
 * chain, looking costs the same. */
static inline bool hak_kept_evict(struct hak_kept *kept, struct hak_shard *shard, hak_class wanting)
{
    hak_class cls = hak_class_at(kept->victim);

    kept->victim = (kept->victim + 1) % HAK_CLASSES;
    if (cls == wanting || kept->chains[hak_class_index(cls)].top == 0)
        return false;
    kept_sort(shard, cls, hak_kept_pop(kept, cls, HAK_PACKED_MAX));
    return true;
}

/* Keeps a chain, unless that makes more than `most` bytes. false: it is still the caller's. */
static inline bool hak_kept_push(struct hak_kept *kept, struct hak_shard *shard, hak_class cls,
                                 struct hak_chain chain, size_t most)
{
    size_t bytes = chain.count * hak_class_size(cls);

    if (!hak_stackable(cls) || bytes > most || chain.count > HAK_PACKED_MAX)
        return false;
    while (kept->bytes + bytes > most)
        if (!hak_kept_evict(kept, shard, cls))
            return false;
    hak_chain_push(&kept->chains[hak_class_index(cls)], chain);
    kept->bytes += bytes;
    return true;
}

/* Calls `visit` for each block of a chain until it returns false. */
static inline void hak_chain_walk(struct hak_chain chain, bool (*visit)(void *block, void *context),
                                  void *context)
{
    struct hak_block *block = chain.head;

    for (size_t left = chain.count; left > 0 && visit(block, context); left--)
        block = block->next;
}

/* Calls `visit` for each kept block, as backend_walk_kept has it: the owner may be at work meanwhile. */
static inline void hak_kept_walk(const struct hak_kept *kept, size_t most,
                                 bool (*visit)(void *block, void *context), void *context)
{
    for (unsigned i = 0; i < HAK_CLASSES; i++) {
        hak_packed_chain packed = kept->chains[i].top;
        for (size_t bytes = 0; packed && bytes <= most;) {
            struct hak_chain chain = hak_chain_unpack(packed);
            if (backend_is_block(chain.head) == HAK_CLASS_NONE)
                break;
            packed = ((struct hak_chain_head *)chain.head)->below;
            bytes += chain.count * hak_class_sizes[i];
            hak_chain_walk(chain, visit, context);
        }
    }
}

/* Whether the invariant holds. Walks all chains, not their blocks. */
static inline bool hak_kept_valid(const struct hak_kept *kept, size_t most)
{
    size_t bytes = 0;

    for (unsigned i = 0; i < HAK_CLASSES; i++)
        for (hak_packed_chain packed = kept->chains[i].top; packed;) {
            struct hak_chain chain = hak_chain_unpack(packed);
            packed = ((struct hak_chain_head *)chain.head)->below;
            bytes += chain.count * hak_class_sizes[i];
        }
    return bytes == kept->bytes && bytes <= most;
}

#endif
