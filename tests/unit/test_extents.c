/* SPDX-License-Identifier: MIT */
/* Extents over a space without memory: granules are mapped, purged and unmapped in tables here, and the test says what
 * the kernel refuses. Beyond what back ends see of extents, each field that hak_extents_valid looks at is broken. */
#include <criterion/criterion.h>
#include <string.h>
#include <sys/mman.h>

#include "core/lock.h"
#include "tests/fake/fake_space.h"

static unsigned locks; /* that were taken */

static void count_lock(struct hak_lock *lock)
{
    locks++;
    hak_lock(lock);
}

#define hak_lock(lock) count_lock(lock)
#include "core/extents.c"
#undef hak_lock

static uint32_t now = UINT32_MAX - 10; /* it wraps soon */

uint32_t hak_clock_ms(void)
{
    return now;
}

void hak_clock_wait(uint32_t *word, uint32_t value, uint32_t ms)
{
    (void)word;
    (void)value;
    (void)ms;
}

bool space_begin(void)
{
    return true;
}

static void set_mapped(uint32_t first, size_t granules, bool mapped)
{
    for (size_t i = 0; i < granules; i++) {
        cr_assert_neq(space.mapped[first + i], mapped);
        space.mapped[first + i] = mapped;
    }
}

uint32_t space_map(size_t granules, size_t align, size_t batch)
{
    size_t count = granules + align - 1 < batch ? batch : granules + align - 1;
    uint32_t first = space.place;

    if (space.is_full || first + count > GRANULES)
        return HAK_NO_EXTENT;
    uint32_t extent = hak_extents_add(first, count);
    set_mapped(first, count, true);
    space.place += (uint32_t)count;
    return extent;
}

struct hak_stretch space_releasable(uint32_t first, size_t granules)
{
    uint32_t from = (first + SPACE_UNIT - 1) / SPACE_UNIT * SPACE_UNIT;
    uint32_t to = (first + (uint32_t)granules) / SPACE_UNIT * SPACE_UNIT;

    return (struct hak_stretch){from, from < to ? to - from : 0};
}

bool space_release(uint32_t first, size_t granules)
{
    hak_extents_unlock(); /* as if the kernel were called */
    hak_extents_lock();
    if (space.keeps)
        return false;
    hak_extents_leave(first, granules);
    set_mapped(first, granules, false);
    return true;
}

bool space_purge(uint32_t first, size_t granules)
{
    for (size_t i = 0; i < granules; i++)
        if (space.locked[first + i])
            return false;
    space.purged += granules;
    return true;
}

bool space_extend(uint32_t first, size_t granules, size_t more)
{
    uint32_t end = first + (uint32_t)granules;

    if (space.is_full || end + more > GRANULES)
        return false;
    for (size_t i = 0; i < more; i++)
        if (space.mapped[end + i])
            return false;
    hak_extents_enter(end, more);
    set_mapped(end, more, true);
    return true;
}

void space_note_use(uint32_t first, size_t granules, bool used)
{
    (void)first;
    space.used += used ? granules : -granules;
}

uint32_t space_next(uint32_t granule)
{
    while (granule <= GRANULES && !space.mapped[granule])
        granule++;
    return granule <= GRANULES ? granule : HAK_NO_EXTENT;
}

uint32_t space_previous(uint32_t granule)
{
    while (granule > 0 && !space.mapped[granule])
        granule--;
    return granule;
}

/* ── what the tests say ──────────────────────────────────────────────────────────────────────── */

enum { DELAY = CONFIG_PURGE_DELAY_MS, PLENTY = 2048 };

static bool zeroed;

/* Nothing is purged for the sake of the bound unless a test sets it. */
static void begin(void)
{
    size_t size = (size_t)(GRANULES + 1) << HAK_GRANULE_SHIFT;

    space.base = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    cr_assert_neq(space.base, MAP_FAILED);
    space.place = 64;
    hak_dirty_max = PLENTY * HAK_SLAB_GRANULE;
}

static void is_consistent(void)
{
    struct hak_extents_figures figures = hak_extents_figures();
    size_t mapped = 0;

    cr_assert(hak_extents_valid());
    for (size_t i = 0; i <= GRANULES; i++)
        mapped += space.mapped[i];
    cr_assert_eq(figures.mapped, mapped);
    cr_assert_eq(figures.mapped - figures.dirty - figures.clean, space.used);
    cr_assert_eq(hak_extents_bytes(), mapped * HAK_SLAB_GRANULE);
}

TestSuite(extents, .init = begin, .fini = is_consistent);

static uint32_t alloc(size_t granules)
{
    uint32_t extent = hak_extents_alloc(granules, 1, 1, &zeroed);

    cr_assert_neq(extent, HAK_NO_EXTENT);
    cr_assert_eq(hak_extents_length(extent), granules);
    is_consistent();
    return extent;
}

static void release(uint32_t extent)
{
    hak_extents_free(extent, false);
    is_consistent();
}

/* Dirty extents of these lengths, with one used granule behind each. */
static void have_dirty(uint32_t *extents_of, const size_t *lengths, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        extents_of[i] = alloc(lengths[i]);
        alloc(1);
    }
    for (size_t i = 0; i < count; i++)
        release(extents_of[i]);
}

static enum hak_node_state state_of(uint32_t extent)
{
    return (enum hak_node_state)space_node(extent)->state;
}

/* ── a place for so many granules ────────────────────────────────────────────────────────────── */

Test(extents, the_shortest_that_is_long_enough_is_taken)
{
    static const size_t LENGTHS[] = {9, 5, 200, 7, 100, 6};
    static const size_t WANTED[] = {5, 6, 7, 8, 90, 120}; /* each fits best in one that is left */
    static const unsigned TAKEN[] = {1, 5, 3, 0, 4, 2};
    uint32_t dirty[6];

    have_dirty(dirty, LENGTHS, 6);
    for (size_t i = 0; i < 6; i++)
        cr_assert_eq(alloc(WANTED[i]), dirty[TAKEN[i]], "for %zu granules", WANTED[i]);
}

Test(extents, what_is_left_of_one_stays_free)
{
    uint32_t dirty;

    have_dirty(&dirty, (size_t[]){10}, 1);
    cr_assert_eq(alloc(4), dirty);
    cr_assert_eq(hak_extents_figures().dirty, 6);
    cr_assert_eq(state_of(dirty + 4), HAK_NODE_DIRTY);
    cr_assert_eq(hak_extents_length(dirty + 4), 6);
    cr_assert_eq(alloc(6), dirty + 4);
    cr_assert_eq(hak_extents_figures().dirty, 0);
}

Test(extents, dirty_memory_is_used_before_clean)
{
    uint32_t dirty;

    have_dirty(&dirty, (size_t[]){8}, 1);
    hak_extents_free(alloc(8), true);
    have_dirty(&dirty, (size_t[]){12}, 1);
    cr_assert_eq(alloc(8), dirty);
    cr_assert(!zeroed, "a program has written to it");
}

Test(extents, fresh_and_purged_memory_reads_as_zeros)
{
    uint32_t extent = alloc(6);

    cr_assert(zeroed);
    space.keeps = true;
    release(extent);
    cr_assert_eq(alloc(6), extent);
    cr_assert(!zeroed);
    hak_extents_free(extent, true);
    cr_assert_eq(alloc(6), extent);
    cr_assert(zeroed);
}

Test(extents, a_batch_is_mapped_and_one_part_used)
{
    uint32_t extent = hak_extents_alloc(3, 1, 32, &zeroed);

    cr_assert_eq(hak_extents_figures().mapped, 32);
    cr_assert_eq(hak_extents_figures().clean, 29);
    cr_assert_eq(alloc(29), extent + 3);
}

Test(extents, an_alignment_leaves_free_what_lies_before_and_behind)
{
    space.place = 65;
    for (size_t align = 1; align <= 64; align *= 2) {
        uint32_t extent = hak_extents_alloc(5, align, 1, &zeroed);
        cr_assert_eq((uintptr_t)space_address(extent) >> HAK_GRANULE_SHIFT & (align - 1), 0);
        cr_assert_eq(hak_extents_length(extent), 5);
        is_consistent();
    }
    cr_assert_gt(hak_extents_figures().clean, 0);
}

Test(extents, what_cannot_be_had_changes_nothing)
{
    uint32_t used = alloc(10);

    space.is_full = true;
    cr_assert_eq(hak_extents_alloc(1, 1, 1, &zeroed), HAK_NO_EXTENT);
    cr_assert_eq(hak_extents_alloc(GRANULES + 1, 1, 1, &zeroed), HAK_NO_EXTENT);
    cr_assert_eq(hak_extents_alloc(1, 2 * GRANULES, 1, &zeroed), HAK_NO_EXTENT);
    cr_assert_eq(hak_extents_figures().mapped, 10);
    release(used);
    cr_assert_eq(alloc(10), used);
}

/* ── neighbours ──────────────────────────────────────────────────────────────────────────────── */

Test(extents, free_neighbours_join_in_any_order)
{
    static const unsigned ORDERS[][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2},
                                         {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};

    for (size_t i = 0; i < 6; i++) {
        uint32_t parts[3] = {alloc(3), alloc(4), alloc(5)};
        uint32_t end = alloc(1);
        for (size_t j = 0; j < 3; j++)
            release(parts[ORDERS[i][j]]);
        cr_assert_eq(hak_extents_length(parts[0]), 12);
        cr_assert_eq(hak_extents_around(parts[2] + 2), parts[0]);
        cr_assert_eq(alloc(12), parts[0]);
        cr_assert_eq(hak_extents_around(end), end);
    }
}

Test(extents, dirty_and_clean_neighbours_stay_two)
{
    uint32_t dirty = alloc(4), clean = alloc(4);

    alloc(1);
    space.keeps = true;
    release(dirty);
    hak_extents_free(clean, true);
    cr_assert_eq(hak_extents_length(dirty), 4);
    cr_assert_eq(hak_extents_figures().dirty, 4);
    cr_assert_eq(state_of(clean), HAK_NODE_CLEAN);
}

Test(extents, a_used_extent_is_cut_and_extended_where_it_lies)
{
    uint32_t extent = alloc(10), behind = alloc(2);

    hak_extents_trim(extent, 4);
    is_consistent();
    cr_assert_eq(hak_extents_length(extent), 4);
    cr_assert_eq(hak_extents_figures().dirty, 6);
    cr_assert(hak_extents_extend(extent, 7), "into what was freed");
    cr_assert_eq(hak_extents_figures().dirty, 3);
    cr_assert(!hak_extents_extend(extent, 11), "the next one is used");
    cr_assert_eq(hak_extents_length(extent), 7);
    cr_assert(hak_extents_extend(extent, 10));
    cr_assert(hak_extents_extend(behind, 40), "into memory that is mapped for it");
    is_consistent();
    space.is_full = true;
    cr_assert(!hak_extents_extend(behind, 41));
    cr_assert(!hak_extents_extend(behind, GRANULES + 1));
    cr_assert_eq(hak_extents_length(behind), 40);
}

Test(extents, a_walk_finds_each_once_and_a_granule_inside_its_extent)
{
    uint32_t extents_of[] = {alloc(1), alloc(2), alloc(30), alloc(3)};
    uint32_t at = HAK_NO_EXTENT;

    release(extents_of[2]);
    space.place += 100;
    uint32_t far = alloc(40); /* nothing is mapped before it */
    for (size_t i = 0; i < 4; i++) {
        cr_assert_eq(at = hak_extents_next(at), extents_of[i]);
        for (size_t j = 0; j < hak_extents_length(at); j++)
            cr_assert_eq(hak_extents_around(at + (uint32_t)j), at);
    }
    cr_assert_eq(hak_extents_around(far - 1), HAK_NO_EXTENT);
    cr_assert_eq(at = hak_extents_next(at), far);
    cr_assert_eq(hak_extents_next(at), HAK_NO_EXTENT);
}

Test(extents, mappings_are_counted_where_they_begin)
{
    uint32_t extent = alloc(8);

    cr_assert_eq(hak_extents_mappings().unmoved, 1);
    alloc(8);
    cr_assert_eq(hak_extents_mappings().unmoved, 1, "the kernel merges neighbours");
    space.place += 8;
    alloc(8);
    cr_assert_eq(hak_extents_mappings().unmoved, 2);
    space.place -= 16;
    alloc(8);
    cr_assert_eq(hak_extents_mappings().unmoved, 1, "the gap is filled");
    hak_extents_set_moved(extent, 3);
    cr_assert_eq(hak_extents_mappings().all, 4);
    hak_extents_set_moved(extent, 0);
    cr_assert_eq(hak_extents_mappings().all, 1);
}

/* ── age ─────────────────────────────────────────────────────────────────────────────────────── */

Test(extents, memory_goes_when_it_is_due_the_oldest_first)
{
    uint32_t dirty[3];

    space.keeps = true;
    for (size_t i = 0; i < 3; i++) {
        dirty[i] = alloc(5);
        alloc(1);
    }
    for (size_t i = 0; i < 3; i++) {
        release(dirty[2 - i]);
        now += DELAY / 4;
    }
    cr_assert(!hak_extents_purge_due(now));
    cr_assert_eq(space.purged, 0);
    now += DELAY / 4;
    for (size_t i = 0; i < 3; i++) {
        cr_assert(hak_extents_are_dirty());
        cr_assert(!hak_extents_purge_due(now));
        cr_assert_eq(state_of(dirty[2 - i]), HAK_NODE_CLEAN);
        cr_assert_eq(space.purged, 5 * (i + 1));
        is_consistent();
        now += DELAY / 4;
    }
    cr_assert(!hak_extents_are_dirty());
}

Test(extents, what_joins_older_memory_is_as_old)
{
    uint32_t old = alloc(5), young = alloc(5), other = alloc(5);

    alloc(1);
    space.keeps = true;
    release(old);
    now += DELAY - 1;
    release(other);
    release(young); /* the three are one extent now */
    cr_assert_eq(hak_extents_length(old), 15);
    now++;
    cr_assert(!hak_extents_purge_due(now));
    cr_assert_eq(space.purged, 15);
}

Test(extents, a_tick_does_a_bounded_part_of_what_is_due)
{
    enum { MANY = 5 };
    const size_t length = TICK_GRANULES / 2 + 1;
    uint32_t dirty[MANY];

    space.keeps = true;
    for (size_t i = 0; i < MANY; i++) {
        dirty[i] = alloc(length);
        alloc(1);
    }
    for (size_t i = 0; i < MANY; i++)
        release(dirty[i]);
    now += DELAY;
    cr_assert(hak_extents_purge_due(now), "there is more");
    cr_assert_geq(space.purged, TICK_GRANULES);
    cr_assert_leq(space.purged, 2 * TICK_GRANULES);
    while (hak_extents_purge_due(now))
        is_consistent();
    cr_assert_eq(space.purged, MANY * length);
}

/* ── the bound ───────────────────────────────────────────────────────────────────────────────── */

Test(extents, no_more_waits_than_the_bound_and_the_oldest_goes)
{
    enum { MOST = 16 };
    uint32_t dirty[8];

    hak_dirty_max = MOST * HAK_SLAB_GRANULE;
    space.keeps = true;
    for (size_t i = 0; i < 8; i++) {
        dirty[i] = alloc(4);
        alloc(1);
    }
    for (size_t i = 0; i < 8; i++) {
        release(dirty[i]);
        cr_assert_leq(hak_extents_figures().dirty, MOST);
    }
    for (size_t i = 0; i < 8; i++)
        cr_assert_eq(state_of(dirty[i]), i < 4 ? HAK_NODE_CLEAN : HAK_NODE_DIRTY);
    cr_assert_eq(space.purged, 16);
}

/* ── racks ───────────────────────────────────────────────────────────────────────────────────── */

static uint32_t take(unsigned rack, size_t granules)
{
    uint32_t extent = hak_extents_take(rack, granules, 1, &zeroed);

    cr_assert_neq(extent, HAK_NO_EXTENT);
    cr_assert_eq(hak_extents_length(extent), granules);
    return extent;
}

static void put(unsigned rack, uint32_t extent)
{
    hak_extents_put(rack, extent);
}

Test(extents, a_short_one_comes_and_goes_without_the_lock)
{
    uint32_t one = take(5, 1), two = take(5, 2);
    unsigned before = locks;

    for (int i = 0; i < 10; i++) {
        put(5, one);
        put(5, two);
        cr_assert_eq(take(5, 2), two);
        cr_assert(!zeroed, "a program has written to it");
        cr_assert_eq(take(5, 1), one);
        cr_assert(!zeroed);
    }
    put(5, one);
    cr_assert_eq(take(6, 1), one, "another rack's, where nothing else is dirty");
    cr_assert_eq(locks, before);
    put(6, two);
    put(6, one);
    is_consistent();
}

Test(extents, what_finds_no_room_on_a_rack_is_free_at_once)
{
    uint32_t parts[HAK_RACK_ONES + 1];

    for (size_t i = 0; i <= HAK_RACK_ONES; i++)
        parts[i] = take(0, 1);
    uint32_t longer = take(0, 3);
    for (size_t i = 0; i <= HAK_RACK_ONES; i++)
        put(0, parts[i]);
    cr_assert_eq(hak_extents_figures().dirty, 1);
    put(0, longer);
    cr_assert_eq(hak_extents_figures().dirty, 4);
    is_consistent();
}

/* Before clean memory is used, and before more is mapped. */
Test(extents, what_lies_on_racks_is_used_before_fresh_memory)
{
    uint32_t parts[6];

    for (size_t i = 0; i < 6; i++)
        parts[i] = take(1, 1);
    alloc(1);
    for (size_t i = 0; i < 6; i++)
        put(1 + (unsigned)i % 2, parts[i]);
    size_t mapped = hak_extents_figures().mapped;
    cr_assert_eq(alloc(6), parts[0], "they join");
    cr_assert_eq(hak_extents_figures().mapped, mapped);
    release(parts[0]);
    cr_assert(hak_extents_purge_all());
    hak_extents_free(alloc(10), true);
    uint32_t one = take(1, 1), other = alloc(1);
    put(2, one);
    cr_assert_eq(alloc(1), one, "there is clean memory, too");
    release(other);
}

/* That it is one of the same length leaves the rest where it is. */
Test(extents, one_of_the_length_is_enough)
{
    uint32_t parts[4];

    for (size_t i = 0; i < 4; i++)
        parts[i] = take(1, 1);
    for (size_t i = 0; i < 4; i++)
        put(1, parts[i]);
    alloc(1);
    unsigned before = locks;
    for (size_t i = 0; i < 3; i++)
        take(1, 1);
    cr_assert_eq(locks, before);
}

Test(extents, what_lies_on_a_rack_is_given_back_when_it_is_due)
{
    uint32_t one = take(3, 1), two = take(3, 2);

    alloc(1);
    space.keeps = true;
    put(3, one);
    now += DELAY / 2;
    put(4, two);
    cr_assert(hak_extents_are_dirty());
    cr_assert(!hak_extents_purge_due(now));
    cr_assert_eq(space.purged, 0);
    now += DELAY / 2;
    cr_assert(!hak_extents_purge_due(now));
    cr_assert_eq(space.purged, 1);
    cr_assert_eq(state_of(one), HAK_NODE_CLEAN);
    is_consistent();
    now += DELAY / 2 + DELAY / 4;
    cr_assert(!hak_extents_purge_due(now));
    cr_assert_eq(space.purged, 3);
    is_consistent();
    cr_assert(!hak_extents_are_dirty());
}

/* It is older than what is dirty, beside which it lies. */
Test(extents, what_comes_off_a_rack_is_as_old_as_it_is)
{
    uint32_t parts[3] = {take(3, 1), take(3, 1), take(3, 1)}, other = alloc(1);

    alloc(1);
    space.keeps = true;
    put(3, parts[1]);
    now += 1;
    release(parts[2]);
    now += 1;
    release(other);
    now += DELAY - 2;
    cr_assert(!hak_extents_purge_due(now));
    cr_assert_eq(space.purged, 3, "with the two that it has joined");
    is_consistent();
    release(parts[0]);
}

/* Several come off one rack, and what was freed after them does not hide any. */
Test(extents, all_that_is_due_on_a_rack_is_given_back)
{
    uint32_t parts[5] = {take(3, 1), take(3, 1), take(3, 1), take(3, 1), take(3, 1)};

    alloc(1);
    uint32_t late = alloc(1);
    alloc(1);
    space.keeps = true;
    for (int i = 0; i < 5; i += 2) {
        put(3, parts[i]);
        now += 1;
    }
    now += DELAY - 10;
    release(late);
    now += 10;
    cr_assert(!hak_extents_purge_due(now));
    cr_assert_eq(space.purged, 3);
    is_consistent();
}

Test(extents, a_trim_empties_the_racks)
{
    put(3, take(3, 1));
    put(9, take(9, 2));
    cr_assert(hak_extents_purge_all());
    cr_assert(!hak_extents_are_dirty());
    cr_assert_eq(space.used, 0);
    is_consistent();
}

Test(extents, where_little_may_wait_nothing_does_on_racks)
{
    uint32_t one = take(3, 1);

    hak_dirty_max = 0;
    put(3, one);
    cr_assert_eq(space.purged, 1, "it went at once");
    cr_assert_eq(hak_extents_figures().dirty, 0);
    hak_dirty_max = HAK_RACKS * HAK_SLAB_GRANULE;
    put(3, take(3, 2));
    cr_assert_eq(hak_extents_figures().dirty, 2, "there is room for less than one");
}

/* What lies on racks counts towards the bound, when more is freed. */
Test(extents, no_more_waits_than_the_bound_with_what_lies_on_racks)
{
    uint32_t racked[HAK_RACK_ONES], dirty[4];

    hak_dirty_max = HAK_RACKS_GRANULES * HAK_SLAB_GRANULE;
    space.keeps = true;
    for (size_t i = 0; i < HAK_RACK_ONES; i++)
        racked[i] = take(0, 1);
    for (size_t i = 0; i < 4; i++) {
        dirty[i] = alloc(HAK_RACKS_GRANULES / 4);
        alloc(1);
    }
    for (size_t i = 0; i < HAK_RACK_ONES; i++)
        put(0, racked[i]);
    for (size_t i = 0; i < 4; i++)
        release(dirty[i]);
    cr_assert_eq(hak_extents_figures().dirty, HAK_RACKS_GRANULES - HAK_RACK_ONES);
}

Test(extents, nothing_is_locked_while_nothing_can_be_due)
{
    uint32_t extent = alloc(8);

    alloc(1);
    release(extent);
    hak_extents_purge_due(now);
    unsigned before = locks;
    for (uint32_t ms = 0; ms < DELAY / 4; ms++)
        cr_assert(!hak_extents_purge_due(now + ms));
    cr_assert_eq(locks, before);
    hak_extents_purge_due(now + DELAY / 4);
    cr_assert_gt(locks, before);
}

/* ── what the kernel takes, and what it refuses ──────────────────────────────────────────────── */

Test(extents, all_that_is_free_is_unmapped_in_whole_units)
{
    uint32_t extent = alloc(4 * SPACE_UNIT), rest = alloc(SPACE_UNIT + 1);

    release(extent);
    cr_assert(hak_extents_purge_all());
    cr_assert_eq(hak_extents_figures().mapped, SPACE_UNIT + 1);
    cr_assert_eq(hak_extents_figures().clean, 0);
    release(rest);
    cr_assert(hak_extents_purge_all());
    cr_assert_eq(hak_extents_figures().mapped, 1, "less than a unit stays");
    cr_assert_eq(hak_extents_figures().clean, 1);
    cr_assert(!hak_extents_purge_all());
}

Test(extents, what_cannot_be_unmapped_is_clean)
{
    uint32_t extent = alloc(4 * SPACE_UNIT);

    alloc(1);
    space.keeps = true;
    release(extent);
    cr_assert(hak_extents_purge_all());
    cr_assert_eq(hak_extents_figures().clean, 4 * SPACE_UNIT);
    cr_assert_eq(hak_extents_figures().dirty, 0);
    cr_assert_eq(alloc(4 * SPACE_UNIT), extent);
}

Test(extents, what_cannot_be_purged_stays_dirty_and_is_tried_again)
{
    uint32_t extent = alloc(8);

    alloc(1);
    space.keeps = true;
    for (size_t i = 0; i < 8; i++)
        space.locked[extent + i] = true;
    release(extent);
    cr_assert(!hak_extents_purge_all());
    is_consistent();
    cr_assert_eq(hak_extents_figures().dirty, 8);
    memset(space.locked, 0, sizeof(space.locked));
    cr_assert(hak_extents_purge_all());
    cr_assert_eq(hak_extents_figures().dirty, 0);
}

Test(extents, one_page_that_is_locked_keeps_one_granule)
{
    uint32_t extent = alloc(8);

    alloc(1);
    space.keeps = true;
    space.locked[extent + 3] = true;
    release(extent);
    cr_assert(hak_extents_purge_all());
    is_consistent();
    cr_assert_eq(hak_extents_figures().dirty, 1);
    cr_assert_eq(state_of(extent + 3), HAK_NODE_DIRTY);
    cr_assert_eq(hak_extents_length(extent), 3);
    cr_assert_eq(hak_extents_length(extent + 4), 4);
}

/* Out of memory, what is free is given back before the caller is refused. */
Test(extents, what_is_free_makes_room)
{
    static const size_t LENGTHS[] = {64, 64, 64};
    uint32_t dirty[3];

    have_dirty(dirty, LENGTHS, 3);
    space.is_full = true;
    cr_assert_eq(hak_extents_alloc(100, 1, 1, &zeroed), HAK_NO_EXTENT);
    is_consistent();
    cr_assert_eq(hak_extents_figures().dirty, 0);
    cr_assert_leq(hak_extents_figures().clean, 3 * 2 * (SPACE_UNIT - 1),
                  "whole units are unmapped");
}

/* ── the validator ───────────────────────────────────────────────────────────────────────────── */

/* Breaks one thing, which must be noticed, and mends it. */
#define NOTICES(thing, broken)                                                                     \
    do {                                                                                           \
        __typeof__(thing) sound = (thing);                                                         \
        cr_assert_neq(sound, (broken));                                                            \
        (thing) = (broken);                                                                        \
        cr_assert(!hak_extents_valid(), "%s = %s", #thing, #broken);                               \
        (thing) = sound;                                                                           \
        cr_assert(hak_extents_valid());                                                            \
    } while (0)

/* used, dirty, used, dirty, used, clean, used: of six granules each, and two dirty ones of equal length. */
static uint32_t parts[7];

static void have_parts(void)
{
    space.keeps = true;
    for (size_t i = 0; i < 7; i++)
        parts[i] = alloc(6);
    release(parts[1]);
    release(parts[3]);
    hak_extents_free(parts[5], true);
    is_consistent();
}

Test(extents, a_broken_extent_is_not_valid)
{
    have_parts();
    for (size_t i = 0; i < 7; i++) {
        struct hak_extent_node *node = space_node(parts[i]);
        struct hak_extent_node *last = space_node(parts[i] + 5);
        NOTICES(node->granules, 5);
        NOTICES(node->granules, 12);
        NOTICES(node->granules, 0);
        NOTICES(last->granules, 7);
        NOTICES(last->state, HAK_NODE_INSIDE);
        NOTICES(last->state, HAK_NODE_USED);
        NOTICES(space_node(parts[i] + 2)->state, HAK_NODE_USED);
        for (unsigned state = HAK_NODE_USED; state <= HAK_NODE_CLEAN; state++)
            if (node->state != state)
                NOTICES(node->state, (uint8_t)state);
    }
}

Test(extents, neighbours_that_should_be_one_are_not_valid)
{
    uint32_t dirty = alloc(6), more = alloc(4);

    alloc(1);
    release(dirty);
    hak_extents_lock();
    extents_unmark(more, 4);
    extents_hang(more, 4, (struct extents_traits){.state = HAK_NODE_DIRTY, .freed_at = now});
    space.used -= 4;
    hak_extents_unlock();
    cr_assert(!hak_extents_valid());
    hak_extents_lock();
    extents_unhang(more);
    extents_mark(more, 4, HAK_NODE_USED);
    space.used += 4;
    hak_extents_unlock();
}

Test(extents, a_broken_length_list_is_not_valid)
{
    have_parts();
    uint32_t *list = &extents.lists[DIRTY][extents_list_of(6)];
    uint32_t *other = &extents.lists[DIRTY][extents_list_of(7)];
    struct hak_extent_node *head = space_node(*list);
    NOTICES(*list, HAK_NO_EXTENT);
    NOTICES(*list, head->next);
    NOTICES(*list, parts[0]);
    NOTICES(*list, parts[5]);
    NOTICES(*other, parts[1]);
    NOTICES(head->next, HAK_NO_EXTENT);
    NOTICES(head->previous, head->next);
    NOTICES(space_node(head->next)->previous, HAK_NO_EXTENT);
    NOTICES(extents.filled[DIRTY][0], 0);
    NOTICES(extents.filled[DIRTY][0], UINT64_MAX);
    NOTICES(extents.filled[CLEAN][0], 0);
    NOTICES(extents.lists[CLEAN][extents_list_of(6)], HAK_NO_EXTENT);
}

Test(extents, a_broken_list_of_ages_is_not_valid)
{
    have_parts();
    cr_assert_eq(extents.oldest, parts[1]);
    NOTICES(extents.oldest, parts[3]);
    NOTICES(extents.oldest, HAK_NO_EXTENT);
    NOTICES(extents.youngest, parts[1]);
    NOTICES(extents.youngest, HAK_NO_EXTENT);
    NOTICES(space_node(parts[1])->younger, HAK_NO_EXTENT);
    NOTICES(space_node(parts[1])->older, parts[3]);
    NOTICES(space_node(parts[3])->older, HAK_NO_EXTENT);
}

Test(extents, wrong_counts_are_not_valid)
{
    have_parts();
    NOTICES(extents.dirty, extents.dirty + 1);
    NOTICES(extents.clean, extents.clean - 1);
    NOTICES(extents.mapped, extents.mapped + 1);
}
