/* SPDX-License-Identifier: MIT */
/* What the kernel charges for memory where it charges what is mapped (vm.overcommit_memory=2). It tells only the
 * sum of all processes, so there is some room for what others do meanwhile, and time for it to pass.
 */
#include <malloc.h>
#include "check.h"

enum { BLOCK = 1000, ROOM = 24, LIVE = 200 }; /* bytes; MiB */

static void *blocks[LIVE * 1048];

/* A line of /proc/meminfo, in MiB; nothing is allocated for it. */
static long mebibytes(const char *name)
{
    char text[4096];
    FILE *file = fopen("/proc/meminfo", "r");
    size_t length;
    const char *line;

    CHECK(file);
    length = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    text[length] = '\0';
    line = strstr(text, name);
    CHECK(line);
    return strtol(line + strlen(name) + 1, NULL, 10) >> 10;
}

/* Whether it is so within some seconds. */
static int settles(long before, long least, long most)
{
    for (int i = 0; i < 100; i++) {
        long now = mebibytes("Committed_AS") - before;

        if (now >= least && now <= most)
            return 1;
        usleep(50000);
    }
    return 0;
}

int main(void)
{
    long before = mebibytes("Committed_AS"), limit = mebibytes("CommitLimit");

    free(hidden_pointer(malloc(1)));
    CHECK(settles(before, -ROOM, ROOM));
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++) {
        blocks[i] = malloc(BLOCK);
        CHECK(blocks[i]);
        block_fill(blocks[i], BLOCK);
    }
    CHECK(settles(before, LIVE - ROOM, LIVE + LIVE / 8 + ROOM));
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++)
        block_free(blocks[i]);
    malloc_trim(0);
    CHECK(settles(before, -ROOM, ROOM));
    errno = 0;
    CHECK(!malloc(hidden(((size_t)limit + 1) << 20)) && errno == ENOMEM);
    blocks[0] = malloc(BLOCK);
    CHECK(blocks[0]);
    puts("charged for what is used, and refused what is not there");
    return 0;
}
