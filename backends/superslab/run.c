/* SPDX-License-Identifier: MIT */
#include "backends/superslab/run.h"

#include "backends/superslab/dense.h"
#include "backends/superslab/slab.h"
#include "core/atomic.h"
#include "core/clock.h"
#include "core/dirty_bound.h"
#include "core/lock.h"

/* Free runs hang in bins by length: one length a bin up to EXACT granules, then four bins to a
 * doubling, each holding lengths from its lower bound up to the next bin's. */
enum { EXACT = 32, BINS = EXACT + 4 * 24 };

enum { DIRTY, CLEAN, KINDS };

/* Bytes purged at one tick, so that no malloc waits long. */
static const size_t TICK_GRANULES = (size_t)4 << 20 >> GRANULE_SHIFT;

static struct hak_lock lock = {.rank = HAK_RANK_EXTENTS};

static uint32_t bins[KINDS][BINS];
static uint64_t bins_filled[KINDS][BINS / 64];
static uint32_t oldest, youngest; /* ends of the list of dirty runs by age */
static size_t dirty_granules;     /* read as a hint without the lock */
static size_t clean_granules;
static bool has_spares;      /* clean superslabs that wait to be used again; read as a hint, too */
static uint32_t spared_at;   /* hak_clock_ms; when the last one came */
static size_t used_granules; /* in slabs and large blocks */
static struct hak_dirty_bound bound;

void run_lock(void)
{
    hak_lock(&lock);
}

void run_unlock(void)
{
    hak_unlock(&lock);
}

bool run_dirty(void)
{
    return atomic_load_relaxed(&dirty_granules) > 0 || atomic_load_relaxed(&has_spares);
}

/* ── bins ────────────────────────────────────────────────────────────────────────────────────── */

/* The bin whose range of lengths `granules` falls into. */
static unsigned bin_of(size_t granules)
{
    if (granules <= EXACT)
        return (unsigned)granules - 1;
    unsigned log2 = (unsigned)(63 - __builtin_clzll(granules));
    return EXACT + 4 * (log2 - 5) + (unsigned)(granules >> (log2 - 2) & 3);
}

static void bin_insert(uint32_t run)
{
    struct slab *entry = &window.slabs[run];
    unsigned kind = entry->state == RUN_CLEAN ? CLEAN : DIRTY;
    unsigned bin = bin_of(entry->run_granules);
    uint32_t next = bins[kind][bin];

    entry->bin_previous = NO_RUN;
    entry->bin_next = next;
    if (next != NO_RUN)
        window.slabs[next].bin_previous = run;
    bins[kind][bin] = run;
    bins_filled[kind][bin / 64] |= (uint64_t)1 << bin % 64;
}

static void bin_remove(uint32_t run)
{
    struct slab *entry = &window.slabs[run];
    unsigned kind = entry->state == RUN_CLEAN ? CLEAN : DIRTY;
    unsigned bin = bin_of(entry->run_granules);

    if (entry->bin_next != NO_RUN)
        window.slabs[entry->bin_next].bin_previous = entry->bin_previous;
    if (entry->bin_previous != NO_RUN)
        window.slabs[entry->bin_previous].bin_next = entry->bin_next;
    else
        bins[kind][bin] = entry->bin_next;
    if (bins[kind][bin] == NO_RUN)
        bins_filled[kind][bin / 64] &= ~((uint64_t)1 << bin % 64);
}

/* The first filled bin from `bin` on; BINS if there is none. */
static unsigned bin_filled_from(unsigned kind, unsigned bin)
{
    for (; bin < BINS; bin = (bin / 64 + 1) * 64) {
        uint64_t filled = bins_filled[kind][bin / 64] >> bin % 64;
        if (filled)
            return bin + (unsigned)__builtin_ctzll(filled);
    }
    return BINS;
}

/* A free run of at least `granules`, nearly the shortest. A bin that holds several lengths is searched
 * to a bound; any run of a later bin is long enough. */
static uint32_t bin_find(unsigned kind, size_t granules)
{
    unsigned bin = bin_of(granules);
    uint32_t run = bins[kind][bin];

    for (int tries = 0; run != NO_RUN && tries < 16; tries++) {
        if (window.slabs[run].run_granules >= granules)
            return run;
        run = window.slabs[run].bin_next;
    }
    bin = bin_filled_from(kind, bin + 1);
    return bin == BINS ? NO_RUN : bins[kind][bin];
}

/* ── the list by age ─────────────────────────────────────────────────────────────────────────── */

/* Puts a dirty run in front of `next`, or at the young end if that is NO_RUN. */
static void age_insert(uint32_t run, uint32_t next)
{
    uint32_t previous = next == NO_RUN ? youngest : window.slabs[next].age_previous;

    window.slabs[run].age_next = next;
    window.slabs[run].age_previous = previous;
    *(next == NO_RUN ? &youngest : &window.slabs[next].age_previous) = run;
    *(previous == NO_RUN ? &oldest : &window.slabs[previous].age_next) = run;
}

static void age_remove(uint32_t run)
{
    uint32_t next = window.slabs[run].age_next;
    uint32_t previous = window.slabs[run].age_previous;

    *(next == NO_RUN ? &youngest : &window.slabs[next].age_previous) = previous;
    *(previous == NO_RUN ? &oldest : &window.slabs[previous].age_next) = next;
}

/* ── runs ────────────────────────────────────────────────────────────────────────────────────── */

/* Notes length and state at both ends of a run. */
static void mark(uint32_t run, size_t granules, enum run_state state)
{
    struct slab *ends[] = {&window.slabs[run], &window.slabs[run + granules - 1]};

    for (int i = 0; i < 2; i++) {
        ends[i]->run_granules = (uint32_t)granules;
        ends[i]->state = (uint8_t)state;
    }
}

static void count_dirty(ptrdiff_t granules)
{
    atomic_store_relaxed(&dirty_granules, dirty_granules + (size_t)granules);
}

/* Makes a run free and hangs it up. A dirty one goes in front of `younger` by age. */
static void hang(uint32_t run, size_t granules, enum run_state state, bool zeroed,
                 uint32_t freed_at, uint32_t younger)
{
    mark(run, granules, state);
    window.slabs[run].zeroed = zeroed;
    window.slabs[run].freed_at = freed_at;
    bin_insert(run);
    if (state == RUN_DIRTY) {
        age_insert(run, younger);
        count_dirty((ptrdiff_t)granules);
    } else {
        clean_granules += granules;
    }
}

/* Takes a free run down; it stays marked as free. Returns its next younger one. */
static uint32_t unhang(uint32_t run)
{
    uint32_t younger = NO_RUN;

    bin_remove(run);
    if (window.slabs[run].state == RUN_DIRTY) {
        younger = window.slabs[run].age_next;
        age_remove(run);
        count_dirty(-(ptrdiff_t)window.slabs[run].run_granules);
    } else {
        clean_granules -= window.slabs[run].run_granules;
    }
    return younger;
}

/* The first granule of the run that ends just before `run`, if it is committed. */
static uint32_t run_before(uint32_t run)
{
    if (run == 0 || !window_committed(run - 1))
        return NO_RUN;
    return run - window.slabs[run - 1].run_granules;
}

static uint32_t run_after(uint32_t run, size_t granules)
{
    return window_committed(run + granules) ? run + (uint32_t)granules : NO_RUN;
}

static bool joins(uint32_t neighbour, enum run_state state, bool zeroed)
{
    if (neighbour == NO_RUN || window.slabs[neighbour].state != state)
        return false;
    return state == RUN_DIRTY || window.slabs[neighbour].zeroed == zeroed;
}

/* Frees a used run: joins it with free neighbours of its kind, and returns where the whole begins. A
 * dirty run that joins an older one takes that one's age, so that memory becomes due in time however
 * its neighbours change. */
static uint32_t insert(uint32_t run, size_t granules, enum run_state state, bool zeroed,
                       uint32_t freed_at)
{
    uint32_t before = run_before(run);
    uint32_t after = run_after(run, granules);
    uint32_t younger = NO_RUN;

    if (joins(after, state, zeroed)) {
        granules += window.slabs[after].run_granules;
        freed_at = window.slabs[after].freed_at;
        younger = unhang(after);
    }
    if (joins(before, state, zeroed)) {
        bool older = younger == NO_RUN || (int32_t)(window.slabs[before].freed_at - freed_at) <= 0;
        granules += window.slabs[before].run_granules;
        uint32_t next = unhang(before);
        if (older)
            freed_at = window.slabs[before].freed_at;
        if (older || younger == before)
            younger = next;
        run = before;
    }
    hang(run, granules, state, zeroed, freed_at, younger);
    return run;
}

/* The whole superslabs in some granules, if they may be unmapped. */
struct whole {
    uint32_t first; /* granule */
    size_t count;   /* superslabs */
};

static struct whole whole_in(uint32_t run, size_t granules)
{
    uint32_t first = (run + SUPERSLAB_GRANULES - 1) & ~(SUPERSLAB_GRANULES - 1);
    uint32_t end = (uint32_t)(run + granules) & ~(SUPERSLAB_GRANULES - 1);

    return (struct whole){first, first < end ? (end - first) / SUPERSLAB_GRANULES : 0};
}

static bool unmap(struct whole whole)
{
    return os_unmap(granule_address(whole.first), whole.count << SUPERSLAB_SHIFT);
}

/* Unmaps the whole superslabs inside a clean run. */
static void give_back(uint32_t run)
{
    size_t granules = window.slabs[run].run_granules;
    struct whole whole = whole_in(run, granules);
    uint32_t end = whole.first + (uint32_t)whole.count * SUPERSLAB_GRANULES;
    bool zeroed = window.slabs[run].zeroed;

    if (whole.count == 0 || !window_may_unmap() || !unmap(whole))
        return;
    unhang(run);
    window_unmapped(whole.first, whole.count);
    if (run < whole.first)
        hang(run, whole.first - run, RUN_CLEAN, zeroed, 0, NO_RUN);
    if (end < run + granules)
        hang(end, run + granules - end, RUN_CLEAN, zeroed, 0, NO_RUN);
}

/* The very first granule of the window is never given out. */
bool run_begin(void)
{
    if (window.base != 0)
        return true;
    if (!window_init())
        return false;
    mark(0, 1, RUN_USED);
    insert(1, SUPERSLAB_GRANULES - 1, RUN_CLEAN, true, 0);
    return true;
}

/* Commits superslabs of which a run of `granules` can begin at a multiple of `align`. Returns the clean run that
 * they are a part of; NO_RUN: out of memory. */
static uint32_t grow(size_t granules, size_t align)
{
    size_t count = (granules + SUPERSLAB_GRANULES - 1) / SUPERSLAB_GRANULES;
    size_t align_count = align <= SUPERSLAB_GRANULES ? 1 : align / SUPERSLAB_GRANULES;
    uint32_t first;

    if (!window_commit(count, align_count, &first))
        return NO_RUN;
    return insert(first, count * SUPERSLAB_GRANULES, RUN_CLEAN, true, 0);
}

/* Cuts `granules` from `offset` on out of a free run; what is left hangs on as it was. */
static uint32_t carve(uint32_t run, size_t offset, size_t granules)
{
    struct slab *entry = &window.slabs[run];
    size_t length = entry->run_granules;
    enum run_state state = (enum run_state)entry->state;
    bool zeroed = entry->zeroed;
    uint32_t freed_at = entry->freed_at;
    uint32_t younger = unhang(run);
    uint32_t taken = run + (uint32_t)offset;

    if (offset > 0)
        hang(run, offset, state, zeroed, freed_at, younger);
    if (offset + granules < length)
        hang(taken + (uint32_t)granules, length - offset - granules, state, zeroed, freed_at,
             younger);
    mark(taken, granules, RUN_USED);
    return taken;
}

/* Granules to skip in a run so that an address is a multiple of `align` granules. */
static size_t align_offset(uint32_t run, size_t align)
{
    uintptr_t number = (uintptr_t)granule_address(run) >> GRANULE_SHIFT;

    return -number & (align - 1);
}

/* Granules that are purged one by one where the kernel refuses them together: it does for the sake of a single
 * page (one that the program has locked in memory, say). */
enum { EACH_MOST = 64 };

/* The bits of those that could be purged. */
static uint64_t purge_each(uint32_t run, size_t granules)
{
    uint64_t purged = 0;

    for (size_t i = 0; i < granules && i < EACH_MOST; i++)
        purged |= (uint64_t)os_purge(granule_address(run + (uint32_t)i), GRANULE_SIZE) << i;
    return purged;
}

/* Hangs up used granules of which some were purged; the others are dirty as before. If none was, the whole run is
 * as if freed now. Returns how many were. */
static size_t insert_each(uint32_t run, size_t granules, uint64_t purged)
{
    uint32_t now = hak_clock_ms();
    uint32_t refused = NO_RUN;
    size_t count = 0;

    for (size_t i = 0; i < granules; i++)
        mark(run + (uint32_t)i, 1, RUN_USED); /* each a run of its own, for its neighbours to see */
    for (size_t i = 0; i < granules; i++) {
        if (i < EACH_MOST && purged >> i & 1) {
            give_back(insert(run + (uint32_t)i, 1, RUN_CLEAN, os_purge_zeroes(), 0));
            count++;
        } else {
            refused = insert(run + (uint32_t)i, 1, RUN_DIRTY, false, now);
        }
    }
    if (count == 0) {
        size_t length = window.slabs[refused].run_granules;
        unhang(refused);
        hang(refused, length, RUN_DIRTY, false, now, NO_RUN);
    }
    return count;
}

/* A part of a run that goes back. */
struct part {
    uint32_t first;
    size_t granules;
    enum { PART_REFUSED, PART_PURGED, PART_UNMAPPED } end;
    uint64_t each; /* of a refused one, the granules that could be purged */
};

static struct part purge_part(uint32_t first, size_t granules)
{
    struct part part = {first, granules, PART_PURGED, 0};

    if (granules > 0 && unlikely(!os_purge(granule_address(first), granules << GRANULE_SHIFT))) {
        part.end = PART_REFUSED;
        part.each = purge_each(first, granules);
    }
    return part;
}

static struct part unmap_part(struct whole whole)
{
    size_t granules = whole.count * SUPERSLAB_GRANULES;

    if (whole.count > 0 && unmap(whole))
        return (struct part){whole.first, granules, PART_UNMAPPED, 0};
    return purge_part(whole.first, granules);
}

/* Hangs up what has become of a part. Returns how many granules are no longer dirty. */
static size_t insert_part(const struct part *part, bool spare)
{
    if (part->end == PART_UNMAPPED || part->granules == 0)
        return part->granules; /* noted already */
    if (unlikely(part->end == PART_REFUSED))
        return insert_each(part->first, part->granules, part->each);
    uint32_t run = insert(part->first, part->granules, RUN_CLEAN, os_purge_zeroes(), 0);
    if (!spare)
        give_back(run);
    return part->granules;
}

/* Gives the oldest dirty run back, or its first `most` granules, without the lock meanwhile. Returns how many. 0: the
 * kernel refused them all, and they are the youngest now. `spare`: whole superslabs are not unmapped.
 * pre: the lock is held, and there is a dirty run */
static size_t purge_oldest(size_t most, bool spare)
{
    enum { PARTS = 3 };
    uint32_t run = oldest;
    size_t granules = window.slabs[run].run_granules;
    size_t purged = 0;
    struct whole whole;

    granules = granules < most ? granules : most;
    carve(run, 0, granules);
    whole = whole_in(run, granules);
    if (whole.count == 0 || spare || !window_may_unmap())
        whole = (struct whole){run, 0};
    run_unlock();
    dense_split(run, granules);
    uint32_t end = whole.first + (uint32_t)whole.count * SUPERSLAB_GRANULES;
    struct part parts[PARTS] = {
        purge_part(run, whole.first - run),
        unmap_part(whole),
        purge_part(end, run + granules - end),
    };
    run_lock();
    for (int i = 0; i < PARTS; i++) {
        if (parts[i].end == PART_UNMAPPED)
            window_unmapped(parts[i].first, whole.count);
        else if (parts[i].granules > 0)
            mark(parts[i].first, parts[i].granules, RUN_USED); /* for its neighbours to see */
    }
    for (int i = 0; i < PARTS; i++)
        purged += insert_part(&parts[i], spare);
    return purged;
}

static const size_t SPARES_FACTOR = 4;

/* Purges what is too much. As more of the kind may come, some of it stays mapped for a while, as spare superslabs: what
 * is mapped anew costs three system calls, and as much if it goes at once. */
static size_t purge_excess(size_t excess)
{
    bool spare = clean_granules + excess <= SPARES_FACTOR * hak_dirty_floor();

    if (spare) {
        atomic_store_relaxed(&has_spares, true);
        spared_at = hak_clock_ms();
    }
    return purge_oldest(excess, spare);
}

/* Unmaps the spare superslabs. Returns whether there were any. */
static bool unmap_spares(void)
{
    size_t before = window_bytes();
    uint32_t next;

    if (!has_spares)
        return false;
    atomic_store_relaxed(&has_spares, false);
    for (unsigned bin = bin_of(SUPERSLAB_GRANULES); bin < BINS; bin++)
        for (uint32_t run = bins[CLEAN][bin]; run != NO_RUN; run = next) {
            next = window.slabs[run].bin_next; /* what is left of a run falls into lower bins */
            give_back(run);
        }
    return window_bytes() < before;
}

static bool is_due(uint32_t now)
{
    /* Unsigned: a stamp that is a tick ahead of `now` counts as due, none ever waits for a wrap. */
    return oldest != NO_RUN &&
           (uint64_t)(now - window.slabs[oldest].freed_at) + 1 > CONFIG_PURGE_DELAY_MS;
}

bool run_purge_due(uint32_t now)
{
    size_t purged = 0;
    size_t step = 1;

    run_lock();
    while (step > 0 && purged < TICK_GRANULES && is_due(now))
        purged += step = purge_oldest(TICK_GRANULES - purged, false);
    bool more = step > 0 && is_due(now);
    if (!more && (uint64_t)(now - spared_at) + 1 > CONFIG_PURGE_DELAY_MS)
        unmap_spares();
    run_unlock();
    return more;
}

/* Dirty runs of which the kernel takes nothing, before those behind them are given up, too. */
enum { REFUSALS_MOST = 64 };

bool run_purge_all(void)
{
    size_t purged = 0;

    run_lock();
    for (unsigned refused = 0; oldest != NO_RUN && refused < REFUSALS_MOST;) {
        size_t step = purge_oldest(SIZE_MAX, false);
        purged += step;
        refused += step == 0;
    }
    bool unmapped = unmap_spares();
    run_unlock();
    return purged > 0 || unmapped;
}

/* Whether giving all free runs back may make room for so many granules. */
static bool giving_back_may_help(size_t granules)
{
    size_t had = dirty_granules + clean_granules;

    return granules <= had || os_can_map((granules - had) << GRANULE_SHIFT);
}

/* Purges what is more than may wait. Returns how many granules. pre: the lock is held */
static size_t keep_to_bound(void)
{
    size_t purged = 0;
    size_t step = 1;
    size_t most;

    while (step > 0 && dirty_granules > (most = hak_dirty_most(&bound, used_granules)))
        purged += step = purge_excess(dirty_granules - most);
    return purged;
}

/* A run is in use now; `fresh`: it held no memory. pre: the lock is held */
static void note_used(size_t granules, bool fresh)
{
    used_granules += granules;
    hak_dirty_track(&bound, used_granules, dirty_granules);
    if (fresh) {
        hak_dirty_took_fresh(&bound, granules);
        keep_to_bound();
    }
}

uint32_t run_alloc(size_t granules, size_t align, bool *zeroed)
{
    size_t wanted = granules + align - 1;
    uint32_t run = NO_RUN;
    unsigned refused = 0;
    bool retried = false;

    run_lock();
    while (run_begin()) {
        for (unsigned kind = 0; kind < KINDS && run == NO_RUN; kind++)
            run = bin_find(kind, wanted);
        if (run != NO_RUN)
            break;
        /* Before fresh memory is touched, what is due goes back; before failing, all of it. */
        if (!retried && is_due(hak_clock_ms()))
            purge_oldest(TICK_GRANULES, false);
        else if ((run = grow(granules, align)) != NO_RUN || !giving_back_may_help(granules))
            break;
        else if (oldest != NO_RUN && refused < REFUSALS_MOST)
            refused += purge_oldest(SIZE_MAX, false) == 0;
        else if (!unmap_spares())
            break;
        retried = true;
    }
    if (run != NO_RUN) {
        bool fresh = window.slabs[run].state == RUN_CLEAN;
        *zeroed = fresh && window.slabs[run].zeroed;
        run = carve(run, align_offset(run, align), granules);
        window_show(run, granules);
        dense_given(run, granules);
        note_used(granules, fresh);
    }
    run_unlock();
    return run;
}

/* So much freed at once is left out of core dumps until it is used again. That costs two system calls: nothing beside
 * what writing to so much memory takes. */
static const size_t HIDE_GRANULES_LEAST = (size_t)16 << 20 >> GRANULE_SHIFT;

/* Hides the superslabs of a freed run that stay for a while. */
static void hide(uint32_t first, size_t granules)
{
    size_t most = hak_dirty_most(&bound, used_granules);
    size_t stay = granules < most ? granules : most;
    struct whole whole = whole_in(first + (uint32_t)(granules - stay), stay);

    if (granules >= HIDE_GRANULES_LEAST && whole.count > 0)
        window_hide(whole.first, whole.count);
}

void run_free(uint32_t first, size_t granules, bool clean)
{
    run_lock();
    dense_returned(first, granules);
    uint32_t now = hak_clock_ms();
    uint32_t run = insert(first, granules, clean ? RUN_CLEAN : RUN_DIRTY, clean, now);
    used_granules -= granules;
    hak_dirty_note(&bound, used_granules, dirty_granules, now);
    if (clean)
        give_back(run);
    else
        hide(first, granules);
    hak_dirty_gave_back(&bound, keep_to_bound());
    run_unlock();
}

bool run_extend(uint32_t first, size_t granules)
{
    bool extended = false;

    run_lock();
    size_t length = window.slabs[first].run_granules;
    uint32_t next = run_after(first, length);
    if (next != NO_RUN && window.slabs[next].state >= RUN_DIRTY &&
        window.slabs[next].run_granules >= granules - length) {
        bool fresh = window.slabs[next].state == RUN_CLEAN;
        carve(next, 0, granules - length);
        window_show(next, granules - length);
        dense_given(next, granules - length);
        mark(first, granules, RUN_USED);
        note_used(granules - length, fresh);
        extended = true;
    }
    run_unlock();
    return extended;
}

void run_trim(uint32_t first, size_t granules, bool clean)
{
    size_t length = window.slabs[first].run_granules;

    run_lock();
    mark(first, granules, RUN_USED);
    mark(first + (uint32_t)granules, length - granules, RUN_USED);
    run_unlock();
    run_free(first + (uint32_t)granules, length - granules, clean);
}

bool run_valid(void)
{
    size_t dirty = 0;
    size_t clean = 0;

    for (size_t granule = 0; granule < window_granules();) {
        if (!window_committed(granule)) {
            granule += SUPERSLAB_GRANULES;
            continue;
        }
        struct slab *run = &window.slabs[granule];
        size_t length = run->run_granules;
        if (length == 0 || run->state == RUN_NONE || !window_committed(granule + length - 1) ||
            window.slabs[granule + length - 1].run_granules != length ||
            window.slabs[granule + length - 1].state != run->state)
            return false;
        if (run->state == RUN_DIRTY)
            dirty += length;
        if (run->state == RUN_CLEAN)
            clean += length;
        if (run->state >= RUN_DIRTY &&
            joins(run_after((uint32_t)granule, length), (enum run_state)run->state, run->zeroed))
            return false;
        granule += length;
    }
    return dirty == dirty_granules && clean == clean_granules;
}
