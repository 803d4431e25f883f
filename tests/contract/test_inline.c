/* SPDX-License-Identifier: MIT */
/* hakmem/inline.h does to a heap, byte for byte, what the library's own functions do, and what it does not inline ends up in
 * them. The header is generated from templates of the front end and the back end (core/inline.h.in): this is what holds them
 * to the code that they stand for. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "core/heap.h"
#include "gen/inline.h"
#include "tests/contract/support.h"

/* Sizes of many classes: constants, as each makes code of its own. Larger ones than the largest class are large blocks. */
#define EACH_SIZE(of)                                                                              \
    of(0) of(1) of(8) of(9) of(16) of(17) of(48) of(64) of(65) of(100) of(200) of(256) of(500)     \
        of(513) of(700) of(1000) of(1024) of(1025) of(3000) of(8192) of(20000) of(32768) of(32769) \
            of(100000) of(131072)

/* Enough pairs for hits on both sides, in whatever front end. */
enum { WARM = 200 };

static struct hak_cache *mine(void)
{
    return &hak_heap_mine->cache;
}

static struct hak_cache kept;

static void keep(void)
{
    memcpy(&kept, mine(), sizeof(kept));
}

static bool is_as_kept(void)
{
    return memcmp(&kept, mine(), sizeof(kept)) == 0;
}

static void warm(size_t size)
{
    void *block[WARM];

    for (int i = 0; i < WARM; i++)
        cr_assert_not_null(block[i] = hak_malloc(size));
    for (int i = 0; i < WARM; i++)
        hak_free(block[i]);
}

/* Takes back what was freed last; of large blocks, another one may come. */
static void take_back(void *block, size_t size)
{
    void *again = hak_malloc(size);

    if (size <= HAK_SMALL_MAX)
        cr_assert_eq(again, block);
}

/* A size's allocations and frees by the header, of which the compiler knows the size. */
#define OF_SIZE(SIZE)                                                                              \
    static void allocations_of_##SIZE(void)                                                        \
    {                                                                                              \
        warm(SIZE);                                                                                \
        void *block = hak_malloc(SIZE);                                                            \
        hak_free(block);                                                                           \
        take_back(block, SIZE);                                                                    \
        keep();                                                                                    \
        hak_free(block);                                                                           \
        uint32_t before = hak_heap_mine->cold_paths;                                               \
        void *inlined = hak_inline_malloc(SIZE);                                                   \
        if ((size_t)SIZE <= HAK_SMALL_MAX) {                                                       \
            cr_assert_eq(inlined, block, "%d", SIZE);                                              \
            cr_assert_eq(hak_heap_mine->cold_paths, before, "%d: a hit is a miss", SIZE);          \
            cr_assert(is_as_kept(), "%d", SIZE);                                                   \
        }                                                                                          \
        size_t least = SIZE; /* where this is 0, compilers refuse the comparison */                \
        cr_assert_geq(hak_malloc_usable_size(inlined), least);                                     \
        hak_free(inlined);                                                                         \
        require_valid_heap();                                                                      \
    }                                                                                              \
    static void frees_of_##SIZE(void (*freed)(void *))                                             \
    {                                                                                              \
        warm(SIZE);                                                                                \
        void *block = hak_malloc(SIZE);                                                            \
        hak_free(block);                                                                           \
        keep();                                                                                    \
        take_back(block, SIZE);                                                                    \
        uint32_t before = hak_heap_mine->cold_paths;                                               \
        freed(block);                                                                              \
        if ((size_t)SIZE <= HAK_SMALL_MAX) {                                                       \
            cr_assert_eq(hak_heap_mine->cold_paths, before, "%d: a hit is a miss", SIZE);          \
            cr_assert(is_as_kept(), "%d", SIZE);                                                   \
        }                                                                                          \
        require_valid_heap();                                                                      \
    }                                                                                              \
    static void free_exact_##SIZE(void *block)                                                     \
    {                                                                                              \
        hak_inline_free_exact(block, SIZE);                                                        \
    }                                                                                              \
    static void zeroed_##SIZE(void)                                                                \
    {                                                                                              \
        unsigned char *block = hak_malloc(SIZE);                                                   \
        pattern_fill(block, SIZE, 1);                                                              \
        hak_free(block);                                                                           \
        block = hak_inline_calloc(1, SIZE);                                                        \
        cr_assert(all_zero(block, SIZE), "%d", SIZE);                                              \
        hak_inline_free(block);                                                                    \
    }

EACH_SIZE(OF_SIZE)

static void free_inlined(void *block)
{
    hak_inline_free(block);
}

#define TEST_ALLOCATIONS(SIZE) allocations_of_##SIZE();
#define TEST_FREES(SIZE)       frees_of_##SIZE(free_inlined);
#define TEST_EXACT(SIZE)       frees_of_##SIZE(free_exact_##SIZE);
#define TEST_ZEROED(SIZE)      zeroed_##SIZE();

Test(inlined, an_allocation_is_mallocs){EACH_SIZE(TEST_ALLOCATIONS)}

Test(inlined, a_free_is_frees){EACH_SIZE(TEST_FREES)}

Test(inlined, a_free_of_a_known_size_is_frees){EACH_SIZE(TEST_EXACT)}

Test(inlined, calloc_clears)
{
    EACH_SIZE(TEST_ZEROED)
    cr_assert_null(hak_inline_calloc(SIZE_MAX / 2, 3));
}

Test(inlined, a_size_that_is_no_constant_goes_to_the_library)
{
    uint64_t seed = seed_of_run();

    for (int i = 0; i < 10000; i++) {
        size_t size = random_size(&seed, (size_t)1 << 18);
        char *block = hak_inline_malloc(size);
        cr_assert_geq(hak_malloc_usable_size(block), size);
        if (i % 2)
            hak_inline_free(block);
        else
            hak_inline_free_exact(block, size);
    }
    require_valid_heap();
}

/* ── misses ──────────────────────────────────────────────────────────────────────────────────── */

/* More than a cache holds, so that lists run empty and over; in two orders. */
enum { MANY = 20000 };
static unsigned char *many[MANY];

#define FILLED(SIZE)                                                                               \
    do {                                                                                           \
        for (int i = 0; i < MANY; i++) {                                                           \
            require(many[i] = hak_inline_malloc(SIZE));                                            \
            pattern_fill(many[i], SIZE, (uint64_t)i);                                              \
        }                                                                                          \
        for (int i = 0; i < MANY; i++)                                                             \
            require(pattern_holds(many[i], SIZE, many[i], (uint64_t)i));                           \
    } while (0)

static void fill_and_empty(void)
{
    FILLED(40);
    for (int i = 0; i < MANY; i++)
        hak_inline_free(many[i]);
    FILLED(40);
    for (int i = MANY - 1; i >= 0; i--)
        hak_inline_free_exact(many[i], 40);
    require_valid_heap();
}

Test(inlined, caches_run_empty_and_over)
{
    fill_and_empty();
    fill_and_empty();
}

static void *fill(void *ignored)
{
    FILLED(72);
    return ignored;
}

/* A thread that has no heap yet has a constant one. */
static void *free_all(void *exact)
{
    for (int i = 0; i < MANY; i++)
        if (exact)
            hak_inline_free_exact(many[i], 72);
        else
            hak_inline_free(many[i]);
    return NULL;
}

static void *fill_and_free(void *exact)
{
    fill(NULL);
    free_all(exact);
    require_valid_heap();
    return NULL;
}

Test(inlined, blocks_of_other_threads)
{
    for (uintptr_t exact = 0; exact < 2; exact++) {
        fill(NULL);
        on_new_thread(free_all, (void *)exact);
        on_new_thread(fill, NULL);
        free_all((void *)exact);
        on_new_thread(fill_and_free, (void *)exact);
        require_valid_heap();
    }
}

static void *allocate(void *ignored)
{
    (void)ignored;
    return hak_malloc(64);
}

Test(inlined, a_block_of_another_thread_goes_where_free_sends_it)
{
    hak_class cls = hak_class_of(64);

    warm(64);
    for (int i = 0; i < 2; i++) {
        void *block = on_new_thread(allocate, NULL);
        cr_assert_not_null(hak_malloc(64)); /* makes room */
        size_t held = frontend_held(mine(), cls);
        if (i == 0)
            hak_free(block);
        else
            hak_inline_free(block);
        held = frontend_held(mine(), cls) - held;
        cr_assert_eq(held, enabled(CONFIG_REMOTE_FREE_KEEP) ? 1 : 0);
    }
}

/* hak_malloc may give a block of a larger class, which a free by the size must not take for one of its own. */
Test(inlined, a_block_of_a_larger_class_than_its_size_goes_where_it_belongs)
{
    void *blocks[200];

    for (int i = 0; i < 200; i++) {
        hak_free(hak_malloc(3000));
        blocks[i] = hak_inline_malloc(2500);
    }
    for (int i = 0; i < 200; i++)
        hak_inline_free_exact(blocks[i], 2500);
    hak_malloc_trim(0);
    require_valid_heap();
}

Test(inlined, null_is_no_block)
{
    hak_inline_free(NULL);
    hak_inline_free_exact(NULL, 64);
    warm(64);
    keep();
    hak_inline_free(NULL);
    hak_inline_free_exact(NULL, 64);
    cr_assert(is_as_kept());
}

static void free_called(void *block)
{
    hak_free(block);
}

Test(inlined, a_pointer_that_is_no_block_is_what_it_is_to_free)
{
    static char ours[64];
    char said[1024] = "";

    warm(64);
    if (!enabled(CONFIG_FOREIGN_ABORT))
        cr_skip_test("the configuration has other allocators' blocks forwarded or ignored");
    snprintf(said, sizeof(said), "%s", last_words(free_called, ours + 16));
    cr_assert_not_null(strstr(said, "free()"));
    cr_assert_str_eq(last_words(free_inlined, ours + 16), said);
}
