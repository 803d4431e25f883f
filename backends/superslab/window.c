/* SPDX-License-Identifier: MIT */
#include "backends/superslab/window.h"

#include "backends/superslab/slab.h"
#include "core/atomic.h"

struct window window;

/* Below this a reservation is not worth having: sparse mode reaches further. */
enum { RESERVED_LOG2_LEAST = 32 };

/* The window is as under this limit where there is none, but nothing can be reserved. */
static const size_t SPARSE_UNLIMITED = (size_t)1 << 36;

/* How many places are tried for superslabs in sparse mode before giving up. */
enum { PLACES_MOST = 4096 };

/* One bit for each superslab: committed, or skipped because somebody else has the place. */
static uint64_t *committed;
static uint64_t *skipped;      /* NULL unless sparse */
static size_t superslabs;      /* in the window */
static size_t first_free;      /* no superslab below is free */
static size_t committed_count; /* relaxed atomic */

/* One bit for each page of tags: it and the slabs that it describes are writable. */
static uint64_t *described;

static bool bit(const uint64_t *bits, size_t index)
{
    return bits[index / 64] >> index % 64 & 1;
}

static void set_bit(uint64_t *bits, size_t index)
{
    bits[index / 64] |= (uint64_t)1 << index % 64;
}

static void clear_bit(uint64_t *bits, size_t index)
{
    bits[index / 64] &= ~((uint64_t)1 << index % 64);
}

static size_t page_rounded(size_t size)
{
    return (size + os_page_size() - 1) & ~(os_page_size() - 1);
}

static size_t bitmap_size(size_t bits)
{
    return page_rounded((bits + 63) / 64 * sizeof(uint64_t));
}

/* Granules that one page of tags describes. */
static size_t granules_described(void)
{
    return os_page_size() / sizeof(*window.tags);
}

/* The arrays for a window of `granules`. Pages on both sides of the slabs stay unmapped. */
static bool map_arrays(size_t granules)
{
    size_t tags_size = page_rounded(granules * sizeof(*window.tags));
    size_t slabs_size = page_rounded(granules * sizeof(struct slab));
    size_t pages = tags_size / os_page_size();
    size_t bitmaps_size = 2 * bitmap_size(granules / SUPERSLAB_GRANULES) + bitmap_size(pages);
    uint32_t *tags = os_reserve_zeros(tags_size);
    char *slabs = tags ? os_reserve(slabs_size + 2 * os_page_size()) : NULL;
    char *bitmaps = slabs ? os_map(bitmaps_size) : NULL;

    if (bitmaps == NULL) {
        if (slabs)
            os_unmap(slabs, slabs_size + 2 * os_page_size());
        if (tags)
            os_unmap(tags, tags_size);
        return false;
    }
    os_no_huge_pages(tags, tags_size);
    os_no_huge_pages(slabs, slabs_size + 2 * os_page_size());
    window.tags = tags;
    window.slabs = (struct slab *)(void *)(slabs + os_page_size());
    window.granules = granules;
    superslabs = granules / SUPERSLAB_GRANULES;
    committed = (uint64_t *)(void *)bitmaps;
    skipped = (uint64_t *)(void *)(bitmaps + bitmap_size(superslabs));
    described = (uint64_t *)(void *)(bitmaps + 2 * bitmap_size(superslabs));
    return true;
}

static bool reserve(unsigned log2)
{
    size_t size = (size_t)1 << log2;
    char *space = os_reserve(size + SUPERSLAB_SIZE);

    if (space == NULL)
        return false;
    if (!map_arrays(size >> GRANULE_SHIFT)) {
        os_unmap(space, size + SUPERSLAB_SIZE);
        return false;
    }
    window.base = ((uintptr_t)space + SUPERSLAB_SIZE - 1) & ~(SUPERSLAB_SIZE - 1);
    os_advise_huge_pages((void *)window.base, size);
    return true;
}

/* A place far from where the kernel puts the program's mappings, and hard to guess: the address of a
 * stack variable carries the kernel's randomness. */
static bool choose_sparse_base(size_t size)
{
    static const unsigned char HEIGHTS[] = {45, 43, 41, 38, 36, 34, 32};
    uintptr_t random = (uintptr_t)&random >> 4;

    for (size_t i = 0; i < sizeof(HEIGHTS); i++) {
        uintptr_t height = (uintptr_t)1 << HEIGHTS[i];
        uintptr_t base = height + (random * SUPERSLAB_SIZE & (height / 4 - 1));
        if (size < height / 2 && os_map_at((void *)base, SUPERSLAB_SIZE)) {
            os_unmap((void *)base, SUPERSLAB_SIZE);
            window.base = base;
            return true;
        }
    }
    return false;
}

/* Twice the limit, so that places taken by others do not shorten what can be had; but no more than
 * makes the arrays a small part of the limit (they take 1/512 of the window). */
static bool init_sparse(size_t limit)
{
    size_t most = (size_t)1 << CONFIG_WINDOW_LOG2;
    size_t size = limit < most / 2 ? 2 * limit : most;

    size = (size + SUPERSLAB_SIZE - 1) & ~(SUPERSLAB_SIZE - 1);
    window.sparse = true;
    for (; size >= SUPERSLAB_SIZE; size = size / 2 & ~(SUPERSLAB_SIZE - 1))
        if (choose_sparse_base(size) && map_arrays(size >> GRANULE_SHIFT))
            return true;
    window.base = 0;
    window.sparse = false; /* the next attempt may reserve */
    return false;
}

bool window_init(void)
{
    size_t limit = os_address_limit();

    window.charged = os_charges_committed();
    window.gives_back = true;
    if (limit != SIZE_MAX)
        return init_sparse(limit);
    if (os_reserve_is_slow())
        return init_sparse(SPARSE_UNLIMITED);
    for (unsigned log2 = CONFIG_WINDOW_LOG2;
         log2 >= RESERVED_LOG2_LEAST || log2 == CONFIG_WINDOW_LOG2; log2--) {
        if (reserve(log2)) {
            window.gives_back = window.charged;
            return true;
        }
    }
    return init_sparse(SPARSE_UNLIMITED);
}

bool window_committed(size_t granule)
{
    return granule < window.granules && bit(committed, granule / SUPERSLAB_GRANULES);
}

/* Makes tags and slabs of these granules writable. */
static bool describe(size_t granule, size_t count)
{
    size_t each = granules_described();

    for (size_t page = granule / each; page <= (granule + count - 1) / each; page++) {
        if (bit(described, page))
            continue;
        size_t slabs = window.granules - page * each < each ? window.granules - page * each : each;
        if (!os_commit(&window.tags[page * each], os_page_size()) ||
            !os_commit(&window.slabs[page * each], page_rounded(slabs * sizeof(struct slab))))
            return false;
        set_bit(described, page);
    }
    return true;
}

static bool commit_at(size_t superslab, size_t count)
{
    void *base = granule_address((uint32_t)(superslab * SUPERSLAB_GRANULES));

    if (!describe(superslab * SUPERSLAB_GRANULES, count * SUPERSLAB_GRANULES))
        return false;
    if (!window.sparse)
        return os_commit(base, count * SUPERSLAB_SIZE);
    if (!os_map_at(base, count * SUPERSLAB_SIZE))
        return false;
    os_advise_huge_pages(base, count * SUPERSLAB_SIZE);
    return true;
}

/* Whether a failure to map superslabs at their place was the place's fault: then as much can be
 * mapped elsewhere. */
static bool memory_is_left(size_t count)
{
    void *probe = os_map(count * SUPERSLAB_SIZE);

    return probe != NULL && os_unmap(probe, count * SUPERSLAB_SIZE);
}

static bool is_free(size_t superslab)
{
    return !bit(committed, superslab) && !bit(skipped, superslab);
}

/* The first of `count` neighbouring free superslabs from `start` on; `superslabs` if there are none. */
static size_t find_free(size_t start, size_t count)
{
    size_t run = 0;

    for (size_t i = start; i < superslabs; i++) {
        if (i % 64 == 0 && committed[i / 64] == UINT64_MAX) {
            run = 0;
            i += 63;
            continue;
        }
        run = is_free(i) ? run + 1 : 0;
        if (run == count)
            return i + 1 - count;
    }
    return superslabs;
}

static void count_committed(size_t change)
{
    atomic_store_relaxed(&committed_count, committed_count + change);
}

size_t window_bytes(void)
{
    return atomic_load_relaxed(&committed_count) * SUPERSLAB_SIZE;
}

size_t window_metadata(void)
{
    size_t each = granules_described();
    size_t bytes = 0;

    for (size_t page = 0; page * each < window.granules; page++)
        if (bit(described, page))
            bytes += os_page_size() + each * sizeof(struct slab);
    return bytes;
}

bool window_commit(size_t count, uint32_t *granule)
{
    size_t start = first_free;

    for (int places = 0; places < PLACES_MOST; places++) {
        size_t at = find_free(start, count);
        if (at == superslabs)
            return false;
        if (commit_at(at, count)) {
            for (size_t i = at; i < at + count; i++)
                set_bit(committed, i);
            while (first_free < superslabs && !is_free(first_free))
                first_free++;
            count_committed(count);
            *granule = (uint32_t)(at * SUPERSLAB_GRANULES);
            return true;
        }
        if (!window.sparse || !memory_is_left(count))
            return false;
        if (count == 1)
            set_bit(skipped, at);
        start = at + 1;
    }
    return false;
}

bool window_uncommit(uint32_t granule, size_t count)
{
    void *base = granule_address(granule);
    size_t first = granule / SUPERSLAB_GRANULES;

    if (!(window.sparse ? os_unmap(base, count * SUPERSLAB_SIZE)
                        : os_decommit(base, count * SUPERSLAB_SIZE)))
        return false;
    if (!window.sparse)
        os_advise_huge_pages(base, count * SUPERSLAB_SIZE);
    for (size_t i = first; i < first + count; i++)
        clear_bit(committed, i);
    count_committed(-count);
    if (first < first_free)
        first_free = first;
    return true;
}
