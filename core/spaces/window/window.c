/* SPDX-License-Identifier: MIT */
/* A back end includes this file in one of its own, after its struct slab. */
#include "core/extents.c"
#include "core/spaces/window/dense.c"

struct window window;

/* The window grows, and slabs are mapped, in steps of this many granules: 64 MiB, whose tags and slabs are whole pages of
 * any size. */
#define STEP_GRANULES ((size_t)1024)

#define TAGS_SIZE  (WINDOW_GRANULES * sizeof(uint32_t))
#define SLABS_SIZE (WINDOW_GRANULES * sizeof(struct slab))

/* Between the arrays and the window nothing is ever mapped. */
#define GAP_SIZE UNIT_SIZE

/* How many places are tried for units before giving up. */
enum { PLACES_MOST = 4096 };

/* A bit for each unit; relaxed atomics, written under the lock. */
static uint64_t committed[WINDOW_UNITS / 64];

/* A bit for each step: its slabs are mapped. */
static uint64_t described[WINDOW_GRANULES / STEP_GRANULES / 64];

static size_t first_free;      /* units below are committed, or other mappings have their places */
static size_t described_count; /* steps; a relaxed atomic */
static size_t tags_mapped;     /* bytes */

_Static_assert(STEP_GRANULES % UNIT_GRANULES == 0, "a unit lies in one step");
_Static_assert(WINDOW_GRANULES / STEP_GRANULES % 64 == 0, "whole words of bits");

static bool window_bit(const uint64_t *bits, size_t index)
{
    return atomic_load_relaxed(&bits[index / 64]) >> index % 64 & 1;
}

static void window_change_bits(uint64_t *bits, size_t first, size_t count, bool value)
{
    for (size_t i = first; i < first + count; i++) {
        uint64_t mask = (uint64_t)1 << i % 64;
        uint64_t word = bits[i / 64];
        atomic_store_relaxed(&bits[i / 64], value ? word | mask : word & ~mask);
    }
}

static void *window_unit_address(size_t unit)
{
    return space_address((uint32_t)(unit * UNIT_GRANULES));
}

/* ── what describes granules ─────────────────────────────────────────────────────────────────── */

static bool window_map_part(void *base, size_t size)
{
    if (os_map_at(base, size) != OS_PLACED)
        return false;
    os_no_huge_pages(base, size);
    return true;
}

/* Advances *step to the next one in [*step, end) whose slabs are not mapped. Returns how many in a row; 0: none. */
static size_t window_next_undescribed(size_t *step, size_t end)
{
    size_t count = 0;

    while (*step < end && window_bit(described, *step))
        ++*step;
    while (*step + count < end && !window_bit(described, *step + count))
        count++;
    return count;
}

static struct slab *window_slabs_of(size_t step)
{
    return &window.slabs[step * STEP_GRANULES];
}

static const size_t STEP_SLABS_SIZE = STEP_GRANULES * sizeof(struct slab);

static void window_note_described(size_t step, size_t count)
{
    window_change_bits(described, step, count, true);
    atomic_store_relaxed(&described_count, described_count + count);
}

/* Unmaps the slabs of those steps in [step, end) that are not noted as described. Slabs that the kernel refuses to unmap
 * stay, and their steps are noted as described. */
static void window_unmap_slabs(size_t step, size_t end)
{
    for (size_t count; (count = window_next_undescribed(&step, end)) > 0; step += count)
        if (!os_unmap(window_slabs_of(step), count * STEP_SLABS_SIZE))
            window_note_described(step, count);
}

static bool window_map_slabs(size_t first, size_t end)
{
    size_t step = first;

    for (size_t count; (count = window_next_undescribed(&step, end)) > 0; step += count) {
        if (!window_map_part(window_slabs_of(step), count * STEP_SLABS_SIZE)) {
            window_unmap_slabs(first, step);
            return false;
        }
    }
    return true;
}

/* Makes the window long enough for these granules, and maps their slabs. false: nothing has changed. */
static bool window_describe(size_t granule, size_t count)
{
    size_t first = granule / STEP_GRANULES;
    size_t end = (granule + count - 1) / STEP_GRANULES + 1;
    size_t page = os_page_size();
    size_t tags = (end * STEP_GRANULES * sizeof(*window.tags) + page - 1) & ~(page - 1);
    size_t more = tags > tags_mapped ? tags - tags_mapped : 0;
    char *behind = (char *)window.tags + tags_mapped;

    if (more > 0 && !window_map_part(behind, more))
        return false;
    if (!window_map_slabs(first, end)) {
        if (more > 0 && !os_unmap(behind, more))
            tags_mapped += more;
        return false;
    }
    tags_mapped += more;
    for (size_t step = first, run; (run = window_next_undescribed(&step, end)) > 0; step += run)
        window_note_described(step, run);
    if (end * STEP_GRANULES > window.granules)
        atomic_store_release(&window.granules, end * STEP_GRANULES);
    return true;
}

size_t space_metadata(void)
{
    return window_granules() * sizeof(*window.tags) +
           atomic_load_relaxed(&described_count) * STEP_SLABS_SIZE;
}

/* ── units ──────────────────────────────────────────────────────────────────────────────── */

bool window_committed(size_t granule)
{
    return granule < WINDOW_GRANULES && window_bit(committed, granule / UNIT_GRANULES);
}

/* Maps units that are not committed, with what describes them. */
static enum os_placed window_commit_at(size_t unit, size_t count)
{
    void *base = window_unit_address(unit);
    enum os_placed placed = os_map_at(base, count * UNIT_SIZE);

    if (placed != OS_PLACED)
        return placed;
    os_advise_huge_pages(base, count * UNIT_SIZE);
    if (!window_describe(unit * UNIT_GRANULES, count * UNIT_GRANULES)) {
        os_unmap(base, count * UNIT_SIZE);
        return OS_NO_MEMORY;
    }
    window_change_bits(committed, unit, count, true);
    return OS_PLACED;
}

/* The next unit from `unit` on whose address is a multiple of `align` units. */
static size_t window_align(size_t unit, size_t align)
{
    size_t number = (window.base >> UNIT_SHIFT) + unit;

    return unit + (-number & (align - 1));
}

/* The first of `count` neighbouring free units from `start` on; WINDOW_UNITS if there are none. Beyond the
 * length of the window all are free. */
static size_t window_find_free(size_t start, size_t count, size_t align)
{
    size_t end = window.granules / UNIT_GRANULES;
    size_t first = window_align(start, align);

    for (size_t i = first; i < end && i - first < count;) {
        if (i % 64 == 0 && committed[i / 64] == UINT64_MAX)
            first = window_align(i + 64, align);
        else if (window_bit(committed, i))
            first = window_align(i + 1, align);
        i = i < first ? first : i + 1;
    }
    return first + count <= WINDOW_UNITS ? first : WINDOW_UNITS;
}

/* Commits units at the first place that no other mapping has, from first_free on. `doubling`: the distance to the next
 * place doubles each time, so that a long taken range costs few tries. */
static enum os_placed window_commit_from(size_t count, size_t align, bool doubling, size_t *at)
{
    size_t start = first_free;
    size_t step = 1;

    for (int places = 0; places < PLACES_MOST; places++) {
        *at = window_find_free(start, count, align);
        if (*at == WINDOW_UNITS)
            break;
        enum os_placed placed = window_commit_at(*at, count);
        if (placed != OS_TAKEN)
            return placed;
        start = *at + step;
        step *= doubling ? 2 : 1;
    }
    return OS_TAKEN;
}

/* Makes committed units, of which nothing is known yet, a free extent. */
static uint32_t window_add(size_t unit, size_t count)
{
    return hak_extents_add((uint32_t)unit * UNIT_GRANULES, count * UNIT_GRANULES);
}

uint32_t space_map(size_t granules, size_t align, size_t batch)
{
    size_t count = (granules + UNIT_GRANULES - 1) / UNIT_GRANULES;
    size_t align_count = align <= UNIT_GRANULES ? 1 : align / UNIT_GRANULES;
    size_t at;
    enum os_placed placed = window_commit_from(count, align_count, true, &at);

    (void)batch; /* a unit is one */
    if (placed == OS_TAKEN)
        placed = window_commit_from(count, align_count, false, &at);
    if (placed != OS_PLACED)
        return HAK_NO_EXTENT;
    /* The units between first_free and these are committed or taken. */
    if (count == 1 && align_count == 1)
        first_free = at;
    if (at == first_free)
        first_free = at + count;
    return window_add(at, count);
}

/* Places tags, slabs and window from `base` on. false: no unit can be mapped there. */
static bool window_begin_at(uintptr_t base)
{
    uintptr_t slabs = base + TAGS_SIZE + GAP_SIZE;

    window.tags = (uint32_t *)base;
    window.slabs = (struct slab *)slabs;
    window.base = (slabs + SLABS_SIZE + UNIT_SIZE - 1) & ~(UNIT_SIZE - 1);
    if (window_commit_at(1, 1) != OS_PLACED) {
        window.base = 0;
        tags_mapped = described_count = 0;
        window_change_bits(described, 0, 1, false);
        return false;
    }
    first_free = 2;
    window_add(1, 1);
    return true;
}

bool space_begin(void)
{
    uintptr_t place;

    for (unsigned attempt = 0; window.base == 0 && (place = os_place(attempt)) != 0; attempt++)
        if (window_begin_at(place))
            return true;
    return window.base != 0;
}

/* Each gap in the window costs one of the mappings that the kernel allows the process; moved blocks and the program need
 * some of them too. */
struct hak_stretch space_releasable(uint32_t first, size_t granules)
{
    struct hak_extents_mappings mappings = hak_extents_mappings();
    uint32_t begin = (first + UNIT_GRANULES - 1) & ~(UNIT_GRANULES - 1);
    uint32_t end = (uint32_t)(first + granules) & ~(UNIT_GRANULES - 1);

    if (begin >= end || mappings.unmoved > mappings.limit / 8)
        return (struct hak_stretch){first, 0};
    return (struct hak_stretch){begin, end - begin};
}

bool space_release(uint32_t first, size_t granules)
{
    size_t unit = first / UNIT_GRANULES;

    hak_extents_unlock();
    dense_split(first, granules);
    bool gone = os_unmap(space_address(first), granules << GRANULE_SHIFT);
    hak_extents_lock();
    if (!gone)
        return false;
    hak_extents_leave(first, granules);
    window_change_bits(committed, unit, granules / UNIT_GRANULES, false);
    if (unit < first_free)
        first_free = unit;
    return true;
}

bool space_purge(uint32_t first, size_t granules)
{
    dense_split(first, granules);
    return hak_purge_range(space_address(first), granules << GRANULE_SHIFT);
}

/* In the window a block grows only into a free extent behind it, which extents do by themselves. */
bool space_extend(uint32_t first, size_t granules, size_t more)
{
    (void)first;
    (void)granules;
    (void)more;
    return false;
}

bool space_is_huge(uint32_t first, size_t granules)
{
    return dense_is_huge(first, granules);
}

void space_split_huge(uint32_t first, size_t granules)
{
    dense_split(first, granules);
}

void space_note_use(uint32_t first, size_t granules, bool used)
{
    if (enabled(CONFIG_HUGE_PAGES_DENSE))
        dense_note_use(first, granules, used);
}

/* A large block is moved by the kernel rather than copied from here on. Below, copying is cheaper: the pages that it
 * leaves behind are used again, while those that a move takes away have to come back one fault each. */
static const size_t MOVE_LEAST = ((size_t)1 << 20) >> GRANULE_SHIFT;

/* A moved block is a mapping of its own until it is freed. If it then grows in place, its end lies in the window's
 * mapping; moved again, the block is two mappings, and so on. Beyond this many, a block is copied, which makes it one. */
enum { MOVED_MOST = 8192, MOVED_MOST_OF_BLOCK = 32 };

static bool window_may_move(size_t granules)
{
    if (granules < MOVE_LEAST || os_charges_committed()) /* the target may be lost there */
        return false;
    hak_extents_lock();
    struct hak_extents_mappings mappings = hak_extents_mappings();
    hak_extents_unlock();
    return mappings.all - mappings.unmoved < MOVED_MOST;
}

uint32_t space_move(uint32_t first, size_t granules)
{
    size_t length = hak_extents_length(first);
    bool zeroed;
    uint32_t to =
        window_may_move(length) ? hak_extents_alloc(granules, 1, 0, &zeroed) : HAK_NO_EXTENT;

    if (to == HAK_NO_EXTENT)
        return HAK_NO_EXTENT;
    unsigned mappings = os_move(space_address(first), space_address(to), length << GRANULE_SHIFT,
                                MOVED_MOST_OF_BLOCK);
    hak_extents_lock();
    hak_extents_set_moved(to, mappings > 0 ? mappings : 1); /* the target may have been unmapped */
    if (mappings > 0)
        hak_extents_set_moved(first, 1); /* the kernel keeps the emptied mapping apart */
    hak_extents_unlock();
    hak_extents_free(mappings > 0 ? first : to, false);
    return mappings > 0 ? to : HAK_NO_EXTENT;
}

uint32_t space_next(uint32_t granule)
{
    size_t end = window.granules;
    size_t at = granule;

    while (at < end && !window_committed(at))
        at = (at / UNIT_GRANULES + 1) * UNIT_GRANULES;
    return at < end ? (uint32_t)at : HAK_NO_EXTENT;
}

uint32_t space_previous(uint32_t granule)
{
    return window_committed(granule) ? granule : HAK_NO_EXTENT;
}
