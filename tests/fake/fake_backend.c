/* SPDX-License-Identifier: MIT */
#include "core/backend.h"

#include <stdlib.h>

/* A block has 16 bytes of its own whatever its class says: a cache touches no more than two words. */
struct fake_block {
    void *words[2];
};

static struct fake_block blocks[FAKE_BLOCKS];
static hak_class classes[FAKE_BLOCKS];
static bool out[FAKE_BLOCKS];
static size_t next; /* where the search for a free block begins */

static size_t index_of(const void *block)
{
    size_t offset = (size_t)((uintptr_t)block - (uintptr_t)blocks);

    return offset < sizeof(blocks) && offset % sizeof(blocks[0]) == 0 ? offset / sizeof(blocks[0])
                                                                      : FAKE_BLOCKS;
}

void fake_reset(struct hak_shard *shard, size_t left)
{
    *shard = (struct hak_shard){.left = left};
    for (size_t i = 0; i < FAKE_BLOCKS; i++)
        out[i] = false;
    next = 0;
}

bool fake_is_out(const void *block)
{
    return index_of(block) < FAKE_BLOCKS && out[index_of(block)];
}

hak_class fake_class(const void *block)
{
    size_t index = index_of(block);

    return index < FAKE_BLOCKS ? classes[index] : HAK_CLASS_NONE;
}

static struct hak_block *give(struct hak_shard *shard, hak_class cls)
{
    if (shard->left == 0)
        return NULL;
    for (size_t i = 0; i < FAKE_BLOCKS; i++) {
        size_t at = (next + i) % FAKE_BLOCKS;
        if (out[at])
            continue;
        out[at] = true;
        classes[at] = cls;
        next = at + 1;
        shard->left--;
        shard->given++;
        return (struct hak_block *)&blocks[at];
    }
    return NULL;
}

static void take_back(struct hak_shard *shard, hak_class cls, const void *block)
{
    if (!fake_is_out(block) || fake_class(block) != cls)
        hak_fatal_pointer("fake back end", block, "returned, but not out");
    out[index_of(block)] = false;
    shard->left++;
    shard->returned++;
}

static size_t batch(const struct hak_shard *shard, size_t max)
{
    return shard->batch_most && shard->batch_most < max ? shard->batch_most : max;
}

struct hak_chain backend_refill_chain(struct hak_shard *shard, hak_class cls, size_t max)
{
    struct hak_chain chain = {NULL, 0};
    struct hak_block *block;

    shard->refills++;
    while (chain.count < batch(shard, max) && (block = give(shard, cls)) != NULL) {
        block->next = chain.head;
        chain = (struct hak_chain){block, chain.count + 1};
    }
    return chain;
}

void backend_return_chain(struct hak_shard *shard, hak_class cls, struct hak_chain chain)
{
    shard->returns++;
    for (struct hak_block *block = chain.head; chain.count > 0; chain.count--) {
        struct hak_block *following = block->next;
        take_back(shard, cls, block);
        if (chain.count == 1 && following != NULL)
            hak_fatal_pointer("fake back end", block, "the last link of a chain is not NULL");
        block = following;
    }
}
