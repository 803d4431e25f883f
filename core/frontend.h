/* SPDX-License-Identifier: MIT */
/* THE FRONT-END CONTRACT
 *
 * A front end, also called a policy, is a cache of free blocks for one thread. malloc and free hit
 * it or miss it; on a miss it gets a batch from the back end, when it is full it gives a batch back.
 * It knows nothing of slabs, threads or the operating system. Exactly one is compiled in; its header
 * is included at the end and completes what is declared here.
 *
 * What a thread's cache holds is bounded: the sum over classes of capacity times size, together with
 * what the back end keeps at hand for this thread, is at most CONFIG_CACHE_BYTES.
 */
#ifndef HAK_FRONTEND_H
#define HAK_FRONTEND_H

#include "core/backend.h"

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

/* How many blocks of the class the cache holds. */
size_t frontend_held(const struct hak_cache *cache, hak_class cls);

/* Calls `visit` for each block that the cache holds. */
void frontend_walk(const struct hak_cache *cache, void (*visit)(void *block, void *context),
                   void *context);

/* Prepares a zero-filled cache for use. */
void frontend_thread_init(struct hak_cache *cache);

/* Gives all blocks to the back end; the cache is as new. Also the first half of a trim.
 * pre:   a cold path */
void frontend_thread_exit(struct hak_cache *cache, struct hak_shard *shard);

/* Forgets all blocks: in a forked child, where the cache of a thread that is gone may be
 * half-changed. The cache is as new. */
void frontend_fork_child(struct hak_cache *cache);

/* A bounded amount of overdue work. Called on cold paths. */
void frontend_tick(struct hak_cache *cache, struct hak_shard *shard);

/* Whether the cache satisfies the invariants that the policy's header states. Walks it. */
bool frontend_valid(const struct hak_cache *cache);

#include "gen/frontend.h"

#endif
