/* SPDX-License-Identifier: MIT */
#include "backends/superslab/window.h"

#include "backends/superslab/slab.h"

struct window window;

/* The window becomes longer, and slabs are mapped, by so many granules: 64 MiB, described by whole pages of any
 * size. */
#define STEP_GRANULES ((size_t)1024)

#define TAGS_SIZE  (WINDOW_GRANULES * sizeof(uint32_t))
#define SLABS_SIZE (WINDOW_GRANULES * sizeof(struct slab))

/* Between the arrays and the window nothing is ever mapped. */
#define GAP_SIZE SUPERSLAB_SIZE

/* How many places are tried for superslabs before giving up. */
enum { PLACES_MOST = 4096 };

/* One bit for each superslab; relaxed atomics, written under the lock. */
static uint64_t committed[WINDOW_SUPERSLABS / 64];
static uint64_t hidden[WINDOW_SUPERSLABS / 64];

/* One bit for each step: its slabs are mapped. */
static uint64_t described[WINDOW_GRANULES / STEP_GRANULES / 64];

static size_t first_free;      /* no superslab below is free, but for places that were taken */
static size_t committed_count; /* relaxed atomic */
static size_t described_count; /* likewise; steps */
static size_t tags_mapped;     /* bytes */
static size_t gaps; /* places where committed superslabs begin: mappings, as the kernel counts */
static size_t gaps_most; /* a part of those that the process may have; 0: not asked yet */

_Static_assert(STEP_GRANULES % SUPERSLAB_GRANULES == 0, "a superslab lies in one step");
_Static_assert(WINDOW_GRANULES / STEP_GRANULES % 64 == 0, "whole words of bits");

static bool bit(const uint64_t *bits, size_t index)
{
    return atomic_load_relaxed(&bits[index / 64]) >> index % 64 & 1;
}

static void change_bits(uint64_t *bits, size_t first, size_t count, bool value)
{
    for (size_t i = first; i < first + count; i++) {
        uint64_t mask = (uint64_t)1 << i % 64;
        uint64_t word = bits[i / 64];
        atomic_store_relaxed(&bits[i / 64], value ? word | mask : word & ~mask);
    }
}

static void *superslab_address(size_t superslab)
{
    return granule_address((uint32_t)(superslab * SUPERSLAB_GRANULES));
}

/* ── what describes granules ─────────────────────────────────────────────────────────────────── */

static bool map_part(void *base, size_t size)
{
    if (os_map_at(base, size) != OS_PLACED)
        return false;
    os_no_huge_pages(base, size);
    return true;
}

/* The next run of steps in [*step, end) without slabs; its length, 0: there is none. */
static size_t next_undescribed(size_t *step, size_t end)
{
    size_t count = 0;

    while (*step < end && bit(described, *step))
        ++*step;
    while (*step + count < end && !bit(described, *step + count))
        count++;
    return count;
}

static struct slab *slabs_of(size_t step)
{
    return &window.slabs[step * STEP_GRANULES];
}

static const size_t STEP_SLABS_SIZE = STEP_GRANULES * sizeof(struct slab);

static void note_described(size_t step, size_t count)
{
    change_bits(described, step, count, true);
    atomic_store_relaxed(&described_count, described_count + count);
}

/* Unmaps the slabs of the steps in [step, end) that are not described. What the kernel does not take back is described
 * early. */
static void unmap_slabs(size_t step, size_t end)
{
    for (size_t count; (count = next_undescribed(&step, end)) > 0; step += count)
        if (!os_unmap(slabs_of(step), count * STEP_SLABS_SIZE))
            note_described(step, count);
}

static bool map_slabs(size_t first, size_t end)
{
    size_t step = first;

    for (size_t count; (count = next_undescribed(&step, end)) > 0; step += count) {
        if (!map_part(slabs_of(step), count * STEP_SLABS_SIZE)) {
            unmap_slabs(first, step);
            return false;
        }
    }
    return true;
}

/* Makes the window long enough for these granules, and maps their slabs. false: nothing has changed. */
static bool describe(size_t granule, size_t count)
{
    size_t first = granule / STEP_GRANULES;
    size_t end = (granule + count - 1) / STEP_GRANULES + 1;
    size_t page = os_page_size();
    size_t tags = (end * STEP_GRANULES * sizeof(*window.tags) + page - 1) & ~(page - 1);
    size_t more = tags > tags_mapped ? tags - tags_mapped : 0;
    char *behind = (char *)window.tags + tags_mapped;

    if (more > 0 && !map_part(behind, more))
        return false;
    if (!map_slabs(first, end)) {
        if (more > 0 && !os_unmap(behind, more))
            tags_mapped += more;
        return false;
    }
    tags_mapped += more;
    for (size_t step = first, run; (run = next_undescribed(&step, end)) > 0; step += run)
        note_described(step, run);
    if (end * STEP_GRANULES > window.granules)
        atomic_store_release(&window.granules, end * STEP_GRANULES);
    return true;
}

size_t window_metadata(void)
{
    return window_granules() * sizeof(*window.tags) +
           atomic_load_relaxed(&described_count) * STEP_SLABS_SIZE;
}

/* ── superslabs ──────────────────────────────────────────────────────────────────────────────── */

bool window_committed(size_t granule)
{
    return granule < WINDOW_GRANULES && bit(committed, granule / SUPERSLAB_GRANULES);
}

size_t window_bytes(void)
{
    return atomic_load_relaxed(&committed_count) * SUPERSLAB_SIZE;
}

/* How many of the two neighbours of superslabs are committed. */
static size_t neighbours(size_t superslab, size_t count)
{
    bool before = superslab > 0 && bit(committed, superslab - 1);
    bool behind = superslab + count < WINDOW_SUPERSLABS && bit(committed, superslab + count);

    return (size_t)before + (size_t)behind;
}

/* Notes that superslabs are committed, or no longer. */
static void note(size_t superslab, size_t count, bool value)
{
    size_t change = 1 - neighbours(superslab, count);

    change_bits(committed, superslab, count, value);
    gaps += value ? change : -change;
    atomic_store_relaxed(&committed_count, committed_count + (value ? count : -count));
}

/* Maps superslabs that are not committed, with what describes them. */
static enum os_placed commit_at(size_t superslab, size_t count)
{
    void *base = superslab_address(superslab);
    enum os_placed placed = os_map_at(base, count * SUPERSLAB_SIZE);

    if (placed != OS_PLACED)
        return placed;
    os_advise_huge_pages(base, count * SUPERSLAB_SIZE);
    if (!describe(superslab * SUPERSLAB_GRANULES, count * SUPERSLAB_GRANULES)) {
        os_unmap(base, count * SUPERSLAB_SIZE);
        return OS_NO_MEMORY;
    }
    note(superslab, count, true);
    return OS_PLACED;
}

/* The next superslab from `superslab` on whose address is a multiple of `align` superslabs. */
static size_t aligned(size_t superslab, size_t align)
{
    size_t number = (window.base >> SUPERSLAB_SHIFT) + superslab;

    return superslab + (-number & (align - 1));
}

/* The first of `count` neighbouring free superslabs from `start` on; WINDOW_SUPERSLABS if there are none. Beyond the
 * length of the window all are free. */
static size_t find_free(size_t start, size_t count, size_t align)
{
    size_t end = window.granules / SUPERSLAB_GRANULES;
    size_t first = aligned(start, align);

    for (size_t i = first; i < end && i - first < count;) {
        if (i % 64 == 0 && committed[i / 64] == UINT64_MAX)
            first = aligned(i + 64, align);
        else if (bit(committed, i))
            first = aligned(i + 1, align);
        i = i < first ? first : i + 1;
    }
    return first + count <= WINDOW_SUPERSLABS ? first : WINDOW_SUPERSLABS;
}

/* Tries places from the first free one on. Where one is taken the next is tried, and so on; `doubling`: each time
 * twice as far behind, so that there are few to try. */
static enum os_placed commit_from(size_t count, size_t align, bool doubling, size_t *at)
{
    size_t start = first_free;
    size_t step = 1;

    for (int places = 0; places < PLACES_MOST; places++) {
        *at = find_free(start, count, align);
        if (*at == WINDOW_SUPERSLABS)
            break;
        enum os_placed placed = commit_at(*at, count);
        if (placed != OS_TAKEN)
            return placed;
        start = *at + step;
        step *= doubling ? 2 : 1;
    }
    return OS_TAKEN;
}

bool window_commit(size_t count, size_t align, uint32_t *granule)
{
    size_t at;
    enum os_placed placed = commit_from(count, align, true, &at);

    if (placed == OS_TAKEN)
        placed = commit_from(count, align, false, &at);
    if (placed != OS_PLACED)
        return false;
    /* What lies between is committed or taken. */
    if (count == 1 && align == 1)
        first_free = at;
    if (at == first_free)
        first_free = at + count;
    *granule = (uint32_t)(at * SUPERSLAB_GRANULES);
    return true;
}

/* An eighth of the kernel's mappings: what the blocks that were moved and the program have comes beside. */
bool window_may_unmap(void)
{
    if (gaps_most == 0)
        gaps_most = os_mappings_limit() / 8 + 1;
    return gaps < gaps_most;
}

void window_unmapped(uint32_t granule, size_t count)
{
    size_t first = granule / SUPERSLAB_GRANULES;

    note(first, count, false);
    change_bits(hidden, first, count, false);
    if (first < first_free)
        first_free = first;
}

/* ── core dumps ──────────────────────────────────────────────────────────────────────────────── */

void window_hide(uint32_t granule, size_t count)
{
    size_t first = granule / SUPERSLAB_GRANULES;

    os_leave_out_of_dumps(superslab_address(first), count * SUPERSLAB_SIZE);
    change_bits(hidden, first, count, true);
}

void window_show(uint32_t granule, size_t granules)
{
    size_t end = (granule + granules - 1) / SUPERSLAB_GRANULES + 1;

    for (size_t i = granule / SUPERSLAB_GRANULES, count; i < end; i += count) {
        for (count = 0; i + count < end && bit(hidden, i + count);)
            count++;
        if (count > 0) {
            os_take_into_dumps(superslab_address(i), count * SUPERSLAB_SIZE);
            change_bits(hidden, i, count, false);
        } else {
            count = 1;
        }
    }
}

/* ── where ───────────────────────────────────────────────────────────────────────────────────── */

/* The places that begin at `base`: tags, slabs, window. false: no superslab can be mapped there. */
static bool begin_at(uintptr_t base)
{
    uintptr_t slabs = base + TAGS_SIZE + GAP_SIZE;

    window.tags = (uint32_t *)base;
    window.slabs = (struct slab *)slabs;
    window.base = (slabs + SLABS_SIZE + GAP_SIZE + SUPERSLAB_SIZE - 1) & ~(SUPERSLAB_SIZE - 1);
    if (commit_at(0, 1) != OS_PLACED) {
        window.base = 0;
        tags_mapped = described_count = 0;
        change_bits(described, 0, 1, false);
        return false;
    }
    first_free = 1;
    return true;
}

bool window_init(void)
{
    uintptr_t place;

    for (unsigned attempt = 0; (place = os_place(attempt)) != 0; attempt++)
        if (begin_at(place))
            return true;
    return false;
}
