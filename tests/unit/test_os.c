/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include <criterion/criterion.h>
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/os.h"

static const size_t SIZE = (size_t)1 << 20;

static bool is_zero(const char *bytes, size_t size)
{
    return bytes[0] == 0 && memcmp(bytes, bytes + 1, size - 1) == 0;
}

Test(os, mapped_memory_is_zero_and_writable)
{
    char *memory = os_map(SIZE);

    cr_assert_not_null(memory);
    cr_assert(is_zero(memory, SIZE));
    memset(memory, 1, SIZE);
    cr_assert(os_unmap(memory, SIZE));
}

Test(os, reserved_space_is_no_memory, .signal = SIGSEGV)
{
    *(volatile char *)os_reserve(SIZE) = 1;
}

Test(os, reserved_zeros_can_be_read)
{
    cr_assert(is_zero(os_reserve_zeros(SIZE), SIZE));
}

Test(os, reserved_zeros_cannot_be_written, .signal = SIGSEGV)
{
    *(volatile char *)os_reserve_zeros(SIZE) = 1;
}

Test(os, reserving_is_not_slow_without_an_emulator)
{
    errno = 1234;
    cr_assert(!os_reserve_is_slow());
    cr_assert_eq(errno, 1234);
}

Test(os, committed_space_is_memory_until_decommitted)
{
    char *space = os_reserve(SIZE);

    cr_assert(os_commit(space, SIZE / 2));
    memset(space, 1, SIZE / 2);
    cr_assert(os_decommit(space, SIZE / 2));
    cr_assert(os_commit(space, SIZE / 2));
    cr_assert(is_zero(space, SIZE / 2));
}

Test(os, a_place_that_is_taken_is_not_mapped_over)
{
    char *memory = os_map(SIZE);

    memset(memory, 7, SIZE);
    cr_assert(!os_map_at(memory, SIZE));
    cr_assert_eq(memory[SIZE - 1], 7);
    os_unmap(memory, SIZE);
    cr_assert(os_map_at(memory, SIZE));
    cr_assert(is_zero(memory, SIZE));
}

Test(os, purged_memory_reads_as_zeros_where_it_says_so)
{
    char *memory = os_map(SIZE);

    memset(memory, 1, SIZE);
    cr_assert(os_purge(memory, SIZE));
    if (os_purge_zeroes())
        cr_assert(is_zero(memory, SIZE));
}

Test(os, moved_pages_leave_zeros_behind)
{
    char *from = os_map(SIZE);
    char *to = os_map(SIZE);

    memset(from, 3, SIZE);
    if (os_move(from, to, SIZE, 1)) {
        cr_assert(to[0] == 3 && to[SIZE - 1] == 3);
        cr_assert(is_zero(from, SIZE));
    } else {
        cr_assert(from[0] == 3 && from[SIZE - 1] == 3);
    }
}

/* Advice for a part of a mapping makes it one of its own. */
Test(os, several_mappings_are_moved_or_none)
{
    size_t page = os_page_size();
    char *from = os_map(SIZE);
    char *to = os_map(SIZE);

    for (size_t at = 0; at < SIZE; at += page)
        memset(from + at, (int)(at / page), page);
    if (!os_move(to, os_map(SIZE), SIZE, 1))
        cr_skip_test("this kernel does not move pages");
    cr_assert_eq(madvise(from + 3 * page, 2 * page, MADV_DONTDUMP), 0);
    cr_assert_eq(os_move(from, to, SIZE, 2), 0);
    for (size_t at = 0; at < SIZE; at += page)
        cr_assert(from[at] == (char)(at / page) && from[at + page - 1] == (char)(at / page));
    cr_assert_eq(os_move(from, to, SIZE, 3), 3);
    cr_assert(is_zero(from, SIZE));
    for (size_t at = 0; at < SIZE; at += page)
        cr_assert(to[at] == (char)(at / page) && to[at + page - 1] == (char)(at / page));
}

Test(os, mapped_memory_is_as_aligned_as_wanted)
{
    for (size_t align = 4096; align <= 64 * SIZE; align *= 4) {
        char *memory = os_map_aligned(SIZE, align);
        cr_assert_not_null(memory);
        cr_assert_eq((uintptr_t)memory % align, 0);
        cr_assert(is_zero(memory, SIZE));
        memset(memory, 1, SIZE);
        cr_assert(os_unmap(memory, SIZE));
    }
    cr_assert_null(os_map_aligned(SIZE, (size_t)1 << 63));
    cr_assert_null(os_map_aligned(SIZE_MAX - SIZE + 1, (size_t)1 << 62));
}

Test(os, a_mapping_grows_if_nothing_lies_behind_it)
{
    char *memory = os_map(2 * SIZE);

    memset(memory, 5, SIZE);
    cr_assert(!os_grow(memory, SIZE, 2 * SIZE), "its other half lies behind it");
    os_unmap(memory + SIZE, SIZE);
    cr_assert(os_grow(memory, SIZE, 2 * SIZE));
    cr_assert(memory[0] == 5 && memory[SIZE - 1] == 5);
    cr_assert(is_zero(memory + SIZE, SIZE));
}

Test(os, what_moves_away_leaves_nothing_behind)
{
    char *from = os_map(SIZE);
    char *to = os_map(4 * SIZE);

    memset(from, 5, SIZE);
    cr_assert_eq(os_move_away(from, SIZE, to, 4 * SIZE), OS_MOVED);
    cr_assert(to[0] == 5 && to[SIZE - 1] == 5);
    cr_assert(is_zero(to + SIZE, 3 * SIZE));
    cr_assert(os_map_at(from, SIZE), "its place is free");
}

Test(os, what_is_not_one_mapping_does_not_move)
{
    char *from = os_map(2 * SIZE);
    char *to = os_map(2 * SIZE);

    memset(from, 5, 2 * SIZE);
    cr_assert(os_decommit(from + SIZE, SIZE));
    cr_assert_eq(os_move_away(from, 2 * SIZE, to, 2 * SIZE), OS_REFUSED);
    cr_assert_eq(from[SIZE - 1], 5);
    cr_assert(is_zero(to, 2 * SIZE));
}

Test(os, the_limit_on_mappings_is_the_kernels)
{
    size_t limit = os_mappings_limit();

    cr_assert(limit >= 100 && limit <= (size_t)1 << 31);
}

Test(os, nothing_touches_errno)
{
    errno = 1234;
    cr_assert_null(os_map((size_t)1 << 62));
    cr_assert_null(os_reserve((size_t)1 << 62));
    cr_assert(!os_commit((void *)(uintptr_t)os_page_size(), os_page_size()));
    cr_assert(!os_purge((void *)(uintptr_t)os_page_size(), os_page_size()));
    os_write_error("", 0);
    cr_assert_null(os_map_aligned((size_t)1 << 62, SIZE));
    cr_assert(!os_grow((void *)(uintptr_t)os_page_size(), SIZE, 2 * SIZE));
    cr_assert_eq(os_move_away((void *)(uintptr_t)os_page_size(), SIZE, os_map(SIZE), SIZE),
                 OS_REFUSED);
    (void)os_mappings_limit();
    (void)os_charges_committed();
    (void)os_address_limit();
    cr_assert_eq(errno, 1234);
}

Test(os, the_address_limit_is_the_kernels)
{
    struct rlimit limit = {(rlim_t)1 << 40, (rlim_t)1 << 40};

    cr_assert_eq(setrlimit(RLIMIT_AS, &limit), 0);
    cr_assert_eq(os_address_limit(), (size_t)1 << 40);
}

Test(os, the_clock_goes_on)
{
    uint32_t start = hak_clock_ms();
    struct timespec pause = {0, 50000000};

    nanosleep(&pause, NULL);
    uint32_t passed = hak_clock_ms() - start;
    cr_assert(passed >= 30 && passed < 10000, "%u ms", passed);
}

Test(os, the_page_size_is_the_kernels)
{
    cr_assert_eq(os_page_size(), (size_t)sysconf(_SC_PAGESIZE));
}
