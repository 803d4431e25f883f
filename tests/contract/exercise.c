/* SPDX-License-Identifier: MIT */
#include "tests/contract/exercise.h"

#include <errno.h>
#include <hakmem/hakmem.h>
#include <pthread.h>
#include <stdalign.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tests/contract/clock.h"
#include "tests/contract/support.h"

/* Blocks that one thread has at a time, and places at which any thread may leave or fetch one. */
enum { OWN = 192, SHARED = 256, THREADS_MOST = 16 };

/* A live block as its owner knows it. */
struct holding {
    unsigned char *block; /* NULL: none */
    size_t size;          /* asked for */
    size_t filled;        /* bytes that hold the pattern; up to the usable size */
    size_t align;
    uint64_t key;
};

struct shared_place {
    pthread_mutex_t mutex;
    struct holding holding;
};

struct worker {
    const struct exercise *exercise;
    uint64_t random;
    uint64_t next_key;
    struct holding own[OWN];
};

static struct shared_place shared[SHARED];

static size_t least_align(size_t size)
{
    return size < alignof(max_align_t) ? 8 : alignof(max_align_t);
}

/* ── one block ───────────────────────────────────────────────────────────────────────────────── */

/* Takes over a fresh block: it must be aligned and large enough; it gets a pattern of its own, now and
 * then over all that may be used of it. */
static struct holding hold(struct worker *worker, void *block, size_t size, size_t align)
{
    struct holding holding = {block, size, size, align, worker->next_key++};
    size_t usable = hak_malloc_usable_size(block);

    require(block != NULL);
    require((uintptr_t)block % align == 0);
    require((uintptr_t)block % least_align(size) == 0);
    require(usable >= size);
    if (random_next(&worker->random) & 1)
        holding.filled = usable;
    pattern_fill(block, holding.filled, holding.key);
    return holding;
}

static void check(const struct holding *holding)
{
    require(hak_malloc_usable_size(holding->block) >= holding->filled);
    require(pattern_holds(holding->block, holding->filled, holding->block, holding->key));
}

static void drop(struct worker *worker, struct holding *holding)
{
    check(holding);
    errno = 12345;
    switch (random_below(&worker->random, 8)) {
    case 0:
        hak_free_sized(holding->block, holding->size);
        break;
    case 1:
        hak_free_aligned_sized(holding->block, holding->align, holding->size);
        break;
    case 2:
        require(hak_realloc(holding->block, 0) == NULL);
        break;
    default:
        hak_free(holding->block);
    }
    require(errno == 12345);
    holding->block = NULL;
}

static size_t any_size(struct worker *worker)
{
    /* Mostly small, as programs are; the rest of any size. */
    size_t most = worker->exercise->size_most;
    size_t small = most < 2048 ? most : 2048;

    return random_size(&worker->random, random_below(&worker->random, 8) ? small : most);
}

static struct holding acquire(struct worker *worker)
{
    size_t size = any_size(worker);
    size_t align = (size_t)1 << random_below(&worker->random, 14);
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    void *block = NULL;

    switch (random_below(&worker->random, 16)) {
    case 0:
    case 1:
    case 2:
        block = hak_calloc(size / 8, 8);
        size = size / 8 * 8;
        require(block && all_zero(block, size));
        break;
    case 3:
        return hold(worker, hak_aligned_alloc(align, size), size, align);
    case 4:
        return hold(worker, hak_memalign(align, size), size, align);
    case 5:
        align = align < sizeof(void *) ? sizeof(void *) : align;
        require(hak_posix_memalign(&block, align, size) == 0);
        return hold(worker, block, size, align);
    case 6:
        return hold(worker, hak_valloc(size), size, page);
    case 7:
        block = hak_pvalloc(size);
        require(hak_malloc_usable_size(block) % page == 0 ||
                hak_malloc_usable_size(block) >= size + page);
        return hold(worker, block, size, page);
    case 8:
        block = hak_realloc(NULL, size);
        break;
    case 9:
        block = hak_reallocarray(NULL, size / 4, 4);
        size = size / 4 * 4;
        break;
    default:
        block = hak_malloc(size);
    }
    return hold(worker, block, size, 1);
}

/* Resizes a block: half of the time by a little. */
static void resize(struct worker *worker, struct holding *holding)
{
    size_t most = worker->exercise->size_most;
    size_t size = any_size(worker) + 1;
    unsigned char *old = holding->block;

    if (random_next(&worker->random) & 1) {
        size = holding->size / 2 + random_below(&worker->random, holding->size + 2) + 1;
        size = size < most ? size : most;
    }
    check(holding);
    bool array = random_next(&worker->random) & 1;
    unsigned char *block = array ? hak_reallocarray(old, 1, size) : hak_realloc(old, size);
    require(block != NULL);
    /* What was asked for is kept; of the slack nothing is promised. */
    size_t kept = holding->size < size ? holding->size : size;
    require(pattern_holds(block, kept, old, holding->key));
    *holding = hold(worker, block, size, 1);
}

/* ── threads ─────────────────────────────────────────────────────────────────────────────────── */

/* Swaps a block of this thread's, or none, with what lies at a shared place. */
static void exchange(struct worker *worker, struct holding *holding)
{
    struct shared_place *place = &shared[random_below(&worker->random, SHARED)];

    pthread_mutex_lock(&place->mutex);
    struct holding found = place->holding;
    place->holding = *holding;
    pthread_mutex_unlock(&place->mutex);
    *holding = found;
}

static void step(struct worker *worker)
{
    struct holding *holding = &worker->own[random_below(&worker->random, OWN)];
    size_t choice = random_below(&worker->random, 64);

    if (choice < 16)
        exchange(worker, holding);
    else if (choice == 16 && random_below(&worker->random, 64) == 0)
        hak_malloc_trim(0);
    else if (holding->block == NULL)
        *holding = acquire(worker);
    else if (choice < 32)
        resize(worker, holding);
    else
        drop(worker, holding);
}

/* One thread's life. What it still holds at its end is freed by later threads. */
static void *live(void *argument)
{
    struct worker *worker = argument;

    for (unsigned long i = 0; i < worker->exercise->steps; i++)
        step(worker);
    require_valid_heap();
    return NULL;
}

/* All lives of one place, one after the other. */
static void *live_on(void *argument)
{
    struct worker *worker = argument;

    for (unsigned life = 1; life < worker->exercise->lives; life++)
        on_new_thread(live, worker);
    return live(worker);
}

/* A key names one block: it holds the worker's number above a count. */
static void prepare(struct worker *worker, const struct exercise *exercise, unsigned number)
{
    *worker = (struct worker){.exercise = exercise};
    worker->random = exercise->seed + number * 0x123456789abcdefu;
    worker->next_key = (uint64_t)(number + 1) << 36;
}

void exercise_run(const struct exercise *exercise)
{
    static struct worker workers[THREADS_MOST];
    pthread_t threads[THREADS_MOST];

    require(exercise->threads >= 1 && exercise->threads <= THREADS_MOST);
    clock_go_by_looks(1); /* so that memory becomes due all the time */
    for (unsigned i = 0; i < SHARED; i++)
        pthread_mutex_init(&shared[i].mutex, NULL);
    for (unsigned i = 0; i < exercise->threads; i++)
        prepare(&workers[i], exercise, i);
    for (unsigned i = 1; i < exercise->threads; i++)
        require(pthread_create(&threads[i], NULL, live_on, &workers[i]) == 0);
    live_on(&workers[0]);
    for (unsigned i = 1; i < exercise->threads; i++)
        require(pthread_join(threads[i], NULL) == 0);

    for (unsigned i = 0; i < exercise->threads; i++)
        for (unsigned j = 0; j < OWN; j++)
            if (workers[i].own[j].block)
                drop(&workers[0], &workers[i].own[j]);
    for (unsigned i = 0; i < SHARED; i++)
        if (shared[i].holding.block)
            drop(&workers[0], &shared[i].holding);
    require_valid_heap();
}
