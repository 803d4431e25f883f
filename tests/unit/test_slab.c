/* SPDX-License-Identifier: MIT */
/* Slabs of a back end that consists of one slab of two granules. */
#include <criterion/criterion.h>
#include <string.h>

#include "core/os.h"
#include "tests/contract/death.h"

enum { GRANULES = 2 };

struct slab {
    uint32_t block_size, cut, used, touched_at;
    uint16_t capacity, blank_blocks, blank, distance;
};

#include "core/slab.h"

static struct slab granules[GRANULES];
static char *memory;
static hak_class class_of_all;

static inline char *slab_base(const struct slab *slab)
{
    cr_assert_eq(slab, granules);
    return memory;
}

static inline struct slab *slab_granule(const struct slab *slab, size_t index)
{
    cr_assert(slab == granules && index < GRANULES);
    return &granules[index];
}

static inline hak_class slab_class_at(const void *pointer)
{
    size_t offset = (size_t)((const char *)pointer - memory);

    return offset < GRANULES * HAK_SLAB_GRANULE ? class_of_all : HAK_CLASS_END;
}

static inline struct slab *slab_granule_at(const void *pointer)
{
    return &granules[(size_t)((const char *)pointer - memory) / HAK_SLAB_GRANULE];
}

static inline struct slab *slab_of(const void *pointer)
{
    (void)pointer;
    return granules;
}

static struct slab *slab_new(size_t block_size)
{
    class_of_all = hak_class_of(block_size);
    memory = os_map((GRANULES + 1) * HAK_SLAB_GRANULE);
    cr_assert_not_null(memory);
    memory += -(uintptr_t)memory % HAK_SLAB_GRANULE;
    hak_slab_begin(granules, class_of_all, GRANULES);
    return granules;
}

Test(slab, it_is_cut_a_page_at_a_time_to_its_end)
{
    struct slab *slab = slab_new(48);
    uint32_t cut = 0;

    cr_assert_eq(slab->capacity, GRANULES * HAK_SLAB_GRANULE / 48);
    cr_assert(granules[0].distance == 0 && granules[1].distance == 1);
    cr_assert_eq(hak_slab_cut(slab, 3), 3);
    cut = 3;
    for (uint32_t count; (count = hak_slab_cut(slab, SIZE_MAX)) > 0; cut += count)
        cr_assert(count == HAK_CUT_BYTES / 48 || cut + count == slab->capacity);
    cr_assert(cut == slab->capacity && slab->cut == slab->capacity);
    slab = slab_new(8192);
    cr_assert_eq(hak_slab_cut(slab, SIZE_MAX), 1, "a block that is longer than that comes alone");
}

Test(slab, blocks_are_linked_in_order_of_address)
{
    struct slab *slab = slab_new(64);
    struct hak_block *last;
    struct hak_chain chain = hak_slab_link(hak_slab_block(slab, 5), 64, 10, &last);

    cr_assert_eq(chain.count, 10);
    cr_assert_eq(last, hak_slab_block(slab, 14));
    slab->cut = 20;
    const struct hak_block *block = chain.head;
    for (uint32_t i = 0; i < 10; i++, block = block->next)
        cr_assert_eq(block, hak_slab_block(slab, 5 + i));
    cr_assert_null(block);
}

static void check(void *block)
{
    hak_slab_checked(block, hak_class_of(64));
}

static void follow(void *block)
{
    hak_slab_next(granules, block);
}

Test(slab, what_is_no_block_of_it_stops_the_process)
{
    struct slab *slab = slab_new(64);
    struct hak_block *block = hak_slab_block(slab, 7);
    char elsewhere[64];

    cr_assert_eq(hak_slab_checked(block, class_of_all), slab);
    cr_assert_dies(check, (char *)block + 8, "free()", (char *)block + 8, HAK_NOT_A_BLOCK);
    cr_assert_dies(check, elsewhere, "free()", elsewhere, HAK_BAD_LINK);
    block->next = hak_slab_block(slab, 8);
    cr_assert_eq(hak_slab_next(slab, block), hak_slab_block(slab, 8));
    block->next = (struct hak_block *)((char *)block->next + 8);
    cr_assert_dies(follow, block, "malloc()", block, HAK_BAD_LINK);
}

/* Pages become blank and are taken again, one after the other: each of their blocks comes once. */
Test(slab, blocks_of_blank_pages_come_back_once)
{
    const size_t sizes[] = {48, 64, 1536, 6144};

    for (size_t n = 0; n < sizeof(sizes) / sizeof(*sizes); n++) {
        struct slab *slab = slab_new(sizes[n]);
        struct hak_page_set pages = {{0}};
        uint64_t blank[HAK_SLAB_BLOCKS_MOST / 64] = {0};
        uint64_t again[HAK_SLAB_BLOCKS_MOST / 64] = {0};
        uint32_t taken = 0, first;
        slab->cut = slab->capacity;
        struct hak_slab_shape shape = hak_slab_shape(slab);
        for (size_t page = 1; page < hak_pages_cut(&shape); page += 3)
            hak_set_add(pages.words, page);
        hak_slab_set_blank(slab, &pages);
        cr_assert(hak_slab_valid(slab, class_of_all));
        cr_assert_gt(slab->blank_blocks, 0);
        uint32_t all = slab->blank_blocks;
        hak_slab_set_blank(slab, &pages);
        cr_assert_eq(slab->blank_blocks, all, "a page becomes blank once");
        hak_slab_add_blank(slab, blank);
        while (slab->blank_blocks > 0) {
            uint32_t count = hak_slab_take_blank(slab, &first);
            for (uint32_t i = first; i < first + count; i++) {
                cr_assert(hak_set_has(blank, i) && !hak_set_has(again, i));
                hak_set_add(again, i);
            }
            taken += count;
        }
        cr_assert_eq(taken, all);
        cr_assert(hak_slab_valid(slab, class_of_all));
    }
}

/* Each clause of what is valid is looked at. */
Test(slab, a_broken_slab_is_not_valid)
{
    struct slab *slab = slab_new(64);
    struct hak_page_set pages = {{2}};

    slab->cut = 200;
    hak_slab_set_blank(slab, &pages);
    cr_assert(hak_slab_valid(slab, class_of_all));
    cr_assert(!hak_slab_valid(slab, hak_class_of(48)));
    const struct slab sound = *slab;
    slab->blank_blocks++;
    cr_assert(!hak_slab_valid(slab, class_of_all));
    *slab = sound;
    slab->blank ^= 1;
    cr_assert(!hak_slab_valid(slab, class_of_all));
    *slab = sound;
    slab->used = slab->cut + 1;
    cr_assert(!hak_slab_valid(slab, class_of_all));
    *slab = sound;
    slab->capacity = (uint16_t)(slab->cut - 1);
    cr_assert(!hak_slab_valid(slab, class_of_all));
    *slab = sound;
    slab->block_size = 48;
    cr_assert(!hak_slab_valid(slab, class_of_all));
}
