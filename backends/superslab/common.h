/* SPDX-License-Identifier: MIT */
/* Common shards: crowded shards (core/crowd.h) get their first blocks from them. */
#ifndef HAK_SUPERSLAB_COMMON_H
#define HAK_SUPERSLAB_COMMON_H

#include "core/backend.h"

/* Common shards. Two threads meet at one only if their ids differ by a multiple of it. */
enum { COMMONS = 16 };

/* Blocks from a common shard. None: the shard has used the class and takes from slabs of its own,
 * or there is no memory. */
struct hak_chain common_take(struct hak_shard *shard, hak_class cls, size_t max) hak_cold;

/* Locks a common shard: its owner is the caller until it releases it. NULL: it was never used; `try`: or it is locked. */
struct hak_shard *common_lock(unsigned at);
struct hak_shard *common_try(unsigned at);
void common_unlock(unsigned at);

/* Around fork: all of them. */
void common_lock_all(void);
void common_unlock_all(void);

#endif
