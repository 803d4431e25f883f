/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/kernel.h"
#include "core/os.h"
#include "core/text.h"

static const size_t SIZE = (size_t)1 << 20;

static bool is_zero(const char *bytes, size_t size)
{
    return bytes[0] == 0 && memcmp(bytes, bytes + 1, size - 1) == 0;
}

static char *mapped(size_t size)
{
    char *memory = os_map(size);

    cr_assert_not_null(memory);
    return memory;
}

/* What the kernel itself does, by calls that are none of ours. */

static bool kernel_clears_what_it_purges(void)
{
    char *page = mapped(os_page_size());

    *page = 1;
    cr_assert_eq(madvise(page, os_page_size(), MADV_DONTNEED), 0);
    return *(volatile char *)page == 0;
}

static bool kernel_moves_pages(void)
{
    enum { DONTUNMAP = 4 };
    char *from = mapped(os_page_size());
    char *to = mapped(os_page_size());
    int flags = MREMAP_MAYMOVE | MREMAP_FIXED | DONTUNMAP;

    return mremap(from, os_page_size(), os_page_size(), flags, to) == to;
}

Test(os, mapped_memory_is_zero_and_writable)
{
    char *memory = mapped(SIZE);

    cr_assert(is_zero(memory, SIZE));
    memset(memory, 1, SIZE);
    cr_assert(os_unmap(memory, SIZE));
}

Test(os, a_place_that_is_taken_is_not_mapped_over)
{
    char *memory = mapped(SIZE);

    memset(memory, 7, SIZE);
    cr_assert_eq(os_map_at(memory, SIZE), OS_TAKEN);
    cr_assert_eq(os_map_at(memory - SIZE / 2, SIZE), OS_TAKEN, "a part of it");
    cr_assert_eq(memory[SIZE - 1], 7);
    os_unmap(memory, SIZE);
    cr_assert_eq(os_map_at(memory, SIZE), OS_PLACED);
    cr_assert(is_zero(memory, SIZE));
}

static size_t mapped_bytes(void)
{
    size_t pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");

    cr_assert(file && fscanf(file, "%zu", &pages) == 1);
    fclose(file);
    return pages * os_page_size();
}

Test(os, what_the_kernel_would_not_map_has_no_place_either)
{
    char *memory = mapped(SIZE);
    struct rlimit limit;

    os_unmap(memory, SIZE);
    cr_assert(os_can_map(SIZE));
    cr_assert_eq(getrlimit(RLIMIT_AS, &limit), 0);
    limit.rlim_cur = mapped_bytes() + SIZE / 2;
    cr_assert_eq(setrlimit(RLIMIT_AS, &limit), 0);
    cr_assert(!os_can_map(SIZE));
    cr_assert_eq(os_map_at(memory, SIZE), OS_NO_MEMORY);
}

/* The kernel says of a mapping whether core dumps have it: "dd" among its flags. */
static bool is_dumped(const void *address)
{
    char line[300];
    bool ours = false;
    bool dumped = true;
    FILE *maps = fopen("/proc/self/smaps", "r");

    cr_assert_not_null(maps);
    while (fgets(line, sizeof(line), maps)) {
        unsigned long from;
        unsigned long to;
        if (sscanf(line, "%lx-%lx ", &from, &to) == 2)
            ours = (uintptr_t)address >= from && (uintptr_t)address < to;
        else if (ours && strncmp(line, "VmFlags:", 8) == 0)
            dumped = strstr(line, " dd") == NULL;
    }
    fclose(maps);
    return dumped;
}

Test(os, core_dumps_leave_out_what_they_are_told_to)
{
    char *memory = mapped(SIZE);

    os_leave_out_of_dumps(memory, SIZE / 2);
    cr_assert(!is_dumped(memory) && is_dumped(memory + SIZE / 2));
    os_take_into_dumps(memory, SIZE / 2);
    cr_assert(is_dumped(memory));
}

Test(os, purged_memory_reads_as_zeros_where_it_says_so)
{
    char *memory = mapped(SIZE);

    memset(memory, 1, SIZE);
    cr_assert(os_purge(memory, SIZE));
    cr_assert_eq(os_purge_zeroes(), kernel_clears_what_it_purges());
    cr_assert_eq(is_zero(memory, SIZE), os_purge_zeroes());
}

Test(os, moved_pages_leave_zeros_behind)
{
    char *from = mapped(SIZE);
    char *to = mapped(SIZE);

    memset(from, 3, SIZE);
    if (kernel_moves_pages()) {
        cr_assert_eq(os_move(from, to, SIZE, 1), 1);
        cr_assert(to[0] == 3 && to[SIZE - 1] == 3);
        cr_assert(is_zero(from, SIZE));
    } else {
        cr_assert_eq(os_move(from, to, SIZE, 1), 0);
        cr_assert(from[0] == 3 && from[SIZE - 1] == 3);
    }
}

/* Advice for a part of a mapping makes it one of its own. */
Test(os, several_mappings_are_moved_or_none)
{
    size_t page = os_page_size();
    char *from = mapped(SIZE);
    char *to = mapped(SIZE);

    for (size_t at = 0; at < SIZE; at += page)
        memset(from + at, (int)(at / page), page);
    if (!kernel_moves_pages())
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
    /* Where the kernel would put the next page is aligned to just one half. */
    uintptr_t next = 0;
    for (int i = 0; i < 1000 && next % 65536 != 32768; i++) {
        mapped(4096);
        next = (uintptr_t)mapped(4096);
        os_unmap((void *)next, 4096);
    }
    cr_assert_eq(next % 65536, 32768);
    cr_assert_eq((uintptr_t)os_map_aligned(4096, 65536) % 65536, 0);
    cr_assert_null(os_map_aligned(SIZE, (size_t)1 << 63));
    cr_assert_null(os_map_aligned(SIZE_MAX - SIZE + 1, (size_t)1 << 62));
}

Test(os, a_mapping_grows_if_nothing_lies_behind_it)
{
    char *memory = mapped(2 * SIZE);

    memset(memory, 5, SIZE);
    cr_assert(!os_grow(memory, SIZE, 2 * SIZE), "its other half lies behind it");
    os_unmap(memory + SIZE, SIZE);
    cr_assert(os_grow(memory, SIZE, 2 * SIZE));
    cr_assert(memory[0] == 5 && memory[SIZE - 1] == 5);
    cr_assert(is_zero(memory + SIZE, SIZE));
}

Test(os, what_moves_away_leaves_nothing_behind)
{
    char *from = mapped(SIZE);
    char *to = mapped(4 * SIZE);

    memset(from, 5, SIZE);
    cr_assert_eq(os_move_away(from, SIZE, to, 4 * SIZE), OS_MOVED);
    cr_assert(to[0] == 5 && to[SIZE - 1] == 5);
    cr_assert(is_zero(to + SIZE, 3 * SIZE));
    cr_assert_eq(os_map_at(from, SIZE), OS_PLACED, "its place is free");
}

Test(os, what_is_not_one_mapping_does_not_move)
{
    char *from = mapped(2 * SIZE);
    char *to = mapped(2 * SIZE);

    memset(from, 5, 2 * SIZE);
    cr_assert_eq(mprotect(from + SIZE, SIZE, PROT_READ), 0);
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
    cr_assert_eq(os_map_at(NULL, (size_t)1 << 62), OS_NO_MEMORY);
    cr_assert(!os_can_map((size_t)1 << 62));
    os_leave_out_of_dumps((void *)(uintptr_t)os_page_size(), os_page_size());
    os_take_into_dumps((void *)(uintptr_t)os_page_size(), os_page_size());
    cr_assert(!os_purge((void *)(uintptr_t)os_page_size(), os_page_size()));
    hak_write_error("", 0);
    cr_assert_null(os_map_aligned((size_t)1 << 62, SIZE));
    cr_assert(!os_grow((void *)(uintptr_t)os_page_size(), SIZE, 2 * SIZE));
    cr_assert_eq(os_move_away((void *)(uintptr_t)os_page_size(), SIZE, os_map(SIZE), SIZE),
                 OS_REFUSED);
    (void)os_mappings_limit();
    (void)os_charges_committed();
    cr_assert_eq(errno, 1234);
}

static uint32_t kernels_ms(int clock)
{
    struct timespec now;

    cr_assert_eq(clock_gettime(clock, &now), 0);
    return (uint32_t)((uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000);
}

Test(os, the_clock_is_the_kernels_and_goes_on)
{
    uint32_t start = hak_clock_ms();
    uint32_t now;

    do {
        uint32_t before = kernels_ms(CLOCK_MONOTONIC_COARSE);
        now = hak_clock_ms();
        uint32_t after = kernels_ms(CLOCK_MONOTONIC_COARSE);
        cr_assert_leq((uint32_t)(now - before), (uint32_t)(after - before));
    } while (now == start);
}

/* Where nothing changes, it is time that ends it. */
Test(os, waiting_takes_its_time)
{
    uint32_t word = 7;
    uint32_t start = kernels_ms(CLOCK_MONOTONIC);

    hak_clock_wait(&word, 8, HAK_FOREVER);
    while (kernels_ms(CLOCK_MONOTONIC) - start < 20)
        hak_clock_wait(&word, 7, 20);
}

static uint32_t changing; /* atomic */

static void *wait_for_change(void *unused)
{
    while (__atomic_load_n(&changing, __ATOMIC_ACQUIRE) == 0)
        hak_clock_wait(&changing, 0, HAK_FOREVER);
    return unused;
}

Test(os, waiting_ends_when_somebody_wakes_it)
{
    pthread_t thread;

    cr_assert_eq(pthread_create(&thread, NULL, wait_for_change, NULL), 0);
    sched_yield();
    __atomic_store_n(&changing, 1, __ATOMIC_RELEASE);
    kernel_futex_wake(&changing, 1);
    cr_assert_eq(pthread_join(thread, NULL), 0);
}

Test(os, the_page_size_is_the_kernels)
{
    cr_assert_eq(os_page_size(), (size_t)sysconf(_SC_PAGESIZE));
}
