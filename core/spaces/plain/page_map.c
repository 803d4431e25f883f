/* SPDX-License-Identifier: MIT */
#include "core/spaces/plain/page_map.h"

struct page_map page_map;

/* Addresses from one leaf to the next: a power of two, so that page_map_number need not divide. */
#define STRIDE_LOG2 (sizeof(struct leaf) <= (size_t)8 << 20 ? 23 : 24)

static const size_t STRIDE = (size_t)1 << STRIDE_LOG2;

_Static_assert(sizeof(struct leaf) <= (size_t)1 << STRIDE_LOG2, "leaves do not overlap");

/* Tags and `parts`. */
static const size_t HEAD = offsetof(struct leaf, parts) + sizeof(uint64_t);

static const size_t PART_SIZE = PART_GRANULES * sizeof(struct slab);

_Static_assert(PARTS == 64, "a bit each in a word");

static uintptr_t
    page_map_base;    /* where the leaf lies that describes this address; 0: not chosen yet */
static size_t mapped; /* bytes of leaves; relaxed atomic */

static size_t page_map_head_size(void)
{
    return (HEAD + os_page_size() - 1) & ~(os_page_size() - 1);
}

static struct leaf *page_map_leaf_at(size_t index)
{
    return (struct leaf *)(page_map_base + (index - (page_map_base >> 32)) * STRIDE);
}

static bool page_map_map(void *place, size_t size)
{
    if (os_map_at(place, size) != OS_PLACED)
        return false;
    os_no_huge_pages(place, size);
    atomic_store_relaxed(&mapped, mapped + size);
    return true;
}

static bool page_map_unmap(void *place, size_t size)
{
    if (!os_unmap(place, size))
        return false;
    atomic_store_relaxed(&mapped, mapped - size);
    return true;
}

static void page_map_add_parts(size_t index, uint64_t parts)
{
    atomic_store_relaxed(&page_map_leaf_at(index)->parts, page_map_leaf_at(index)->parts | parts);
}

/* The parts of a leaf that describe granules from `first` to `last` and are not mapped. pre: its head is */
static uint64_t page_map_missing(size_t index, size_t first, size_t last)
{
    size_t begin = index * LEAF_GRANULES;
    size_t from = first > begin ? (first - begin) / PART_GRANULES : 0;
    size_t to = last - begin < LEAF_GRANULES ? (last - begin) / PART_GRANULES : PARTS - 1;

    return (UINT64_MAX >> (PARTS - 1 - to + from) << from) & ~page_map_leaf_at(index)->parts;
}

/* Neighbouring parts of a leaf. */
struct page_map_parts {
    void *place;
    size_t size; /* bytes; 0: there is none */
};

static struct page_map_parts page_map_next_parts(size_t index, uint64_t *parts)
{
    if (*parts == 0)
        return (struct page_map_parts){NULL, 0};
    unsigned first = (unsigned)__builtin_ctzll(*parts);
    uint64_t from_first = *parts >> first;
    unsigned count = ~from_first ? (unsigned)__builtin_ctzll(~from_first) : (unsigned)PARTS;

    *parts &= ~(UINT64_MAX >> (PARTS - count) << first);
    return (struct page_map_parts){&page_map_leaf_at(index)->slabs[first * PART_GRANULES],
                                   count * PART_SIZE};
}

/* A part that the kernel refuses to unmap stays with the leaf: it reads as zeros, like a fresh one. */
static void page_map_unmap_parts(size_t index, uint64_t parts)
{
    uint64_t before = parts;

    for (struct page_map_parts next; (next = page_map_next_parts(index, &parts)).size > 0;
         before = parts)
        if (!page_map_unmap(next.place, next.size))
            page_map_add_parts(index, before & ~parts);
}

static bool page_map_map_parts(size_t index, uint64_t parts)
{
    uint64_t left = parts;
    uint64_t before = parts;

    for (struct page_map_parts next; (next = page_map_next_parts(index, &left)).size > 0;
         before = left) {
        if (!page_map_map(next.place, next.size)) {
            page_map_unmap_parts(index, parts & ~before);
            return false;
        }
    }
    return true;
}

static void page_map_enter(size_t index)
{
    atomic_store_release(&page_map.root[index],
                         (intptr_t)((uintptr_t)page_map_leaf_at(index) - (uintptr_t)page_map.zero));
}

/* Unmaps a leaf that is not in the root and has no parts. If the kernel refuses, the leaf is entered in the root, empty. */
static void page_map_unmap_leaf(size_t index)
{
    if (page_map_leaf_at(index)->parts != 0 ||
        !page_map_unmap(page_map_leaf_at(index), page_map_head_size()))
        page_map_enter(index);
}

/* Unmaps what page_map_cover has mapped so far of leaves [begin, end) and has not entered in the root. */
static void page_map_uncover(size_t begin, size_t end, size_t first, size_t last)
{
    for (size_t i = begin; i < end; i++) {
        page_map_unmap_parts(i, page_map_missing(i, first, last));
        if (page_map.root[i] == 0)
            page_map_unmap_leaf(i);
    }
}

static bool page_map_cover_leaf(size_t index, size_t first, size_t last)
{
    bool is_new = page_map.root[index] == 0;

    if (is_new && !page_map_map(page_map_leaf_at(index), page_map_head_size()))
        return false;
    if (page_map_map_parts(index, page_map_missing(index, first, last)))
        return true;
    if (is_new)
        page_map_unmap_leaf(index);
    return false;
}

static bool page_map_choose_base(size_t index)
{
    for (unsigned attempt = 0; (page_map_base = os_place(attempt)) != 0; attempt++)
        if (page_map_map(page_map_leaf_at(index), page_map_head_size())) {
            page_map_enter(index);
            return true;
        }
    return false;
}

bool page_map_cover(size_t first, size_t last)
{
    size_t begin = first / LEAF_GRANULES;
    size_t end = last / LEAF_GRANULES + 1;

    if (page_map_base == 0 && !page_map_choose_base(begin))
        return false;
    for (size_t i = begin; i < end; i++)
        if (!page_map_cover_leaf(i, first, last)) {
            page_map_uncover(begin, i, first, last);
            return false;
        }
    for (size_t i = begin; i < end; i++) {
        page_map_add_parts(i, page_map_missing(i, first, last));
        if (page_map.root[i] == 0)
            page_map_enter(i);
    }
    return true;
}

size_t page_map_bytes(void)
{
    return sizeof(page_map) + atomic_load_relaxed(&mapped);
}

uint32_t page_map_number(const struct slab *slab)
{
    ptrdiff_t distance =
        (ptrdiff_t)((uintptr_t)slab - page_map_base); /* leaves lie before `page_map_base` too */
    size_t index = (page_map_base >> 32) + (size_t)(distance >> STRIDE_LOG2);

    return (uint32_t)(index * LEAF_GRANULES + (size_t)(slab - page_map_leaf_at(index)->slabs));
}
