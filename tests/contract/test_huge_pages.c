/* SPDX-License-Identifier: MIT */
/* No huge pages unless they are asked for, also where the system gives them to everybody. */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/os.h"
#include "tests/contract/support.h"

static const char MODE[] = "/sys/kernel/mm/transparent_hugepage/enabled";

enum { BLOCKS = 100000, LARGE_BLOCKS = 20 };

static const size_t MIB = (size_t)1 << 20;

static void *blocks[BLOCKS + LARGE_BLOCKS];

static bool has_block(unsigned long from, unsigned long to)
{
    for (size_t i = 0; i < BLOCKS + LARGE_BLOCKS; i++)
        if ((uintptr_t)blocks[i] >= from && (uintptr_t)blocks[i] < to)
            return true;
    return false;
}

/* Bytes in huge pages of mappings that blocks lie in. */
static size_t huge_bytes(void)
{
    char line[300];
    size_t kilobytes = 0;
    bool ours = false;
    FILE *maps = fopen("/proc/self/smaps", "r");

    require(maps != NULL);
    while (fgets(line, sizeof(line), maps)) {
        unsigned long from;
        unsigned long to;
        unsigned long value;
        if (sscanf(line, "%lx-%lx ", &from, &to) == 2)
            ours = has_block(from, to);
        else if (ours && sscanf(line, "AnonHugePages: %lu kB", &value) == 1)
            kilobytes += value;
    }
    fclose(maps);
    return kilobytes << 10;
}

static bool get_mode(char *text, size_t size)
{
    int file = open(MODE, O_RDONLY);
    ssize_t length = file < 0 ? 0 : read(file, text, size - 1);

    if (file >= 0)
        close(file);
    text[length > 0 ? length : 0] = '\0';
    return length > 0;
}

static bool set_mode(const char *mode)
{
    int file = open(MODE, O_WRONLY);
    bool done = file >= 0 && write(file, mode, strlen(mode)) == (ssize_t)strlen(mode);

    if (file >= 0)
        close(file);
    return done;
}

/* With and without huge pages of the system's own beside ours, to see that there are some to be had. */
static int fill_and_look(void)
{
    char *beside = os_map_aligned(4 * MIB, 2 * MIB);

    require(beside != NULL);
    memset(beside, 1, 4 * MIB);
    blocks[0] = beside;
    require(huge_bytes() > 0);
    for (size_t i = 0; i < BLOCKS; i++) {
        require((blocks[i] = hak_malloc(500)) != NULL);
        memset(blocks[i], 1, 500);
    }
    for (size_t i = BLOCKS; i < BLOCKS + LARGE_BLOCKS; i++) {
        require((blocks[i] = hak_malloc(5 * MIB)) != NULL);
        memset(blocks[i], 1, 5 * MIB);
    }
    require((huge_bytes() > 0) == enabled(CONFIG_HUGE_PAGES_ALWAYS));
    for (size_t i = 0; i < BLOCKS + LARGE_BLOCKS; i++)
        hak_free(blocks[i]);
    return 0;
}

/* In any mode of the system: what the library has asked for says what it gets. */
Test(huge_pages, the_kernel_is_told_for_all_that_blocks_lie_in)
{
    for (size_t i = 0; i < BLOCKS; i++)
        cr_assert_not_null(blocks[i] = hak_malloc(1 + i % 5000));
    for (size_t i = BLOCKS; i < BLOCKS + LARGE_BLOCKS; i++)
        cr_assert_not_null(blocks[i] = hak_malloc(5 * MIB));
    for (size_t i = 0; i < BLOCKS; i += 3)
        hak_free(blocks[i]);
    size_t bytes = bytes_without_flag(enabled(CONFIG_HUGE_PAGES_ALWAYS) ? "hg" : "nh");
    if (bytes == SIZE_MAX)
        cr_skip_test("the kernel has no huge pages, or does not say what it was told");
    cr_assert_eq(bytes, 0);
}

/* The mode is the whole machine's, and other tests and programs would get huge pages meanwhile: HAKMEM_TEST_HUGE_PAGES=1
 * lets this test set it. */
Test(huge_pages, there_are_none_where_the_system_gives_them_to_all_unless_configured)
{
    char mode[100];
    int status = -1;

    if (os_page_size() != 4096 || !get_mode(mode, sizeof(mode)))
        cr_skip_test("the system has no huge pages of 2 MiB");
    bool changes = strstr(mode, "[always]") == NULL;
    if (changes && getenv("HAKMEM_TEST_HUGE_PAGES") == NULL)
        cr_skip_test(
            "the system's mode is not `always`, and without HAKMEM_TEST_HUGE_PAGES=1 it stays so");
    if (changes && !set_mode("always"))
        cr_skip_test("the mode of this system cannot be set");
    pid_t child = fork();
    if (child == 0)
        _exit(fill_and_look());
    waitpid(child, &status, 0);
    cr_assert(!changes || set_mode(strstr(mode, "[never]") ? "never" : "madvise"));
    cr_assert_eq(status, 0);
}
