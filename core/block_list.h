/* SPDX-License-Identifier: MIT */
/* Chains of blocks and stacks of chains: what list caches and slabs are made of.
 *
 *   stack of chains   top ─► a ─► a ─► a          a chain, linked through the first words
 *                            │
 *                            └─► b ─► b           the next chain, linked through the second word
 *                                │                of the head above it, with its count
 *                                └─► ∅
 *
 * A whole chain goes on or comes off in O(1). A link through the second word needs blocks of two
 * words or more: for 8-byte blocks there is no stack of chains (hak_stackable).
 */
#ifndef HAK_BLOCK_LIST_H
#define HAK_BLOCK_LIST_H

#include "core/size_class.h"

/* A chain in one word: the address of its head above 16 bits of count. Addresses have 48 bits on
 * every machine this runs on unless a program asks for more by a hint, which this library does not. */
typedef uint64_t hak_packed_chain;

#define HAK_PACKED_MAX 0xffffu /* longest chain that can be packed */

/* A free block that heads a chain in a stack. */
struct __attribute__((may_alias)) hak_chain_head {
    struct hak_block block;
    hak_packed_chain below;
};

/* Top of a stack of chains; 0: empty. */
struct hak_chain_stack {
    hak_packed_chain top;
};

/* The free blocks that a shard keeps as they came (core/kept.h): a stack of chains for each class. */
struct hak_kept {
    size_t bytes;    /* of all of them */
    unsigned victim; /* index of the class whose chains make room next */
    struct hak_chain_stack chains[HAK_CLASSES];
};

static inline hak_packed_chain hak_chain_pack(struct hak_chain chain)
{
    return (uint64_t)(uintptr_t)chain.head << 16 | chain.count;
}

static inline struct hak_chain hak_chain_unpack(hak_packed_chain packed)
{
    return (struct hak_chain){(struct hak_block *)(uintptr_t)(packed >> 16), packed & 0xffff};
}

/* Links the blocks of an array. An array is used from its end, so its last block becomes the head. pre: count > 0 */
static inline struct hak_chain hak_chain_of(void *const *blocks, size_t count)
{
    struct hak_block *head = (struct hak_block *)blocks[count - 1];
    struct hak_block *last = head;
    size_t left = count - 1;

    for (; left >= 8; left -= 8)
#pragma GCC unroll 8
        for (size_t n = 1; n <= 8; n++) {
            last->next = (struct hak_block *)blocks[left - n];
            last = last->next;
        }
    for (; left > 0; left--) {
        last->next = (struct hak_block *)blocks[left - 1];
        last = last->next;
    }
    last->next = NULL;
    return (struct hak_chain){head, count};
}

static inline bool hak_stackable(hak_class cls)
{
    return hak_class_size(cls) >= sizeof(struct hak_chain_head);
}

/* pre: 0 < chain.count <= HAK_PACKED_MAX, hak_stackable(its class) */
static inline void hak_chain_push(struct hak_chain_stack *stack, struct hak_chain chain)
{
    ((struct hak_chain_head *)chain.head)->below = stack->top;
    stack->top = hak_chain_pack(chain);
}

/* An empty chain when the stack is empty. */
static inline struct hak_chain hak_chain_pop(struct hak_chain_stack *stack)
{
    struct hak_chain chain = hak_chain_unpack(stack->top);

    if (chain.count > 0)
        stack->top = ((struct hak_chain_head *)chain.head)->below;
    return chain;
}

#endif
