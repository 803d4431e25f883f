/* SPDX-License-Identifier: MIT */
#include "backends/superslab/small.h"

#include "backends/superslab/common.h"
#include "backends/superslab/remote.h"
#include "backends/superslab/shard.h"

_Static_assert(CONFIG_REFILL_BATCH <= HAK_PACKED_MAX, "a batch fits a packed chain");
_Static_assert(OUTGOING_BYTES_MAX <= CONFIG_CACHE_BYTES / 4, "kept chains have a share");

/* So many blocks of a chain are looked at to tell whether they lie together. */
enum { LOOKS_AT = 4 };

static void small_sort(struct hak_shard *shard, hak_class cls, struct hak_chain chain);

static struct hak_chain small_kept_pop(struct hak_shard *shard, hak_class cls, size_t max)
{
    struct hak_chain_stack *kept = &shard->lists->classes[hak_class_index(cls)].kept;
    struct hak_chain chain = hak_chain_pop(kept);

    if (chain.count == 0)
        return chain;
    if (kept->top)
        slab_checked(hak_chain_unpack(kept->top).head, cls);
    if (chain.count > max) {
        struct hak_block *last = chain.head;
        for (size_t i = 1; i < max; i++) {
            last = last->next;
            slab_checked(last, cls);
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
static bool small_kept_evict(struct hak_shard *shard, hak_class wanting)
{
    hak_class cls = hak_class_at(shard->victim);

    shard->victim = (shard->victim + 1) % HAK_CLASSES;
    if (cls == wanting || shard->lists->classes[hak_class_index(cls)].kept.top == 0)
        return false;
    small_sort(shard, cls, small_kept_pop(shard, cls, HAK_PACKED_MAX));
    return true;
}

static bool small_kept_push(struct hak_shard *shard, hak_class cls, struct hak_chain chain)
{
    size_t bytes = chain.count * hak_class_size(cls);

    if (!hak_stackable(cls) || bytes > KEPT_BYTES_MAX || !shard_owns(shard))
        return false;
    while (shard->kept_bytes + bytes > KEPT_BYTES_MAX)
        if (!small_kept_evict(shard, cls))
            return false;
    hak_chain_push(&shard->lists->classes[hak_class_index(cls)].kept, chain);
    shard->kept_bytes += bytes;
    return true;
}

void small_kept_sort(struct hak_shard *shard, unsigned index)
{
    while (shard->lists->classes[index].kept.top)
        small_sort(shard, hak_class_at(index),
                   small_kept_pop(shard, hak_class_at(index), HAK_PACKED_MAX));
}

void small_kept_sort_all(struct hak_shard *shard)
{
    for (unsigned i = 0; i < HAK_CLASSES; i++)
        small_kept_sort(shard, i);
}

/* The first slab of a class has given: it stays first, or makes way for one that has free blocks in
 * lists, or leaves as it has nothing more. */
static void small_relist(struct hak_shard *shard, hak_class cls, struct slab *slab)
{
    bool exhausted = slab->blank_pages == 0 && slab->cut == slab->capacity;

    if (slab_has_linked(slab) || (!exhausted && !(slab->next && slab_has_linked(slab->next))))
        return;
    open_remove(shard, cls, slab);
    if (!exhausted)
        open_last(shard, cls, slab);
}

/* Something from the shard's own slabs: a closed chain whole, or what loose blocks a few slabs have,
 * or fresh blocks. */
struct hak_chain small_take(struct hak_shard *shard, hak_class cls, size_t max)
{
    struct hak_chain taken = {NULL, 0};
    struct slab *slab;

    while ((slab = shard->lists->classes[hak_class_index(cls)].open) != NULL && taken.count < max) {
        struct hak_chain chain;
        struct hak_block *last = NULL;
        bool is_last = true; /* of what this refill takes */

        if (taken.count > 0 && slab->loose_count == 0)
            break;
        if (!slab_has_linked(slab) && slab->blank_pages > 0)
            slab_recut(slab, cls);
        if (slab->closed.top && taken.count == 0) {
            chain = slab_take_closed(slab, max);
        } else if (slab->loose_count > 0) {
            chain = slab_take_loose(slab, max - taken.count, &last);
            is_last = slab_has_linked(slab);
        } else {
            chain = slab_cut(slab, max, &last);
        }
        if (last)
            last->next = taken.head;
        slab->used += (uint32_t)chain.count;
        open_touch(shard, slab);
        small_relist(shard, cls, slab);
        taken = (struct hak_chain){chain.head, taken.count + chain.count};
        if (is_last)
            break;
    }
    return taken;
}

struct hak_chain backend_refill_chain(struct hak_shard *shard, hak_class cls, size_t max)
{
    struct hak_chain chain = small_kept_pop(shard, cls, max);

    if (chain.count == 0 && unlikely(shard->crowded))
        chain = common_take(shard, cls, max);
    if (chain.count > 0 || unlikely(!shard_owns(shard) && !shard_own(shard)))
        return chain;
    remote_collect(shard);
    chain = small_take(shard, cls, max);
    if (chain.count == 0 && remote_adopt(shard, cls))
        chain = small_take(shard, cls, max);
    if (chain.count == 0 && open_new(shard, cls))
        chain = small_take(shard, cls, max);
    if (chain.count == 0 && shard->kept_bytes > 0) {
        /* Out of memory, but for what is kept for other classes. */
        small_kept_sort_all(shard);
        if (open_new(shard, cls))
            chain = small_take(shard, cls, max);
    }
    return chain;
}

/* Writes the first blocks of a chain to out[0 .. count-1]; returns the one after them. */
static struct hak_block *small_spread(hak_class cls, struct hak_block *block, void **out,
                                      size_t count)
{
    out += count;
    for (ptrdiff_t i = -(ptrdiff_t)count; i < 0;) {
        struct hak_grid grid = slab_grid_of(slab_checked(block, cls));
        do {
            out[i] = block;
            block = block->next;
        } while (++i < 0 && hak_grid_has(&grid, block));
    }
    return block;
}

/* Blocks of a kept chain into out[0 .. max-1]; returns how many. */
static size_t small_kept_spread(struct hak_shard *shard, hak_class cls, void **out, size_t max)
{
    struct hak_chain chain = small_kept_pop(shard, cls, HAK_PACKED_MAX);
    size_t count = chain.count < max ? chain.count : max;
    struct hak_block *rest = small_spread(cls, chain.head, out, count);

    if (chain.count > count) {
        slab_checked(rest, cls);
        chain = (struct hak_chain){rest, chain.count - count};
        hak_chain_push(&shard->lists->classes[hak_class_index(cls)].kept, chain);
        shard->kept_bytes += chain.count * hak_class_size(cls);
    }
    return count;
}

/* Blocks never cut into out[0 .. max-1], if the slab in use has no others; returns how many. */
static size_t small_cut_spread(struct hak_shard *shard, hak_class cls, void **out, size_t max)
{
    struct slab *slab = shard->lists->classes[hak_class_index(cls)].open;

    if (slab == NULL || slab_has_linked(slab) || slab->blank_pages > 0)
        return 0;
    size_t count = slab_cut_array(slab, out, max);
    slab->used += (uint32_t)count;
    open_touch(shard, slab);
    small_relist(shard, cls, slab);
    return count;
}

size_t backend_refill_array(struct hak_shard *shard, hak_class cls, void **out, size_t max)
{
    size_t count = small_kept_spread(shard, cls, out, max);

    if (count > 0)
        return count;
    remote_collect(shard);
    count = small_cut_spread(shard, cls, out, max);
    if (count > 0)
        return count;
    struct hak_chain chain = backend_refill_chain(shard, cls, max);
    small_spread(cls, chain.head, out, chain.count);
    return chain.count;
}

/* Takes blocks of one slab back: into the slab if it is this shard's, else on their way. */
static void small_give(struct hak_shard *shard, hak_class cls, struct slab *slab,
                       struct hak_chain chain, struct hak_block *last)
{
    /* Another's: under CONFIG_REMOTE_FREE_KEEP, or when a fork has parked a heap with kept chains. */
    if (!shard_has(shard, slab_tag(slab))) {
        remote_add(shard, slab, chain, last);
        return;
    }
    if (unlikely(slab->used < chain.count))
        hak_fatal_pointer("free()", chain.head, SLAB_FREED_TWICE);
    slab->used -= (uint32_t)chain.count;
    if (slab->used == 0) {
        /* Nobody else holds a block, so nobody can have freed one. */
        if (unlikely(atomic_load_relaxed(&slab->remote) != 0))
            hak_fatal_pointer("free()", chain.head, SLAB_FREED_TWICE);
        open_delete(shard, cls, slab, false);
        return;
    }
    bool had = slab_has_linked(slab);
    open_touch(shard, slab);
    slab_add(slab, cls, chain, last);
    open_filled(shard, cls, slab, had);
}

/* Sorts a chain to the slabs of its blocks; neighbours of one slab go together. */
static void small_sort(struct hak_shard *shard, hak_class cls, struct hak_chain chain)
{
    struct hak_block *block = chain.head;
    size_t left = chain.count;

    while (left > 0) {
        struct slab *slab = slab_checked(block, cls);
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
                hak_fatal_pointer("free()", next, SLAB_NOT_A_BLOCK);
            last = next;
            same.count++;
        }
        small_give(shard, cls, slab, same, last);
        block = next;
    }
}

/* Whether a chain is worth keeping as it is: its blocks lie together, as far as the first few tell. One whose
 * blocks are scattered would be handed out again as scattered, and each costs the program a miss in its caches;
 * sorted to slabs, the next refill is from one of them. No link is followed out of the granule. */
static bool small_is_worth_keeping(struct hak_chain chain)
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
    if (!small_is_worth_keeping(chain) || !small_kept_push(shard, cls, chain))
        small_sort(shard, cls, chain);
}

/* Links blocks without looking at them: each link is checked when it is followed, as in any chain. */
void backend_return_array(struct hak_shard *shard, hak_class cls, void *const *in, size_t count)
{
    backend_return_chain(shard, cls, hak_chain_of(in, count));
}
