/* SPDX-License-Identifier: MIT */
/* THE BACK-END CONTRACT
 *
 * A back end gets memory from the operating system, cuts it into blocks, knows for any pointer whose
 * block it is, and gives memory back. It sees nothing of caches. Exactly one is compiled in; its
 * header is included below and completes what is declared here.
 *
 * A back end brings the functions of the first part. Each function of the second part has a default; a back end that
 * brings its own says so in its header: #define backend_move backend_move.
 *
 *   shard   the back end's part of a heap. One thread at a time is a shard's *owner*: the one whose
 *           heap it is, or the one that has claimed the heap of a thread that ended.
 *   own     a block is a shard's own when its slab belongs to that shard.
 *
 * Blocks of class c are hak_class_size(c) bytes, aligned to every power of two that divides that
 * size, and 16-aligned unless smaller. Blocks go out and come back in batches: chains, linked through the blocks' first
 * words. A cache that is made of arrays converts them (hak_chain_spread, hak_chain_of).
 *
 * `inside`: wherever the contract says "a cold path", core has marked the heap as being inside one
 * (heap.h), so that fork knows whose shard may be half-changed.
 */
#ifndef HAK_BACKEND_H
#define HAK_BACKEND_H

#include "core/block_grid.h"
#include "core/block_list.h"
#include "core/budget.h"

/* Defined by the back end; zero-filled, it is the shard of the empty heap: backend_lookup finds
 * nothing in it. Nothing else is called with it. */
struct hak_shard;

/* What backend_lookup returns for a pointer that is not a small block for this heap's cache. */
#define HAK_CLASS_NONE ((hak_class)-1)

/* The class of a block that may go straight to this heap's cache.
 * pre:   any pointer at all, also null, wild or foreign
 * post:  a class (< HAK_CLASS_END) if the block is small and, under CONFIG_REMOTE_FREE_RETURN, the
 *        shard's own; else some value >= HAK_CLASS_END
 * owner: the shard's owner
 * sync:  none; what handed the pointer to this thread orders the class before it */
static inline hak_class backend_lookup(const struct hak_shard *shard, const void *pointer);

/* Up to `max` blocks, as a chain, cheapest first: blocks kept or freed before fresh ones.
 * pre:   max > 0; a cold path
 * post:  1 to max blocks of the class that no other thread has, mostly but not always of own slabs; count 0: out of memory
 * owner: the shard's owner
 * sync:  takes HAK_RANK_HEAPS, HAK_RANK_SLABS, HAK_RANK_EXTENTS when the shard has none at hand */
struct hak_chain backend_refill_chain(struct hak_shard *shard, hak_class cls, size_t max);

/* Takes a chain of free blocks back.
 * pre:   all of class cls; own, or as a refill gave them, unless CONFIG_REMOTE_FREE_KEEP, or unless the back end has an
 *        inline.h.in: then programs may have freed others' blocks to the cache; a cold path
 * post:  the caller no longer has them; a link that leaves its slab's block grid stops the process
 * owner: the shard's owner
 * sync:  takes HAK_RANK_SLABS where slabs are shared, HAK_RANK_EXTENTS when one becomes empty */
void backend_return_chain(struct hak_shard *shard, hak_class cls, struct hak_chain chain);

/* Frees a block that backend_lookup does not give to the cache: null, large or another's.
 * pre:   any pointer; `shard` may be NULL (a thread without a heap); a cold path when it is not
 * post:  freed; a pointer that is no block stops the process with a message that names `call`
 * owner: the shard's owner
 * sync:  pushes a remote block on its slab's remote word, or takes HAK_RANK_SLABS where slabs are
 *        shared; takes HAK_RANK_EXTENTS for a large one */
void backend_free(struct hak_shard *shard, void *pointer, const char *call);

/* A large block of at least `size` bytes, aligned to `align`, a power of two. What other threads have freed of
 * the shard's slabs is used before new memory is.
 * pre:   size > 0, size + align < PTRDIFF_MAX; `shard` may be NULL (a thread without a heap); a cold path when
 *        it is not
 * post:  base NULL: out of memory, and nothing has changed
 * owner: the shard's owner
 * sync:  takes HAK_RANK_EXTENTS */
struct hak_large backend_large_alloc(struct hak_shard *shard, size_t size, size_t align);

/* Bytes that may be used at `pointer`: at least what was asked for it.
 * pre:   a live block of any owner; anything else stops the process with a message naming `call`
 * sync:  none */
size_t backend_usable_size(const void *pointer, const char *call);

/* Whether an address lies in what the back end has from the operating system; anywhere in a live block it is true.
 * pre:   any address at all
 * sync:  none; what other threads just map or unmap may be seen or not */
bool backend_has(const void *address);

/* Prepares a zero-filled shard for use by this thread; once for each heap.
 * post:  false: out of memory, the shard is as it was
 * sync:  takes HAK_RANK_EXTENTS */
bool backend_init(struct hak_shard *shard);

/* Takes and releases all locks that the back end has: around fork, in the parent as in the child, and while statistics
 * are gathered.
 * pre:   core holds HAK_RANK_HEAPS and the front end's locks */
void backend_lock(void);
void backend_unlock(void);

/* What follows is called for statistics and for walks over all blocks, with all locks held (hak_lock_all,
 * fork.h): what threads share stands still. A thread that hits its cache, or is in a cold path of its own
 * heap, goes on meanwhile: what it owns is read as it is, and may be half-changed. So a link is followed only
 * to where backend_is_block allows it, and no further than the counts say; what comes out is then about right,
 * and core notices that it is no more. */
enum hak_extent_kind {
    HAK_EXTENT_SLAB,
    HAK_EXTENT_LARGE, /* a large block */
    HAK_EXTENT_DIRTY, /* free, and still holds memory */
    HAK_EXTENT_CLEAN, /* free, and holds none */
};

/* Neighbouring addresses that the back end has for blocks. */
struct hak_extent {
    enum hak_extent_kind kind;
    char *base;
    size_t size; /* bytes */

    /* of a slab */
    hak_class cls;
    uint32_t capacity; /* blocks that fit in */
    uint32_t cut;      /* blocks [0, cut) have been used at some time, the others never */
    uint32_t free;     /* of those cut, blocks that are back in the slab, freed by any thread */
    size_t purged;     /* bytes of pages within it that went back to the operating system */
};

/* Calls `visit` for every extent, in order of address.
 * pre:   all locks are held; `visit` neither allocates nor frees */
void backend_walk(void (*visit)(const struct hak_extent *extent, void *context), void *context);

/* Adds the numbers of the free blocks of a slab, as extent->free counts them, to a set of bits.
 * pre:   all locks are held; an extent of kind SLAB; HAK_SLAB_BLOCKS_MOST bits */
void backend_free_blocks(const struct hak_extent *slab, uint64_t *set);

/* The class of the small block that begins at this address, free or not; HAK_CLASS_NONE: none does.
 * pre:   any address at all; all locks are held, or the caller asks for a block of its own */
hak_class backend_is_block(const void *address);

/* Bytes that the back end uses for what it knows of blocks.
 * pre:   all locks are held */
size_t backend_metadata(void);

/* Whether the shard satisfies the invariants that the back end's header states. Walks it.
 * owner: the shard's owner */
bool backend_valid(const struct hak_shard *shard);

/* ── what core offers to the back end: the heaps of threads that ended ───────────────────────── */

/* Claims the parked heap that `skip` others were parked after; its shard is the caller's own until it
 * releases it, which parks it as the last one. NULL: there are no more.
 * sync:  takes HAK_RANK_HEAPS */
struct hak_shard *hak_heap_claim(unsigned skip);
void hak_heap_release(struct hak_shard *shard);

/* Likewise the first, of the HAK_CLAIMS_MOST heaps parked last, whose shard offers something of a class. NULL: none does.
 * `offers` is asked of shards that others may claim and change meanwhile; what it says is a hint.
 * sync:  takes HAK_RANK_HEAPS if any of them offers something */
#define HAK_CLAIMS_MOST 4u
struct hak_shard *hak_heap_claim_offer(bool (*offers)(const struct hak_shard *shard, hak_class cls),
                                       hak_class cls);

#include "gen/backend.h"

/* ── what has a default ──────────────────────────────────────────────────────────────────────── */

/* Which of these the back end brings, as constants: a test asks nothing of a default, and what it promises of the rest. */

/* The grid of the slab that a free block of the class lies in, to check many links against; what is no such block stops
 * the process. Default: the grid of this block alone, so that each is looked up.
 * pre:   a cold path
 * sync:  none */
#ifdef backend_grid
struct hak_grid backend_grid(const void *block, hak_class cls);
#else
static inline struct hak_grid backend_grid(const void *block, hak_class cls)
{
    if (unlikely(backend_is_block(block) != cls))
        hak_fatal_pointer("malloc()", block, "a free block was written to");
    return hak_grid_of((const char *)block, (uint32_t)hak_class_size(cls), 1);
}
#endif

/* As backend_refill_chain, but of blocks only that were used before: no memory is touched for the first time. Default: the
 * back end cannot tell, and has none.
 * pre:   likewise
 * post:  count 0: there are none at hand
 * owner: the shard's owner
 * sync:  takes HAK_RANK_EXTENTS, if a slab becomes empty on the way */
#ifdef backend_refill_used
struct hak_chain backend_refill_used(struct hak_shard *shard, hak_class cls, size_t max);
enum { BACKEND_REFILLS_USED = true };
#else
enum { BACKEND_REFILLS_USED = false };
static inline struct hak_chain backend_refill_used(struct hak_shard *shard, hak_class cls,
                                                   size_t max)
{
    (void)shard;
    (void)cls;
    (void)max;
    return (struct hak_chain){NULL, 0};
}
#endif

/* Where the back end can tell, a front end may serve a request of a class from this size on by a block of a larger class, rather
 * than touch memory: so a block's size does not tell its class. */
enum { HAK_BORROW_LEAST = 1024 };

/* Writes a chain's blocks to out[0 .. count-1], for a cache that is an array. An array is used from its end, so the head goes
 * there. Each link is checked before it is followed. */
static inline void hak_chain_spread(struct hak_chain chain, hak_class cls, void **out)
{
    struct hak_block *block = chain.head;

    for (size_t i = chain.count; i > 0;) {
        struct hak_grid grid = backend_grid(block, cls);
        do {
            out[--i] = block;
            block = block->next;
        } while (i > 0 && hak_grid_has(&grid, block));
    }
}

/* Grows or shrinks a large block where it lies. Default: it cannot.
 * pre:   a live large block (backend_usable_size > HAK_SMALL_MAX); size > HAK_SMALL_MAX
 * post:  true: it now has at least `size` usable bytes, and not many more; false: nothing changed
 * sync:  takes HAK_RANK_EXTENTS */
#ifdef backend_resize
bool backend_resize(void *pointer, size_t size);
enum { BACKEND_RESIZES = true };
#else
enum { BACKEND_RESIZES = false };
static inline bool backend_resize(void *pointer, size_t size)
{
    (void)pointer;
    (void)size;
    return false;
}
#endif

/* Moves a large block to a place with room for `size` bytes without copying its pages. Default: it cannot.
 * pre:   a live large block; size > its backend_usable_size
 * post:  the new address, the old one freed; NULL: not possible here (copy instead), nothing changed
 * sync:  takes HAK_RANK_EXTENTS */
#ifdef backend_move
void *backend_move(void *pointer, size_t size);
enum { BACKEND_MOVES = true };
#else
enum { BACKEND_MOVES = false };
static inline void *backend_move(void *pointer, size_t size)
{
    (void)pointer;
    (void)size;
    return NULL;
}
#endif

/* Gives what the shard holds outside of its slabs to the slabs: kept chains, blocks on their way to others. Default: it
 * holds nothing.
 * pre:   a cold path
 * owner: the shard's owner */
#ifdef backend_settle
void backend_settle(struct hak_shard *shard);
#else
static inline void backend_settle(struct hak_shard *shard)
{
    (void)shard;
}
#endif

/* Calls `visit` for each block that backend_settle would give away. Default: for none.
 * pre:   all locks are held
 * post:  where `visit` returned false, the rest of that chain was left out */
#ifdef backend_walk_kept
void backend_walk_kept(const struct hak_shard *shard, bool (*visit)(void *block, void *context),
                       void *context);
#else
static inline void backend_walk_kept(const struct hak_shard *shard,
                                     bool (*visit)(void *block, void *context), void *context)
{
    (void)shard;
    (void)visit;
    (void)context;
}
#endif

/* A bounded amount of due work, mostly purging, now and then on a cold path. Default: nothing is ever due.
 * owner: the shard's owner
 * sync:  takes HAK_RANK_EXTENTS if something is due */
#ifdef backend_tick
void backend_tick(struct hak_shard *shard);
enum { BACKEND_TICKS = true };
#else
enum { BACKEND_TICKS = false };
static inline void backend_tick(struct hak_shard *shard)
{
    (void)shard;
}
#endif

/* The part of backend_tick for this shard and for what all shards share, on behalf of an owner that makes no call: the
 * caller has entered the owner's heap meanwhile. Default: nothing is ever due.
 * pre:   a cold path
 * post:  true: there is more of it
 * sync:  takes HAK_RANK_SLABS where slabs are shared, HAK_RANK_EXTENTS */
#ifdef backend_upkeep
bool backend_upkeep(struct hak_shard *shard);
#else
static inline bool backend_upkeep(struct hak_shard *shard)
{
    (void)shard;
    return false;
}
#endif

/* Gives back to the operating system all that can be given. Default: nothing is kept.
 * pre:   the cache is flushed; a cold path
 * post:  true: some memory went back
 * owner: the shard's owner */
#ifdef backend_trim
bool backend_trim(struct hak_shard *shard);
enum { BACKEND_TRIMS = true };
#else
enum { BACKEND_TRIMS = false };
static inline bool backend_trim(struct hak_shard *shard)
{
    (void)shard;
    return false;
}
#endif

/* Whether upkeep and a trim also give back the free pages of slabs with live blocks. A back end of which that is true says
 * #define backend_purges_slabs. Default: they give back what is free as a whole. */
#ifdef backend_purges_slabs
enum { BACKEND_PURGES_SLABS = true };
#else
enum { BACKEND_PURGES_SLABS = false };
#endif

/* About how many bytes the back end has from the operating system for blocks. Any thread may ask. Default: 0, which
 * says that nothing is ever due. */
#ifdef backend_footprint
size_t backend_footprint(void);
#else
static inline size_t backend_footprint(void)
{
    return 0;
}
#endif

#endif
