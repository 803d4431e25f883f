/* SPDX-License-Identifier: MIT */
#include <criterion/criterion.h>

#include "core/block_list.h"

static struct hak_chain_head blocks[16];

static struct hak_chain chain_of(size_t first, size_t count)
{
    for (size_t i = first; i < first + count; i++)
        blocks[i].block.next = i + 1 < first + count ? &blocks[i + 1].block : NULL;
    return (struct hak_chain){&blocks[first].block, count};
}

Test(block_list, a_packed_chain_unpacks_to_itself)
{
    struct hak_chain chain = {(struct hak_block *)(uintptr_t)0xfffffffffff0, HAK_PACKED_MAX};
    struct hak_chain unpacked = hak_chain_unpack(hak_chain_pack(chain));

    cr_assert_eq(unpacked.head, chain.head);
    cr_assert_eq(unpacked.count, chain.count);
}

Test(block_list, an_empty_stack_pops_an_empty_chain)
{
    struct hak_chain_stack stack = {0};
    struct hak_chain chain = hak_chain_pop(&stack);

    cr_assert_null(chain.head);
    cr_assert_eq(chain.count, 0);
}

Test(block_list, chains_come_off_whole_and_in_reverse_order)
{
    struct hak_chain_stack stack = {0};

    hak_chain_push(&stack, chain_of(0, 3));
    hak_chain_push(&stack, chain_of(3, 1));
    hak_chain_push(&stack, chain_of(4, 5));
    struct hak_chain chain = hak_chain_pop(&stack);
    cr_assert(chain.head == &blocks[4].block && chain.count == 5);
    chain = hak_chain_pop(&stack);
    cr_assert(chain.head == &blocks[3].block && chain.count == 1);
    chain = hak_chain_pop(&stack);
    cr_assert(chain.head == &blocks[0].block && chain.count == 3);
    for (size_t i = 1; i < chain.count; i++)
        chain.head = chain.head->next;
    cr_assert_null(chain.head->next);
    cr_assert_eq(stack.top, 0);
}

Test(block_list, an_array_of_any_length_becomes_a_chain_from_its_end)
{
    static struct hak_block many[40];
    void *array[40];

    for (size_t i = 0; i < 40; i++)
        array[i] = &many[i * 7 % 40];
    for (size_t count = 1; count <= 40; count++) {
        struct hak_chain chain = hak_chain_of(array, count);
        const struct hak_block *block = chain.head;
        cr_assert_eq(chain.count, count);
        for (size_t i = count; i > 0; i--, block = block->next)
            cr_assert_eq(block, array[i - 1]);
        cr_assert_null(block);
    }
}
