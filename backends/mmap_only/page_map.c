/* SPDX-License-Identifier: MIT */
#include "core/backend.h"

#include "backends/mmap_only/page_map.h"
#include "core/os.h"

_Static_assert(sizeof(struct slab) == 64, "a line each");
_Static_assert(HAK_CLASSES *HAK_CLASS_SCALE + CODE_CLASS < TAG_FREE, "classes fit a tag");

struct page_map page_map;

/* Addresses from one leaf to the next. */
static const size_t STRIDE = (size_t)8 << 20;

/* Tags and `parts`. */
static const size_t HEAD = offsetof(struct leaf, parts) + sizeof(uint64_t);

static const size_t PART_SIZE = PART_GRANULES * sizeof(struct slab);

_Static_assert(PARTS == 64, "a bit each in a word");

static uintptr_t base; /* where the leaf lies that describes this address; 0: not chosen yet */
static size_t mapped;  /* bytes of leaves; relaxed atomic */

static size_t head_size(void)
{
    return (HEAD + os_page_size() - 1) & ~(os_page_size() - 1);
}

static struct leaf *leaf_at(size_t index)
{
    return (struct leaf *)(base + (index - (base >> 32)) * STRIDE);
}

static bool map_at(void *place, size_t size)
{
    if (os_map_at(place, size) != OS_PLACED)
        return false;
    os_no_huge_pages(place, size);
    atomic_store_relaxed(&mapped, mapped + size);
    return true;
}

static bool unmap(void *place, size_t size)
{
    if (!os_unmap(place, size))
        return false;
    atomic_store_relaxed(&mapped, mapped - size);
    return true;
}

/* The parts of a leaf that describe granules from `first` to `last` and are not mapped. pre: its head is */
static uint64_t missing(size_t index, size_t first, size_t last)
{
    size_t begin = index * LEAF_GRANULES;
    size_t from = first > begin ? (first - begin) / PART_GRANULES : 0;
    size_t to = last - begin < LEAF_GRANULES ? (last - begin) / PART_GRANULES : PARTS - 1;

    return (UINT64_MAX >> (PARTS - 1 - to + from) << from) & ~leaf_at(index)->parts;
}

/* The next run of neighbouring parts; it is taken out of the set. */
struct part_run {
    void *place;
    size_t size; /* bytes; 0: there is none */
};

static struct part_run next_run(size_t index, uint64_t *parts)
{
    if (*parts == 0)
        return (struct part_run){NULL, 0};
    unsigned first = (unsigned)__builtin_ctzll(*parts);
    uint64_t from_first = *parts >> first;
    unsigned count = ~from_first ? (unsigned)__builtin_ctzll(~from_first) : (unsigned)PARTS;

    *parts &= ~(UINT64_MAX >> (PARTS - count) << first);
    return (struct part_run){&leaf_at(index)->slabs[first * PART_GRANULES], count * PART_SIZE};
}

/* A part that the kernel does not take back stays the leaf's: it is zero, as a fresh one. */
static void unmap_parts(size_t index, uint64_t parts)
{
    uint64_t before = parts;

    for (struct part_run run; (run = next_run(index, &parts)).size > 0; before = parts)
        if (!unmap(run.place, run.size))
            leaf_at(index)->parts |= before & ~parts;
}

static bool map_parts(size_t index, uint64_t parts)
{
    uint64_t left = parts;
    uint64_t before = parts;

    for (struct part_run run; (run = next_run(index, &left)).size > 0; before = left) {
        if (!map_at(run.place, run.size)) {
            unmap_parts(index, parts & ~before);
            return false;
        }
    }
    return true;
}

static void enter(size_t index)
{
    atomic_store_release(&page_map.root[index],
                         (intptr_t)((uintptr_t)leaf_at(index) - (uintptr_t)page_map.zero));
}

/* Unmaps a leaf that is not entered and has no parts. One that the kernel does not take back is entered, empty. */
static void unmap_leaf(size_t index)
{
    if (leaf_at(index)->parts != 0 || !unmap(leaf_at(index), head_size()))
        enter(index);
}

/* What was mapped of leaves and not yet entered. */
static void uncover(size_t begin, size_t end, size_t first, size_t last)
{
    for (size_t i = begin; i < end; i++) {
        unmap_parts(i, missing(i, first, last));
        if (page_map.root[i] == 0)
            unmap_leaf(i);
    }
}

static bool cover(size_t index, size_t first, size_t last)
{
    bool is_new = page_map.root[index] == 0;

    if (is_new && !map_at(leaf_at(index), head_size()))
        return false;
    if (map_parts(index, missing(index, first, last)))
        return true;
    if (is_new)
        unmap_leaf(index);
    return false;
}

static bool choose_base(size_t index)
{
    for (unsigned attempt = 0; (base = os_place(attempt)) != 0; attempt++)
        if (map_at(leaf_at(index), head_size())) {
            enter(index);
            return true;
        }
    return false;
}

bool page_map_cover(size_t first, size_t last)
{
    size_t begin = first / LEAF_GRANULES;
    size_t end = last / LEAF_GRANULES + 1;

    if (base == 0 && !choose_base(begin))
        return false;
    for (size_t i = begin; i < end; i++)
        if (!cover(i, first, last)) {
            uncover(begin, i, first, last);
            return false;
        }
    for (size_t i = begin; i < end; i++) {
        leaf_at(i)->parts |= missing(i, first, last);
        if (page_map.root[i] == 0)
            enter(i);
    }
    return true;
}

size_t page_map_bytes(void)
{
    return sizeof(page_map) + atomic_load_relaxed(&mapped);
}

const struct slab *page_map_range_around(size_t granule)
{
    const struct slab *end = NULL; /* of what begins further down */

    for (size_t at = granule; at > 0; at--) {
        if (page_map.root[at / LEAF_GRANULES] == 0) {
            at = at / LEAF_GRANULES * LEAF_GRANULES + (at < LEAF_GRANULES);
            continue;
        }
        unsigned tag = page_map_tag(at);
        const struct slab *range = page_map_slab(at);
        if (tag == TAG_NONE)
            continue;
        if (tag == TAG_TAKEN) {
            if (at != granule)
                return end;
            end = range;
            continue;
        }
        if (tag == TAG_FREE) /* either end */
            range = page_map_slab(range->first);
        else if (tag != TAG_LARGE)
            range = page_map_slab(at - range->distance);
        return granule - range->first < range->granules ? range : end;
    }
    return end;
}
