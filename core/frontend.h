/* SPDX-License-Identifier: MIT */
/* THE FRONT-END CONTRACT
 *
 * A front end, also called a policy, is a cache of free blocks for one thread. malloc and free hit
 * it or miss it; on a miss it gets a batch from the back end, when it is full it gives a batch back.
 * It knows nothing of slabs, threads or the operating system. Exactly one is compiled in; its header
 * is included at the end and completes what is declared here.
 *
 * A policy may also have a store of blocks that all threads share, under locks of HAK_RANK_STORE; it
 * holds none of them when it calls the back end. CONFIG_REMOTE_FREE_KEEP is what it then depends on,
 * as blocks of one thread's slabs get into another's cache.
 *
 * What a cache holds is bounded: the sum over classes of capacity times size is at most HAK_CACHE_BYTES, the
 * cache's part of the budget (budget.h). The other part, HAK_KEPT_BYTES, is the back end's.
 */
#ifndef HAK_FRONTEND_H
#define HAK_FRONTEND_H

#include "core/backend.h"
#include "core/budget.h"
#include "core/traffic.h"

/* Defined by the policy; zero-filled, it is the cache of the empty heap: frontend_alloc misses, and
 * writes nothing, for that heap lies in read-only memory. Nothing else is called with it. */
struct hak_cache;

/* A block from the cache: the hit path of malloc.
 * pre:   cls < HAK_CLASS_END
 * post:  NULL: a miss, nothing changed; call frontend_refill
 * owner: the heap's owner, as for all functions here
 * sync:  none */
static inline void *frontend_alloc(struct hak_cache *cache, hak_class cls);

/* Puts a block into the cache: the hit path of free.
 * pre:   backend_lookup gave cls for this block
 * post:  false: no room, nothing changed; call frontend_flush
 * sync:  none */
static inline bool frontend_free(struct hak_cache *cache, hak_class cls, void *block);

/* Gets a batch from the back end and takes one block of it.
 * pre:   frontend_alloc has just missed; a cold path
 * post:  NULL: out of memory, the cache is intact
 * sync:  as backend_refill_chain or _array */
void *frontend_refill(struct hak_cache *cache, struct hak_shard *shard, hak_class cls);

/* Makes room, by giving a batch to the back end if it must, and puts the block into the cache.
 * pre:   frontend_free has just refused it; a cold path
 * sync:  as backend_return_chain or _array */
void frontend_flush(struct hak_cache *cache, struct hak_shard *shard, hak_class cls, void *block);

/* How many blocks of the class the cache holds; with cache NULL, the store that threads share.
 * owner: anybody
 * sync:  with NULL, takes HAK_RANK_STORE */
size_t frontend_held(const struct hak_cache *cache, hak_class cls);

/* Calls `visit` for each block that the cache holds; with cache NULL, the store that threads share.
 * pre:   `visit` neither allocates nor frees
 * post:  where `visit` returned false, the rest of that list was left out, and its links were not read: the
 *        cache is another thread's, who is just using it
 * owner: anybody, as frontend_held; who is not the owner gets what was true of late
 * sync:  with NULL, takes HAK_RANK_STORE */
void frontend_walk(const struct hak_cache *cache, bool (*visit)(void *block, void *context),
                   void *context);

/* What has moved between this cache and the back end, of one class.
 * owner: anybody */
const struct hak_traffic *frontend_traffic(const struct hak_cache *cache, hak_class cls);

/* Prepares a zero-filled cache for use. */
void frontend_thread_init(struct hak_cache *cache);

/* Gives all blocks to the back end, or to the store that threads share.
 * pre:   a cold path
 * post:  the cache holds nothing, and can be used again */
void frontend_thread_exit(struct hak_cache *cache, struct hak_shard *shard);

/* Forgets all blocks: in a forked child, where the cache of a thread that is gone may be
 * half-changed. The cache is as new. */
void frontend_forget(struct hak_cache *cache);

/* A bounded amount of overdue work. Called on cold paths. */
void frontend_tick(struct hak_cache *cache, struct hak_shard *shard);

/* The shared-store part of frontend_tick. The purge thread calls it with a heap that no thread has; evicted blocks go to
 * that heap's shard.
 * pre:   a cold path
 * post:  true: there is more of it */
bool frontend_upkeep(struct hak_cache *cache, struct hak_shard *shard);

/* Gives all blocks, also those of the store that threads share, to the back end.
 * pre:   a cold path
 * post:  the cache holds nothing, and can be used again */
void frontend_trim(struct hak_cache *cache, struct hak_shard *shard);

/* Around fork: prepare takes the locks of the store that threads share, parent and child release them.
 * pre:   core holds HAK_RANK_HEAPS; the back end's locks come after these
 * post:  of the child: the store is intact */
void frontend_fork_prepare(void);
void frontend_fork_parent(void);
void frontend_fork_child(void);

/* Whether the cache satisfies the invariants that the policy's header states. Walks it. */
bool frontend_valid(const struct hak_cache *cache);

#include "gen/frontend.h"

#endif
