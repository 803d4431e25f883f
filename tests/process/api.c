/* SPDX-License-Identifier: MIT */
/* Proves that libc's names do what C23, POSIX.1-2024 and glibc say: zero sizes, alignment, contents
 * across realloc, zeroed memory, overflow, PTRDIFF_MAX, invalid alignments, errno.
 */
#define _GNU_SOURCE
#include <malloc.h>
#include <pthread.h>
#include <stdbool.h>
#include "check.h"

/* C23; the headers of this libc do not have them yet. */
void free_sized(void *, size_t);
void free_aligned_sized(void *, size_t, size_t);

static size_t page;

static bool is_aligned(const void *block, size_t alignment)
{
    return (uintptr_t)block % alignment == 0;
}

/* Every byte that the allocator says is there can be used. */
static void use(void *block, size_t size)
{
    size_t usable = malloc_usable_size(block);

    CHECK(usable >= size);
    memset(block, 0xa5, usable);
}

static const size_t sizes[] = {
    0,       1,       2,       7,       8,       9,       15,     16,     17,     24,      31,
    32,      33,      63,      64,      65,      100,     127,    128,    129,    255,     256,
    257,     511,     512,     513,     1000,    1023,    1024,   1025,   2000,   2048,    4095,
    4096,    4097,    8191,    8192,    8193,    16384,   16385,  30000,  32767,  32768,   32769,
    40000,   65535,   65536,   65537,   100000,  131072,  131073, 262144, 500000, 1048575, 1048576,
    1048577, 2097152, 2097153, 3000000, 8388608, 20000000};
enum { SIZES = sizeof sizes / sizeof *sizes };

/* C23 7.24.3: aligned for any type that fits; 16 bytes for all that could hold such a type. */
static void test_malloc(void)
{
    void *a, *b;

    for (size_t i = 0; i < SIZES; i++) {
        void *block = malloc(sizes[i]);
        size_t alignment = 16;

        CHECK(block);
        while (alignment > sizes[i] && alignment > 1)
            alignment /= 2;
        CHECK(is_aligned(block, alignment));
        use(block, sizes[i]);
        free(block);
    }
    /* A size of 0 gives a block of its own. */
    a = malloc(0);
    b = malloc(0);
    CHECK(a && b && a != b);
    free(a);
    free(b);
    free(NULL);
    CHECK(malloc_usable_size(NULL) == 0);
}

static void test_calloc(void)
{
    void *block;

    for (size_t i = 0; i < SIZES; i++)
        for (int round = 0; round < 3; round++) {
            unsigned char *bytes = calloc(1, sizes[i]);

            CHECK(bytes);
            for (size_t at = 0; at < sizes[i]; at++)
                CHECK(!bytes[at]);
            use(bytes, sizes[i]);
            free(bytes);
        }
    block = calloc(0, 10);
    CHECK(block);
    free(block);
    block = calloc(10, 0);
    CHECK(block);
    free(block);
    errno = 0;
    CHECK(!calloc(hidden(SIZE_MAX / 2), 3) && errno == ENOMEM);
    errno = 0;
    CHECK(!calloc(hidden((size_t)1 << 32), (size_t)1 << 32) && errno == ENOMEM);
    errno = 0;
    CHECK(!calloc(1, hidden((size_t)PTRDIFF_MAX + 1)) && errno == ENOMEM);
}

static unsigned char pattern(size_t at)
{
    return (unsigned char)(at * 7 + at / 251 + 1);
}

/* All of the first page, and then enough to notice a page that is missing. */
static size_t next_checked(size_t at)
{
    return at + (at < 4096 ? 1 : 509);
}

static void test_realloc(void)
{
    unsigned char *block;

    for (size_t i = 1; i < SIZES; i++)
        for (size_t j = 1; j < SIZES; j++) {
            size_t from = sizes[i], to = sizes[j], kept = from < to ? from : to;

            block = malloc(from);
            CHECK(block);
            for (size_t at = 0; at < from; at = next_checked(at))
                block[at] = pattern(at);
            block[kept - 1] = pattern(kept - 1);
            block = realloc(block, to);
            CHECK(block);
            CHECK(malloc_usable_size(block) >= to);
            for (size_t at = 0; at < kept; at = next_checked(at))
                CHECK(block[at] == pattern(at));
            CHECK(block[kept - 1] == pattern(kept - 1));
            block[to - 1] = 1;
            free(block);
        }

    block = realloc(NULL, 100);
    CHECK(block);
    block_fill(block, 100);
    errno = 0;
    CHECK(!realloc(block, hidden((size_t)PTRDIFF_MAX + 1)) && errno == ENOMEM);
    CHECK(block_check(block) == 100);
    /* glibc: a size of 0 frees the block, and the answer is NULL; not an error. */
    CHECK(!realloc(block, hidden(0)));
    block = realloc(NULL, 0);
    CHECK(block);
    free(block);

    /* Step by step to 64 MiB, as programs that read a file of unknown length do. */
    block = NULL;
    for (size_t size = 16; size <= 64 << 20; size *= 2) {
        block = realloc(block, size);
        CHECK(block);
        CHECK(size == 16 || block[0] == 42);
        CHECK(size == 16 || block[size / 2 - 1] == 43);
        block[0] = 42;
        block[size - 1] = 43;
    }
    free(block);
}

static void test_reallocarray(void)
{
    void *block = reallocarray(NULL, 10, 10);

    CHECK(block);
    block_fill(block, 100);
    block = reallocarray(block, 1000, 10);
    CHECK(block && block_check(block) == 100);
    errno = 0;
    CHECK(!reallocarray(block, hidden(SIZE_MAX / 2), 3) && errno == ENOMEM);
    errno = 0;
    CHECK(!reallocarray(block, hidden(SIZE_MAX), hidden(SIZE_MAX)) && errno == ENOMEM);
    CHECK(block_check(block) == 100);
    free(block);
}

static void test_alignment(void)
{
    static const size_t alignments[] = {
        8,     16,    32,    64,     128,    256,    512,     1024,    2048,    4096,     8192,
        16384, 32768, 65536, 131072, 262144, 524288, 1048576, 2097152, 4194304, 16777216, 67108864};

    for (size_t i = 0; i < sizeof alignments / sizeof *alignments; i++) {
        size_t alignment = alignments[i];
        size_t size[] = {0, 1, 100, alignment / 2, alignment, alignment + 1, alignment * 3};

        for (size_t s = 0; s < sizeof size / sizeof *size; s++) {
            void *block[6] = {0};

            block[0] = aligned_alloc(alignment, size[s]);
            block[1] = memalign(alignment, size[s]);
            CHECK(!posix_memalign(&block[2], alignment, size[s]));
            block[3] = aligned_alloc(alignment, size[s]);
            for (int b = 0; b < 4; b++) {
                CHECK(block[b]);
                CHECK(is_aligned(block[b], alignment));
                if (alignment <= 65536)
                    use(block[b], size[s]);
            }
            /* An aligned block may be reallocated like any other. */
            if (size[s] >= MIN_BLOCK_SIZE) {
                block_fill(block[0], size[s]);
                block[0] = realloc(block[0], size[s] * 2);
                CHECK(block[0] && block_check(block[0]) == size[s]);
            }
            for (int b = 0; b < 3; b++)
                free(block[b]);
            free_aligned_sized(block[3], alignment, size[s]);
        }
    }
}

static void test_bad_alignment(void)
{
    static const size_t bad[] = {0, 3, 24, 48, 100, 4097, SIZE_MAX, SIZE_MAX / 2 + 2};
    void *block = &page;

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        /* POSIX: a power of two and a multiple of a pointer's size, else EINVAL. */
        CHECK(posix_memalign(&block, hidden(bad[i]), 100) == EINVAL);
        CHECK(block == &page);
        /* C23: an alignment that is not one is refused. */
        errno = 0;
        CHECK(!aligned_alloc(hidden(bad[i]), 100) && errno == EINVAL);
    }
    CHECK(posix_memalign(&block, 1, 100) == EINVAL);
    CHECK(posix_memalign(&block, 4, 100) == EINVAL);
    CHECK(block == &page);
    /* An alignment that is one, and larger than anything: no memory. */
    errno = 0;
    CHECK(!aligned_alloc(hidden((size_t)1 << 62), 100) && errno == ENOMEM);
    CHECK(posix_memalign(&block, hidden((size_t)1 << 62), 100) == ENOMEM);
    /* glibc's memalign takes the next power of two. */
    block = memalign(hidden(24), 100);
    CHECK(block && is_aligned(block, 32));
    free(block);
    block = memalign(hidden(0), 100);
    CHECK(block && is_aligned(block, 16));
    free(block);
}

static void test_pages(void)
{
    static const size_t size[] = {0, 1, 100, 4096, 4097, 100000};

    for (size_t i = 0; i < sizeof size / sizeof *size; i++) {
        void *block = valloc(size[i]);
        size_t rounded = (size[i] + page - 1) / page * page;

        CHECK(block && is_aligned(block, page));
        use(block, size[i]);
        free(block);
        block = pvalloc(size[i]);
        CHECK(block && is_aligned(block, page));
        use(block, rounded);
        free(block);
    }
    errno = 0;
    CHECK(!pvalloc(hidden(SIZE_MAX)) && errno == ENOMEM);
    errno = 0;
    CHECK(!valloc(hidden(SIZE_MAX)) && errno == ENOMEM);
}

static void test_too_large(void)
{
    static const size_t size[] = {PTRDIFF_MAX, (size_t)PTRDIFF_MAX + 1, SIZE_MAX - 4096, SIZE_MAX};

    for (size_t i = 0; i < sizeof size / sizeof *size; i++) {
        void *block = &page;
        size_t n = hidden(size[i]);

        errno = 0;
        CHECK(!malloc(n) && errno == ENOMEM);
        errno = 0;
        CHECK(!realloc(NULL, n) && errno == ENOMEM);
        errno = 0;
        CHECK(!aligned_alloc(64, n) && errno == ENOMEM);
        errno = 0;
        CHECK(!memalign(1 << 20, n) && errno == ENOMEM);
        CHECK(posix_memalign(&block, 64, n) == ENOMEM && block == &page);
    }
}

static void test_sized_free(void)
{
    free_sized(NULL, 100);
    free_aligned_sized(NULL, 64, 128);
    for (size_t i = 0; i < SIZES; i++) {
        void *block = malloc(sizes[i]);

        CHECK(block);
        use(block, sizes[i]);
        free_sized(block, sizes[i]);
        block = calloc(sizes[i], 2);
        CHECK(block);
        free_sized(block, sizes[i] * 2);
    }
}

static void *free_elsewhere(void *argument)
{
    void **block = argument;

    for (size_t i = 0; i < SIZES; i++) {
        errno = 4711;
        free(block[i]);
        CHECK(errno == 4711);
    }
    return NULL;
}

/* POSIX.1-2024: free does not change errno; also in a thread that has never allocated. */
static void test_errno(void)
{
    void *block[SIZES];
    pthread_t thread;

    for (int round = 0; round < 20; round++) {
        for (size_t i = 0; i < SIZES; i++) {
            block[i] = malloc(sizes[i]);
            CHECK(block[i]);
            use(block[i], sizes[i] < 65536 ? sizes[i] : 0);
        }
        if (round % 2) {
            CHECK(!pthread_create(&thread, NULL, free_elsewhere, block));
            CHECK(!pthread_join(thread, NULL));
        } else {
            free_elsewhere(block);
        }
    }
    errno = 4711;
    free(NULL);
    free_sized(NULL, 1);
    CHECK(errno == 4711);
    /* What succeeds leaves errno alone, too: nobody expects an error where there is none. */
    for (size_t i = 0; i < SIZES; i++) {
        block[i] = malloc(sizes[i]);
        CHECK(block[i] && errno == 4711);
        free(block[i]);
    }
}

static void test_trim(void)
{
    void *block[1000];
    int answer;

    for (int i = 0; i < 1000; i++) {
        block[i] = malloc(10000);
        CHECK(block[i]);
        use(block[i], 10000);
    }
    for (int i = 0; i < 1000; i += 2)
        free(block[i]);
    answer = malloc_trim(0);
    CHECK(answer == 0 || answer == 1);
    for (int i = 1; i < 1000; i += 2) {
        CHECK(((unsigned char *)block[i])[9999] == 0xa5);
        free(block[i]);
    }
    answer = malloc_trim(1 << 20);
    CHECK(answer == 0 || answer == 1);
    free(malloc(100));
}

int main(void)
{
    page = (size_t)sysconf(_SC_PAGESIZE);
    test_malloc();
    test_calloc();
    test_realloc();
    test_reallocarray();
    test_alignment();
    test_bad_alignment();
    test_pages();
    test_too_large();
    test_sized_free();
    test_errno();
    test_trim();
    puts("as the standards say");
    return 0;
}
