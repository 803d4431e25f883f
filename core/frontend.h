/* SPDX-License-Identifier: MIT */
/* THE FRONT-END CONTRACT
 *
 * A front end, also called a policy, is a cache of free blocks for one thread. malloc and free hit
 * it or miss it; on a miss it gets a batch from the back end, when it is full it gives a batch back.
 * It knows nothing of slabs, threads or the operating system. Exactly one is compiled in; its header
 * is included below and completes what is declared here.
 *
 * A policy brings the nine functions of the first part. Each function of the second part has a default; a policy
 * that brings its own says so in its header: #define frontend_tick frontend_tick. A policy that shares blocks among
 * threads also fulfils the contract of a store (store.h).
 *
 * Batches come and go through hak_refill_chain, hak_return_chain and their twins for arrays (traffic.h), which count
 * them for statistics.
 *
 * What a cache holds is bounded: the sum over classes of capacity times size is at most HAK_CACHE_BYTES, the
 * cache's part of the budget (budget.h). The other part, HAK_KEPT_BYTES, is the back end's.
 *
 * owner: of every function, the heap's owner, unless it says otherwise
 */
#ifndef HAK_FRONTEND_H
#define HAK_FRONTEND_H

#include "core/backend.h"
#include "core/budget.h"
#include "core/traffic.h"
#include "core/words.h"

/* Defined by the policy; zero-filled, it is the cache of the empty heap: frontend_alloc misses, and
 * writes nothing, for that heap lies in read-only memory. Nothing else is called with it. */
struct hak_cache;

/* ── what every policy brings ────────────────────────────────────────────────────────────────── */

/* A block from the cache: the hit path of malloc.
 * pre:   cls < HAK_CLASS_END
 * post:  NULL: a miss, nothing changed; call frontend_refill
 * sync:  none */
static inline void *frontend_alloc(struct hak_cache *cache, hak_class cls);

/* Puts a block into the cache: the hit path of free.
 * pre:   backend_lookup gave cls for this block
 * post:  false: no room, nothing changed; call frontend_flush
 * sync:  none */
static inline bool frontend_free(struct hak_cache *cache, hak_class cls, void *block);

/* Gets a batch from the back end and takes one block of it.
 * pre:   frontend_alloc has just missed; a cold path
 * post:  a block of the class, or of one at most a quarter larger that serves every alignment that this one does;
 *        NULL: out of memory, the cache is intact
 * sync:  as backend_refill_chain or _array */
void *frontend_refill(struct hak_cache *cache, struct hak_shard *shard, hak_class cls);

/* Makes room, by giving a batch to the back end if it must, and puts the block into the cache.
 * pre:   frontend_free has just refused it; a cold path
 * sync:  as backend_return_chain or _array */
void frontend_flush(struct hak_cache *cache, struct hak_shard *shard, hak_class cls, void *block);

/* How many blocks of the class the cache holds.
 * owner: any thread; while the owner is at work, another thread gets a recent value */
size_t frontend_held(const struct hak_cache *cache, hak_class cls);

/* Calls `visit` for each block that the cache holds.
 * pre:   `visit` neither allocates nor frees
 * post:  where `visit` returned false, the rest of that list was left out, and its links were not read: the
 *        owner may be changing the cache
 * owner: any thread, as frontend_held */
void frontend_walk(const struct hak_cache *cache, bool (*visit)(void *block, void *context),
                   void *context);

/* Prepares a zero-filled cache for use; once for each heap. */
void frontend_init(struct hak_cache *cache);

/* Gives all blocks to the back end, or to the store: before the heap is parked, and when memory is short.
 * pre:   a cold path
 * post:  the cache holds nothing, and can be used again */
void frontend_empty(struct hak_cache *cache, struct hak_shard *shard);

/* Whether the cache satisfies the invariants that the policy's header states. Walks it. */
bool frontend_valid(const struct hak_cache *cache);

#include "gen/frontend.h"

/* ── what has a default ──────────────────────────────────────────────────────────────────────── */

/* A bounded amount of due work, now and then on a cold path: blocks of classes that are no longer used go back, so
 * that they pin no slabs. Default: none is done, and the cache holds on to its blocks until frontend_empty. */
#ifdef frontend_tick
void frontend_tick(struct hak_cache *cache, struct hak_shard *shard);
#else
static inline void frontend_tick(struct hak_cache *cache, struct hak_shard *shard)
{
    (void)cache;
    (void)shard;
}
#endif

/* Forgets all blocks: in a forked child, where the cache of a thread that is gone may be
 * half-changed. Default: the cache becomes as frontend_init makes it. */
#ifdef frontend_forget
void frontend_forget(struct hak_cache *cache);
#else
_Static_assert(sizeof(struct hak_cache) % sizeof(uint64_t) == 0, "a cache is whole words");

static inline void frontend_forget(struct hak_cache *cache)
{
    hak_words_clear(cache, sizeof(*cache) / sizeof(uint64_t));
    frontend_init(cache);
}
#endif

/* Takes and releases all locks that the policy has: around fork, in the parent as in the child, and while statistics
 * are gathered. Default: a policy has none.
 * pre:   core holds HAK_RANK_HEAPS; the back end's locks come after these */
#ifdef frontend_lock
void frontend_lock(void);
void frontend_unlock(void);
#else
static inline void frontend_lock(void)
{
}

static inline void frontend_unlock(void)
{
}
#endif

#endif
