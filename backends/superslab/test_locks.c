/* SPDX-License-Identifier: MIT */
/* What a steady workload takes no lock for: the test stands between the library and its locks, and counts. Time stands still,
 * so that nothing becomes due. */
#include <criterion/criterion.h>
#include <hakmem/hakmem.h>
#include <pthread.h>
#include <semaphore.h>

#include "backends/superslab/shard.h"
#include "core/heap.h"
#include "core/lock.h"
#include "core/rack.h"
#include "tests/contract/clock.h"
#include "tests/contract/support.h"

void __real_hak_lock(struct hak_lock *lock);
void __wrap_hak_lock(struct hak_lock *lock);

static unsigned taken[HAK_RANK_EXTENTS + 1]; /* of each rank; atomic */

void __wrap_hak_lock(struct hak_lock *lock)
{
    __atomic_fetch_add(&taken[lock->rank], 1, __ATOMIC_RELAXED);
    __real_hak_lock(lock);
}

/* Locks of the back end's, and of the heaps. */
static unsigned taken_in_all(void)
{
    unsigned all = __atomic_load_n(&taken[HAK_RANK_HEAPS], __ATOMIC_RELAXED);

    for (unsigned rank = HAK_RANK_SLABS; rank <= HAK_RANK_EXTENTS; rank++)
        all += __atomic_load_n(&taken[rank], __ATOMIC_RELAXED);
    return all;
}

static struct hak_shard *shard;

static void start(void)
{
    hak_free(hak_malloc(1));
    shard = &hak_heap_mine->shard;
}

TestSuite(locks, .init = start);

/* ── slabs that come and go ──────────────────────────────────────────────────────────────────── */

enum { SLABS = 6 };

static const size_t SIZE = 8192; /* eight blocks to a slab of one granule */

struct opened {
    hak_class cls;
    size_t count;
    void *blocks[SLABS * 8];
};

static struct opened open_slabs(size_t size, size_t blocks)
{
    struct opened opened = {hak_class_of(size), 0, {NULL}};

    while (opened.count < blocks) {
        struct hak_chain chain = backend_refill_chain(shard, opened.cls, 1);
        cr_assert_eq(chain.count, 1);
        opened.blocks[opened.count++] = chain.head;
    }
    return opened;
}

static void empty_slabs(const struct opened *opened)
{
    backend_return_chain(shard, opened->cls, hak_chain_of(opened->blocks, opened->count));
    backend_settle(shard);
    cr_assert_null(shard->lists->open[hak_class_index(opened->cls)]);
}

/* Slabs of three classes and two lengths, and none again. */
static void open_and_empty(void)
{
    struct opened all[] = {open_slabs(SIZE, SLABS * 8), open_slabs(SIZE / 2, SLABS * 8),
                           open_slabs(2 * SIZE, SLABS * 8)};

    for (size_t i = 0; i < 3; i++)
        empty_slabs(&all[i]);
}

Test(locks, slabs_that_come_and_go_take_none)
{
    open_and_empty();
    unsigned before = taken_in_all();
    for (int round = 0; round < 50; round++)
        open_and_empty();
    cr_assert_eq(taken_in_all(), before);
    cr_assert(hak_extents_valid());
}

/* ── a thread allocates, another frees ───────────────────────────────────────────────────────── */

enum { ROUNDS = 200, BULK = 24 };

static struct {
    sem_t filled, emptied;
    void *blocks[BULK];
    bool over;
} handover;

static void *free_bulks(void *unused)
{
    for (;;) {
        sem_wait(&handover.filled);
        if (handover.over)
            return unused;
        for (size_t i = 0; i < BULK; i++)
            hak_free(handover.blocks[i]);
        sem_post(&handover.emptied);
    }
}

static void hand_over(uint64_t *random)
{
    for (size_t i = 0; i < BULK; i++)
        require((handover.blocks[i] = hak_malloc(1024 << random_below(random, 4))) != NULL);
    sem_post(&handover.filled);
    sem_wait(&handover.emptied);
}

/* The same bulks again and again, so that there comes an end to growing. */
static void hand_over_all(void)
{
    for (int round = 0; round < ROUNDS; round++) {
        uint64_t random = 1 + (uint64_t)round % 8;
        hand_over(&random);
    }
}

Test(locks, blocks_of_some_kib_are_handed_over_with_hardly_any)
{
    pthread_t thread;

    sem_init(&handover.filled, 0, 0);
    sem_init(&handover.emptied, 0, 0);
    cr_assert_eq(pthread_create(&thread, NULL, free_bulks, NULL), 0);
    hand_over_all();
    unsigned before = taken_in_all();
    hand_over_all();
    unsigned during = taken_in_all() - before;
    cr_assert_leq(during, ROUNDS / 20, "%u for %d blocks", during, ROUNDS * BULK);
    handover.over = true;
    sem_post(&handover.filled);
    cr_assert_eq(pthread_join(thread, NULL), 0);
}

/* ── memory that others need, or nobody ──────────────────────────────────────────────────────── */

static size_t granules_in_use(void)
{
    struct hak_extents_figures figures = hak_extents_figures();

    return figures.mapped - figures.dirty - figures.clean;
}

static void *leave_slabs_on_the_rack(void *unused)
{
    shard = &hak_heap_mine->shard;
    struct opened opened = open_slabs(SIZE, SLABS * 8);
    empty_slabs(&opened);
    return unused;
}

static void *leave_slabs_with_heap(void *unused)
{
    hak_free(hak_malloc(1));
    return leave_slabs_on_the_rack(unused);
}

/* What another thread's rack holds is used before clean memory is. */
Test(locks, what_another_thread_left_is_used_before_the_process_grows)
{
    on_new_thread(leave_slabs_with_heap, NULL);
    shard = &hak_heap_mine->shard;
    size_t before = granules_in_use();
    for (size_t i = 0; i < SLABS * 8; i++)
        cr_assert_eq(backend_refill_chain(shard, hak_class_of(SIZE), 1).count, 1);
    cr_assert_eq(granules_in_use(), before);
}

Test(locks, what_lies_on_a_rack_goes_back_in_time)
{
    struct slab *slab = slab_of(backend_refill_chain(shard, hak_class_of(SIZE), 1).head);
    uint32_t granule = space_number(slab);
    void *block = slab_base(slab);

    backend_return_chain(shard, hak_class_of(SIZE), hak_chain_of(&block, 1));
    backend_settle(shard);
    cr_assert_eq(slab->extent.state, HAK_NODE_USED);
    cr_assert_eq(space_tag_at(granule), TAG_NONE);
    for (int i = 0; i < 3; i++) {
        clock_advance(CONFIG_PURGE_DELAY_MS / 2 + 1);
        backend_tick(shard);
    }
    /* A space of small units has unmapped it. */
    cr_assert(!space_has(granule) || space_node(granule)->state != HAK_NODE_USED);
    cr_assert_eq(hak_extents_figures().dirty, 0);
}

/* ── threads that come and go ────────────────────────────────────────────────────────────────── */

enum { LEFT = 20 };

static void *left[LEFT * 8];

/* Slabs with a block each that stays. */
static void *leave_partly_used_slabs(void *unused)
{
    hak_free(hak_malloc(1));
    shard = &hak_heap_mine->shard;
    for (size_t i = 0; i < LEFT * 8; i++)
        left[i] = backend_refill_chain(shard, hak_class_of(SIZE), 1).head;
    for (size_t i = 0; i < LEFT * 8; i++)
        if (i % 8 != 0)
            backend_return_chain(shard, hak_class_of(SIZE), hak_chain_of(&left[i], 1));
    return unused;
}

static size_t slabs_of(const struct hak_shard *owner, hak_class cls)
{
    size_t count = 0;

    for (size_t i = 0; i < LEFT * 8; i += 8)
        count += slab_tag(slab_of(left[i])) == owner->tag + (uint32_t)cls;
    return count;
}

/* A refill takes over a few slabs however many there are, and takes no lock for heaps that have none of the class. */
Test(locks, a_refill_adopts_few_slabs_and_asks_only_heaps_that_have_some)
{
    hak_class cls = hak_class_of(SIZE);

    on_new_thread(leave_partly_used_slabs, NULL);
    shard = &hak_heap_mine->shard;
    unsigned before = taken[HAK_RANK_HEAPS];
    cr_assert_eq(backend_refill_chain(shard, hak_class_of(64), 1).count, 1);
    cr_assert_eq(backend_refill_chain(shard, hak_class_of(2 * SIZE), 1).count, 1);
    cr_assert_eq(taken[HAK_RANK_HEAPS], before);
    cr_assert_eq(slabs_of(shard, cls), 0);
    cr_assert_eq(backend_refill_chain(shard, cls, 1).count, 1);
    cr_assert_eq(taken[HAK_RANK_HEAPS], before + 2, "to claim it, and to park it again");
    size_t first = slabs_of(shard, cls);
    cr_assert(first > 0 && first <= 8, "%zu", first);
    for (size_t i = 0; i < LEFT * 8 && slabs_of(shard, cls) < LEFT; i++)
        cr_assert_eq(backend_refill_chain(shard, cls, 1).count, 1);
    cr_assert_eq(slabs_of(shard, cls), LEFT, "the rest comes when it is wanted");
    cr_assert(backend_valid(shard) && hak_extents_valid());
}
