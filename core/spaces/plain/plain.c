/* SPDX-License-Identifier: MIT */
/* A back end includes this file in one of its own, after its struct slab. */
#include "core/extents.c"
#include "core/spaces/plain/page_map.c"

/* Mappings that a moved block may cost in addition to what its place does. */
enum { MOVED_COST = 2 };

/* A large block is moved by the kernel rather than copied from here on; below, copying is cheaper. */
static const size_t MOVE_LEAST = ((size_t)256 << 10) >> GRANULE_SHIFT;

bool space_begin(void)
{
    return true;
}

size_t space_metadata(void)
{
    return page_map_bytes();
}

/* Maps granules and describes them. Returns the first; HAK_NO_EXTENT: out of memory. */
static uint32_t plain_new(size_t granules, size_t align)
{
    hak_extents_unlock();
    void *place = os_map_aligned(granules << GRANULE_SHIFT, align << GRANULE_SHIFT);
    if (place)
        os_advise_huge_pages(place, granules << GRANULE_SHIFT);
    hak_extents_lock();
    if (place == NULL)
        return HAK_NO_EXTENT;
    uint32_t first = space_granule(place);
    if ((uintptr_t)place >> ADDRESS_BITS == 0 && page_map_cover(first, first + granules - 1))
        return first;
    os_unmap(place, granules << GRANULE_SHIFT);
    return HAK_NO_EXTENT;
}

uint32_t space_map(size_t granules, size_t align, size_t batch)
{
    struct hak_extents_mappings mappings = hak_extents_mappings();
    uint32_t first = HAK_NO_EXTENT;

    if (mappings.all >= mappings.limit - mappings.limit / 16)
        return HAK_NO_EXTENT;
    if (batch > granules)
        first = plain_new(batch, align);
    if (first != HAK_NO_EXTENT)
        return hak_extents_add(first, batch);
    first = plain_new(granules, align);
    return first == HAK_NO_EXTENT ? HAK_NO_EXTENT : hak_extents_add(first, granules);
}

/* Whether a mapping may become two. */
static bool plain_may_split(void)
{
    struct hak_extents_mappings mappings = hak_extents_mappings();

    return mappings.all < mappings.limit - mappings.limit / 8;
}

struct hak_stretch space_releasable(uint32_t first, size_t granules)
{
    bool splits = space_has(first - 1) && space_has(first + (uint32_t)granules);

    return (struct hak_stretch){first, splits && !plain_may_split() ? 0 : granules};
}

bool space_is_huge(uint32_t first, size_t granules)
{
    (void)first;
    (void)granules;
    return false;
}

void space_split_huge(uint32_t first, size_t granules)
{
    if (!enabled(CONFIG_HUGE_PAGES_ALWAYS))
        return;
    os_split_huge_page(space_address(first));
    os_split_huge_page(space_address(first + granules - 1));
}

/* As soon as the granules are unmapped, another thread may map their addresses: they leave the space before. */
bool space_release(uint32_t first, size_t granules)
{
    hak_extents_leave(first, granules);
    hak_extents_unlock();
    space_split_huge(first, granules);
    bool gone = os_unmap(space_address(first), granules << GRANULE_SHIFT);
    hak_extents_lock();
    if (!gone)
        hak_extents_enter(first, granules);
    return gone;
}

bool space_purge(uint32_t first, size_t granules)
{
    space_split_huge(first, granules);
    return hak_purge_range(space_address(first), granules << GRANULE_SHIFT);
}

bool space_extend(uint32_t first, size_t granules, size_t more)
{
    uint32_t end = first + (uint32_t)granules;

    hak_extents_unlock();
    bool grown = os_grow(space_address(first), granules << GRANULE_SHIFT,
                         (granules + more) << GRANULE_SHIFT);
    hak_extents_lock();
    if (grown && page_map_cover(end, end + more - 1)) {
        hak_extents_enter(end, more);
        return true;
    }
    if (grown)
        os_unmap(space_address(end), more << GRANULE_SHIFT);
    return false;
}

void space_note_use(uint32_t first, size_t granules, bool used)
{
    (void)first;
    (void)granules;
    (void)used;
}

/* A used extent for a block to move to. */
static uint32_t plain_target(size_t length, size_t granules)
{
    bool zeroed;

    if (length < MOVE_LEAST)
        return HAK_NO_EXTENT;
    hak_extents_lock();
    bool may_move = plain_may_split();
    hak_extents_unlock();
    return may_move ? hak_extents_alloc(granules, 1, 0, &zeroed) : HAK_NO_EXTENT;
}

uint32_t space_move(uint32_t first, size_t granules)
{
    size_t length = hak_extents_length(first);
    unsigned moved_before = space_node(first)->moved;
    uint32_t to = plain_target(length, granules);

    if (to == HAK_NO_EXTENT)
        return HAK_NO_EXTENT;
    hak_extents_lock();
    hak_extents_set_moved(first, 0);
    hak_extents_leave(
        first, length); /* the move unmaps it, and another thread may map its place at once */
    hak_extents_unlock();
    enum os_moved moved = os_move_away(space_address(first), length << GRANULE_SHIFT,
                                       space_address(to), granules << GRANULE_SHIFT);
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

uint32_t space_next(uint32_t granule)
{
    size_t at = granule;

    while (at < ROOT_ENTRIES * LEAF_GRANULES && !page_map_describes(at))
        at = page_map.root[at / LEAF_GRANULES] == 0 ? (at / LEAF_GRANULES + 1) * LEAF_GRANULES
                                                    : (at / PART_GRANULES + 1) * PART_GRANULES;
    return at < ROOT_ENTRIES * LEAF_GRANULES ? (uint32_t)at : HAK_NO_EXTENT;
}

uint32_t space_previous(uint32_t granule)
{
    size_t at = granule;

    while (at > 0 && !page_map_describes(at)) {
        size_t step = atomic_load_relaxed(&page_map.root[at / LEAF_GRANULES]) == 0 ? LEAF_GRANULES
                                                                                   : PART_GRANULES;
        at = at < step ? 0 : at / step * step - 1;
    }
    return (uint32_t)at;
}
