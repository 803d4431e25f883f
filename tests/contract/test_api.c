/* SPDX-License-Identifier: MIT */
/* The public interface, call by call, as hakmem.h and the standards that it names say. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdalign.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include "core/size_class.h"
#include "core/backend.h"
#include "tests/contract/support.h"

static const size_t KIB = (size_t)1 << 10;
static const size_t MIB = (size_t)1 << 20;
static const size_t GIB = (size_t)1 << 30;

/* The compiler may not see through a call that it takes for malloc. */
static size_t hidden(size_t size)
{
    volatile size_t copy = size;

    return copy;
}

/* The sizes where something changes: each class's border and its neighbours, and the first large
 * sizes. Calls visit(size) for each. */
static void for_each_border(void (*visit)(size_t size))
{
    for (unsigned i = 0; i < HAK_CLASSES; i++)
        for (int beside = -1; beside <= 1; beside++)
            visit(hak_class_sizes[i] + (size_t)beside);
    for (size_t size = HAK_SMALL_MAX; size <= 4 * MIB; size *= 2)
        for (int beside = -1; beside <= 1; beside++)
            visit(size + (size_t)beside);
}

static bool is_aligned(const void *block, size_t align)
{
    return (uintptr_t)block % align == 0;
}

/* ── malloc, usable size ─────────────────────────────────────────────────────────────────────── */

static void malloc_one(size_t size)
{
    unsigned char *block = hak_malloc(size);
    size_t usable = hak_malloc_usable_size(block);

    cr_assert(block, "%zu bytes", size);
    cr_assert_geq(usable, size);
    cr_assert(is_aligned(block, usable <= 8 ? 8 : 16), "%zu bytes", size);
    memset(block, 0xff, usable);
    hak_free(block);
}

Test(api, malloc_gives_aligned_blocks_of_every_size)
{
    for (size_t size = 0; size < 5000; size++)
        malloc_one(size);
    for_each_border(malloc_one);
}

Test(api, small_blocks_waste_no_more_than_a_class_step)
{
    for (size_t size = 16; size <= HAK_SMALL_MAX; size++) {
        void *block = hak_malloc(size);
        cr_assert_eq(hak_malloc_usable_size(block), hak_class_size(hak_class_of(size)));
        hak_free(block);
    }
}

Test(api, blocks_of_zero_bytes_are_blocks_of_their_own)
{
    void *blocks[] = {hak_malloc(0),
                      hak_malloc(0),
                      hak_calloc(0, 8),
                      hak_calloc(8, 0),
                      hak_realloc(NULL, 0),
                      hak_reallocarray(NULL, 0, 8),
                      hak_aligned_alloc(64, 0),
                      hak_memalign(4096, 0),
                      hak_valloc(0),
                      hak_pvalloc(0),
                      NULL};
    size_t count = sizeof(blocks) / sizeof(blocks[0]);

    cr_assert_eq(hak_posix_memalign(&blocks[count - 1], 32, 0), 0);
    for (size_t i = 0; i < count; i++) {
        cr_assert_not_null(blocks[i]);
        for (size_t j = 0; j < i; j++)
            cr_assert_neq(blocks[i], blocks[j]);
    }
    for (size_t i = 0; i < count; i++)
        hak_free(blocks[i]);
}

Test(api, usable_size_of_null_is_zero)
{
    cr_assert_eq(hak_malloc_usable_size(NULL), 0);
}

/* ── too much ────────────────────────────────────────────────────────────────────────────────── */

#define cr_assert_enomem(call)                                                                     \
    do {                                                                                           \
        errno = 0;                                                                                 \
        cr_assert_null(call);                                                                      \
        cr_assert_eq(errno, ENOMEM);                                                               \
    } while (0)

static void too_much(size_t size)
{
    void *kept = hak_malloc(100);
    void *large = hak_malloc(MIB);
    void *untouched = kept;

    cr_assert_enomem(hak_malloc(hidden(size)));
    cr_assert_enomem(hak_calloc(1, hidden(size)));
    cr_assert_enomem(hak_realloc(NULL, hidden(size)));
    cr_assert_enomem(hak_realloc(kept, hidden(size)));
    cr_assert_enomem(hak_realloc(large, hidden(size)));
    cr_assert_enomem(hak_reallocarray(kept, 1, hidden(size)));
    cr_assert_enomem(hak_aligned_alloc(1, hidden(size)));
    cr_assert_enomem(hak_aligned_alloc(4096, hidden(size)));
    cr_assert_enomem(hak_memalign(64, hidden(size)));
    cr_assert_enomem(hak_memalign(MIB, hidden(size)));
    cr_assert_enomem(hak_valloc(hidden(size)));
    cr_assert_enomem(hak_pvalloc(hidden(size)));
    errno = 77;
    cr_assert_eq(hak_posix_memalign(&untouched, 64, hidden(size)), ENOMEM);
    cr_assert_eq(errno, 77);
    cr_assert_eq(untouched, kept);
    hak_free(kept);
    hak_free(large);
}

Test(api, sizes_beyond_ptrdiff_max_are_enomem)
{
    too_much((size_t)PTRDIFF_MAX + 1);
    too_much((size_t)PTRDIFF_MAX + 4096);
    too_much(SIZE_MAX - 4096);
    too_much(SIZE_MAX - 15);
    too_much(SIZE_MAX);
}

Test(api, sizes_beyond_the_address_space_are_enomem)
{
    too_much((size_t)PTRDIFF_MAX);
    too_much((size_t)PTRDIFF_MAX - 4095);
    too_much((size_t)1 << 62);
    too_much((size_t)1 << 48);
}

/* Before anything else was asked of the allocator, too. */
Test(api, the_first_call_may_be_too_much)
{
    cr_assert_enomem(hak_malloc(hidden((size_t)PTRDIFF_MAX)));
    cr_assert_enomem(hak_malloc(hidden((size_t)1 << 50)));
    malloc_one(100);
}

Test(api, products_that_overflow_are_enomem)
{
    size_t half = (size_t)1 << 32;
    void *kept = hak_malloc(1);

    cr_assert_enomem(hak_calloc(hidden(half), half));
    cr_assert_enomem(hak_calloc(hidden(SIZE_MAX), 2));
    cr_assert_enomem(hak_calloc(hidden(SIZE_MAX / 2 + 1), 2));
    cr_assert_enomem(hak_calloc(3, hidden(SIZE_MAX / 2)));
    cr_assert_enomem(hak_reallocarray(NULL, hidden(half), half));
    cr_assert_enomem(hak_reallocarray(kept, hidden(half), half));
    cr_assert_enomem(hak_reallocarray(kept, hidden(half + 1), half));
    memset(kept, 1, 1);
    hak_free(kept);
}

/* ── free ────────────────────────────────────────────────────────────────────────────────────── */

static void free_one(size_t size)
{
    void *blocks[4] = {hak_malloc(size), hak_malloc(size), hak_aligned_alloc(64, size), NULL};

    errno = 4711;
    hak_free(blocks[0]);
    hak_free_sized(blocks[1], size);
    hak_free_aligned_sized(blocks[2], 64, size);
    hak_free(blocks[3]);
    hak_free_sized(NULL, size);
    hak_free_aligned_sized(NULL, 64, size);
    cr_assert_eq(errno, 4711);
}

Test(api, free_keeps_errno)
{
    for_each_border(free_one);
}

/* Enough to pass through every path that memory takes on its way back. */
Test(api, freeing_much_keeps_errno)
{
    enum { COUNT = 20000 };
    static void *blocks[COUNT];

    for (size_t i = 0; i < COUNT; i++)
        blocks[i] = memset(hak_malloc(i % 7 * 1000 + 1), 1, 1);
    void *large = hak_malloc(512 * MIB);
    memset(large, 1, 200 * MIB);
    errno = 4711;
    for (size_t i = 0; i < COUNT; i++)
        hak_free(blocks[i]);
    hak_free(large);
    cr_assert_eq(errno, 4711);
}

/* ── calloc ──────────────────────────────────────────────────────────────────────────────────── */

static void calloc_one(size_t size)
{
    for (int i = 0; i < 3; i++) {
        unsigned char *block = hak_malloc(size);
        memset(block, 0xff, hak_malloc_usable_size(block));
        hak_free(block);
        block = hak_calloc(1, size);
        cr_assert(block && all_zero(block, size), "%zu bytes", size);
        memset(block, 0xff, hak_malloc_usable_size(block));
        hak_free(block);
    }
}

Test(api, calloc_clears_memory_that_was_used)
{
    for_each_border(calloc_one);
    hak_malloc_trim(0);
    for_each_border(calloc_one);
    calloc_one(100 * MIB);
}

/* Fresh memory is zero as it comes from the kernel; clearing it would make all of it resident. */
Test(api, calloc_does_not_touch_fresh_memory)
{
    hak_free(hak_calloc(1, MIB));
    size_t before = resident_bytes();
    for (size_t size = HAK_SMALL_MAX + 1; size <= 64 * MIB; size *= 2)
        cr_assert(hak_calloc(1, size));
    cr_assert_lt(resident_bytes(), before + 2 * MIB, "%zu KiB became resident",
                 (resident_bytes() - before) / KIB);
}

/* Some of the memory is fresh, some was used and given back, some was used and kept. */
Test(api, calloc_clears_what_is_pieced_together)
{
    uint64_t random = 1;
    unsigned char *blocks[16] = {NULL};

    for (int i = 0; i < 2000; i++) {
        size_t at = random_below(&random, 16);
        size_t size = random_size(&random, 2 * MIB);
        hak_free(blocks[at]);
        blocks[at] = hak_calloc(1, size);
        cr_assert(blocks[at] && all_zero(blocks[at], size));
        memset(blocks[at], 0xff, size);
        if (random_below(&random, 50) == 0)
            hak_malloc_trim(0);
    }
    for (int i = 0; i < 16; i++)
        hak_free(blocks[i]);
}

/* ── realloc ─────────────────────────────────────────────────────────────────────────────────── */

Test(api, realloc_to_zero_frees)
{
    void *block = hak_malloc(100);

    cr_assert_null(hak_realloc(block, 0));
    cr_assert_null(hak_realloc(hak_malloc(MIB), 0));
    cr_assert_null(hak_reallocarray(hak_malloc(100), 0, 8));
    for (int i = 0; i < 100000; i++) /* were they not freed, this would show in a moment */
        cr_assert_null(hak_realloc(hak_malloc(100000), 0));
    cr_assert_leq(resident_bytes(), 500 * MIB);
}

static unsigned char *resized;
static size_t resized_size;

/* Takes the block that is handed from border to border to the next one. */
static void resize(size_t size)
{
    unsigned char *old = resized;

    pattern_fill(old, resized_size, size);
    resized = hak_realloc(old, size);
    cr_assert(resized, "%zu to %zu bytes", resized_size, size);
    cr_assert_geq(hak_malloc_usable_size(resized), size);
    cr_assert(pattern_holds(resized, resized_size < size ? resized_size : size, old, size),
              "%zu to %zu bytes", resized_size, size);
    memset(resized, 0xff, hak_malloc_usable_size(resized));
    resized_size = size;
}

/* Up over a border, down below the one before, and so on: every border is crossed both ways. */
static void resize_up_and_down(size_t size)
{
    static size_t previous = 1;

    resize(size);
    resize(previous);
    resize(size + 2);
    resize(size);
    previous = size > 1 ? size : 1;
}

Test(api, realloc_keeps_contents_across_every_border)
{
    resized_size = 1;
    resized = hak_malloc(resized_size);
    for_each_border(resize_up_and_down);
    resize(1);
    for (unsigned i = HAK_CLASSES; i-- > 0;)
        resize(hak_class_sizes[i]);
    hak_free(resized);
}

Test(api, realloc_between_any_two_sizes)
{
    uint64_t random = 7;

    resized_size = 1;
    resized = hak_malloc(resized_size);
    for (int i = 0; i < 3000; i++)
        resize(random_size(&random, 3 * MIB) + 1);
    hak_free(resized);
}

Test(api, a_large_block_grows_and_shrinks_in_steps)
{
    static const size_t STEP = 100000;

    resized_size = STEP;
    resized = hak_malloc(resized_size);
    for (size_t size = STEP; size < 20 * MIB; size += STEP)
        resize(size);
    for (size_t size = 20 * MIB; size > 4 * STEP; size -= 3 * STEP)
        resize(size);
    hak_free(resized);
}

/* With a block behind each, none can grow where it lies. */
Test(api, large_blocks_move_with_their_contents)
{
    enum { COUNT = 8 };
    unsigned char *blocks[COUNT];

    for (size_t i = 0; i < COUNT; i++) {
        blocks[i] = hak_malloc(MIB);
        pattern_fill(blocks[i], MIB, i);
    }
    for (size_t size = 2 * MIB; size <= 32 * MIB; size *= 2)
        for (size_t i = 0; i < COUNT; i++) {
            unsigned char *old = blocks[i];
            blocks[i] = hak_realloc(old, size);
            cr_assert(blocks[i] && pattern_holds(blocks[i], size / 2, old, i));
            memset(blocks[i] + size / 2, 0xee, size / 2);
            pattern_fill(blocks[i], size, i);
        }
    for (size_t i = 0; i < COUNT; i++) {
        cr_assert(pattern_holds(blocks[i], 32 * MIB, blocks[i], i));
        hak_free(blocks[i]);
    }
}

Test(api, a_large_block_that_shrinks_gives_memory_back)
{
    unsigned char *block = hak_malloc(400 * MIB);
    memset(block, 1, 400 * MIB);
    size_t before = resident_bytes();

    block = hak_realloc(block, MIB);
    cr_assert(block && hak_malloc_usable_size(block) < 2 * MIB);
    hak_malloc_trim(0);
    cr_assert_leq(resident_bytes(), before - 350 * MIB);
    hak_free(block);
}

Test(api, a_failed_realloc_leaves_the_block)
{
    size_t sizes[] = {1, 1000, HAK_SMALL_MAX, 10 * MIB};

    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        unsigned char *block = hak_malloc(sizes[i]);
        pattern_fill(block, sizes[i], i);
        cr_assert_null(hak_realloc(block, hidden((size_t)1 << 60)));
        cr_assert_null(hak_reallocarray(block, hidden((size_t)1 << 40), (size_t)1 << 40));
        cr_assert(pattern_holds(block, sizes[i], block, i));
        hak_free(block);
    }
}

/* ── alignment ───────────────────────────────────────────────────────────────────────────────── */

static void aligned_one(size_t align, size_t size)
{
    unsigned char *blocks[3] = {hak_aligned_alloc(align, size), hak_memalign(align, size), NULL};
    void *third = NULL;
    int expected = align % sizeof(void *) ? EINVAL : 0;

    cr_assert_eq(hak_posix_memalign(&third, align, size), expected);
    blocks[2] = third;
    for (int i = 0; i < (expected ? 2 : 3); i++) {
        cr_assert(blocks[i], "%zu bytes aligned to %zu", size, align);
        cr_assert(is_aligned(blocks[i], align), "%zu bytes aligned to %zu", size, align);
        cr_assert_geq(hak_malloc_usable_size(blocks[i]), size);
        if (size > 0) {
            blocks[i][0] = 1;
            blocks[i][size - 1] = 2;
        }
    }
    for (int i = 0; i < 3; i++)
        hak_free_aligned_sized(blocks[i], align, size);
}

Test(api, every_power_of_two_is_an_alignment)
{
    for (size_t align = 1; align <= GIB; align *= 2) {
        for (unsigned i = 0; i < HAK_CLASSES; i++)
            for (int beside = -1; beside <= 1; beside++)
                if (align <= 64 * KIB || i % 8 == 0)
                    aligned_one(align, hak_class_sizes[i] + (size_t)beside);
        aligned_one(align, 0);
        aligned_one(align, HAK_SMALL_MAX + 1);
        aligned_one(align, MIB);
        if (align > 1) {
            aligned_one(align, align - 1);
            aligned_one(align, align + 1);
        }
        aligned_one(align, align);
    }
}

/* Many at once, so that they do not all lie at the start of something. */
Test(api, many_aligned_blocks_do_not_overlap)
{
    enum { COUNT = 300 };
    static unsigned char *blocks[COUNT];
    static size_t sizes[COUNT];
    uint64_t random = 3;

    for (size_t i = 0; i < COUNT; i++) {
        size_t align = (size_t)1 << random_below(&random, 18);
        sizes[i] = random_size(&random, 100000);
        blocks[i] = hak_aligned_alloc(align, sizes[i]);
        cr_assert(blocks[i] && is_aligned(blocks[i], align));
        pattern_fill(blocks[i], sizes[i], i);
    }
    for (size_t i = 0; i < COUNT; i++) {
        cr_assert(pattern_holds(blocks[i], sizes[i], blocks[i], i));
        hak_free(blocks[i]);
    }
}

Test(api, an_aligned_block_can_be_resized)
{
    for (size_t align = 16; align <= 16 * MIB; align *= 4) {
        resized_size = 1000;
        resized = hak_aligned_alloc(align, resized_size);
        resize(100);
        resize(5000);
        resize(100 * KIB);
        resize(70 * KIB);
        resize(10);
        hak_free(resized);
    }
}

Test(api, an_alignment_that_is_no_power_of_two_is_einval)
{
    static const size_t WRONG[] = {0, 3, 6, 24, 48, 100, 4097, SIZE_MAX, ((size_t)1 << 63) + 1};

    for (size_t i = 0; i < sizeof(WRONG) / sizeof(WRONG[0]); i++) {
        void *untouched = &untouched;
        errno = 0;
        cr_assert_null(hak_aligned_alloc(hidden(WRONG[i]), 64));
        cr_assert_eq(errno, EINVAL);
        errno = 77;
        cr_assert_eq(hak_posix_memalign(&untouched, WRONG[i], 64), EINVAL);
        cr_assert_eq(errno, 77);
        cr_assert_eq(untouched, &untouched);
    }
}

Test(api, posix_memalign_wants_multiples_of_a_pointer)
{
    void *block = NULL;

    for (size_t align = 1; align < sizeof(void *); align *= 2)
        cr_assert_eq(hak_posix_memalign(&block, align, 64), EINVAL);
    cr_assert_eq(hak_posix_memalign(&block, sizeof(void *), 64), 0);
    hak_free(block);
}

Test(api, memalign_rounds_its_alignment_up)
{
    for (size_t align = 0; align < 5000; align += 7) {
        size_t power = 1;
        while (power < align)
            power *= 2;
        void *block = hak_memalign(align, 100);
        cr_assert(block && is_aligned(block, power));
        hak_free(block);
    }
    errno = 0;
    cr_assert_null(hak_memalign(hidden(SIZE_MAX), 1));
    cr_assert_eq(errno, EINVAL);
}

Test(api, alignments_beyond_the_address_space_are_enomem)
{
    for (int log2 = 48; log2 < 64; log2++) {
        void *block = NULL;
        cr_assert_enomem(hak_aligned_alloc(hidden((size_t)1 << log2), 1));
        cr_assert_enomem(hak_aligned_alloc(hidden((size_t)1 << log2), MIB));
        cr_assert_enomem(hak_memalign(hidden((size_t)1 << log2), 1));
        cr_assert_eq(hak_posix_memalign(&block, hidden((size_t)1 << log2), 1), ENOMEM);
    }
}

Test(api, valloc_and_pvalloc_give_pages)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t sizes[] = {0, 1, page - 1, page, page + 1, 3 * page, 5 * MIB + 1};

    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        void *pages = hak_valloc(sizes[i]);
        void *whole = hak_pvalloc(sizes[i]);
        size_t rounded = (sizes[i] + page - 1) / page * page;
        cr_assert(pages && is_aligned(pages, page));
        cr_assert(whole && is_aligned(whole, page));
        cr_assert_geq(hak_malloc_usable_size(whole), rounded ? rounded : page);
        memset(pages, 1, sizes[i]);
        memset(whole, 1, rounded);
        hak_free(pages);
        hak_free(whole);
    }
}

/* ── trim ────────────────────────────────────────────────────────────────────────────────────── */

Test(api, trim_gives_memory_back)
{
    enum { COUNT = 100000 };
    static void *blocks[COUNT];

    cr_assert(hak_malloc_trim(0) == 0 || hak_malloc_trim(0) == 0, "there is nothing to give back");
    size_t before = resident_bytes();
    for (size_t i = 0; i < COUNT; i++)
        blocks[i] = memset(hak_malloc(500), 1, 500);
    void *large = memset(hak_malloc(50 * MIB), 1, 50 * MIB);
    for (size_t i = 0; i < COUNT; i++)
        hak_free(blocks[i]);
    hak_free(large);
    errno = 77;
    cr_assert_eq(hak_malloc_trim(0), BACKEND_TRIMS);
    cr_assert_eq(hak_malloc_trim(0), 0);
    cr_assert_eq(errno, 77);
    cr_assert_leq(resident_bytes(), before + 4 * MIB);
    require_valid_heap();
    malloc_one(100);
}

Test(api, trim_leaves_live_blocks_alone)
{
    enum { COUNT = 3000 };
    static unsigned char *blocks[COUNT];

    for (size_t i = 0; i < COUNT; i++) {
        blocks[i] = hak_malloc(i * 20);
        pattern_fill(blocks[i], i * 20, i);
    }
    for (size_t i = 0; i < COUNT; i += 2)
        hak_free(blocks[i]);
    hak_malloc_trim(SIZE_MAX);
    for (size_t i = 1; i < COUNT; i += 2) {
        cr_assert(pattern_holds(blocks[i], i * 20, blocks[i], i));
        hak_free(blocks[i]);
    }
    require_valid_heap();
}

/* ── identity ────────────────────────────────────────────────────────────────────────────────── */

Test(api, the_library_says_what_it_is)
{
    cr_assert_not_null(hak_config());
    cr_assert_gt(strlen(hak_config()), 10);
    cr_assert_null(strchr(hak_config(), '\n'));
    cr_assert_eq(hak_config(), hak_config());
}
