/* SPDX-License-Identifier: MIT */
/* The space of plain mappings.
 *
 *   mmap ──► used ──► dirty ──► used again …
 *                       └─ due, or too many ──► munmap ──refused──► purged: clean
 *
 * THE LIMIT ON MAPPINGS. The kernel allows a process vm.max_map_count of them and fails every mmap, also the program's
 * own, beyond that. The kernel merges neighbours, so the space costs as many mappings as there are places where mapped
 * granules begin, and two for each block that was moved, as that merges with nothing. From 7/8 of the limit on, no extent
 * that has mapped neighbours on both sides is unmapped: it is purged and waits as a clean one. From 15/16 on, nothing
 * more is mapped. */
#include "core/backend.h"

#include "backends/mmap_only/page_map.h"
#include "core/extents.c"

/* Mappings that a moved block may cost in addition to what its place does. */
enum { MOVED_COST = 2 };

/* A large block is moved by the kernel rather than copied from here on; below, copying is cheaper. */
static const size_t MOVE_LEAST = ((size_t)256 << 10) >> GRANULE_SHIFT;

bool space_begin(void)
{
    return true;
}

/* Maps granules and describes them. Returns the first; HAK_NO_EXTENT: out of memory. */
static uint32_t mapping_new(size_t granules, size_t align)
{
    hak_extents_unlock();
    void *base = os_map_aligned(granules << GRANULE_SHIFT, align << GRANULE_SHIFT);
    if (base)
        os_advise_huge_pages(base, granules << GRANULE_SHIFT);
    hak_extents_lock();
    if (base == NULL)
        return HAK_NO_EXTENT;
    uint32_t first = granule_of(base);
    if ((uintptr_t)base >> ADDRESS_BITS == 0 && page_map_cover(first, first + granules - 1))
        return first;
    os_unmap(base, granules << GRANULE_SHIFT);
    return HAK_NO_EXTENT;
}

uint32_t space_map(size_t granules, size_t align, size_t batch)
{
    struct hak_extents_mappings mappings = hak_extents_mappings();
    uint32_t first = HAK_NO_EXTENT;

    if (mappings.all >= mappings.limit - mappings.limit / 16)
        return HAK_NO_EXTENT;
    if (batch > granules)
        first = mapping_new(batch, align);
    if (first != HAK_NO_EXTENT)
        return hak_extents_add(first, batch);
    first = mapping_new(granules, align);
    return first == HAK_NO_EXTENT ? HAK_NO_EXTENT : hak_extents_add(first, granules);
}

/* Whether a mapping may become two. */
static bool mapping_may_split(void)
{
    struct hak_extents_mappings mappings = hak_extents_mappings();

    return mappings.all < mappings.limit - mappings.limit / 8;
}

struct hak_stretch space_releasable(uint32_t first, size_t granules)
{
    bool splits = space_has(first - 1) && space_has(first + (uint32_t)granules);

    return (struct hak_stretch){first, splits && !mapping_may_split() ? 0 : granules};
}

/* Huge pages that granules share with others are split, so that their part of them goes back. */
static void mapping_split_ends(uint32_t first, size_t granules)
{
    if (!enabled(CONFIG_HUGE_PAGES_ALWAYS))
        return;
    os_split_huge_page(granule_address(first));
    os_split_huge_page(granule_address(first + granules - 1));
}

/* As soon as they are unmapped, the addresses may be another thread's. */
bool space_release(uint32_t first, size_t granules)
{
    hak_extents_leave(first, granules);
    hak_extents_unlock();
    mapping_split_ends(first, granules);
    bool gone = os_unmap(granule_address(first), granules << GRANULE_SHIFT);
    hak_extents_lock();
    if (!gone)
        hak_extents_enter(first, granules);
    return gone;
}

bool space_purge(uint32_t first, size_t granules)
{
    mapping_split_ends(first, granules);
    return hak_purge_range(granule_address(first), granules << GRANULE_SHIFT);
}

bool space_extend(uint32_t first, size_t granules, size_t more)
{
    uint32_t end = first + (uint32_t)granules;

    hak_extents_unlock();
    bool grown = os_grow(granule_address(first), granules << GRANULE_SHIFT,
                         (granules + more) << GRANULE_SHIFT);
    hak_extents_lock();
    if (grown && page_map_cover(end, end + more - 1)) {
        hak_extents_enter(end, more);
        return true;
    }
    if (grown)
        os_unmap(granule_address(end), more << GRANULE_SHIFT);
    return false;
}

void space_note_use(uint32_t first, size_t granules, bool used)
{
    (void)first;
    (void)granules;
    (void)used;
}

/* A used extent for a block to move to. */
static uint32_t mapping_target(size_t length, size_t granules)
{
    bool zeroed;

    if (length < MOVE_LEAST)
        return HAK_NO_EXTENT;
    hak_extents_lock();
    bool may_move = mapping_may_split();
    hak_extents_unlock();
    return may_move ? hak_extents_alloc(granules, 1, 0, &zeroed) : HAK_NO_EXTENT;
}

uint32_t space_move(uint32_t first, size_t granules)
{
    size_t length = hak_extents_length(first);
    unsigned moved_before = space_node(first)->moved;
    uint32_t to = mapping_target(length, granules);

    if (to == HAK_NO_EXTENT)
        return HAK_NO_EXTENT;
    hak_extents_lock();
    hak_extents_set_moved(first, 0);
    hak_extents_leave(first, length); /* unmapped as it moves, it may be another's at once */
    hak_extents_unlock();
    enum os_moved moved = os_move_away(granule_address(first), length << GRANULE_SHIFT,
                                       granule_address(to), granules << GRANULE_SHIFT);
    hak_extents_lock();
    if (moved == OS_MOVED) {
        hak_extents_set_moved(to, MOVED_COST);
    } else {
        hak_extents_enter(first, length);
        hak_extents_set_moved(first, moved_before);
        if (moved == OS_LOST)
            hak_extents_leave(to, granules);
    }
    hak_extents_unlock();
    if (moved == OS_REFUSED)
        hak_extents_free(to, false);
    return moved == OS_MOVED ? to : HAK_NO_EXTENT;
}
