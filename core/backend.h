/* SPDX-License-Identifier: MIT */
/* THE BACK-END CONTRACT
 *
 * A back end gets memory from the operating system, cuts it into blocks, knows for any pointer whose
 * block it is, and gives memory back. It sees nothing of caches. Exactly one is compiled in; its
 * header is included at the end and completes what is declared here.
 *
 *   shard   the back end's part of a heap. One thread at a time is a shard's *owner*: the one whose
 *           heap it is, or the one that has claimed the heap of a thread that ended.
 *   own     a block is a shard's own when its slab belongs to that shard.
 *
 * Blocks of class c are hak_class_size(c) bytes, aligned to every power of two that divides that
 * size, and 16-aligned unless smaller. Blocks go out and come back in batches, in one of two forms:
 * a chain for caches that are lists, an array for caches that are arrays. A policy calls one of them
 * and the other is not linked in.
 *
 * `inside`: wherever the contract says "a cold path", core has marked the heap as being inside one
 * (heap.h), so that fork knows whose shard may be half-changed.
 */
#ifndef HAK_BACKEND_H
#define HAK_BACKEND_H

#include "core/budget.h"
#include "core/size_class.h"

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
 * post:  1 to max blocks of the class that nobody else has, most often but not always own; count 0: out of memory
 * owner: the shard's owner
 * sync:  takes HAK_RANK_HEAPS, HAK_RANK_SLABS, HAK_RANK_EXTENTS when the shard has none at hand */
struct hak_chain backend_refill_chain(struct hak_shard *shard, hak_class cls, size_t max);

/* Likewise, into out[0 .. max-1]; returns how many. */
size_t backend_refill_array(struct hak_shard *shard, hak_class cls, void **out, size_t max);

/* Takes a chain of free blocks back.
 * pre:   all of class cls; own, or as a refill gave them, unless CONFIG_REMOTE_FREE_KEEP; a cold path
 * post:  the caller no longer has them; a link that leaves its slab's block grid stops the process
 * owner: the shard's owner
 * sync:  takes HAK_RANK_SLABS where slabs are shared, HAK_RANK_EXTENTS when one becomes empty */
void backend_return_chain(struct hak_shard *shard, hak_class cls, struct hak_chain chain);

/* Likewise, from in[0 .. count-1], whose blocks are not read. */
void backend_return_array(struct hak_shard *shard, hak_class cls, void *const *in, size_t count);

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

/* Whether a pointer lies in what the back end has had from the operating system; of a live block it is true.
 * pre:   any pointer at all
 * sync:  none */
bool backend_owns(const void *pointer);

/* Grows or shrinks a large block where it lies.
 * pre:   a live large block (backend_usable_size > HAK_SMALL_MAX); size > HAK_SMALL_MAX
 * post:  true: it now has at least `size` usable bytes, and not many more; false: nothing changed
 * sync:  takes HAK_RANK_EXTENTS */
bool backend_resize(void *pointer, size_t size);

/* Moves a large block to a place with room for `size` bytes without copying its pages.
 * pre:   a live large block; size > its backend_usable_size
 * post:  the new address, the old one freed; NULL: not possible here (copy instead), nothing changed
 * sync:  takes HAK_RANK_EXTENTS */
void *backend_move(void *pointer, size_t size);

/* Bytes of free blocks that the back end keeps at hand for this shard: they are part of CONFIG_CACHE_BYTES.
 * owner: the shard's owner */
size_t backend_kept(const struct hak_shard *shard);

/* Prepares a zero-filled shard for use by this thread; once for each heap, not for each thread.
 * post:  false: out of memory, the shard is as it was
 * sync:  takes HAK_RANK_EXTENTS */
bool backend_thread_init(struct hak_shard *shard);

/* Before the heap is parked: gives what the shard holds beyond its slabs back to the slabs.
 * pre:   the cache is flushed; a cold path
 * owner: the shard's owner */
void backend_thread_exit(struct hak_shard *shard);

/* Around fork: prepare takes the back end's locks, parent and child release them.
 * pre:   core holds HAK_RANK_HEAPS */
void backend_fork_prepare(void);
void backend_fork_parent(void);
void backend_fork_child(void);

/* A bounded amount of overdue work, mostly giving unused pages back. Called on cold paths.
 * owner: the shard's owner
 * sync:  takes HAK_RANK_EXTENTS if something is due */
void backend_tick(struct hak_shard *shard);

/* The part of backend_tick for this shard and for what all shards share, on behalf of an owner that makes no call: the
 * caller has entered the owner's heap meanwhile.
 * pre:   a cold path
 * post:  true: there is more of it
 * sync:  takes HAK_RANK_SLABS where slabs are shared, HAK_RANK_EXTENTS */
bool backend_upkeep(struct hak_shard *shard);

/* About how many bytes the back end has from the operating system for blocks; 0 where none is ever overdue. Any
 * thread may ask. */
size_t backend_footprint(void);

/* Gives back to the operating system all that can be given.
 * pre:   the cache is flushed; a cold path
 * post:  true: some memory went back
 * owner: the shard's owner */
bool backend_trim(struct hak_shard *shard);

/* What follows is called for statistics and for walks over all blocks, with all locks held (hak_heap_stop,
 * heap.h): what threads share stands still. A thread that hits its cache, or is in a cold path of its own
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
    uint32_t free;     /* of those cut, blocks that are back in the slab, whoever freed them */
    size_t purged;     /* bytes of pages within it that went back to the operating system */
};

/* Calls `visit` for every extent, in order of address.
 * pre:   all locks are held; `visit` neither allocates nor frees */
void backend_walk(void (*visit)(const struct hak_extent *extent, void *context), void *context);

/* Adds the numbers of the free blocks of a slab, as extent->free counts them, to a set of bits.
 * pre:   all locks are held; a extent of kind SLAB; HAK_SLAB_BLOCKS_MOST bits */
void backend_free_blocks(const struct hak_extent *slab, uint64_t *set);

/* Calls `visit` for each block that the shard keeps at hand, others' blocks on their way to them included.
 * pre:   all locks are held
 * post:  where `visit` returned false, the rest of that chain was left out */
void backend_walk_kept(const struct hak_shard *shard, bool (*visit)(void *block, void *context),
                       void *context);

/* The class of the small block that begins at this address, free or not; HAK_CLASS_NONE: none does.
 * pre:   all locks are held; any address at all */
hak_class backend_is_block(const void *address);

/* Whether the address lies in what the back end has from the operating system for blocks.
 * pre:   there has been a shard; any address at all
 * sync:  none; what other threads just map or unmap may be seen or not */
bool backend_has(const void *address);

/* Bytes that the back end uses for what it knows of blocks.
 * pre:   all locks are held */
size_t backend_metadata(void);

/* Whether the shard satisfies the invariants that the back end's header states. Walks it.
 * owner: the shard's owner */
bool backend_valid(const struct hak_shard *shard);

/* What core offers to the back end: the heaps of threads that ended. */

/* Claims the parked heap that `skip` others were parked after; its shard is the caller's own until it
 * releases it, which parks it as the last one. NULL: there are no more.
 * sync:  takes HAK_RANK_HEAPS */
struct hak_shard *hak_heap_claim(unsigned skip);
void hak_heap_release(struct hak_shard *shard);

/* Most heaps that one refill looks at for slabs of ended threads. */
#define HAK_CLAIMS_MOST 4u

#include "gen/backend.h"

#endif
