/* SPDX-License-Identifier: MIT */
#include <criterion/criterion.h>
#include <string.h>

#include "core/page_set.h"
#include "core/size_class.h"

Test(page_set, a_slab_has_blocks_enough_and_wastes_little)
{
    for (unsigned i = 0; i < HAK_CLASSES; i++) {
        size_t block = hak_class_sizes[i];
        size_t granules = hak_slab_granules(block);
        for (size_t n = 1; n <= granules; n++) {
            size_t size = n * HAK_SLAB_GRANULE;
            bool suits =
                size / block >= HAK_SLAB_BLOCKS_LEAST && size % block <= size / HAK_SLAB_WASTE_PART;
            cr_assert_eq(suits, n == granules, "the fewest granules that suit");
        }
        cr_assert_leq(granules * HAK_SLAB_GRANULE / block, HAK_SLAB_BLOCKS_MOST);
        cr_assert_leq(granules * HAK_SLAB_GRANULE / os_page_size(), HAK_SLAB_PAGES_MOST);
    }
}

static struct hak_slab_shape shape(uint32_t block_size, uint32_t cut, char *base)
{
    size_t bytes = hak_slab_granules(block_size) * HAK_SLAB_GRANULE;

    return (struct hak_slab_shape){base, block_size, (uint32_t)(bytes / block_size), cut};
}

/* By the definition, block for block: whether one that is not free overlaps the page. */
static bool is_page_free(const struct hak_slab_shape *slab, const struct hak_block_set *free,
                         size_t page)
{
    for (size_t i = 0; i < slab->cut; i++) {
        size_t first = i * slab->block_size / os_page_size();
        size_t last = ((i + 1) * slab->block_size - 1) / os_page_size();
        if (page >= first && page <= last && !hak_set_has(free->words, i))
            return false;
    }
    return true;
}

static uint64_t random_state = 88172645463325252u;

static uint64_t random_word(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    return random_state ^= random_state << 17;
}

/* Of each class, blocks freed in stretches, so that some pages are free and some are not. */
Test(page_set, free_pages_are_those_that_no_live_block_overlaps)
{
    size_t found = 0;
    size_t taken = 0;

    for (unsigned i = 0; i < HAK_CLASSES; i++) {
        struct hak_slab_shape slab = shape(hak_class_sizes[i], 0, NULL);
        struct hak_block_set free;
        for (int round = 0; round < 4; round++) {
            slab.cut = round == 0 ? slab.capacity : 1 + (uint32_t)(random_word() % slab.capacity);
            hak_block_set_clear(&slab, &free);
            bool is_free = false;
            for (uint32_t n = 0; n < slab.cut; n++) {
                is_free = random_word() % 8 == 0 ? !is_free : is_free;
                if (is_free)
                    hak_block_set_add(&slab, &free, slab.base + (size_t)n * slab.block_size);
            }
            struct hak_page_set pages = hak_free_pages(&slab, &free);
            for (size_t page = 0; page < hak_pages_cut(&slab); page++) {
                cr_assert_eq(hak_set_has(pages.words, page), is_page_free(&slab, &free, page));
                found += hak_set_has(pages.words, page);
                taken += !hak_set_has(pages.words, page);
            }
        }
    }
    cr_assert(found > 100 && taken > 100);
}

Test(page_set, the_first_block_of_a_page_begins_in_it)
{
    for (unsigned i = 0; i < HAK_CLASSES; i++) {
        struct hak_slab_shape slab = shape(hak_class_sizes[i], 0, NULL);
        slab.cut = slab.capacity * 3 / 4;
        for (size_t page = 0; page <= hak_pages_cut(&slab); page++) {
            uint32_t first = hak_first_in_page(&slab, page);
            size_t start = page * os_page_size();
            cr_assert_leq(first, slab.cut);
            cr_assert(first == slab.cut || (size_t)first * slab.block_size >= start);
            cr_assert(first == 0 || (size_t)(first - 1) * slab.block_size < start);
        }
    }
}

/* Neighbouring pages go by one call; all others keep what they hold. */
Test(page_set, pages_of_the_set_go_and_no_others)
{
    size_t page = os_page_size();
    char *base = os_map(HAK_SLAB_GRANULE);
    struct hak_slab_shape slab = shape(1024, (uint32_t)(HAK_SLAB_GRANULE / 1024), base);
    struct hak_page_set pages = {{0}};
    size_t count = HAK_SLAB_GRANULE / page;

    cr_assert_not_null(base);
    if (!os_purge_zeroes())
        cr_skip_test("this kernel does not clear what it purges");
    memset(base, 7, HAK_SLAB_GRANULE);
    for (size_t i = 0; i < count; i++)
        if (i == 1 || i == 2 || i == count - 1)
            hak_set_add(pages.words, i);
    cr_assert_eq(hak_purge_pages(&slab, &pages), 2);
    for (size_t i = 0; i < count; i++) {
        int expected = i == 1 || i == 2 || i == count - 1 ? 0 : 7;
        cr_assert(base[i * page] == expected && base[(i + 1) * page - 1] == expected, "%zu", i);
    }
}

enum { BITS = 200 };

Test(page_set, a_range_is_its_members)
{
    for (size_t first = 0; first <= BITS; first++)
        for (size_t end = first; end <= BITS; end++) {
            uint64_t words[BITS / 64 + 1] = {0};
            hak_set_add_range(words, first, end);
            for (size_t i = 0; i < BITS; i++)
                cr_assert_eq(hak_set_has(words, i), first <= i && i < end, "%zu of [%zu, %zu)", i,
                             first, end);
        }
}

Test(page_set, a_range_lacks_one_member)
{
    for (size_t first = 0; first < BITS; first++)
        for (size_t end = first + 1; end <= BITS; end++) {
            uint64_t words[BITS / 64 + 1];
            size_t missing = first + (end * 7 + first) % (end - first);
            memset(words, 0xff, sizeof(words));
            cr_assert(hak_set_has_range(words, first, end));
            words[missing / 64] &= ~((uint64_t)1 << missing % 64);
            cr_assert_not(hak_set_has_range(words, first, end), "%zu of [%zu, %zu)", missing, first,
                          end);
            cr_assert(hak_set_has_range(words, first, missing));
            cr_assert(hak_set_has_range(words, missing + 1, end));
        }
}
