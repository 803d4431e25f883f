/* SPDX-License-Identifier: MIT */
/* Each call by which the library asks the kernel for memory fails in turn: the first, the second, and so
 * on until a run is through before it would fail; once that call alone, once that and all later ones.
 * Every run is a process of its own, which has not allocated before. What must hold:
 *
 *   a call of the library gives what it promises, or NULL and ENOMEM; it never stops the process
 *   all blocks keep their contents; calloc's are zero; cache and shard keep their invariants
 *   once the kernel gives memory again, so does the library
 *   when all is freed and trimmed, no more is mapped or resident than without the failure, but for
 *   addresses that a refused call leaves behind
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/backend.h"
#include "tests/contract/support.h"
#include "tests/faults/faults.h"

#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)

enum { BLOCKS_MOST = 4096 };

/* ── what a run does ─────────────────────────────────────────────────────────────────────────── */

struct held {
    unsigned char *block;
    size_t size;
};

/* One thread's blocks, and whether the kernel may refuse it something. */
struct work {
    bool may_fail;
    size_t count;
    struct held held[BLOCKS_MOST];
};

/* Takes a block in; NULL is right only as ENOMEM, and only if something may fail. */
static bool hold(struct work *work, void *block, size_t size)
{
    if (block == NULL) {
        require(work->may_fail && errno == ENOMEM);
        return false;
    }
    require(work->count < BLOCKS_MOST);
    pattern_fill(block, size, size);
    work->held[work->count++] = (struct held){block, size};
    return true;
}

static void expect(const struct held *held)
{
    require(pattern_holds(held->block, held->size, held->block, held->size));
}

static void release_all(struct work *work)
{
    for (size_t i = 0; i < work->count; i++) {
        expect(&work->held[i]);
        errno = 77;
        hak_free(work->held[i].block);
        require(errno == 77);
    }
    work->count = 0;
    require_valid_heap();
}

static void allocate(struct work *work, size_t size, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        errno = 0;
        hold(work, hak_malloc(size), size);
    }
    require_valid_heap();
}

static void clear(struct work *work, size_t size, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        errno = 0;
        void *block = hak_calloc(1, size);
        require(block == NULL || all_zero(block, size));
        hold(work, block, size);
    }
    require_valid_heap();
}

static void align(struct work *work, size_t alignment, size_t size)
{
    errno = 0;
    void *block = hak_aligned_alloc(alignment, size);
    require((uintptr_t)block % alignment == 0);
    hold(work, block, size);
    require_valid_heap();
}

/* What cannot be had leaves the block as it was. */
static void resize(struct work *work, struct held *held, size_t size)
{
    const unsigned char *origin = held->block;
    size_t kept = held->size < size ? held->size : size;

    errno = 0;
    unsigned char *block = hak_realloc(held->block, size);
    if (block == NULL) {
        require(work->may_fail && errno == ENOMEM);
        expect(held);
        return;
    }
    require(pattern_holds(block, kept, origin, held->size));
    pattern_fill(block, size, size);
    *held = (struct held){block, size};
    require_valid_heap();
}

static void small_blocks(struct work *work)
{
    for (size_t size = 16; size <= 32 * KIB; size *= 2) {
        allocate(work, size, 20);
        allocate(work, size - size / 3, 20);
    }
    allocate(work, 3000, 1000);
    release_all(work);
}

static void large_blocks(struct work *work)
{
    for (int round = 0; round < 2; round++) {
        allocate(work, 40 * KIB, 20);
        allocate(work, 300 * KIB, 6);
        allocate(work, 1500 * KIB, 2);
        allocate(work, 5 * MIB, 1);
        release_all(work);
        hak_malloc_trim(0);
        require_valid_heap();
    }
}

/* Memory that was used, once given back and once not. */
static void cleared_blocks(struct work *work)
{
    for (int round = 0; round < 3; round++) {
        clear(work, 100, 100);
        clear(work, 40 * KIB, 10);
        clear(work, 3 * MIB, 1);
        release_all(work);
        if (round == 1)
            hak_malloc_trim(0);
    }
}

static void aligned_blocks(struct work *work)
{
    for (size_t alignment = 16; alignment <= 16 * MIB; alignment *= 4) {
        align(work, alignment, 100);
        align(work, alignment, 70 * KIB);
    }
    release_all(work);
}

/* Grown in place, moved and copied, with neighbours that come between; then shrunk. */
static void resized_blocks(struct work *work)
{
    static const size_t SIZES[] = {20,      900,     30 * KIB,   50 * KIB, 600 * KIB,
                                   2 * MIB, 3 * MIB, 3100 * KIB, 5 * MIB,  4 * MIB,
                                   MIB,     70000,   6 * MIB,    40000,    50};

    errno = 0;
    if (!hold(work, hak_malloc(10), 10))
        return;
    for (size_t i = 0; i < sizeof(SIZES) / sizeof(*SIZES); i++) {
        resize(work, &work->held[0], SIZES[i]);
        if (i % 3 == 0)
            allocate(work, 200 * KIB, 1);
    }
    release_all(work);
}

/* A block that was moved and grew since, more than once, may be several mappings, each of them moved by a call
 * of its own. */
static void blocks_that_grow_again(struct work *work)
{
    static const size_t STEP = 384 * KIB;

    errno = 0;
    if (!hold(work, hak_malloc(MIB), MIB))
        return;
    for (size_t size = MIB; size <= MIB + 6 * STEP; size += 2 * STEP) {
        allocate(work, 70 * KIB, 1);
        resize(work, &work->held[0], size);
        resize(work, &work->held[0], size + STEP);
    }
    release_all(work);
}

static void *on_thread(void *argument)
{
    struct work *work = argument;

    allocate(work, 100, 200);
    allocate(work, 100 * KIB, 3);
    return NULL;
}

/* Threads start and end; others free what they leave, and get heaps that they have left. */
static void threads(struct work *work)
{
    for (int i = 0; i < 3; i++) {
        on_new_thread(on_thread, work);
        if (i == 1)
            release_all(work);
    }
    release_all(work);
}

static void forks(struct work *work)
{
    int status;

    allocate(work, 100, 100);
    allocate(work, 100 * KIB, 3);
    pid_t pid = fork();
    require(pid >= 0);
    if (pid == 0) {
        alarm(HANG_SECONDS);
        release_all(work);
        small_blocks(work);
        hak_malloc_trim(0);
        threads(work);
        _exit(0);
    }
    require(waitpid(pid, &status, 0) == pid && status == 0);
    release_all(work);
}

/* ── a run ───────────────────────────────────────────────────────────────────────────────────── */

struct report {
    bool ended;
    struct faults_seen seen;
    size_t mapped, resident;
    size_t unadvised; /* bytes for blocks in which the kernel might make huge pages by itself */
};

struct plan {
    size_t first;
    bool lasting;
    size_t limit; /* on the address space; 0: none */
    void (*act)(struct work *work);
};

/* Both give their memory back before anything is measured, and after as many rounds. */
static void live(const struct plan *plan, struct report *report)
{
    static struct work work;

    faults_begin(plan->first, plan->lasting);
    work.may_fail = true;
    plan->act(&work);
    hak_malloc_trim(0);
    require_valid_heap();
    report->seen = faults_end();

    work.may_fail = false;
    for (int round = 0; round < 2; round++)
        plan->act(&work);
    hak_malloc_trim(0);
    require_valid_heap();
    report->mapped = mapped_bytes();
    report->resident = resident_bytes();
    report->unadvised = enabled(CONFIG_HUGE_PAGES_ALWAYS) ? 0 : bytes_without_flag("nh");
    report->ended = true;
}

static struct report run(const struct plan *plan)
{
    struct report *shared =
        mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int status;

    cr_assert_neq(shared, MAP_FAILED);
    pid_t pid = fork();
    cr_assert_geq(pid, 0);
    if (pid == 0) {
        signal(SIGALRM, SIG_DFL);
        alarm(HANG_SECONDS);
        if (plan->limit > 0)
            setrlimit(RLIMIT_AS, &(struct rlimit){plan->limit, plan->limit});
        live(plan, shared);
        _exit(0);
    }
    cr_assert_eq(waitpid(pid, &status, 0), pid);
    cr_assert(status == 0 && shared->ended, "call %zu%s failed: the process ended with status %#x",
              plan->first, plan->lasting ? " and all later ones" : "", (unsigned)status);
    struct report report = *shared;
    munmap(shared, sizeof(*shared));
    return report;
}

/* A heap or a table more may be needed, or a longer one. */
static const size_t RESIDENT_SLACK = (size_t)256 << 10;

/* Where a failure shifts what is mapped later, a back end may need a table of addresses more. */
static const size_t MAPPED_SLACK = (size_t)5 << 20;

/* Bytes that munmap and madvise both refuse for good, and, where the system makes huge pages for all, what lies in one
 * beside a block. */
static size_t may_stay(const struct report *report)
{
    char mode[100] = "";
    FILE *file = fopen("/sys/kernel/mm/transparent_hugepage/enabled", "r");

    if (file && fgets(mode, sizeof(mode), file) == NULL)
        mode[0] = '\0';
    if (file)
        fclose(file);
    return report->seen.kept + (strstr(mode, "[always]") ? report->unadvised : 0);
}

static void each_fails_in_turn(void (*act)(struct work *work), size_t limit, bool lasting)
{
    struct plan plan = {.lasting = lasting, .limit = limit, .act = act};
    struct report whole = run(&plan);
    size_t runs = 0;

    cr_assert(whole.seen.calls > 0 && whole.seen.failed == 0, "the calls are not seen");
    for (plan.first = 1;; plan.first++) {
        struct report report = run(&plan);
        if (report.seen.failed == 0)
            break;
        runs++;
        cr_assert_leq(report.mapped, whole.mapped + report.seen.kept + MAPPED_SLACK,
                      "call %zu of %zu, %s: %zu KiB more are mapped", plan.first, whole.seen.calls,
                      report.seen.name, (report.mapped - whole.mapped - report.seen.kept) / KIB);
        /* Advice against huge pages that is refused once is given again: where the system makes them for all, one
         * would hold memory that no block has ever used. */
        cr_assert(lasting || report.unadvised == 0 || report.unadvised == SIZE_MAX,
                  "call %zu of %zu, %s: %zu KiB may get huge pages", plan.first, whole.seen.calls,
                  report.seen.name, report.unadvised / KIB);
        cr_assert_leq(report.resident,
                      whole.resident + RESIDENT_SLACK + (lasting ? may_stay(&report) : 0),
                      "call %zu of %zu, %s: %zu KiB more are resident", plan.first,
                      whole.seen.calls, report.seen.name, (report.resident - whole.resident) / KIB);
    }
    cr_assert_geq(runs, lasting ? 1 : whole.seen.calls / 2);
    fprintf(stderr, "%zu calls, %zu runs\n", whole.seen.calls, runs);
}

/* Where the back end reserves addresses, and where a limit forbids that. */
static const size_t LIMIT = (size_t)4 << 30;

#define EACH_FAILS_IN_TURN(act)                                                                    \
    Test(faults, act##_one_failure)                                                                \
    {                                                                                              \
        each_fails_in_turn(act, 0, false);                                                         \
    }                                                                                              \
    Test(faults, act##_all_from_one_on)                                                            \
    {                                                                                              \
        each_fails_in_turn(act, 0, true);                                                          \
    }                                                                                              \
    Test(faults, act##_one_failure_under_a_limit)                                                  \
    {                                                                                              \
        each_fails_in_turn(act, LIMIT, false);                                                     \
    }

EACH_FAILS_IN_TURN(small_blocks)
EACH_FAILS_IN_TURN(large_blocks)
EACH_FAILS_IN_TURN(cleared_blocks)
EACH_FAILS_IN_TURN(aligned_blocks)
EACH_FAILS_IN_TURN(resized_blocks)
EACH_FAILS_IN_TURN(blocks_that_grow_again)
EACH_FAILS_IN_TURN(threads)
EACH_FAILS_IN_TURN(forks)

/* ── what the calls of the kernel tell ───────────────────────────────────────────────────────── */

/* A block above 1 MiB that grows stays where it is or is moved by the kernel, page by page: what it
 * held is not copied. Another block behind it keeps it from staying. A back end need not be able to. */
static unsigned char *grows_without_a_copy(unsigned char *block, size_t size, size_t *moves)
{
    pattern_fill(block, size, size);
    faults_begin(0, false);
    unsigned char *grown = hak_realloc(block, 2 * size);
    struct faults_seen seen = faults_end();

    cr_assert_not_null(grown);
    cr_assert(pattern_holds(grown, size, block, size));
    if (grown != block) {
        ++*moves;
        cr_assert_geq(seen.moved_bytes, size, "%zu KiB were copied", size / KIB);
    }
    return grown;
}

static void require_that_blocks_can_move(void)
{
    void *probe = hak_malloc(2 * MIB);

    if (probe == NULL || backend_move(probe, 4 * MIB) == NULL)
        cr_skip_test("this back end moves no blocks");
}

Test(faults, large_blocks_grow_without_being_copied)
{
    size_t moves = 0;

    require_that_blocks_can_move();
    for (size_t size = 2 * MIB; size <= 64 * MIB; size *= 2) {
        unsigned char *block = hak_malloc(size);
        unsigned char *behind = hak_malloc(MIB);
        cr_assert(block && behind);
        grows_without_a_copy(block, size, &moves);
    }
    cr_assert_gt(moves, 0);
}

Test(faults, one_large_block_grows_again_and_again_without_being_copied)
{
    unsigned char *block = hak_malloc(2 * MIB);
    size_t moves = 0;

    require_that_blocks_can_move();
    for (size_t size = 2 * MIB; size <= 128 * MIB; size *= 2) {
        cr_assert_not_null(hak_malloc(size)); /* where the block could have grown */
        block = grows_without_a_copy(block, size, &moves);
    }
    cr_assert_gt(moves, 2);
}
