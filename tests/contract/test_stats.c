/* SPDX-License-Identifier: MIT */
/* Statistics and walks are exact when no other thread is inside the allocator. */
#include <hakmem/stats.h>

#include <criterion/criterion.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/atomic.h"
#include "core/backend.h"
#include "core/os.h"
#include "core/page_set.h"
#include "core/size_class.h"
#include "tests/contract/support.h"

enum { COUNT = 20000 };
static void *blocks[COUNT];

static struct hak_stats now(void)
{
    struct hak_stats stats;

    require(hak_stats_get(&stats, sizeof(stats)) == sizeof(stats));
    return stats;
}

static void cr_assert_adds_up(const struct hak_stats *stats)
{
    cr_assert_eq(stats->exact, 1);
    cr_assert_eq(stats->mapped, stats->slabs + stats->large + stats->dirty + stats->clean);
    cr_assert_eq(stats->slabs,
                 stats->live + stats->cached + stats->kept + stats->free + stats->uncut);
    cr_assert_eq(stats->classes, HAK_CLASSES);
    cr_assert_leq(stats->purged, stats->slabs);
    cr_assert_leq(stats->huge, stats->mapped);
    cr_assert_gt(stats->metadata, 0);
}

static void allocate(size_t size, size_t from, size_t to)
{
    for (size_t i = from; i < to; i++)
        require((blocks[i] = hak_malloc(size)) != NULL);
}

static void release(size_t from, size_t to)
{
    for (size_t i = from; i < to; i++) {
        hak_free(blocks[i]);
        blocks[i] = NULL;
    }
}

Test(stats, nothing_is_live_at_first)
{
    struct hak_stats stats = now();

    cr_assert_eq(stats.exact, 1);
    cr_assert_eq(stats.live, 0);
    cr_assert_eq(stats.live_blocks, 0);
    cr_assert_eq(stats.mapped, stats.slabs + stats.large + stats.dirty + stats.clean);
}

Test(stats, live_blocks_of_each_class_are_counted_exactly)
{
    for (unsigned i = 0; i < HAK_CLASSES; i++) {
        size_t count = 1 + 3000 / (i + 1);
        allocate(hak_class_sizes[i], 0, count);
        struct hak_stats stats = now();
        cr_assert_adds_up(&stats);
        for (unsigned k = 0; k < HAK_CLASSES; k++)
            cr_assert_eq(stats.by_class[k].live, k == i ? count : 0);
        cr_assert_eq(stats.by_class[i].size, hak_class_sizes[i]);
        cr_assert_eq(stats.live, count * hak_class_sizes[i]);
        cr_assert_eq(stats.live_blocks, count);
        cr_assert_gt(stats.by_class[i].slabs, 0);
        release(0, count);
    }
}

Test(stats, what_caches_hold_is_not_live)
{
    allocate(100, 0, 5000);
    release(1000, 5000);
    struct hak_stats stats = now();
    unsigned index = hak_class_index(hak_class_of(100));
    const struct hak_stats_class *of = &stats.by_class[index];

    cr_assert_adds_up(&stats);
    cr_assert_eq(of->live, 1000);
    cr_assert_gt(of->cached + of->kept, 0);
    cr_assert_eq(of->refilled - of->flushed, of->live + of->cached);
    release(0, 1000);
    stats = now();
    cr_assert_adds_up(&stats);
    cr_assert_eq(stats.live_blocks, 0);
}

static void *release_half(void *unused)
{
    hak_free(hak_malloc(48));
    release(0, COUNT / 2);
    return unused;
}

Test(stats, blocks_freed_by_another_thread_are_not_live)
{
    allocate(48, 0, COUNT);
    on_new_thread(release_half, NULL);
    struct hak_stats stats = now();

    cr_assert_adds_up(&stats);
    cr_assert_eq(stats.live_blocks, COUNT / 2);
    cr_assert_eq(stats.by_class[hak_class_index(hak_class_of(48))].live, COUNT / 2);
    cr_assert_eq(stats.heaps, 2);
    cr_assert_eq(stats.parked, 1);
}

static pthread_barrier_t barrier;

static void *release_half_and_wait(void *unused)
{
    hak_free(hak_malloc(48));
    release(0, COUNT / 2);
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier);
    return unused;
}

/* Its cache and what is on its way to our slabs are counted as they are. */
Test(stats, a_thread_that_waits_does_not_make_figures_approximate)
{
    pthread_t thread;

    pthread_barrier_init(&barrier, NULL, 2);
    allocate(48, 0, COUNT);
    cr_assert_eq(pthread_create(&thread, NULL, release_half_and_wait, NULL), 0);
    pthread_barrier_wait(&barrier);
    struct hak_stats stats = now();
    pthread_barrier_wait(&barrier);
    pthread_join(thread, NULL);
    cr_assert_adds_up(&stats);
    cr_assert_eq(stats.live_blocks, COUNT / 2);
    cr_assert_eq(stats.parked, 0);
}

Test(stats, large_blocks_are_counted)
{
    size_t usable = 0;

    for (size_t i = 0; i < 50; i++) {
        allocate(HAK_SMALL_MAX + 1 + i * 100000, i, i + 1);
        usable += hak_malloc_usable_size(blocks[i]);
    }
    struct hak_stats stats = now();
    cr_assert_adds_up(&stats);
    cr_assert_eq(stats.large_blocks, 50);
    cr_assert_eq(stats.live_blocks, 50);
    cr_assert_eq(stats.large, usable);
    release(0, 50);
    stats = now();
    cr_assert_adds_up(&stats);
    cr_assert_eq(stats.large, 0);
}

Test(stats, a_purge_leaves_nothing_dirty)
{
    allocate(1000, 0, COUNT);
    for (size_t i = 0; i < COUNT; i++)
        memset(blocks[i], 1, 1000);
    release(0, COUNT);
    bool purged = hak_purge();
    struct hak_stats stats = now();
    cr_assert_adds_up(&stats);
    cr_assert(purged || stats.free == 0, "a back end may keep nothing");
    cr_assert_eq(stats.dirty, 0);
    cr_assert_eq(stats.cached + stats.kept, 0);
    cr_assert_eq(stats.live_blocks, 0);
    cr_assert(!hak_purge(), "nothing is left to give back");
}

Test(stats, an_older_or_newer_caller_gets_what_it_knows)
{
    struct {
        struct hak_stats known;
        uint64_t more[4];
    } newer;

    memset(&newer, 0xff, sizeof(newer));
    cr_assert_eq(hak_stats_get(&newer.known, 3 * sizeof(uint64_t)), 3 * sizeof(uint64_t));
    cr_assert_eq(newer.known.exact, 1);
    cr_assert_eq(newer.known.live, UINT64_MAX, "beyond what the caller knows");
    cr_assert_eq(hak_stats_get(&newer.known, sizeof(newer)), sizeof(newer.known));
    cr_assert_eq(newer.more[3], 0);
}

/* ── walks ───────────────────────────────────────────────────────────────────────────────────── */

static struct {
    size_t count;
    size_t most;
    void *block[COUNT + 1];
} walked;

static bool note(void *block, size_t size, bool large, void *context)
{
    require(context == &walked);
    require(large == (size > HAK_SMALL_MAX));
    require(walked.count == 0 || walked.block[walked.count - 1] < block);
    require(walked.count < COUNT + 1);
    require(hak_malloc_usable_size(block) == size);
    walked.block[walked.count++] = block;
    return walked.count != walked.most;
}

static int by_address(const void *left, const void *right)
{
    uintptr_t l = (uintptr_t) * (void *const *)left, r = (uintptr_t) * (void *const *)right;

    return (l > r) - (l < r);
}

static void cr_assert_walk_finds(size_t count)
{
    void **expected = malloc((count + 1) * sizeof(void *));
    size_t live = 0;

    for (size_t i = 0; i < COUNT; i++)
        if (blocks[i])
            expected[live++] = blocks[i];
    cr_assert_eq(live, count);
    qsort(expected, live, sizeof(void *), by_address);
    walked.count = walked.most = 0;
    cr_assert(hak_walk(note, &walked));
    cr_assert_eq(walked.count, count);
    cr_assert_eq(memcmp(expected, walked.block, count * sizeof(void *)), 0);
    free(expected);
}

Test(stats, a_walk_visits_just_the_live_blocks)
{
    uint64_t random = 5;
    size_t live = 0;

    cr_assert_walk_finds(0);
    for (int round = 0; round < 20; round++) {
        for (int i = 0; i < 3000; i++) {
            size_t at = random_below(&random, 4000);
            if (blocks[at]) {
                release(at, at + 1);
                live--;
            } else {
                allocate(random_size(&random, 200000), at, at + 1);
                live++;
            }
        }
        cr_assert_walk_finds(live);
    }
    hak_malloc_trim(0);
    cr_assert_walk_finds(live);
}

Test(stats, a_walk_sees_what_others_freed)
{
    allocate(200, 0, 10001);
    on_new_thread(release_half, NULL);
    cr_assert_walk_finds(1);
}

Test(stats, a_walk_ends_when_told)
{
    allocate(64, 0, 100);
    walked.count = 0;
    walked.most = 7;
    cr_assert(!hak_walk(note, &walked));
    cr_assert_eq(walked.count, 7);
}

/* ── trim ────────────────────────────────────────────────────────────────────────────────────── */

/* Of partly live slabs no page is left that no live block overlaps, in back ends that purge any. Of blocks longer than
 * a page the statistics do not count all pages that have gone. */
/* Most bytes that are left of a slab for one live block: what it overlaps, and of longer blocks the free neighbours that
 * begin or end in a page of it. */
static size_t held_by_one(size_t size)
{
    size_t page = os_page_size();

    if (size % page == 0)
        return size;
    return size < page ? 2 * page : 3 * size + 2 * page;
}

Test(stats, trim_leaves_only_the_pages_of_live_blocks)
{
    static const size_t BYTES = (size_t)64 << 20; /* of a class, some dozen slabs */

    if (enabled(CONFIG_HUGE_PAGES_ALWAYS))
        cr_skip_test("huge pages hold what lies beside the blocks");
    if (!BACKEND_PURGES_SLABS)
        cr_skip_test("slabs with live blocks keep their pages in this back end");
    for (unsigned i = 0; i < HAK_CLASSES; i += hak_class_sizes[i] < os_page_size() ? 3 : 1) {
        size_t size = hak_class_sizes[i];
        size_t count = size * COUNT < BYTES ? COUNT : BYTES / size;
        size_t live = 0;
        allocate(size, 0, count);
        for (size_t k = 0; k < count; k++)
            if (k % 100 == 0)
                live++;
            else
                release(k, k + 1);
        cr_assert(hak_malloc_trim(0));
        struct hak_stats stats = now();
        cr_assert_adds_up(&stats);
        cr_assert_eq(stats.live, live * size);
        cr_assert_eq(stats.dirty, 0);
        /* The last page of each slab may hold what was never cut. */
        cr_assert_leq(stats.slabs - stats.uncut - stats.purged,
                      live * held_by_one(size) + stats.by_class[i].slabs * os_page_size(),
                      "of %zu bytes", size);
        cr_assert_leq(stats.purged, stats.slabs - stats.uncut - live * size, "of %zu bytes", size);
        release(0, count);
    }
}

/* ── a crowd of threads ──────────────────────────────────────────────────────────────────────── */

enum { CROWD = 600, EACH = 20, A_FEW = 3 };

static size_t crowd_size(int i)
{
    return 50 + (size_t)i * 90;
}

static pthread_barrier_t have;
static pthread_barrier_t seen;

static void *have_a_few(void *unused)
{
    void *mine[EACH];

    for (int i = 0; i < EACH; i++)
        require((mine[i] = hak_malloc(crowd_size(i))) != NULL);
    pthread_barrier_wait(&have);
    pthread_barrier_wait(&seen);
    for (int i = 0; i < EACH; i++)
        hak_free(mine[i]);
    return unused;
}

/* As many threads as the system gives, up to so many; the others are not started, and the barriers count them out. */
static size_t start_crowd(pthread_t *threads)
{
    pthread_attr_t small;
    size_t started = 0;

    cr_assert_eq(pthread_attr_init(&small), 0);
    cr_assert_eq(pthread_attr_setstacksize(&small, (size_t)128 << 10), 0);
    pthread_barrier_init(&have, NULL, CROWD + 1);
    pthread_barrier_init(&seen, NULL, CROWD + 1);
    while (started < CROWD && pthread_create(&threads[started], &small, have_a_few, NULL) == 0)
        started++;
    pthread_attr_destroy(&small);
    return started;
}

/* With fewer classes, more of the sizes meet in one, which a thread then uses. */
static bool classes_get_a_few(void)
{
    for (int i = A_FEW; i < EACH; i++)
        if (hak_class_of(crowd_size(i)) == hak_class_of(crowd_size(i - A_FEW)))
            return false;
    return true;
}

/* Threads beyond CONFIG_CROWD_THREADS that have a few blocks of many sizes have not much more than these. */
Test(stats, a_crowd_of_threads_takes_little)
{
    static pthread_t threads[CROWD];
    const size_t plenty = CONFIG_CROWD_THREADS < CROWD ? CONFIG_CROWD_THREADS + 1 : CROWD;

    if (plenty > CROWD / 4)
        cr_skip_test("so many threads are no crowd: CROWD_THREADS is %d", CONFIG_CROWD_THREADS);
    if (!classes_get_a_few())
        cr_skip_test("a class gets more than %d of a thread's blocks", A_FEW);
    size_t started = start_crowd(threads);
    if (started < CROWD)
        cr_skip_test("the system gives %zu threads; see ulimit -u", started);
    pthread_barrier_wait(&have);
    struct hak_stats stats = now();
    pthread_barrier_wait(&seen);
    for (size_t i = 0; i < CROWD; i++)
        cr_assert_eq(pthread_join(threads[i], NULL), 0);
    cr_assert_adds_up(&stats);
    cr_assert_eq(stats.live_blocks, CROWD * EACH);
    /* Of the first threads each may have a chain of every class. */
    cr_assert_leq(stats.cached + stats.kept + stats.free,
                  (CROWD - plenty) * 1024 + plenty * EACH * 8192);
    /* Those have slabs of their own, the others share. */
    cr_assert_leq(stats.slabs, stats.live * 5 / 4 + EACH * (plenty + 32) * HAK_SLAB_GRANULE);
    require_valid_heap();
}

/* ── blocks that travel ──────────────────────────────────────────────────────────────────────── */

/* Blocks that one thread allocates and the next frees, as where a scheduler moves tasks between threads: each thread
 * in its turn replaces all of them several times. */
enum { TRAVELLERS = 8, TRAVELLING = 256, STEPS = 4 * TRAVELLING };

static void *travelling[TRAVELLING];
static pthread_barrier_t next_turn;
static unsigned turn;
static bool is_over;

static size_t traveller_size(unsigned step)
{
    return 16 + step * 7919u % 4000;
}

static void *replace_in_turn(void *number)
{
    for (;;) {
        pthread_barrier_wait(&next_turn);
        if (is_over)
            return NULL;
        for (unsigned i = 0; turn == (unsigned)(uintptr_t)number && i < STEPS; i++) {
            hak_free(travelling[i % TRAVELLING]);
            require((travelling[i % TRAVELLING] = hak_malloc(traveller_size(i))) != NULL);
        }
        pthread_barrier_wait(&next_turn);
    }
}

/* Bytes of slabs that have been used, when each thread has had some turns. */
static size_t used_after(unsigned turns)
{
    for (unsigned i = 0; i < turns * TRAVELLERS; i++) {
        turn = i % TRAVELLERS;
        pthread_barrier_wait(&next_turn);
        pthread_barrier_wait(&next_turn);
    }
    struct hak_stats stats = now();
    cr_assert_adds_up(&stats);
    cr_assert_eq(stats.live_blocks, TRAVELLING);
    return stats.slabs - stats.uncut - stats.purged;
}

/* A thread keeps what its own share of the blocks took when it was largest, and no turn adds to that. */
Test(stats, blocks_that_travel_take_no_more_with_time)
{
    pthread_t threads[TRAVELLERS];
    size_t most = 0; /* bytes that are live at a time */

    for (unsigned i = 0; i < STEPS; i++)
        most += traveller_size(i) / (STEPS / TRAVELLING);
    pthread_barrier_init(&next_turn, NULL, TRAVELLERS + 1);
    for (uintptr_t i = 0; i < TRAVELLERS; i++)
        cr_assert_eq(pthread_create(&threads[i], NULL, replace_in_turn, (void *)i), 0);
    size_t few = used_after(3);
    size_t many = used_after(30);
    is_over = true;
    pthread_barrier_wait(&next_turn);
    for (unsigned i = 0; i < TRAVELLERS; i++)
        cr_assert_eq(pthread_join(threads[i], NULL), 0);
    for (unsigned i = 0; i < TRAVELLING; i++)
        hak_free(travelling[i]);
    cr_assert_leq(many, few + few / 16);
    cr_assert_leq(few, TRAVELLERS * most * 3 / 2 + CONFIG_CACHE_BYTES);
    require_valid_heap();
}

/* ── text ────────────────────────────────────────────────────────────────────────────────────── */

static void write_to_pipe(const char *text, size_t length, void *to)
{
    require(fwrite(text, 1, length, to) == length);
}

/* Python reads it, and prints what is compared here. */
Test(stats, json_says_what_the_struct_says)
{
    static const char script[] =
        "python3 -c 'import json, sys; s = json.load(sys.stdin); t = s[\"by_class\"]; "
        "print(s[\"exact\"], *(s[name] for name in (\"mapped\", \"slabs\", \"live\", \"cached\", "
        "\"kept\", "
        "\"free\", \"uncut\", \"large\", \"dirty\", \"clean\", \"purged\", \"metadata\", \"huge\", "
        "\"live_blocks\", "
        "\"large_blocks\", \"heaps\", \"parked\")), sum(c[\"live\"] for c in t), "
        "sum(c[\"live\"] * c[\"size\"] for c in t))'";
    char command[1024], said[512], expected[512];
    FILE *file = tmpfile();

    allocate(100, 0, 1234);
    allocate(300000, 1234, 1240);
    allocate(5000, 1240, 1300);
    cr_assert_not_null(file);
    snprintf(command, sizeof(command), "%s >&%d", script, fileno(file));
    FILE *python = popen(command, "w");
    hak_stats_json(write_to_pipe, python);
    struct hak_stats stats = now();
    cr_assert_eq(pclose(python), 0);
    const uint64_t members[] = {
        stats.mapped, stats.slabs,    stats.live,  stats.cached,      stats.kept,
        stats.free,   stats.uncut,    stats.large, stats.dirty,       stats.clean,
        stats.purged, stats.metadata, stats.huge,  stats.live_blocks, stats.large_blocks,
        stats.heaps,  stats.parked,   1294,        stats.live};
    int at = snprintf(expected, sizeof(expected), "True");
    for (size_t i = 0; i < sizeof(members) / sizeof(*members); i++)
        at += snprintf(expected + at, sizeof(expected) - (size_t)at, " %ju", (uintmax_t)members[i]);
    snprintf(expected + at, sizeof(expected) - (size_t)at, "\n");
    ssize_t length = pread(fileno(file), said, sizeof(said) - 1, 0);
    said[length > 0 ? length : 0] = '\0';
    cr_assert_str_eq(said, expected);
    fclose(file);
}

Test(stats, the_table_names_what_it_counts)
{
    char text[8192];
    int ends[2];

    cr_assert_eq(pipe(ends), 0);
    hak_stats_print(ends[1]);
    close(ends[1]);
    ssize_t length = read(ends[0], text, sizeof(text) - 1);
    text[length] = '\0';
    cr_assert(strstr(text, "  live_blocks\n"));
    cr_assert(strstr(text, hak_config()));
    close(ends[0]);
}

/* ── other threads, other times ──────────────────────────────────────────────────────────────── */

enum { HAMMERS = 8 };
static bool over; /* atomic */

static void *hammer(void *seed)
{
    uint64_t random = (uintptr_t)seed;
    void *mine[64] = {NULL};

    while (!atomic_load_relaxed(&over)) {
        size_t at = random_below(&random, 64);
        hak_free(mine[at]);
        mine[at] = hak_malloc(random_size(&random, 100000));
    }
    for (size_t i = 0; i < 64; i++)
        hak_free(mine[i]);
    return NULL;
}

static bool note_nothing(void *block, size_t size, bool large, void *count)
{
    (void)block;
    (void)size;
    (void)large;
    ++*(size_t *)count;
    return true;
}

Test(stats, under_eight_threads_figures_are_marked_and_nothing_breaks)
{
    pthread_t threads[HAMMERS];
    size_t approximate = 0;

    for (uintptr_t i = 0; i < HAMMERS; i++)
        cr_assert_eq(pthread_create(&threads[i], NULL, hammer, (void *)(i + 1)), 0);
    /* On a busy machine it takes a while until a thread is interrupted inside. */
    for (int i = 0; i < 50 || (approximate == 0 && i < 1000000); i++) {
        struct hak_stats stats = now();
        size_t count = 0;
        approximate += !stats.exact;
        cr_assert_leq(stats.live_blocks, 1000000);
        cr_assert_leq(stats.cached, 2 * (HAMMERS + 1) * CONFIG_CACHE_BYTES);
        approximate += !hak_walk(note_nothing, &count);
        cr_assert_leq(count, 1000000);
    }
    atomic_store_relaxed(&over, true);
    for (int i = 0; i < HAMMERS; i++)
        pthread_join(threads[i], NULL);
    cr_assert_gt(approximate, 0);
    struct hak_stats stats = now();
    cr_assert_adds_up(&stats);
    cr_assert_eq(stats.live_blocks, 0);
}

Test(stats, a_forked_child_counts)
{
    int status;

    allocate(100, 0, 1000);
    allocate(1000000, 1000, 1003);
    pid_t pid = fork();
    if (pid == 0) {
        struct hak_stats stats = now();
        require(stats.exact && stats.live_blocks == 1003);
        release(0, 500);
        require(now().live_blocks == 503);
        _exit(0);
    }
    cr_assert_eq(waitpid(pid, &status, 0), pid);
    cr_assert_eq(status, 0);
}

static void count_at_exit(void)
{
    struct hak_stats stats = now();

    require(stats.exact && stats.live_blocks == 10);
}

static void count_in_handler(void)
{
    require(now().live_blocks == 10);
}

Test(stats, at_exit_and_in_fork_handlers)
{
    int status;

    allocate(100, 0, 10);
    cr_assert_eq(pthread_atfork(count_in_handler, count_in_handler, count_in_handler), 0);
    pid_t pid = fork();
    if (pid == 0) {
        atexit(count_at_exit);
        exit(0);
    }
    cr_assert_eq(waitpid(pid, &status, 0), pid);
    cr_assert_eq(status, 0);
    struct hak_stats stats = now();
    cr_assert_adds_up(&stats);
}
