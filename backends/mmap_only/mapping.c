/* SPDX-License-Identifier: MIT */
#include "core/backend.h"

#include "backends/mmap_only/mapping.h"
#include "core/clock.h"
#include "core/dirty_bound.h"
#include "core/lock.h"
#include "core/os.h"

/* Free ranges hang in bins by length: one length a bin up to EXACT granules, then four bins to a
 * doubling. */
enum { EXACT = 16, BINS = EXACT + 4 * 28 };

enum { DIRTY, CLEAN, KINDS };

/* Granules unmapped at one tick, so that no malloc waits long. */
static const size_t TICK_GRANULES = (size_t)4 << 20 >> GRANULE_SHIFT;

/* Mappings that a moved block may cost beyond what its place does. */
enum { MOVED_COST = 2 };

/* A range that a single call may map: half of what there is. */
static const size_t GRANULES_MOST = (size_t)1 << (ADDRESS_BITS - 1 - GRANULE_SHIFT);

static struct hak_lock lock = {.rank = HAK_RANK_EXTENTS};

static struct slab *bins[KINDS][BINS];
static struct slab *oldest, *youngest; /* ends of the list of dirty ranges by age */
static size_t dirty_granules;          /* read as a hint without the lock */
static size_t clean_granules;
static struct hak_dirty_bound bound;
static size_t mapped_granules; /* likewise */
static size_t mappings;        /* what ours may cost, see mapping.h */
static size_t mappings_limit;  /* the kernel's; 0: not asked yet */

void mapping_lock(void)
{
    hak_lock(&lock);
}

void mapping_unlock(void)
{
    hak_unlock(&lock);
}

bool mapping_dirty(void)
{
    return atomic_load_relaxed(&dirty_granules) > 0;
}

size_t mapping_bytes(void)
{
    return atomic_load_relaxed(&mapped_granules) << GRANULE_SHIFT;
}

/* ── free ranges ─────────────────────────────────────────────────────────────────────────────── */

static unsigned bin_of(size_t granules)
{
    if (granules <= EXACT)
        return (unsigned)granules - 1;
    unsigned log2 = (unsigned)(63 - __builtin_clzll(granules));
    return EXACT + 4 * (log2 - 4) + (unsigned)(granules >> (log2 - 2) & 3);
}

static struct slab **bin_for(const struct slab *range)
{
    return &bins[range->dirty ? DIRTY : CLEAN][bin_of(range->granules)];
}

/* A free range of at least `granules`, nearly the shortest. A bin that holds several lengths is searched
 * to a bound; any range of a later bin is long enough. */
static struct slab *find(unsigned kind, size_t granules)
{
    unsigned bin = bin_of(granules);
    struct slab *range = bins[kind][bin];

    for (int tries = 0; range && tries < 16; tries++, range = range->next)
        if (range->granules >= granules)
            return range;
    while (++bin < BINS)
        if (bins[kind][bin])
            return bins[kind][bin];
    return NULL;
}

static void tag_ends(size_t first, size_t granules, unsigned tag)
{
    page_map_set_tag(first, tag);
    page_map_set_tag(first + granules - 1, tag);
}

static void age_insert(struct slab *range, struct slab *younger)
{
    struct slab *older = younger ? younger->older : youngest;

    range->younger = younger;
    range->older = older;
    *(younger ? &younger->older : &youngest) = range;
    *(older ? &older->younger : &oldest) = range;
}

static void age_remove(struct slab *range)
{
    *(range->younger ? &range->younger->older : &youngest) = range->older;
    *(range->older ? &range->older->younger : &oldest) = range->younger;
}

static void count_dirty(size_t change)
{
    atomic_store_relaxed(&dirty_granules, dirty_granules + change);
}

/* What a free range is like, beside its place. */
struct kind {
    bool dirty;
    bool zeroed;
    bool hidden; /* core dumps may leave something of it out */
    uint32_t freed_at;
    struct slab *younger; /* the dirty range that comes after it by age; NULL: it is the youngest */
};

/* Makes granules a free range and hangs it up as it is. */
static struct slab *hang(size_t first, size_t granules, struct kind kind)
{
    struct slab *range = page_map_slab(first);

    range->first = first;
    range->granules = (uint32_t)granules;
    range->moved = false;
    range->dirty = kind.dirty;
    range->zeroed = kind.zeroed;
    range->hidden = kind.hidden;
    range->freed_at = kind.freed_at;
    struct slab *last = page_map_slab(first + granules - 1);
    last->first = first;
    last->granules = (uint32_t)granules;
    tag_ends(first, granules, TAG_FREE);
    struct slab **bin = bin_for(range);
    range->previous = NULL;
    range->next = *bin;
    if (*bin)
        (*bin)->previous = range;
    *bin = range;
    if (kind.dirty) {
        age_insert(range, kind.younger);
        count_dirty(granules);
    } else {
        clean_granules += granules;
    }
    return range;
}

/* Takes a free range down. Its ends are tagged as taken, so that the caller must make something of it. */
static struct kind unhang(struct slab *range)
{
    struct kind kind = {range->dirty, range->zeroed, range->hidden, range->freed_at, NULL};

    if (range->next)
        range->next->previous = range->previous;
    *(range->previous ? &range->previous->next : bin_for(range)) = range->next;
    if (kind.dirty) {
        kind.younger = range->younger;
        age_remove(range);
        count_dirty(-(size_t)range->granules);
    } else {
        clean_granules -= range->granules;
    }
    tag_ends(range->first, range->granules, TAG_TAKEN);
    return kind;
}

static struct slab *free_before(size_t first)
{
    if (page_map_tag(first - 1) != TAG_FREE)
        return NULL;
    return page_map_slab(first - page_map_slab(first - 1)->granules);
}

static struct slab *free_behind(size_t end)
{
    return page_map_tag(end) == TAG_FREE ? page_map_slab(end) : NULL;
}

static bool joins(const struct slab *range, struct kind kind)
{
    return range && range->dirty == kind.dirty && (kind.dirty || range->zeroed == kind.zeroed);
}

/* Joins two ranges of a kind that touch: the whole is as old as the older one. */
static struct kind older_of(struct kind left, struct kind right)
{
    struct kind older = (int32_t)(left.freed_at - right.freed_at) <= 0 ? left : right;

    older.hidden = left.hidden || right.hidden;
    return older;
}

/* Frees granules and joins them with free neighbours of their kind. */
static void insert(size_t first, size_t granules, struct kind kind)
{
    struct slab *before = free_before(first);
    struct slab *behind = free_behind(first + granules);
    size_t end = first + granules;

    tag_ends(first, granules,
             TAG_NONE); /* inner ends have none; the outer ones get theirs in hang */
    if (joins(behind, kind)) {
        end += behind->granules;
        kind = older_of(unhang(behind), kind);
        tag_ends(behind->first, behind->granules, TAG_NONE);
    }
    if (joins(before, kind)) {
        first = before->first;
        struct kind other = unhang(before);
        if (kind.younger == before)
            kind.younger = other.younger;
        kind = older_of(other, kind);
        tag_ends(before->first, before->granules, TAG_NONE);
    }
    hang(first, end - first, kind);
}

/* Cuts `granules` from `offset` on out of a free range; what is left hangs on as it was. What was cut out is still
 * hidden, if it was. */
static struct slab *carve(struct slab *range, size_t offset, size_t granules)
{
    size_t first = range->first;
    size_t length = range->granules;
    struct kind kind = unhang(range);

    tag_ends(first, length, TAG_NONE);
    struct slab *taken = page_map_slab(first + offset);
    taken->first = first + offset;
    taken->granules = (uint32_t)granules;
    taken->moved = false;
    taken->hidden = kind.hidden;
    tag_ends(taken->first, granules, TAG_TAKEN);
    if (offset > 0)
        hang(first, offset, kind);
    if (offset + granules < length)
        hang(taken->first + granules, length - offset - granules, kind);
    return taken;
}

/* ── mapping and unmapping ───────────────────────────────────────────────────────────────────── */

/* How many of a range's two neighbouring granules are mapped. */
static size_t neighbours(size_t first, size_t granules)
{
    return (page_map_tag(first - 1) != TAG_NONE) + (page_map_tag(first + granules) != TAG_NONE);
}

static size_t limit(void)
{
    if (mappings_limit == 0)
        mappings_limit = os_mappings_limit();
    return mappings_limit;
}

static bool may_map(void)
{
    return mappings < limit() - limit() / 16;
}

static bool may_split(void)
{
    return mappings < limit() - limit() / 8;
}

/* Granules that were mapped become a taken range. false: no memory for the page map's leaves. */
static bool enter(size_t first, size_t granules)
{
    if (!page_map_cover(first, first + granules - 1))
        return false;
    mappings += 1 - neighbours(first, granules);
    atomic_store_relaxed(&mapped_granules, mapped_granules + granules);
    struct slab *range = page_map_slab(first);
    range->first = first;
    range->granules = (uint32_t)granules;
    range->moved = false;
    range->hidden = false;
    tag_ends(first, granules, TAG_TAKEN);
    return true;
}

/* The reverse, before they are unmapped. */
static void leave(size_t first, size_t granules)
{
    tag_ends(first, granules, TAG_NONE);
    mappings -= 1 - neighbours(first, granules);
    atomic_store_relaxed(&mapped_granules, mapped_granules - granules);
}

/* Maps granules as a taken range. The lock is not held meanwhile. */
static struct slab *map_fresh(size_t granules, size_t align)
{
    bool entered = false;

    if (!may_map())
        return NULL;
    mapping_unlock();
    void *base = os_map_aligned(granules << GRANULE_SHIFT, align << GRANULE_SHIFT);
    if (base)
        os_advise_huge_pages(base, granules << GRANULE_SHIFT);
    mapping_lock();
    if (base == NULL)
        return NULL;
    if ((uintptr_t)base >> ADDRESS_BITS == 0)
        entered = enter(granule_of(base), granules);
    if (!entered)
        os_unmap(base, granules << GRANULE_SHIFT);
    return entered ? page_map_slab(granule_of(base)) : NULL;
}

/* Whether unmapping leaves mappings enough to go on. */
static bool may_unmap(const struct slab *range)
{
    return may_split() || neighbours(range->first, range->granules) < 2;
}

/* Huge pages that a range shares with others are split, so that its part of them goes back. */
static void split_ends(size_t first, size_t granules)
{
    if (!enabled(CONFIG_HUGE_PAGES_ALWAYS))
        return;
    os_split_huge_page(granule_address(first));
    os_split_huge_page(granule_address(first + granules - 1));
}

/* Unmaps a taken range, the lock not being held meanwhile; if that cannot be, purges it and makes it a
 * clean free range. Returns whether it is gone. */
static bool give_back(struct slab *range)
{
    size_t first = range->first;
    size_t granules = range->granules;
    bool moved = range->moved;
    bool hidden = range->hidden;

    if (may_unmap(range)) {
        leave(first, granules);
        mapping_unlock();
        split_ends(first, granules);
        bool gone = os_unmap(granule_address(first), granules << GRANULE_SHIFT);
        mapping_lock();
        if (gone) {
            mappings -= moved ? MOVED_COST : 0;
            return true;
        }
        enter(first, granules); /* whose leaves are there */
    }
    mapping_unlock();
    split_ends(first, granules);
    /* What was moved gets fresh memory over it, which melts with its neighbours again. If that is refused,
     * nobody knows what lies there: it stays taken. */
    bool renewed = moved && os_map_over(granule_address(first), granules << GRANULE_SHIFT);
    if (renewed)
        os_advise_huge_pages(granule_address(first), granules << GRANULE_SHIFT);
    bool purged = renewed || os_purge(granule_address(first), granules << GRANULE_SHIFT);
    bool zeroed = renewed || (purged && os_purge_zeroes());
    mapping_lock();
    if (moved && !renewed)
        return false;
    mappings -= moved ? MOVED_COST : 0;
    insert(first, granules, (struct kind){.zeroed = zeroed, .hidden = hidden && !renewed});
    return false;
}

static struct slab *join_taken(struct slab *left, const struct slab *right)
{
    tag_ends(left->first, left->granules, TAG_NONE);
    tag_ends(right->first, right->granules, TAG_NONE);
    left->granules += right->granules;
    left->hidden = left->hidden || right->hidden;
    tag_ends(left->first, left->granules, TAG_TAKEN);
    return left;
}

/* Unmaps the oldest dirty range, or its first `most` granules, and the clean ones beside it. */
static size_t release_oldest(size_t most)
{
    size_t granules = oldest->granules < most ? oldest->granules : most;
    struct slab *range = carve(oldest, 0, granules);
    struct slab *before = free_before(range->first);
    struct slab *behind = free_behind(range->first + granules);

    if (before && !before->dirty) {
        unhang(before);
        range = join_taken(before, range);
    }
    if (behind && !behind->dirty) {
        unhang(behind);
        range = join_taken(range, behind);
    }
    give_back(range);
    return granules;
}

static bool is_due(uint32_t now)
{
    /* Unsigned: a stamp that is a tick ahead of `now` counts as due, none ever waits for a wrap. */
    return oldest && (uint64_t)(now - oldest->freed_at) + 1 > CONFIG_PURGE_DELAY_MS;
}

bool mapping_release_due(uint32_t now)
{
    size_t released = 0;

    mapping_lock();
    while (released < TICK_GRANULES && is_due(now))
        released += release_oldest(TICK_GRANULES - released);
    bool more = is_due(now);
    mapping_unlock();
    return more;
}

/* Unmaps the clean ranges, each tried once. */
static bool release_clean(void)
{
    struct slab *all = NULL;
    struct slab *next;
    bool released = false;

    for (unsigned bin = 0; bin < BINS; bin++)
        for (struct slab *range = bins[CLEAN][bin]; range; range = next) {
            next = range->next;
            if (!may_unmap(range))
                continue;
            unhang(range);
            range->next = all;
            all = range;
        }
    while (all) {
        struct slab *range = all;
        all = range->next;
        released |= give_back(range);
    }
    return released;
}

static bool release_all(void)
{
    bool released = oldest != NULL;

    while (oldest)
        release_oldest(SIZE_MAX);
    return release_clean() || released;
}

bool mapping_release_all(void)
{
    mapping_lock();
    bool released = release_all();
    mapping_unlock();
    return released;
}

/* ── ranges for slabs and large blocks ───────────────────────────────────────────────────────── */

/* Granules to skip in a range so that its number is a multiple of `align`. */
static size_t align_offset(const struct slab *range, size_t align)
{
    return -range->first & (align - 1);
}

static size_t used_granules(void)
{
    return mapped_granules - dirty_granules - clean_granules;
}

/* So much freed at once is left out of core dumps until it is used again. That costs two system calls: nothing beside
 * what writing to so much memory takes. */
static const size_t HIDE_GRANULES_LEAST = (size_t)16 << 20 >> GRANULE_SHIFT;

/* What stays of a range that is freed now, when the rest of what is too much has gone. */
static bool hide(size_t first, size_t granules)
{
    size_t most = hak_dirty_most(&bound, used_granules() - granules);
    size_t stay = granules < most ? granules : most;

    if (granules < HIDE_GRANULES_LEAST)
        return false;
    os_leave_out_of_dumps(granule_address(first + granules - stay), stay << GRANULE_SHIFT);
    return true;
}

static void show(struct slab *range)
{
    if (range->hidden)
        os_take_into_dumps(granule_address(range->first), (size_t)range->granules << GRANULE_SHIFT);
    range->hidden = false;
}

static struct slab *take_free(size_t granules, size_t align, bool *zeroed)
{
    struct slab *range = NULL;

    for (unsigned kind = 0; kind < KINDS && range == NULL; kind++)
        range = find(kind, granules + align - 1);
    if (range == NULL)
        return NULL;
    *zeroed = !range->dirty && range->zeroed;
    range = carve(range, align_offset(range, align), granules);
    show(range);
    return range;
}

/* Fresh granules, of which those beyond `granules` hang as a free range. */
static struct slab *take_fresh(size_t granules, size_t align, size_t batch, bool *zeroed)
{
    struct slab *range = NULL;

    *zeroed = true;
    if (batch > granules)
        range = map_fresh(batch, align);
    if (range == NULL)
        return map_fresh(granules, align);
    size_t rest = batch - granules;
    range->granules = (uint32_t)granules;
    tag_ends(range->first, granules, TAG_TAKEN);
    insert(range->first + granules, rest, (struct kind){.zeroed = true});
    return range;
}

/* Whether giving all free ranges back may make room for so many granules. */
static bool releasing_may_help(size_t granules)
{
    size_t had = dirty_granules + clean_granules;

    return granules <= had || os_can_map((granules - had) << GRANULE_SHIFT);
}

/* Gives back what is more than may wait. Returns how many granules. pre: the lock is held */
static size_t keep_to_bound(void)
{
    size_t released = 0;
    size_t most;

    while (dirty_granules > (most = hak_dirty_most(&bound, used_granules())))
        released += release_oldest(dirty_granules - most);
    return released;
}

/* A range has been taken; `fresh`: it held no memory. pre: the lock is held */
static void note_used(size_t granules, bool fresh)
{
    hak_dirty_track(&bound, used_granules(), dirty_granules);
    if (fresh) {
        hak_dirty_took_fresh(&bound, granules);
        keep_to_bound();
    }
}

struct slab *mapping_alloc(size_t granules, size_t align, size_t batch, bool *zeroed)
{
    if (granules > GRANULES_MOST || align > GRANULES_MOST)
        return NULL;
    mapping_lock();
    size_t dirty = dirty_granules;
    struct slab *range = take_free(granules, align, zeroed);
    bool fresh = range == NULL || dirty_granules == dirty;
    /* Before fresh memory is touched, what is due goes back; before failing, all of it. */
    if (range == NULL && is_due(hak_clock_ms()))
        release_oldest(TICK_GRANULES);
    if (range == NULL)
        range = take_fresh(granules, align, batch, zeroed);
    if (range == NULL && releasing_may_help(granules) && release_all())
        range = take_fresh(granules, align, granules, zeroed);
    if (range)
        note_used(granules, fresh);
    mapping_unlock();
    return range;
}

/* Frees a taken range. pre: the lock is held */
static void free_taken(struct slab *range)
{
    if (range->moved) {
        give_back(range); /* it would not join its neighbours */
        return;
    }
    uint32_t now = hak_clock_ms();
    bool hidden = hide(range->first, range->granules);
    insert(range->first, range->granules,
           (struct kind){.dirty = true, .hidden = hidden, .freed_at = now});
    hak_dirty_note(&bound, used_granules(), dirty_granules, now);
    hak_dirty_gave_back(&bound, keep_to_bound());
}

void mapping_free(struct slab *range)
{
    mapping_lock();
    free_taken(range);
    mapping_unlock();
}

void mapping_trim(struct slab *range, size_t granules)
{
    size_t rest = range->granules - granules;

    mapping_lock();
    struct slab *cut = page_map_slab(range->first + granules);
    cut->first = range->first + granules;
    cut->granules = (uint32_t)rest;
    cut->hidden = false;
    cut->moved = false; /* the cost stays with what is left */
    tag_ends(cut->first, rest, TAG_TAKEN);
    range->granules = (uint32_t)granules;
    page_map_set_tag(range->first + granules - 1, granules > 1 ? TAG_TAKEN : TAG_LARGE);
    if (range->moved)
        give_back(cut);
    else
        free_taken(cut);
    mapping_unlock();
}

/* A taken range has grown by the granules behind it. */
static void lengthen(struct slab *range, size_t granules)
{
    if (range->granules > 1)
        page_map_set_tag(range->first + range->granules - 1, TAG_NONE);
    range->granules = (uint32_t)granules;
    page_map_set_tag(range->first + granules - 1, TAG_TAKEN);
}

bool mapping_extend(struct slab *range, size_t granules)
{
    size_t more = granules - range->granules;
    size_t end = range->first + range->granules;
    bool extended = false;

    if (granules > GRANULES_MOST)
        return false;
    mapping_lock();
    struct slab *behind = free_behind(end);
    if (behind && behind->granules >= more) {
        show(carve(behind, 0, more));
        page_map_set_tag(end, TAG_NONE);
        lengthen(range, granules);
        extended = true;
    } else if (page_map_tag(end) == TAG_NONE) {
        mapping_unlock();
        bool grown = os_grow(granule_address(range->first),
                             (size_t)range->granules << GRANULE_SHIFT, granules << GRANULE_SHIFT);
        mapping_lock();
        extended = grown && enter(end, more);
        if (extended) {
            tag_ends(end, more, TAG_NONE);
            lengthen(range, granules);
        } else if (grown) {
            os_unmap(granule_address(end), more << GRANULE_SHIFT);
        }
    }
    mapping_unlock();
    return extended;
}

struct slab *mapping_move(struct slab *range, size_t granules)
{
    size_t first = range->first;
    size_t length = range->granules;
    bool moved_before = range->moved;

    if (granules > GRANULES_MOST)
        return NULL;
    mapping_lock();
    struct slab *to = may_split() ? map_fresh(granules, 1) : NULL;
    if (to == NULL) {
        mapping_unlock();
        return NULL;
    }
    leave(first, length); /* unmapped as it moves, it may be another's at once */
    mapping_unlock();
    enum os_moved moved = os_move_away(granule_address(first), length << GRANULE_SHIFT,
                                       granule_address(to->first), granules << GRANULE_SHIFT);
    mapping_lock();
    if (moved == OS_MOVED) {
        mappings += moved_before ? 0 : MOVED_COST;
        to->moved = true;
        mapping_unlock();
        return to;
    }
    enter(first, length);
    range->moved = moved_before;
    if (moved == OS_REFUSED)
        give_back(to);
    else
        leave(to->first, granules);
    mapping_unlock();
    return NULL;
}

/* ── for tests ───────────────────────────────────────────────────────────────────────────────── */

struct mapping_figures mapping_figures(void)
{
    mapping_lock();
    struct mapping_figures figures = {mapped_granules, dirty_granules, clean_granules, mappings,
                                      limit()};
    mapping_unlock();
    return figures;
}

static bool range_valid(const struct slab *range, bool dirty)
{
    size_t end = range->first + range->granules;
    const struct slab *behind = free_behind(end);
    struct kind kind = {.dirty = dirty, .zeroed = range->zeroed};

    return range->dirty == dirty && range->granules > 0 && page_map_tag(range->first) == TAG_FREE &&
           page_map_tag(end - 1) == TAG_FREE &&
           page_map_slab(end - 1)->granules == range->granules && !joins(behind, kind);
}

bool mapping_valid(void)
{
    size_t granules[KINDS] = {0, 0};
    bool valid = true;

    mapping_lock();
    for (unsigned kind = 0; kind < KINDS; kind++)
        for (unsigned bin = 0; bin < BINS; bin++)
            for (const struct slab *range = bins[kind][bin]; range; range = range->next) {
                valid =
                    valid && range_valid(range, kind == DIRTY) && bin_of(range->granules) == bin;
                granules[kind] += range->granules;
            }
    valid = valid && granules[DIRTY] == dirty_granules && granules[CLEAN] == clean_granules &&
            dirty_granules <= hak_dirty_floor() + bound.extra;
    for (const struct slab *range = oldest; range; range = range->younger)
        granules[DIRTY] -= range->granules;
    valid = valid && granules[DIRTY] == 0;
    mapping_unlock();
    return valid;
}
