/* SPDX-License-Identifier: MIT */
/* A back end includes this file in one of its own, after its space. */
#include "core/extents.h"

#include "core/atomic.h"
#include "core/clock.h"
#include "core/dirty_bound.h"
#include "core/lock.h"
#include "core/rack.h"

/* Length lists: one length each up to EXACT, then four to a doubling, each from its lower bound up to the next list's. */
enum { EXACT_LOG2 = 5, EXACT = 1 << EXACT_LOG2, LISTS = EXACT + 4 * (32 - EXACT_LOG2) };

enum { DIRTY, CLEAN, KINDS };

/* Granules given back at one tick, so that no malloc waits long. */
static const size_t TICK_GRANULES = (size_t)4 << 20 >> HAK_GRANULE_SHIFT;

/* Extents of a list of several lengths that are looked at before a longer one is taken. */
enum { TRIES_MOST = 16 };

/* Dirty extents around which a run of free extents is looked for, and extents of such a run on either side of one. */
enum { RUNS_MOST = 16, REACH_MOST = 8 };

/* Granules that are purged one by one where the kernel refuses them together: it does for the sake of a single page
 * (one that the program has locked in memory, say). */
enum { EACH_MOST = 64 };

/* Extents of which the kernel takes nothing, before those behind them are given up, too. */
enum { REFUSALS_MOST = 64 };

/* Extents looked at for the place by age of one that lay on a rack. */
enum { OLDER_MOST = 64 };

/* How often racks are swept. */
enum { SWEEP_MS = CONFIG_PURGE_DELAY_MS / 4 };

/* Spares are kept while clean extents are at most so many times the floor of the dirty bound. */
static const size_t SPARES_FACTOR = 4;

/* A free of at least this much is left out of core dumps until the memory is used again. That costs two system calls, which is
 * little compared to the page faults of writing to it. */
static const size_t HIDE_LEAST = (size_t)16 << 20 >> HAK_GRANULE_SHIFT;

static struct {
    struct hak_lock lock;
    uint32_t lists[KINDS][LISTS];
    uint64_t filled[KINDS][(LISTS + 63) / 64]; /* a bit for each list that has an extent */
    uint32_t oldest, youngest;                 /* dirty extent */
    size_t mapped, dirty; /* granules; relaxed atomics, read as hints without the lock */
    size_t clean;         /* granules */
    size_t mappings;      /* places where mapped granules begin */
    size_t moved;         /* mappings of moved extents; a relaxed atomic */
    bool has_spares;      /* likewise; clean units that wait to be used again */
    uint32_t spared_at;   /* hak_clock_ms; when the last one came */
    uint32_t swept_at;    /* likewise; when what is due was last taken off the racks */
    struct hak_dirty_bound bound;
} extents = {.lock = {.rank = HAK_RANK_EXTENTS}};

static struct hak_racks racks;

/* When hak_extents_purge_due last looked, and for how many milliseconds from then on nothing is due: the low half. A
 * relaxed atomic, written with the lock held. */
static uint64_t extents_looked;

void hak_extents_lock(void)
{
    hak_lock(&extents.lock);
}

void hak_extents_unlock(void)
{
    hak_unlock(&extents.lock);
}

bool hak_extents_are_dirty(void)
{
    return atomic_load_relaxed(&extents.dirty) > 0 || atomic_load_relaxed(&extents.has_spares) ||
           hak_racks_have(&racks);
}

size_t hak_extents_dirty(void)
{
    return atomic_load_relaxed(&extents.dirty);
}

size_t hak_extents_bytes(void)
{
    return atomic_load_relaxed(&extents.mapped) << HAK_GRANULE_SHIFT;
}

/* Granules in use, or changing hands. */
static size_t extents_used(void)
{
    return extents.mapped - extents.dirty - extents.clean;
}

/* ── length lists ────────────────────────────────────────────────────────────────────────────── */

static unsigned extents_list_of(size_t granules)
{
    if (granules <= EXACT)
        return (unsigned)granules - 1;
    unsigned log2 = (unsigned)(63 - __builtin_clzll(granules));
    return EXACT + 4 * (log2 - EXACT_LOG2) + (unsigned)(granules >> (log2 - 2) & 3);
}

static unsigned extents_kind(const struct hak_extent_node *node)
{
    return node->state == HAK_NODE_CLEAN ? CLEAN : DIRTY;
}

static void extents_list_insert(uint32_t extent)
{
    struct hak_extent_node *node = space_node(extent);
    unsigned kind = extents_kind(node);
    unsigned list = extents_list_of(node->granules);
    uint32_t next = extents.lists[kind][list];

    node->previous = HAK_NO_EXTENT;
    node->next = next;
    if (next != HAK_NO_EXTENT)
        space_node(next)->previous = extent;
    extents.lists[kind][list] = extent;
    extents.filled[kind][list / 64] |= (uint64_t)1 << list % 64;
}

static void extents_list_remove(uint32_t extent)
{
    struct hak_extent_node *node = space_node(extent);
    unsigned kind = extents_kind(node);
    unsigned list = extents_list_of(node->granules);

    if (node->next != HAK_NO_EXTENT)
        space_node(node->next)->previous = node->previous;
    if (node->previous != HAK_NO_EXTENT)
        space_node(node->previous)->next = node->next;
    else
        extents.lists[kind][list] = node->next;
    if (extents.lists[kind][list] == HAK_NO_EXTENT)
        extents.filled[kind][list / 64] &= ~((uint64_t)1 << list % 64);
}

/* The first list from `list` on that has an extent; LISTS if there is none. */
static unsigned extents_filled_from(unsigned kind, unsigned list)
{
    for (; list < LISTS; list = (list / 64 + 1) * 64) {
        uint64_t filled = extents.filled[kind][list / 64] >> list % 64;
        if (filled)
            return list + (unsigned)__builtin_ctzll(filled);
    }
    return LISTS;
}

/* The last list before `end` that has an extent; LISTS if there is none. */
static unsigned extents_filled_before(unsigned kind, unsigned end)
{
    for (; end > 0; end = (end - 1) / 64 * 64) {
        uint64_t filled = extents.filled[kind][(end - 1) / 64] << (63 - (end - 1) % 64);
        if (filled)
            return end - 1 - (unsigned)__builtin_clzll(filled);
    }
    return LISTS;
}

/* A free extent of at least this length, nearly the shortest: any extent of a later list is long enough. */
static uint32_t extents_find(unsigned kind, size_t granules)
{
    unsigned list = extents_list_of(granules);
    uint32_t extent = extents.lists[kind][list];

    for (int tries = 0; extent != HAK_NO_EXTENT && tries < TRIES_MOST; tries++) {
        if (space_node(extent)->granules >= granules)
            return extent;
        extent = space_node(extent)->next;
    }
    list = extents_filled_from(kind, list + 1);
    return list == LISTS ? HAK_NO_EXTENT : extents.lists[kind][list];
}

/* ── age ─────────────────────────────────────────────────────────────────────────────────────── */

/* Where the link to `extent` from its older or its younger neighbour stands. */
static uint32_t *extents_link_from_older(uint32_t older)
{
    return older == HAK_NO_EXTENT ? &extents.oldest : &space_node(older)->younger;
}

static uint32_t *extents_link_from_younger(uint32_t younger)
{
    return younger == HAK_NO_EXTENT ? &extents.youngest : &space_node(younger)->older;
}

static void extents_age_insert(uint32_t extent, uint32_t younger)
{
    uint32_t older = *extents_link_from_younger(younger);

    space_node(extent)->younger = younger;
    space_node(extent)->older = older;
    *extents_link_from_younger(younger) = extent;
    *extents_link_from_older(older) = extent;
}

static void extents_age_remove(uint32_t extent)
{
    uint32_t younger = space_node(extent)->younger;
    uint32_t older = space_node(extent)->older;

    *extents_link_from_younger(younger) = older;
    *extents_link_from_older(older) = younger;
}

/* ── free extents ────────────────────────────────────────────────────────────────────────────── */

static void extents_mark(uint32_t first, size_t granules, enum hak_node_state state)
{
    struct hak_extent_node *last = space_node(first + (uint32_t)granules - 1);
    struct hak_extent_node *node = space_node(first);

    last->granules = node->granules = (uint32_t)granules;
    last->state = HAK_NODE_LAST;
    node->state = (uint8_t)state;
}

static void extents_unmark(uint32_t first, size_t granules)
{
    space_node(first)->state = HAK_NODE_INSIDE;
    space_node(first + (uint32_t)granules - 1)->state = HAK_NODE_INSIDE;
}

static void extents_count_dirty(size_t change)
{
    atomic_store_relaxed(&extents.dirty, extents.dirty + change);
}

/* A free extent, but for its place. */
struct extents_traits {
    enum hak_node_state state;
    bool zeroed;
    bool hidden;
    uint32_t freed_at;
    uint32_t
        younger; /* the dirty extent that follows by age; HAK_NO_EXTENT: this is the youngest */
};

/* Makes granules a free extent as they are, without joining it. */
static void extents_hang(uint32_t first, size_t granules, struct extents_traits traits)
{
    struct hak_extent_node *node = space_node(first);

    extents_mark(first, granules, traits.state);
    node->zeroed = traits.zeroed;
    node->hidden = traits.hidden;
    node->freed_at = traits.freed_at;
    extents_list_insert(first);
    if (traits.state == HAK_NODE_DIRTY) {
        extents_age_insert(first, traits.younger);
        extents_count_dirty(granules);
    } else {
        extents.clean += granules;
    }
}

/* The reverse. The caller makes something else of the granules, which are marked as inside until then. */
static struct extents_traits extents_unhang(uint32_t extent)
{
    struct hak_extent_node *node = space_node(extent);
    struct extents_traits traits = {(enum hak_node_state)node->state, node->zeroed, node->hidden,
                                    node->freed_at, HAK_NO_EXTENT};

    extents_list_remove(extent);
    if (traits.state == HAK_NODE_DIRTY) {
        traits.younger = node->younger;
        extents_age_remove(extent);
        extents_count_dirty(-(size_t)node->granules);
    } else {
        extents.clean -= node->granules;
    }
    extents_unmark(extent, node->granules);
    return traits;
}

/* The extent that ends just before a granule; HAK_NO_EXTENT: none. */
static uint32_t extents_before(uint32_t granule)
{
    if (!space_has(granule - 1))
        return HAK_NO_EXTENT;
    const struct hak_extent_node *node = space_node(granule - 1);
    return node->state == HAK_NODE_LAST ? granule - node->granules : granule - 1;
}

/* The extent that begins at a granule; HAK_NO_EXTENT: none. */
static uint32_t extents_at(uint32_t granule)
{
    return space_has(granule) ? granule : HAK_NO_EXTENT;
}

static bool extents_is_free(uint32_t extent)
{
    return extent != HAK_NO_EXTENT && space_node(extent)->state >= HAK_NODE_DIRTY;
}

static bool extents_join(uint32_t neighbour, struct extents_traits traits)
{
    if (neighbour == HAK_NO_EXTENT || space_node(neighbour)->state != traits.state)
        return false;
    return traits.state == HAK_NODE_DIRTY || space_node(neighbour)->zeroed == traits.zeroed;
}

static struct extents_traits extents_joined(struct extents_traits left, struct extents_traits right)
{
    struct extents_traits older = (int32_t)(left.freed_at - right.freed_at) <= 0 ? left : right;

    older.hidden = left.hidden || right.hidden;
    return older;
}

/* Frees a used extent and joins it with free neighbours of its kind. Returns the whole. */
static uint32_t extents_insert(uint32_t first, size_t granules, struct extents_traits traits)
{
    uint32_t before = extents_before(first);
    uint32_t after = extents_at(first + (uint32_t)granules);

    extents_unmark(first, granules);
    if (extents_join(after, traits)) {
        granules += space_node(after)->granules;
        struct extents_traits other = extents_unhang(after);
        if (traits.younger == after)
            traits.younger = other.younger;
        traits = extents_joined(other, traits);
    }
    if (extents_join(before, traits)) {
        granules += space_node(before)->granules;
        struct extents_traits other = extents_unhang(before);
        if (traits.younger == before)
            traits.younger = other.younger;
        traits = extents_joined(other, traits);
        first = before;
    }
    extents_hang(first, granules, traits);
    return first;
}

/* Makes `granules` of a run of neighbouring free extents a used one, from `offset` in the first extent on; what is left
 * before and behind stays free. The part is hidden if any of them was, and zeroed if all were. */
static uint32_t extents_carve(uint32_t extent, size_t offset, size_t granules)
{
    uint32_t taken = extent + (uint32_t)offset;
    uint32_t end = taken + (uint32_t)granules;
    bool zeroed = true;
    bool hidden = false;

    for (uint32_t at = extent, next; at < end; at = next) {
        next = at + space_node(at)->granules;
        if (next <= taken) /* an address that is aligned lies behind it */
            continue;
        struct extents_traits traits = extents_unhang(at);
        if (at < taken)
            extents_hang(at, taken - at, traits);
        if (next > end)
            extents_hang(end, next - end, traits);
        zeroed = zeroed && traits.zeroed;
        hidden = hidden || traits.hidden;
    }
    extents_mark(taken, granules, HAK_NODE_USED);
    space_node(taken)->zeroed = zeroed;
    space_node(taken)->hidden = hidden;
    space_node(taken)->moved = 0;
    return taken;
}

/* Free granules next to an extent. */
struct extents_reach {
    uint32_t last; /* the extent in which they end */
    size_t granules;
    size_t dirty; /* of them */
};

/* The free granules behind an extent, or before it, up to `most`. */
static struct extents_reach extents_reach(uint32_t extent, size_t most, bool behind)
{
    struct extents_reach reach = {extent, 0, 0};

    for (int i = 0; i < REACH_MOST && reach.granules < most; i++) {
        uint32_t next = behind ? extents_at(reach.last + space_node(reach.last)->granules)
                               : extents_before(reach.last);
        if (!extents_is_free(next))
            break;
        size_t length = space_node(next)->granules;
        if (length > most - reach.granules)
            length = most - reach.granules;
        reach.last = next;
        reach.granules += length;
        reach.dirty += space_node(next)->state == HAK_NODE_DIRTY ? length : 0;
    }
    return reach;
}

/* A part of a run of neighbouring free extents. */
struct extents_part {
    uint32_t extent; /* in which it begins; HAK_NO_EXTENT: there is none */
    size_t offset;   /* of its beginning in that extent */
    size_t dirty;    /* granules of it that hold memory */
};

/* A part of this length that contains a shorter dirty extent, and whose other granules lie on the one side of it as far
 * as that goes, and then on the other. */
static struct extents_part extents_part_around(uint32_t extent, size_t granules, bool behind)
{
    size_t length = space_node(extent)->granules;
    struct extents_reach one = extents_reach(extent, granules - length, behind);
    struct extents_reach other = extents_reach(extent, granules - length - one.granules, !behind);
    struct extents_reach before = behind ? other : one;

    if (length + one.granules + other.granules < granules)
        return (struct extents_part){.extent = HAK_NO_EXTENT};
    return (struct extents_part){before.last, extent - before.granules - before.last,
                                 length + one.dirty + other.dirty};
}

/* That of the two with more dirty granules. */
static struct extents_part extents_better(struct extents_part one, struct extents_part other)
{
    return other.extent != HAK_NO_EXTENT && other.dirty > one.dirty ? other : one;
}

/* A part of this length with the most dirty granules, around any of the longest dirty extents. */
static struct extents_part extents_find_part(size_t granules)
{
    struct extents_part best = {.extent = HAK_NO_EXTENT};
    unsigned list = extents_list_of(granules) + 1;
    int tries = 0;

    while (tries < RUNS_MOST && (list = extents_filled_before(DIRTY, list)) != LISTS)
        for (uint32_t extent = extents.lists[DIRTY][list];
             extent != HAK_NO_EXTENT && tries < RUNS_MOST;
             extent = space_node(extent)->next, tries++) {
            if (space_node(extent)->granules >= granules)
                return (struct extents_part){extent, 0, granules};
            best = extents_better(best, extents_part_around(extent, granules, true));
            best = extents_better(best, extents_part_around(extent, granules, false));
        }
    return best;
}

/* ── mappings ────────────────────────────────────────────────────────────────────────────────── */

static void extents_count_mapped(uint32_t first, size_t granules, bool mapped)
{
    size_t neighbours = (size_t)space_has(first - 1) + space_has(first + (uint32_t)granules);

    extents.mappings += mapped ? 1 - neighbours : neighbours - 1;
    atomic_store_relaxed(&extents.mapped, extents.mapped + (mapped ? granules : -granules));
}

void hak_extents_enter(uint32_t first, size_t granules)
{
    extents_count_mapped(first, granules, true);
    extents_mark(first, granules, HAK_NODE_USED);
    space_node(first)->hidden = false;
    space_node(first)->moved = 0;
}

void hak_extents_leave(uint32_t first, size_t granules)
{
    extents_count_mapped(first, granules, false);
    extents_unmark(first, granules);
}

uint32_t hak_extents_add(uint32_t first, size_t granules)
{
    hak_extents_enter(first, granules);
    return extents_insert(first, granules,
                          (struct extents_traits){.state = HAK_NODE_CLEAN, .zeroed = true});
}

void hak_extents_set_moved(uint32_t first, unsigned mappings)
{
    struct hak_extent_node *node = space_node(first);

    atomic_store_relaxed(&extents.moved, extents.moved + mappings - node->moved);
    node->moved = (uint8_t)mappings;
}

struct hak_extents_mappings hak_extents_mappings(void)
{
    static size_t limit; /* 0: not asked yet */

    if (limit == 0)
        limit = os_mappings_limit();
    return (struct hak_extents_mappings){extents.mappings, extents.mappings + extents.moved, limit};
}

/* ── giving back ─────────────────────────────────────────────────────────────────────────────── */

/* Unmaps what can be unmapped of a clean extent. */
static bool extents_release(uint32_t extent)
{
    struct hak_stretch part = space_releasable(extent, space_node(extent)->granules);

    if (part.granules == 0)
        return false;
    extents_carve(extent, part.first - extent, part.granules);
    struct hak_extent_node *node = space_node(part.first);
    struct extents_traits traits = {.state = HAK_NODE_CLEAN,
                                    .zeroed = node->zeroed,
                                    .hidden = node->hidden};
    bool released = space_release(part.first, part.granules);
    if (!released)
        extents_insert(part.first, part.granules, traits);
    return released;
}

static void extents_release_neighbour(uint32_t extent)
{
    if (extent != HAK_NO_EXTENT && space_node(extent)->state == HAK_NODE_CLEAN)
        extents_release(extent);
}

/* Unmaps all clean units, each tried once. */
static bool extents_release_all(void)
{
    uint32_t all = HAK_NO_EXTENT;
    bool released = false;
    uint32_t next;

    atomic_store_relaxed(&extents.has_spares, false);
    for (unsigned list = extents_list_of(SPACE_UNIT); list < LISTS; list++)
        for (uint32_t extent = extents.lists[CLEAN][list]; extent != HAK_NO_EXTENT; extent = next) {
            struct hak_stretch part = space_releasable(extent, space_node(extent)->granules);
            next = space_node(extent)->next;
            if (part.granules == 0)
                continue;
            extents_carve(extent, part.first - extent, part.granules);
            space_node(part.first)->next = all;
            all = part.first;
        }
    for (; all != HAK_NO_EXTENT; all = next) {
        struct hak_extent_node *node = space_node(all);
        struct extents_traits traits = {.state = HAK_NODE_CLEAN,
                                        .zeroed = node->zeroed,
                                        .hidden = node->hidden};
        size_t granules = node->granules;
        next = node->next;
        /* Those before it may have used up the mappings. */
        bool may = space_releasable(all, granules).granules == granules;
        if (may && space_release(all, granules))
            released = true;
        else
            extents_insert(all, granules, traits);
    }
    return released;
}

/* The bits of those granules that could be purged. */
static uint64_t extents_purge_each(uint32_t first, size_t granules)
{
    uint64_t purged = 0;

    for (size_t i = 0; i < granules && i < EACH_MOST; i++)
        purged |= (uint64_t)space_purge(first + (uint32_t)i, 1) << i;
    return purged;
}

/* Frees granules of which some were purged; the others are dirty. If none was purged, the extent is as if freed now.
 * Returns how many were. */
static size_t extents_insert_each(uint32_t first, size_t granules, uint64_t purged)
{
    struct extents_traits clean = {.state = HAK_NODE_CLEAN, .zeroed = os_purge_zeroes()};
    struct extents_traits dirty = {.state = HAK_NODE_DIRTY, .freed_at = hak_clock_ms()};
    uint32_t refused = HAK_NO_EXTENT;
    size_t count = 0;

    for (size_t i = 0; i < granules; i++)
        extents_mark(first + (uint32_t)i, 1,
                     HAK_NODE_USED); /* an extent each, for its neighbours */
    for (size_t i = 0; i < granules; i++) {
        if (i < EACH_MOST && purged >> i & 1) {
            extents_release(extents_insert(first + (uint32_t)i, 1, clean));
            count++;
        } else {
            refused = extents_insert(first + (uint32_t)i, 1, dirty);
        }
    }
    if (count == 0) {
        size_t length = space_node(refused)->granules;
        dirty.hidden = extents_unhang(refused).hidden;
        extents_hang(refused, length, dirty);
    }
    return count;
}

/* What extents_give_back is about. */
struct extents_outgoing {
    bool moved;
    bool hidden;
    bool spare; /* units stay mapped */
};

/* Maps fresh memory over a moved extent, so that it merges with its neighbours again. */
static bool extents_renew(uint32_t first, size_t granules)
{
    void *base = space_address(first);

    if (!os_map_over(base, granules << HAK_GRANULE_SHIFT))
        return false;
    os_advise_huge_pages(base, granules << HAK_GRANULE_SHIFT);
    return true;
}

/* Purges a used extent and frees it. Returns how many granules hold no memory any more.
 * pre: the lock is held, but not while this goes on */
static size_t extents_purge(uint32_t first, size_t granules, struct extents_outgoing out)
{
    uint64_t each = 0;

    if (granules == 0)
        return 0;
    hak_extents_unlock();
    bool renewed = out.moved && extents_renew(first, granules);
    /* Where memory is charged, the kernel may have unmapped what it did not map over, so what lies there is unknown. */
    bool lost = out.moved && !renewed && os_charges_committed();
    bool purged = renewed || (!lost && space_purge(first, granules));
    if (unlikely(!purged && !lost))
        each = extents_purge_each(first, granules);
    bool zeroed = renewed || os_purge_zeroes();
    hak_extents_lock();
    if (unlikely(lost))
        return 0; /* it stays in use */
    if (unlikely(!purged))
        return extents_insert_each(first, granules, each);
    uint32_t extent = extents_insert(first, granules,
                                     (struct extents_traits){.state = HAK_NODE_CLEAN,
                                                             .zeroed = zeroed,
                                                             .hidden = out.hidden && !renewed});
    if (!out.spare)
        extents_release(extent);
    return granules;
}

/* Gives the memory of a used extent back, and frees what stays mapped of it. Returns how many granules hold no memory
 * any more. 0: the kernel refused them all, and they are the youngest dirty extent.
 * pre: the lock is held, but not while this goes on */
static size_t extents_give_back(uint32_t first, size_t granules, bool spare)
{
    struct hak_extent_node *node = space_node(first);
    struct extents_outgoing out = {node->moved > 0, node->hidden, spare};
    struct hak_stretch part = {first, 0}; /* what is unmapped */
    uint32_t end = first + (uint32_t)granules;

    hak_extents_set_moved(first, 0);
    if (!spare)
        part = space_releasable(first, granules);
    if (part.granules == 0 || !space_release(part.first, part.granules))
        part = (struct hak_stretch){first, 0};
    uint32_t rest = part.first + (uint32_t)part.granules;
    /* Each is an extent of its own, for its neighbours. */
    if (part.first > first)
        extents_mark(first, part.first - first, HAK_NODE_USED);
    if (rest < end)
        extents_mark(rest, end - rest, HAK_NODE_USED);
    size_t gone = part.granules + extents_purge(first, part.first - first, out);
    gone += extents_purge(rest, end - rest, out);
    if (!spare) {
        extents_release_neighbour(extents_before(first));
        extents_release_neighbour(extents_at(end));
    }
    return gone;
}

/* Gives the oldest dirty extent back, or its first `most` granules; as extents_give_back. pre: there is one */
static size_t extents_purge_oldest(size_t most, bool spare)
{
    size_t granules = space_node(extents.oldest)->granules;

    granules = granules < most ? granules : most;
    return extents_give_back(extents_carve(extents.oldest, 0, granules), granules, spare);
}

static void extents_note_spares(void)
{
    atomic_store_relaxed(&extents.has_spares, true);
    extents.spared_at = hak_clock_ms();
}

/* Part of the excess stays mapped for a while, since more may follow: mapping it again costs several system calls, as does
 * unmapping it at once, and new mappings do not adjoin dirty extents that could be joined with them. */
static size_t extents_purge_excess(size_t excess)
{
    bool spare = extents.clean + excess <= SPARES_FACTOR * hak_dirty_floor();

    if (spare)
        extents_note_spares();
    return extents_purge_oldest(excess, spare);
}

/* Granules that wait beyond what may, and could be given back. */
static size_t extents_excess(void)
{
    size_t most = hak_dirty_most(&extents.bound, extents_used());
    size_t waiting = extents.dirty;

    if (unlikely(waiting + hak_racks_bound(&racks) > most))
        waiting += hak_racks_granules(&racks);
    if (waiting <= most)
        return 0;
    return waiting - most < extents.dirty ? waiting - most : extents.dirty;
}

/* Gives back what is more than may wait. Returns how many granules. pre: the lock is held */
static size_t extents_keep_to_bound(void)
{
    size_t purged = 0;
    size_t step = 1;
    size_t excess;

    while (step > 0 && (excess = extents_excess()) > 0)
        purged += step = extents_purge_excess(excess);
    return purged;
}

/* ── racks ───────────────────────────────────────────────────────────────────────────────────── */

/* The first dirty extent by age that was freed then or later; HAK_NO_EXTENT: none was. Where too many are older, one of those, which
 * then is no less due. */
static uint32_t extents_as_old(uint32_t since)
{
    uint32_t extent = extents.oldest;

    for (unsigned i = 0; i < OLDER_MOST && extent != HAK_NO_EXTENT &&
                         (int32_t)(space_node(extent)->freed_at - since) < 0;
         i++)
        extent = space_node(extent)->younger;
    return extent;
}

/* Makes what lay on a rack a free extent. pre: the lock is held */
static void extents_unrack(struct hak_racked racked, size_t granules)
{
    struct extents_traits dirty = {.state = HAK_NODE_DIRTY, .freed_at = racked.since};

    dirty.younger = extents_as_old(racked.since);
    space_note_use(racked.extent, granules, false);
    extents_insert(racked.extent, granules, dirty);
    hak_dirty_track(&extents.bound, extents_used(), extents.dirty);
}

/* Makes all that lies on racks free. pre: the lock is held */
static bool extents_clear_all_racks(void)
{
    return hak_racks_have(&racks) && hak_racks_sweep(&racks, 0, 0, extents_unrack);
}

/* Likewise one extent of this length, or all, which may join. Returns whether there was any. */
static bool extents_clear_racks(size_t granules)
{
    if (!hak_racks_have(&racks))
        return false;
    struct hak_racked racked = {hak_racks_take(&racks, 0, granules), hak_clock_ms()};
    if (racked.extent == HAK_NO_EXTENT)
        return extents_clear_all_racks();
    extents_unrack(racked, granules);
    return true;
}

/* An extent of the own rack; of another's, where the lock would give none that is dirty. */
static uint32_t extents_take_racked(unsigned rack, size_t granules)
{
    uint32_t extent = hak_rack_take(&racks, rack, granules);

    if (extent == HAK_NO_EXTENT && atomic_load_relaxed(&extents.dirty) == 0)
        extent = hak_racks_take(&racks, rack, granules);
    return extent;
}

uint32_t hak_extents_take(unsigned rack, size_t granules, size_t align, bool *zeroed)
{
    uint32_t extent = align == 1 ? extents_take_racked(rack % HAK_RACKS, granules) : HAK_NO_EXTENT;

    if (extent == HAK_NO_EXTENT)
        return hak_extents_alloc(granules, align, 0, zeroed);
    *zeroed = false;
    return extent;
}

bool hak_extents_have_racked(unsigned rack, size_t granules)
{
    return hak_rack_has(&racks, rack % HAK_RACKS, granules);
}

void hak_extents_put(unsigned rack, uint32_t first)
{
    const struct hak_extent_node *node = space_node(first);

    /* A moved extent would merge with no neighbour. */
    if (node->moved ||
        !hak_rack_put(&racks, rack % HAK_RACKS, (struct hak_racked){first, hak_clock_ms()},
                      node->granules, hak_dirty_floor()))
        hak_extents_free(first, false);
}

static bool extents_is_due(uint32_t now)
{
    return extents.oldest != HAK_NO_EXTENT &&
           hak_clock_due(space_node(extents.oldest)->freed_at, now, CONFIG_PURGE_DELAY_MS);
}

/* Whether anything may be due since the last look. */
static bool extents_look_is_due(uint32_t now)
{
    uint64_t looked = atomic_load_relaxed(&extents_looked);

    return hak_clock_due((uint32_t)(looked >> 32), now, (uint32_t)looked);
}

/* Milliseconds from `now` on in which what is due at `due` is not. */
static uint32_t extents_left(uint32_t due, uint32_t now, uint32_t most)
{
    int32_t left = (int32_t)(due - now);

    return left <= 0 ? 0 : (uint32_t)left < most ? (uint32_t)left : most;
}

/* Notes when to look again. What is freed from now on is due no earlier than the oldest now, and what comes off a rack waits
 * for no more than one such look longer. */
static void extents_note_look(uint32_t now, bool more)
{
    uint32_t wait = more ? 0 : SWEEP_MS;

    if (extents.oldest != HAK_NO_EXTENT)
        wait =
            extents_left(space_node(extents.oldest)->freed_at + CONFIG_PURGE_DELAY_MS, now, wait);
    if (extents.has_spares)
        wait = extents_left(extents.spared_at + CONFIG_PURGE_DELAY_MS, now, wait);
    atomic_store_relaxed(&extents_looked, (uint64_t)now << 32 | wait);
}

/* What is due on racks becomes free, the oldest of all. */
static void extents_sweep(uint32_t now)
{
    if (!hak_racks_have(&racks) || !hak_clock_due(extents.swept_at, now, SWEEP_MS))
        return;
    extents.swept_at = now;
    hak_racks_sweep(&racks, now, CONFIG_PURGE_DELAY_MS, extents_unrack);
}

bool hak_extents_purge_due(uint32_t now)
{
    size_t purged = 0;
    size_t step = 1;

    if (!extents_look_is_due(now))
        return false;
    hak_extents_lock();
    extents_sweep(now);
    while (step > 0 && purged < TICK_GRANULES && extents_is_due(now))
        purged += step = extents_purge_oldest(TICK_GRANULES - purged, false);
    bool more = step > 0 && extents_is_due(now);
    if (!more && extents.has_spares && hak_clock_due(extents.spared_at, now, CONFIG_PURGE_DELAY_MS))
        extents_release_all();
    extents_note_look(now, more);
    hak_extents_unlock();
    return more;
}

bool hak_extents_purge_all(void)
{
    size_t purged = 0;

    hak_extents_lock();
    extents_clear_all_racks();
    for (unsigned refused = 0; extents.oldest != HAK_NO_EXTENT && refused < REFUSALS_MOST;) {
        size_t step = extents_purge_oldest(SIZE_MAX, false);
        purged += step;
        refused += step == 0;
    }
    bool released = extents_release_all();
    hak_extents_unlock();
    return purged > 0 || released;
}

/* ── used extents ────────────────────────────────────────────────────────────────────────────── */

/* Core dumps have a used extent again. */
static void extents_show(uint32_t first, size_t granules)
{
    struct hak_extent_node *node = space_node(first);

    if (node->hidden)
        os_take_into_dumps(space_address(first), granules << HAK_GRANULE_SHIFT);
    node->hidden = false;
}

/* Core dumps leave out what stays of an extent that is freed now, when the rest of what is too much has gone. */
static bool extents_hide(uint32_t first, size_t granules)
{
    size_t most = hak_dirty_most(&extents.bound, extents_used() - granules);
    size_t stay = granules < most ? granules : most;

    if (granules < HIDE_LEAST || stay == 0)
        return false;
    os_leave_out_of_dumps(space_address(first + (uint32_t)(granules - stay)),
                          stay << HAK_GRANULE_SHIFT);
    return true;
}

/* Granules to skip from one on so that an address is a multiple of `align` granules. */
static size_t extents_align_offset(uint32_t granule, size_t align)
{
    return -((uintptr_t)space_address(granule) >> HAK_GRANULE_SHIFT) & (align - 1);
}

/* Granules are in use now, of which `fresh` held no memory. */
static void extents_note_use(uint32_t first, size_t granules, size_t fresh)
{
    space_note_use(first, granules, true);
    hak_dirty_track(&extents.bound, extents_used(), extents.dirty);
    if (fresh > 0) {
        hak_dirty_took_fresh(&extents.bound, fresh);
        extents_keep_to_bound();
    }
}

/* Makes a part of a run of free extents a used one, for core dumps as well. */
static uint32_t extents_use(struct extents_part part, size_t granules)
{
    size_t dirty = extents.dirty;
    uint32_t first = extents_carve(part.extent, part.offset, granules);

    dirty -= extents.dirty;
    extents_show(first, granules);
    extents_note_use(first, granules, granules - dirty);
    return first;
}

/* Whether giving all free extents back may make room for so many granules. */
static bool extents_may_make_room(size_t granules)
{
    size_t free = extents.dirty + extents.clean;

    return granules <= free || os_can_map((granules - free) << HAK_GRANULE_SHIFT);
}

/* A free extent that is long enough, or a part of a run of them. Dirty extents come first, also those on racks, then runs
 * that have one, as only what is missing has to be touched anew, then clean ones. */
static struct extents_part extents_find_free(size_t granules)
{
    struct extents_part part = {.extent = extents_find(DIRTY, granules)};

    if (part.extent == HAK_NO_EXTENT && extents_clear_racks(granules))
        part.extent = extents_find(DIRTY, granules);
    if (part.extent == HAK_NO_EXTENT)
        part = extents_find_part(granules);
    if (part.extent == HAK_NO_EXTENT)
        part.extent = extents_find(CLEAN, granules);
    return part;
}

/* What was mapped, or a part of a run of it and dirty neighbours. */
static struct extents_part extents_beside_mapped(uint32_t mapped, size_t granules)
{
    struct extents_part part = extents_find_part(granules);

    if (part.extent == HAK_NO_EXTENT)
        return (struct extents_part){.extent = mapped};
    extents_note_spares(); /* of which there are as many as the part is dirty */
    return part;
}

/* Likewise, longer than `granules` by less than `align`. Before fresh memory is mapped, what is due goes back; before
 * failing, all that is free. */
static struct extents_part extents_find_or_map(size_t granules, size_t align, size_t batch)
{
    struct extents_part part;
    unsigned refused = 0;

    for (unsigned tries = 0;; tries++) {
        part = extents_find_free(granules + align - 1);
        if (part.extent != HAK_NO_EXTENT)
            return part;
        if (tries == 0 && extents_is_due(hak_clock_ms())) {
            extents_purge_oldest(TICK_GRANULES, false);
            continue;
        }
        uint32_t mapped = space_map(granules, align, batch);
        if (mapped != HAK_NO_EXTENT)
            return extents_beside_mapped(mapped, granules + align - 1);
        if (!extents_may_make_room(granules))
            return part;
        if (extents.oldest != HAK_NO_EXTENT && refused < REFUSALS_MOST)
            refused += extents_purge_oldest(SIZE_MAX, false) == 0;
        else if (!extents_release_all())
            return part;
    }
}

uint32_t hak_extents_alloc(size_t granules, size_t align, size_t batch, bool *zeroed)
{
    struct extents_part part = {.extent = HAK_NO_EXTENT};
    uint32_t extent = HAK_NO_EXTENT;

    if (granules > SPACE_GRANULES_MOST || align > SPACE_GRANULES_MOST)
        return HAK_NO_EXTENT;
    hak_extents_lock();
    if (space_begin())
        part = extents_find_or_map(granules, align, batch);
    if (part.extent != HAK_NO_EXTENT) {
        part.offset += extents_align_offset(part.extent + (uint32_t)part.offset, align);
        extent = extents_use(part, granules);
        *zeroed = space_node(extent)->zeroed;
    }
    hak_extents_unlock();
    return extent;
}

/* pre: the lock is held */
static void extents_free(uint32_t first, size_t granules, bool clean)
{
    static const struct extents_traits CLEAN_TRAITS = {.state = HAK_NODE_CLEAN, .zeroed = true};
    uint32_t now = hak_clock_ms();

    space_note_use(first, granules, false);
    if (space_node(first)->moved) { /* it would merge with no neighbour */
        extents_give_back(first, granules, false);
    } else if (clean) {
        extents_release(extents_insert(first, granules, CLEAN_TRAITS));
    } else {
        bool hidden = extents_hide(first, granules);
        extents_insert(
            first, granules,
            (struct extents_traits){.state = HAK_NODE_DIRTY, .hidden = hidden, .freed_at = now});
    }
    hak_dirty_note(&extents.bound, extents_used(), extents.dirty, now);
    hak_dirty_gave_back(&extents.bound, extents_keep_to_bound());
}

void hak_extents_free(uint32_t first, bool clean)
{
    hak_extents_lock();
    extents_free(first, space_node(first)->granules, clean);
    hak_extents_unlock();
}

void hak_extents_trim(uint32_t first, size_t granules)
{
    struct hak_extent_node *node = space_node(first);
    uint32_t cut = first + (uint32_t)granules;

    hak_extents_lock();
    size_t rest = node->granules - granules;
    extents_mark(first, granules, HAK_NODE_USED);
    extents_mark(cut, rest, HAK_NODE_USED);
    space_node(cut)->hidden = false;
    space_node(cut)->moved = 0;
    if (node->moved)
        hak_extents_set_moved(cut, 1);
    extents_free(cut, rest, false);
    hak_extents_unlock();
}

/* Makes used granules that begin where a used extent ends a part of it. */
static void extents_lengthen(uint32_t first, size_t more)
{
    size_t length = space_node(first)->granules;

    extents_unmark(first, length);
    extents_unmark(first + (uint32_t)length, more);
    extents_mark(first, length + more, HAK_NODE_USED);
}

bool hak_extents_extend(uint32_t first, size_t granules)
{
    bool extended = false;

    if (granules > SPACE_GRANULES_MOST)
        return false;
    hak_extents_lock();
    size_t length = space_node(first)->granules;
    size_t more = granules - length;
    uint32_t next = extents_at(first + (uint32_t)length);
    if (next == HAK_NO_EXTENT) {
        extended = space_extend(first, length, more);
        next = first + (uint32_t)length;
        if (extended)
            extents_note_use(next, more, more);
    } else if (extents_reach(first, more, true).granules == more) {
        extents_use((struct extents_part){.extent = next}, more);
        extended = true;
    }
    if (extended)
        extents_lengthen(first, more);
    hak_extents_unlock();
    return extended;
}

/* ── walks ───────────────────────────────────────────────────────────────────────────────────── */

uint32_t hak_extents_next(uint32_t first)
{
    uint32_t at = first == HAK_NO_EXTENT ? 1 : first + space_node(first)->granules;

    while ((at = space_next(at)) != HAK_NO_EXTENT && space_node(at)->state < HAK_NODE_USED)
        at++;
    return at;
}

uint32_t hak_extents_around(uint32_t granule)
{
    uint32_t at = granule;

    while ((at = space_previous(at)) != HAK_NO_EXTENT && space_node(at)->state == HAK_NODE_INSIDE)
        at--;
    if (at == HAK_NO_EXTENT)
        return HAK_NO_EXTENT;
    const struct hak_extent_node *node = space_node(at);
    if (node->state == HAK_NODE_LAST)
        return at == granule ? granule + 1 - node->granules : HAK_NO_EXTENT;
    return granule - at < node->granules ? at : HAK_NO_EXTENT;
}

struct hak_extents_figures hak_extents_figures(void)
{
    hak_extents_lock();
    struct hak_extents_figures figures = {extents.mapped, extents.dirty, extents.clean};
    hak_extents_unlock();
    return figures;
}

/* Whether both ends of an extent agree, and it could not be joined with the next one. */
static bool extents_is_valid(uint32_t extent)
{
    const struct hak_extent_node *node = space_node(extent);
    const struct hak_extent_node *last = space_node(extent + node->granules - 1);
    struct extents_traits traits = {.state = (enum hak_node_state)node->state,
                                    .zeroed = node->zeroed};

    if (node->granules == 0 || last->granules != node->granules ||
        (last != node && last->state != HAK_NODE_LAST))
        return false;
    for (uint32_t inside = extent + 1; inside + 1 < extent + node->granules; inside++)
        if (space_node(inside)->state != HAK_NODE_INSIDE)
            return false;
    return !extents_is_free(extent) || !extents_join(extents_at(extent + node->granules), traits);
}

/* The granules in the extents of a length list, each of which must be there by right; SIZE_MAX: one is not. */
static size_t extents_in_list(unsigned kind, unsigned list)
{
    uint32_t previous = HAK_NO_EXTENT;
    size_t granules = 0;

    for (uint32_t extent = extents.lists[kind][list]; extent != HAK_NO_EXTENT;) {
        const struct hak_extent_node *node = space_node(extent);
        if (!extents_is_free(extent) || extents_kind(node) != kind ||
            extents_list_of(node->granules) != list || node->previous != previous)
            return SIZE_MAX;
        granules += node->granules;
        previous = extent;
        extent = node->next;
    }
    bool is_filled = extents.filled[kind][list / 64] >> list % 64 & 1;
    return is_filled == (previous != HAK_NO_EXTENT) ? granules : SIZE_MAX;
}

/* The granules in the list of ages, each extent of which must lead back; SIZE_MAX: one does not. */
static size_t extents_in_ages(void)
{
    uint32_t older = HAK_NO_EXTENT;
    size_t granules = 0;

    for (uint32_t extent = extents.oldest; extent != HAK_NO_EXTENT;
         older = extent, extent = space_node(extent)->younger) {
        if (space_node(extent)->older != older || granules > extents.dirty)
            return SIZE_MAX;
        granules += space_node(extent)->granules;
    }
    return extents.youngest == older ? granules : SIZE_MAX;
}

static bool extents_lists_are_valid(void)
{
    size_t listed[KINDS] = {0, 0};

    for (unsigned kind = 0; kind < KINDS; kind++)
        for (unsigned list = 0; list < LISTS; list++) {
            size_t granules = extents_in_list(kind, list);
            if (granules == SIZE_MAX)
                return false;
            listed[kind] += granules;
        }
    return listed[DIRTY] == extents.dirty && listed[CLEAN] == extents.clean &&
           extents_in_ages() == extents.dirty;
}

bool hak_extents_valid(void)
{
    size_t granules[HAK_NODE_CLEAN + 1] = {0};
    bool valid = true;

    hak_extents_lock();
    for (uint32_t extent = HAK_NO_EXTENT;
         valid && (extent = hak_extents_next(extent)) != HAK_NO_EXTENT;) {
        valid = extents_is_valid(extent);
        granules[space_node(extent)->state] += space_node(extent)->granules;
    }
    valid = valid && extents_lists_are_valid() && granules[HAK_NODE_USED] == extents_used() &&
            granules[HAK_NODE_DIRTY] == extents.dirty && granules[HAK_NODE_CLEAN] == extents.clean;
    hak_extents_unlock();
    return valid;
}
