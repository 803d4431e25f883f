/* SPDX-License-Identifier: MIT */
/* The page map, and which addresses are blocks, for a back end over plain mappings. */
#define _GNU_SOURCE
#include <criterion/criterion.h>
#include <hakmem/hakmem.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "core/backend.h"
#include "core/heap.h"
#include "core/os.h"
#include "tests/contract/support.h"
#include "tests/faults/faults.h"

static const size_t KIB = (size_t)1 << 10;
static const size_t MIB = (size_t)1 << 20;
static const size_t DIRTY_MOST = (size_t)CONFIG_DIRTY_MAX << 20 >> GRANULE_SHIFT;

static struct hak_shard *shard;

static void start(void)
{
    hak_free(hak_malloc(1));
    shard = &hak_heap_mine->shard;
}

TestSuite(page_map, .init = start);

static size_t leaves(void)
{
    size_t count = 0;

    for (size_t i = 0; i < ROOT_ENTRIES; i++)
        count += page_map.root[i] != 0;
    return count;
}

Test(page_map, pointers_from_all_over_are_nobodys_and_map_nothing)
{
    uint64_t random = 3;
    size_t before = leaves();
    size_t found = 0;

    for (int i = 0; i < 2000000; i++) {
        uintptr_t address = random_next(&random) >> (random_next(&random) % 64);
        found += backend_lookup(shard, (void *)address) < HAK_CLASS_END;
    }
    for (uintptr_t high = 0; high < ROOT_ENTRIES; high++)
        found += backend_lookup(shard, (void *)(high << 32 | 0xffff0010)) < HAK_CLASS_END;
    cr_assert_leq(found, 1, "unless it hit the few granules in use");
    cr_assert_eq(leaves(), before);
}

Test(page_map, a_leaf_comes_with_the_first_block_in_its_4_gib)
{
    char *block = backend_large_alloc(NULL, (size_t)9 << 30, 1).base;
    size_t first = space_granule(block) / LEAF_GRANULES;

    cr_assert_not_null(block);
    for (size_t i = 0; i <= 2; i++)
        cr_assert_neq(page_map.root[first + i], 0);
    cr_assert_leq(leaves(), 6);
    backend_free(shard, block, "test");
    cr_assert_eq(page_map_tag(space_granule(block)), TAG_NONE);
}

/* ── what is ours ────────────────────────────────────────────────────────────────────────────── */

enum { EXTENTS_MOST = 4096 };

static struct hak_extent extents[EXTENTS_MOST];
static size_t extent_count;

static void note_extent(const struct hak_extent *extent, void *unused)
{
    (void)unused;
    cr_assert_lt(extent_count, EXTENTS_MOST);
    extents[extent_count++] = *extent;
}

/* All ranges, each once, in the order of addresses, and nothing beside them is taken for one. */
static void check_extents(void)
{
    size_t granules = 0;

    extent_count = 0;
    backend_walk(note_extent, NULL);
    for (size_t i = 0; i < extent_count; i++) {
        char *base = extents[i].base, *end = base + extents[i].size;
        granules += extents[i].size >> GRANULE_SHIFT;
        cr_assert(backend_has(base) && backend_has(base + extents[i].size / 2) &&
                  backend_has(end - 1));
        if (i + 1 < extent_count && (char *)extents[i + 1].base == end)
            continue;
        for (size_t away = 0; away < 8 * MIB; away += GRANULE_SIZE)
            if (i + 1 == extent_count || end + away < (char *)extents[i + 1].base)
                cr_assert(!backend_has(end + away), "%zu KiB above a range", away / KIB);
    }
    cr_assert_eq(granules, hak_extents_figures().mapped);
}

Test(page_map, what_lies_above_a_free_range_is_not_ours)
{
    char *block = backend_large_alloc(NULL, DIRTY_MOST / 2 * GRANULE_SIZE, 1).base;

    cr_assert_not_null(block);
    check_extents();
    backend_free(shard, block, "test");
    check_extents();
}

/* A place for so many bytes that has a multiple of 4 GiB in its middle, where nothing is mapped. */
static char *place_across_leaves(size_t size)
{
    for (uintptr_t middle = (uintptr_t)1 << 44; middle < (uintptr_t)1 << 46;
         middle += (uintptr_t)1 << 32) {
        char *wanted = (char *)(middle - size / 2 / GRANULE_SIZE * GRANULE_SIZE);
        char *place =
            mmap(wanted, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        cr_assert_neq(place, MAP_FAILED);
        cr_assert_eq(munmap(place, size), 0);
        if (place == wanted)
            return place;
    }
    return NULL;
}

/* A leaf of the page map ends at each multiple of 4 GiB. */
Test(page_map, a_walk_sees_a_range_of_two_leaves_once)
{
    const size_t size = (DIRTY_MOST / 2 + 1) * GRANULE_SIZE;
    char *place = place_across_leaves(size);

    if (place == NULL)
        cr_skip_test("no multiple of 4 GiB is free");
    faults_map_next_at(place);
    char *block = backend_large_alloc(NULL, size, 1).base;
    cr_assert_eq(block, place);
    cr_assert_neq((uintptr_t)block >> 32, (uintptr_t)(block + size - 1) >> 32);
    check_extents();
    backend_free(shard, block, "test");
    check_extents();
}

Test(page_map, the_page_map_is_mapped_in_proportion)
{
    const size_t part = PART_GRANULES * sizeof(struct slab);
    size_t mapped = mapped_bytes();
    size_t map = space_metadata();
    size_t leaf_count = leaves();
    size_t size = 300 * MIB;

    cr_assert_leq(map, sizeof(page_map) + 3 * (sizeof(page_map.zero) + os_page_size() + part));
    cr_assert_not_null(backend_large_alloc(NULL, size, 1).base);
    size_t heads = (leaves() - leaf_count) * (sizeof(page_map.zero) + os_page_size());
    cr_assert_eq(mapped_bytes() - mapped, size + space_metadata() - map);
    cr_assert_leq(space_metadata() - map, heads + (size / GRANULE_SIZE / PART_GRANULES + 2) * part);
}

Test(page_map, a_refusal_leaves_nothing_behind)
{
    hak_extents_purge_all();
    size_t mapped = mapped_bytes();
    size_t map = space_metadata();
    size_t leaf_count = leaves();
    /* Room for the granules, but not for the page map's parts, which are a thousandth. */
    size_t limit = mapped + 1024 * MIB + MIB / 2;

    cr_assert_eq(setrlimit(RLIMIT_AS, &(struct rlimit){limit, limit}), 0);
    for (size_t size = 1024 * MIB; size < (size_t)1 << 47; size *= 2) {
        cr_assert_null(backend_large_alloc(NULL, size, 1).base);
        cr_assert(mapped_bytes() == mapped && space_metadata() == map && leaves() == leaf_count);
    }
    cr_assert_not_null(backend_large_alloc(NULL, 512 * MIB, 1).base);
    cr_assert(hak_extents_valid());
}
