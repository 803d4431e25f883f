/* SPDX-License-Identifier: MIT */
/* Under a limit on the address space: NULL and ENOMEM, and everything that was there goes on. Each
 * test is a process of its own, which sets its limit before its first allocation unless it says
 * otherwise. */
#include <criterion/criterion.h>
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "core/page_set.h"
#include "tests/contract/support.h"

static const size_t MIB = (size_t)1 << 20;

/* What a process may map, and what blocks must be able to have of it: 60 %. */
static const size_t LIMIT = (size_t)160 << 20;
static const size_t REACHED = (size_t)96 << 20;

/* Lets the process map so many bytes more than it has mapped. */
static void allow(size_t bytes)
{
    size_t limit = mapped_bytes() + bytes;

    cr_assert_eq(setrlimit(RLIMIT_AS, &(struct rlimit){limit, limit}), 0);
}

/* Blocks linked through their first words. */
struct link {
    struct link *next;
    size_t size;
};

static struct link *held;
static size_t held_bytes; /* usable ones: what a class rounds up to is had, too */

static bool hold_one(size_t size)
{
    struct link *block = hak_malloc(size);

    if (block == NULL)
        return false;
    *block = (struct link){held, size};
    pattern_fill(block + 1, size - sizeof(*block), size);
    held = block;
    held_bytes += hak_malloc_usable_size(block);
    return true;
}

static void release_one(void)
{
    struct link *block = held;

    held = block->next;
    held_bytes -= hak_malloc_usable_size(block);
    require(pattern_holds(block + 1, block->size - sizeof(*block), block + 1, block->size));
    hak_free(block);
}

static void fill(size_t size)
{
    while (hold_one(size))
        require(held_bytes < 4096 * MIB);
}

static void empty(void)
{
    while (held)
        release_one();
}

static void fill_and_empty(size_t size)
{
    size_t most = 0;

    for (int i = 0; i < 3; i++) {
        errno = 0;
        fill(size);
        cr_assert_eq(errno, ENOMEM);
        require_valid_heap();
        if (i == 0)
            most = held_bytes;
        cr_assert_geq(held_bytes, most - most / 8, "what was freed can be had again");
        empty();
        require_valid_heap();
    }
    cr_assert_geq(most, REACHED, "only %zu MiB could be had", most / MIB);
}

Test(out_of_memory, small_blocks)
{
    allow(LIMIT);
    fill_and_empty(64);
}

Test(out_of_memory, blocks_of_some_kilobytes)
{
    allow(LIMIT);
    fill_and_empty(3000);
}

Test(out_of_memory, large_blocks)
{
    allow(LIMIT);
    fill_and_empty(300000);
}

Test(out_of_memory, blocks_of_many_mebibytes)
{
    allow(LIMIT);
    fill_and_empty(10 * MIB);
}

/* Memory that one size has used serves another. */
Test(out_of_memory, what_was_small_can_be_large_and_the_reverse)
{
    allow(LIMIT);
    for (int i = 0; i < 3; i++) {
        fill(100);
        empty();
        fill(5 * MIB);
        cr_assert_geq(held_bytes, REACHED);
        empty();
        fill(20000);
        cr_assert_geq(held_bytes, REACHED);
        empty();
        require_valid_heap();
    }
}

/* All blocks in the granule of the last one. */
static void release_neighbours(void)
{
    const uintptr_t granule = (uintptr_t)held / HAK_SLAB_GRANULE;

    for (struct link **place = &held; *place;) {
        struct link *block = *place;
        if ((uintptr_t)block / HAK_SLAB_GRANULE != granule) {
            place = &block->next;
            continue;
        }
        *place = block->next;
        held_bytes -= hak_malloc_usable_size(block);
        hak_free(block);
    }
}

/* The blocks of one slab are free, and most of them are cached: before malloc gives up, another size gets the slab. */
Test(out_of_memory, what_is_cached_of_one_size_can_be_had_in_another)
{
    enum { SIZE = 64, OTHER_SIZE = 512 };

    allow(LIMIT);
    fill(SIZE);
    struct link *small = held;
    held = NULL;
    fill(OTHER_SIZE);
    held = small;
    release_neighbours();
    cr_assert(hold_one(OTHER_SIZE));
    require_valid_heap();
}

/* What the allocator has given back, the program can map for itself. */
Test(out_of_memory, what_is_freed_is_there_for_other_mappings)
{
    allow(LIMIT);
    for (int i = 0; i < 3; i++) {
        fill(i == 0 ? 100 : i == 1 ? 20000 : MIB);
        empty();
        hak_malloc_trim(0);
        void *other =
            mmap(NULL, REACHED, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        cr_assert_neq(other, MAP_FAILED);
        hold_one(1000);
        munmap(other, REACHED);
    }
    empty();
}

Test(out_of_memory, every_call_says_enomem)
{
    void *third = &third;
    void *small, *large;

    allow(LIMIT);
    small = memset(hak_malloc(100), 5, 100);
    large = memset(hak_malloc(MIB), 6, MIB);
    fill(10 * MIB);
    fill(100000);
    errno = 0;
    cr_assert(hak_calloc(1, 50 * MIB) == NULL && errno == ENOMEM);
    errno = 0;
    cr_assert(hak_realloc(large, 50 * MIB) == NULL && errno == ENOMEM);
    errno = 0;
    cr_assert(hak_realloc(small, 50 * MIB) == NULL && errno == ENOMEM);
    errno = 0;
    cr_assert(hak_aligned_alloc(MIB, 50 * MIB) == NULL && errno == ENOMEM);
    errno = 77;
    cr_assert_eq(hak_posix_memalign(&third, 4096, 50 * MIB), ENOMEM);
    cr_assert(errno == 77 && third == &third);
    cr_assert(all_zero(small, 0) && *(char *)small == 5 && ((char *)small)[99] == 5);
    cr_assert(*(char *)large == 6 && ((char *)large)[MIB - 1] == 6);
    errno = 77;
    hak_free(small);
    hak_free(large);
    empty();
    cr_assert_eq(errno, 77);
    require_valid_heap();
}

/* Grown until no more can be had, with something else behind it each time. */
Test(out_of_memory, a_block_that_cannot_grow_stays)
{
    unsigned char *block;
    size_t size = MIB;

    allow(LIMIT);
    block = hak_malloc(size);
    for (;;) {
        pattern_fill(block, size, size);
        unsigned char *grown = hak_realloc(block, size + MIB);
        if (grown == NULL)
            break;
        cr_assert(pattern_holds(grown, size, block, size));
        block = grown;
        size += MIB;
        hold_one(100000);
    }
    cr_assert(pattern_holds(block, size, block, size));
    cr_assert_geq(size, 10 * MIB);
    empty();
    hak_free(block);
    fill(MIB);
    cr_assert_geq(held_bytes, REACHED);
    empty();
}

/* The limit comes when the allocator is already at work. */
Test(out_of_memory, a_limit_set_later)
{
    hak_free(hak_malloc(1));
    for (int i = 0; i < 100; i++)
        hold_one(100000);
    allow(0);
    for (int i = 0; i < 1000; i++)
        if (!hold_one((size_t)i * 1000 + 100))
            release_one();
    void *block = hak_malloc(MIB);
    for (size_t size = 2 * MIB; block && size < 50 * MIB; size += MIB) {
        void *grown = hak_realloc(block, size);
        block = grown ? memset(grown, 1, size) : block;
    }
    hak_free(block);
    empty();
    require_valid_heap();
}

static void *fill_on_thread(void *unused)
{
    struct link *mine = NULL;
    uint64_t random = (uintptr_t)&unused;

    for (int i = 0; i < 3000; i++) {
        size_t size = random_size(&random, 500000) + sizeof(struct link);
        struct link *block = hak_malloc(size);
        if (block == NULL) {
            require(errno == ENOMEM);
            for (int j = 0; j < 50 && mine; j++) {
                block = mine;
                mine = block->next;
                require(pattern_holds(block + 1, block->size - sizeof(*block), block + 1, 1));
                hak_free(block);
            }
            continue;
        }
        *block = (struct link){mine, size};
        pattern_fill(block + 1, size - sizeof(*block), 1);
        mine = block;
    }
    while (mine) {
        struct link *next = mine->next;
        hak_free(mine);
        mine = next;
    }
    require_valid_heap();
    return NULL;
}

Test(out_of_memory, threads_run_out_together)
{
    pthread_t threads[4];
    pthread_attr_t attributes;

    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 256 << 10);
    /* libc's malloc, which is beside ours here, would reserve 64 MiB for the thread that starts a purge thread. */
#ifdef M_ARENA_MAX
    mallopt(M_ARENA_MAX, 1);
#endif
    allow(100 * MIB);
    for (int i = 0; i < 4; i++)
        cr_assert_eq(pthread_create(&threads[i], &attributes, fill_on_thread, NULL), 0);
    for (int i = 0; i < 4; i++)
        cr_assert_eq(pthread_join(threads[i], NULL), 0);
    fill(MIB);
    /* What the ended threads left in caches, or in the store that threads share, does not stay there. */
    cr_assert_geq(held_bytes, 60 * MIB);
    empty();
}

/* So little that not even a first block can be had: no crash, and free of nothing works. */
static pthread_key_t late_key;
static int late_error;

static void fill_late(void *unused)
{
    (void)unused;
    errno = 0;
    fill(1000);
    late_error = errno;
    empty();
}

static void *end_with_a_late_destructor(void *unused)
{
    hak_free(hak_malloc(1)); /* so that the library's own destructor comes first */
    require(pthread_key_create(&late_key, fill_late) == 0);
    require(pthread_setspecific(late_key, &late_key) == 0);
    return unused;
}

/* A thread without a heap borrows one for each call. */
Test(out_of_memory, in_a_late_destructor)
{
    allow(64 * MIB);
    on_new_thread(end_with_a_late_destructor, NULL);
    cr_assert_eq(late_error, ENOMEM);
    require_valid_heap();
}

Test(out_of_memory, nothing_at_all)
{
    allow(0);
    for (int i = 0; i < 100; i++) {
        errno = 0;
        void *block = hak_malloc(100);
        cr_assert(block != NULL || errno == ENOMEM);
        hak_free(block);
        hak_free(hak_malloc(MIB));
        hak_free(NULL);
    }
    hak_malloc_trim(0);
}
