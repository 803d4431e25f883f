/* SPDX-License-Identifier: MIT */
/* Common shards, from which crowded shards (core/crowd.h) get their first blocks of each class. */
#ifndef HAK_SUPERSLAB_COMMON_H
#define HAK_SUPERSLAB_COMMON_H

#include "core/backend.h"

/* How many there are. Two threads share one only if their owner ids differ by a multiple of COMMONS. */
enum { COMMONS = 16 };

/* Takes blocks from a common shard. An empty chain: the shard has used the class and now owns slabs of it, or there is no
 * memory. */
struct hak_chain common_take(struct hak_shard *shard, hak_class cls, size_t max) hak_cold;

/* Locks a common shard, which the caller owns until common_unlock. NULL: it was never used, or (common_try) it is locked. */
struct hak_shard *common_lock(unsigned at);
struct hak_shard *common_try(unsigned at);
void common_unlock(unsigned at);

/* All of them, around fork. */
void common_lock_all(void);
void common_unlock_all(void);

#endif
