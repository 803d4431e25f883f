/* SPDX-License-Identifier: MIT */
/* Memory comes back: within the configured delay as long as any thread makes slow-path calls, and with the purge
 * thread when none does. Built twice, with that thread and without. */
#define _GNU_SOURCE
#include <criterion/criterion.h>
#include <dirent.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/heap.h"
#include "core/os.h"
#include "tests/contract/clock.h"
#include "tests/contract/support.h"

static const size_t MIB = (size_t)1 << 20;

/* What lies in a cache is let go after one delay, what is kept at hand or in a store for all after another, and the
 * slab that it kept alive becomes due after a third. */
enum { BOUND_MS = 3 * CONFIG_PURGE_DELAY_MS + 100 };

static size_t start;

static size_t since_start(void)
{
    size_t now = resident_bytes();

    return now > start ? now - start : 0;
}

#define left_at_most(bytes)                                                                        \
    do {                                                                                           \
        size_t left_ = since_start();                                                              \
        cr_assert_leq(left_, bytes, "%zu KiB are left, of %zu", left_ >> 10,                       \
                      (size_t)(bytes) >> 10);                                                      \
    } while (0)

#define skip_where_nothing_is_overdue()                                                            \
    do {                                                                                           \
        if (!BACKEND_TICKS)                                                                        \
            cr_skip_test("nothing is ever overdue in this back end");                              \
    } while (0)

/* Where pages between live blocks, or between those in a cache, go back. */
#define skip_where_slabs_keep_their_pages()                                                        \
    do {                                                                                           \
        if (!BACKEND_PURGES_SLABS)                                                                 \
            cr_skip_test("slabs with live blocks keep their pages in this back end");              \
    } while (0)

#define skip_without_purge_thread()                                                                \
    do {                                                                                           \
        if (!enabled(CONFIG_PURGE_THREAD))                                                         \
            cr_skip_test("CONFIG_PURGE_THREAD is off");                                            \
    } while (0)

/* Where single pages of 4 KiB go back. */
#define skip_without_small_pages()                                                                 \
    do {                                                                                           \
        if (os_page_size() != 4096 || enabled(CONFIG_HUGE_PAGES_ALWAYS))                           \
            cr_skip_test("pages are larger than 4 KiB");                                           \
    } while (0)

/* Slow-path calls for so long, a few at a time, of a thread that does other things in between. They leave nothing
 * behind. */
static void call_for(uint32_t ms)
{
    const uint32_t between = CONFIG_PURGE_DELAY_MS / 250 + 1;
    uint32_t began = hak_clock_ms();

    do {
        void *large[40];
        for (int i = 0; i < 40; i++)
            require((large[i] = hak_malloc(HAK_SMALL_MAX + 1)) != NULL);
        for (int i = 0; i < 40; i++)
            hak_free(large[i]);
        clock_advance(between);
    } while (hak_clock_ms() - began < ms);
}

/* ── a heap that was full ────────────────────────────────────────────────────────────────────── */

enum { BLOCKS = 100000 };

static void **blocks;

/* Of many sizes, most of them small; the array itself is none of the allocator's. */
static void fill(void)
{
    uint64_t random = 88172645463325252u;

    if (blocks == NULL)
        require((blocks = os_map(BLOCKS * sizeof(*blocks))) != NULL);
    memset(blocks, 0, BLOCKS * sizeof(*blocks));
    start = resident_bytes();
    for (size_t i = 0; i < BLOCKS; i++) {
        size_t size = i % 1000 == 0 ? 50000 : 16 + random_below(&random, i % 50 == 0 ? 8000 : 800);
        require((blocks[i] = hak_malloc(size)) != NULL);
        memset(blocks[i], 1, size);
    }
}

static void shuffle(void)
{
    uint64_t random = 1;

    for (size_t i = BLOCKS; i-- > 1;) {
        size_t other = random_below(&random, i + 1);
        void *block = blocks[i];
        blocks[i] = blocks[other];
        blocks[other] = block;
    }
}

/* All but one of so many. */
static void free_but(size_t kept)
{
    for (size_t i = 0; i < BLOCKS; i++)
        if (i % kept != 0) {
            hak_free(blocks[i]);
            blocks[i] = NULL;
        }
}

static void free_all(void)
{
    for (size_t i = 0; i < BLOCKS; i++)
        hak_free(blocks[i]);
}

Test(decay, what_a_thread_has_freed_goes_while_it_goes_on)
{
    skip_where_nothing_is_overdue();
    for (int round = 0; round < 2; round++) {
        fill();
        shuffle();
        free_all();
        call_for(BOUND_MS);
        left_at_most(4 * MIB);
    }
}

/* A page stays for each block that lives on, two at a border of pages; and a large block as it is. */
Test(decay, whole_pages_between_live_blocks_go)
{
    size_t left = BLOCKS / 200 * (2 * 4096 + 1000) + BLOCKS / 1000 * 65536;

    skip_where_nothing_is_overdue();
    skip_where_slabs_keep_their_pages();
    skip_without_small_pages();
    fill();
    free_but(200);
    call_for(BOUND_MS);
    left_at_most(left + 4 * MIB);
    free_all();
    call_for(BOUND_MS);
    left_at_most(4 * MIB);
}

/* ── one thread frees, another calls ─────────────────────────────────────────────────────────── */

static pthread_barrier_t freed;
static pthread_barrier_t measured;

static void *free_and_sleep(void *unused)
{
    fill();
    free_all();
    pthread_barrier_wait(&freed);
    pthread_barrier_wait(&measured);
    return unused;
}

static void *fill_and_sleep(void *unused)
{
    fill();
    pthread_barrier_wait(&freed);
    pthread_barrier_wait(&measured);
    return unused;
}

static pthread_t start_thread(void *(*function)(void *))
{
    pthread_t thread;

    pthread_barrier_init(&freed, NULL, 2);
    pthread_barrier_init(&measured, NULL, 2);
    cr_assert_eq(pthread_create(&thread, NULL, function, NULL), 0);
    pthread_barrier_wait(&freed);
    return thread;
}

static void end_thread(pthread_t thread)
{
    pthread_barrier_wait(&measured);
    cr_assert_eq(pthread_join(thread, NULL), 0);
}

/* The sleeper's cache stays, and with it the slabs that its blocks lie in. */
Test(decay, what_a_thread_has_freed_goes_while_it_sleeps_and_another_calls)
{
    skip_where_nothing_is_overdue();
    hak_free(hak_malloc(1));
    pthread_t thread = start_thread(free_and_sleep);
    call_for(BOUND_MS);
    left_at_most(16 * MIB);
    end_thread(thread);
}

Test(decay, what_another_frees_of_a_sleepers_goes)
{
    skip_where_nothing_is_overdue();
    hak_free(hak_malloc(1));
    pthread_t thread = start_thread(fill_and_sleep);
    free_all();
    call_for(BOUND_MS);
    left_at_most(4 * MIB);
    end_thread(thread);
}

static void *just_fill(void *unused)
{
    fill();
    return unused;
}

Test(decay, what_is_freed_of_a_thread_that_has_ended_goes)
{
    skip_where_nothing_is_overdue();
    hak_free(hak_malloc(1));
    on_new_thread(just_fill, NULL);
    free_all();
    call_for(BOUND_MS);
    left_at_most(4 * MIB);
}

/* ── what has gone is cut again ──────────────────────────────────────────────────────────────── */

enum { CUTTERS = 4, CUT_BLOCKS = 12000, CUT_ROUNDS = 3 };

/* Fills, thins out, goes on until pages have gone, and fills again, each time with another share of what stays. All
 * the while nobody writes into anybody's blocks. */
static void *thin_out_and_fill(void *argument)
{
    static unsigned char *all[CUTTERS][CUT_BLOCKS];
    static size_t sizes[CUTTERS][CUT_BLOCKS];
    unsigned char **mine = all[(size_t)argument];
    size_t *size = sizes[(size_t)argument];
    uint64_t random = 7 + (uint64_t)(size_t)argument;

    for (int round = 0; round < CUT_ROUNDS; round++) {
        for (size_t i = 0; i < CUT_BLOCKS; i++) {
            if (mine[i])
                continue;
            size[i] = i % 3 == 0 ? 64 : 1 + random_size(&random, i % 40 == 0 ? 20000 : 1500);
            require((mine[i] = hak_malloc(size[i])) != NULL);
            pattern_fill(mine[i], size[i], i);
        }
        for (size_t i = 0; i < CUT_BLOCKS; i++) {
            require(pattern_holds(mine[i], size[i], mine[i], i));
            if (i / 100 % 20 == (size_t)round)
                continue;
            hak_free(mine[i]);
            mine[i] = NULL;
        }
        call_for(CONFIG_PURGE_DELAY_MS + CONFIG_PURGE_DELAY_MS / 4);
        require_valid_heap();
    }
    for (size_t i = 0; i < CUT_BLOCKS; i++) {
        require(mine[i] == NULL || pattern_holds(mine[i], size[i], mine[i], i));
        hak_free(mine[i]);
    }
    return NULL;
}

Test(decay, what_has_gone_is_cut_again_and_nobody_gets_it_twice)
{
    pthread_t threads[CUTTERS];

    skip_where_nothing_is_overdue();
    for (size_t i = 0; i < CUTTERS; i++)
        cr_assert_eq(pthread_create(&threads[i], NULL, thin_out_and_fill, (void *)i), 0);
    for (size_t i = 0; i < CUTTERS; i++)
        cr_assert_eq(pthread_join(threads[i], NULL), 0);
    require_valid_heap();
}

/* ── a change of phase ───────────────────────────────────────────────────────────────────────── */

enum { SMALL_BLOCKS = 400000, LARGER_BYTES = 259 << 20, LARGER_MOST = LARGER_BYTES / 500 };

Test(decay, a_change_of_phase_leaves_little_behind)
{
    uint64_t random = 88172645463325252u;
    size_t bytes = 0;
    size_t count = 0;

    skip_where_nothing_is_overdue();
    skip_where_slabs_keep_their_pages();
    skip_without_small_pages();
    if (!enabled(CONFIG_CLASS_STEPS_4) || !enabled(CONFIG_CLASS_FINER))
        cr_skip_test("the bounds were measured with other size classes");
    void **small = os_map(SMALL_BLOCKS * sizeof(*small));
    void **larger = os_map(LARGER_MOST * sizeof(*larger));
    cr_assert(small && larger);
    memset(small, 1, SMALL_BLOCKS * sizeof(*small));
    memset(larger, 1, LARGER_MOST * sizeof(*larger));
    start = resident_bytes();
    for (size_t i = 0; i < SMALL_BLOCKS; i++) {
        size_t size = 16 + random_below(&random, 500);
        memset(small[i] = hak_malloc(size), 1, size);
    }
    size_t full = since_start();
    for (size_t i = 0; i < SMALL_BLOCKS; i++)
        if (random_below(&random, 10) > 0) {
            hak_free(small[i]);
            small[i] = NULL;
        }
    call_for(1500);
    size_t thinned = since_start();
    while (bytes < LARGER_BYTES && count < LARGER_MOST) {
        size_t size = 500 + random_below(&random, 500);
        memset(larger[count++] = hak_malloc(size), 1, size);
        bytes += size;
    }
    size_t refilled = since_start();
    for (size_t i = 0; i < SMALL_BLOCKS; i++)
        hak_free(small[i]);
    for (size_t i = 0; i < count; i++)
        hak_free(larger[i]);
    call_for(1500);
    cr_log_info("full %zu, thinned out %zu, refilled %zu, freed %zu MiB", full / MIB, thinned / MIB,
                refilled / MIB, since_start() / MIB);
    cr_assert_leq(full, 115 * MIB);
    cr_assert_leq(thinned, 84 * MIB);
    cr_assert_leq(refilled, 355 * MIB);
    left_at_most(25 * MIB);
}

/* ── all threads sleep ───────────────────────────────────────────────────────────────────────── */

/* The threads of this process, by their names. */
static size_t count_threads(const char *name, char *path, size_t path_size)
{
    DIR *tasks = opendir("/proc/self/task");
    struct dirent *entry;
    size_t count = 0;

    cr_assert_not_null(tasks);
    while ((entry = readdir(tasks)) != NULL) {
        char file[300];
        char text[64] = "";
        snprintf(file, sizeof(file), "/proc/self/task/%s/comm", entry->d_name);
        FILE *comm = fopen(file, "r");
        if (comm == NULL)
            continue;
        if (fgets(text, sizeof(text), comm) && strncmp(text, name, strlen(name)) == 0) {
            count++;
            snprintf(path, path_size, "/proc/self/task/%.20s/status", entry->d_name);
        }
        fclose(comm);
    }
    closedir(tasks);
    return count;
}

/* A line of the purge thread's status, after the colon; 0: there is no such thread. */
static unsigned long long status_of_purger(const char *key, int base)
{
    char path[300];
    char line[200];
    unsigned long long value = 0;

    if (count_threads("hakmem-purge", path, sizeof(path)) == 0)
        return 0;
    FILE *status = fopen(path, "r");
    cr_assert_not_null(status);
    while (fgets(line, sizeof(line), status))
        if (strncmp(line, key, strlen(key)) == 0)
            value = strtoull(line + strlen(key) + 1, NULL, base);
    fclose(status);
    return value;
}

static bool has_purger(void)
{
    char path[300];

    clock_settle(); /* it names itself when it first runs */
    return count_threads("hakmem-purge", path, sizeof(path)) > 0;
}

Test(decay, a_process_that_sleeps_gives_back_with_the_purge_thread_and_keeps_without)
{
    skip_where_nothing_is_overdue();
    skip_where_slabs_keep_their_pages();
    fill();
    shuffle();
    free_all();
    size_t before = since_start();
    clock_pass(BOUND_MS);
    if (enabled(CONFIG_PURGE_THREAD)) {
        left_at_most(4 * MIB);
    } else {
        cr_assert_geq(since_start() + MIB, before);
        cr_assert_geq(before, 4 * MIB);
    }
    require_valid_heap();
}

Test(decay, free_pages_of_a_sleeper_go_with_the_purge_thread)
{
    size_t left = BLOCKS / 200 * (2 * 4096 + 1000) + BLOCKS / 1000 * 65536;

    skip_where_nothing_is_overdue();
    skip_where_slabs_keep_their_pages();
    skip_without_small_pages();
    skip_without_purge_thread();
    pthread_t thread = start_thread(fill_and_sleep);
    free_but(200);
    clock_pass(BOUND_MS);
    left_at_most(left + 4 * MIB);
    free_all();
    clock_pass(BOUND_MS);
    left_at_most(4 * MIB);
    end_thread(thread);
}

Test(decay, the_purge_thread_starts_late_and_gets_no_signals)
{
    skip_where_nothing_is_overdue();
    for (int i = 0; i < 1000; i++)
        hak_free(hak_malloc(100));
    cr_assert(!has_purger());
    fill();
    cr_assert_eq(has_purger(), enabled(CONFIG_PURGE_THREAD));
    if (enabled(CONFIG_PURGE_THREAD))
        cr_assert_eq(status_of_purger("SigBlk", 16) & 0x7ffbfeff & ~(1ull << 31),
                     0x7ffbfeff & ~(1ull << 31));
    free_all();
}

Test(decay, the_purge_thread_of_an_idle_process_does_not_wake_up)
{
    skip_where_nothing_is_overdue();
    skip_without_purge_thread();
    fill();
    free_all();
    clock_pass(6 * CONFIG_PURGE_DELAY_MS + 200);
    unsigned waits = clock_waits();
    clock_pass(1000 * 1000);
    cr_assert_eq(clock_waits(), waits);
    fill();
    free_all();
    clock_pass(BOUND_MS);
    cr_assert_gt(clock_waits(), waits);
    left_at_most(4 * MIB);
}

Test(decay, what_realloc_cuts_off_goes_with_the_purge_thread)
{
    const size_t size = 40 * MIB;

    skip_where_nothing_is_overdue();
    skip_without_purge_thread();
    fill();
    free_all();
    char *block = hak_malloc(size);
    cr_assert_not_null(block);
    memset(block, 1, size);
    clock_pass(6 * CONFIG_PURGE_DELAY_MS + 200); /* until it idles */
    block = hak_realloc(block, MIB);
    cr_assert_not_null(block);
    clock_pass(BOUND_MS);
    left_at_most(5 * MIB);
    hak_free(block);
}

static void allocate_in_handler(int number)
{
    (void)number;
    for (size_t size = 16; size < MIB; size *= 2)
        hak_free(hak_malloc(size));
}

/* A program's last words may allocate, if they must, though the library was stopped in a heap. */
Test(decay, a_handler_of_abort_allocates, .signal = SIGABRT)
{
    struct sigaction action = {.sa_handler = allocate_in_handler};
    char *block = hak_malloc(MIB);

    cr_assert_eq(sigaction(SIGABRT, &action, NULL), 0);
    hak_free(block + 16);
}

static int in_child(void)
{
    require(!has_purger());
    free_all();
    size_t before = resident_bytes();
    fill();
    require(has_purger() == enabled(CONFIG_PURGE_THREAD));
    free_all();
    clock_pass(BOUND_MS);
    require(!enabled(CONFIG_PURGE_THREAD) || resident_bytes() + 16 * MIB <= before);
    require_valid_heap();
    return 0;
}

Test(decay, a_child_of_fork_gets_a_purge_thread_of_its_own)
{
    int status;

    skip_where_nothing_is_overdue();
    fill();
    pid_t child = fork();
    if (child == 0)
        _exit(in_child());
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert_eq(status, 0);
    free_all();
}

/* Whether the main thread has ended and waits for the others. */
static bool has_main_ended(void)
{
    char text[512] = "";
    FILE *file = fopen("/proc/self/stat", "r");

    require(file != NULL && fgets(text, sizeof(text), file) != NULL);
    fclose(file);
    return strstr(text, ") Z ") != NULL;
}

static int said; /* a pipe's end */

/* So long that the purge thread, if it took the end of the main thread for that of the process, would have ended it;
 * says so, and leaves the rest to true time, as nobody is left to drive it. */
static void *outlive_main(void *unused)
{
    hak_free(hak_malloc(100));
    while (!has_main_ended())
        sched_yield();
    clock_pass(1000);
    require(write(said, "alive", 5) == 5);
    clock_be_true();
    return unused;
}

/* By pthread_exit, as POSIX has it: the process ends with status 0 when its last thread does, and the purge thread
 * is not one that counts. */
_Noreturn static void leave_main(int pipe_end)
{
    pthread_t thread;

    said = pipe_end;
    free_all();
    fill();
    require(has_purger() == enabled(CONFIG_PURGE_THREAD));
    require(pthread_create(&thread, NULL, outlive_main, NULL) == 0);
    pthread_exit(NULL);
}

/* With musl 1.2.3 the main thread of a child of fork that ends by pthread_exit leaves the lock on the list of threads
 * behind, and the last thread waits for it for ever, inside of musl. */
#ifdef __GLIBC__
enum { CHILD_MAY_LEAVE_MAIN = 1 };
#else
enum { CHILD_MAY_LEAVE_MAIN = 0 };
#endif

Test(decay, the_purge_thread_keeps_no_process_alive)
{
    int status = -1; /* as of none that has exited */
    int ends[2];
    char text[8];

    skip_where_nothing_is_overdue();
    if (!CHILD_MAY_LEAVE_MAIN)
        cr_skip_test("this libc's main thread may not end by pthread_exit in a child");
    cr_assert_eq(pipe(ends), 0);
    fill();
    pid_t child = fork();
    if (child == 0)
        leave_main(ends[1]);
    close(ends[1]);
    cr_assert_eq(read(ends[0], text, sizeof(text)), 5, "another thread lived on");
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    free_all();
}

/* ── the purge thread among others ───────────────────────────────────────────────────────────── */

static bool over; /* atomic */

/* Works and sleeps by turns, so that the purge thread finds its heap now in use and now not. */
static void *come_and_go(void *argument)
{
    static void *slots[4][2000];
    void **mine = slots[(size_t)argument];
    void **others = slots[((size_t)argument + 1) % 4];
    uint64_t random = (uint64_t)(size_t)argument;

    while (!__atomic_load_n(&over, __ATOMIC_RELAXED)) {
        for (size_t i = 0; i < 5000; i++) {
            size_t at = random_below(&random, 2000);
            void **slot = random_below(&random, 4) ? &mine[at] : &others[at];
            unsigned char *block = hak_malloc(random_size(&random, 40000));
            require(block != NULL);
            hak_free(__atomic_exchange_n(slot, block, __ATOMIC_ACQ_REL));
        }
        clock_advance((uint32_t)random_below(&random, 2 * CONFIG_PURGE_DELAY_MS));
    }
    require_valid_heap();
    return NULL;
}

Test(decay, threads_that_come_and_go_are_not_disturbed)
{
    enum { FORKS = 8 };
    pthread_t threads[4];
    pid_t children[FORKS];

    skip_where_nothing_is_overdue();
    fill();
    for (size_t i = 0; i < 4; i++)
        cr_assert_eq(pthread_create(&threads[i], NULL, come_and_go, (void *)i), 0);
    for (int i = 0; i < FORKS; i++) {
        clock_pass(CONFIG_PURGE_DELAY_MS / 2);
        children[i] = fork();
        if (children[i] == 0)
            _exit(in_child());
    }
    for (int i = 0; i < FORKS; i++) {
        int status;
        cr_assert_eq(waitpid(children[i], &status, 0), children[i]);
        cr_assert_eq(status, 0);
    }
    __atomic_store_n(&over, true, __ATOMIC_RELAXED);
    for (size_t i = 0; i < 4; i++)
        cr_assert_eq(pthread_join(threads[i], NULL), 0);
}
