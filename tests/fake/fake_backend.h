/* SPDX-License-Identifier: MIT */
/* A back end for testing policies without one: blocks from one array, every step counted, and
 * batches only as large as the test allows. It satisfies the part of the contract that a policy calls.
 *
 * invariant: given == returned + blocks that the policy or the test holds
 */
#ifndef HAK_TESTS_FAKE_BACKEND_H
#define HAK_TESTS_FAKE_BACKEND_H

#include "core/block_list.h"

#define FAKE_BLOCKS 65536

#define backend_grid backend_grid

struct hak_shard {
    size_t given;    /* blocks that went out */
    size_t returned; /* blocks that came back */
    size_t refills;  /* calls */
    size_t returns;
    size_t batch_most; /* 0: as many as asked for */
    size_t left;       /* blocks until memory runs out */
};

/* Makes every block free, with memory for `left` of them. */
void fake_reset(struct hak_shard *shard, size_t left);

/* Whether the block is out: given and not returned; and its class. */
bool fake_is_out(const void *block);
hak_class fake_class(const void *block);

static inline struct hak_grid backend_grid(const void *block, hak_class cls)
{
    if (!fake_is_out(block) || fake_class(block) != cls)
        hak_fatal_pointer("fake back end", block, "in a chain, but not out");
    return hak_grid_of((const char *)block, 1, 1);
}

static inline hak_class backend_lookup(const struct hak_shard *shard, const void *pointer)
{
    (void)shard;
    return fake_is_out(pointer) ? fake_class(pointer) : HAK_CLASS_NONE;
}

#endif
