/* SPDX-License-Identifier: MIT */
/* glibc's calls for statistics: a line of figures, then malloc_info's XML. */
#include <errno.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>

#include "check.h"

enum { BLOCKS = 1000, BYTES = 1024, LARGE = 10 << 20 };

#pragma GCC diagnostic ignored "-Wdeprecated-declarations"

int main(void)
{
    static char *blocks[BLOCKS];
    char *volatile large;
    struct mallinfo2 before = mallinfo2();

    for (int i = 0; i < BLOCKS; i++)
        CHECK((blocks[i] = malloc(BYTES)) != NULL);
    large = malloc(LARGE);
    struct mallinfo2 after = mallinfo2();
    struct mallinfo narrow = mallinfo();
    CHECK(after.uordblks - before.uordblks == BLOCKS * BYTES);
    CHECK(after.hblks - before.hblks == 1 && after.hblkhd - before.hblkhd >= LARGE);
    CHECK(after.fordblks + after.uordblks == after.arena);
    CHECK((size_t)narrow.uordblks == after.uordblks && (size_t)narrow.hblkhd == after.hblkhd);
    for (int i = 0; i < BLOCKS; i++)
        free(blocks[i]);
    free(large);
    struct mallinfo2 end = mallinfo2();
    CHECK(end.uordblks == before.uordblks && end.hblkhd == before.hblkhd);
    CHECK(mallopt(M_MMAP_THRESHOLD, 1 << 20) == 1);
    CHECK(mallopt(-12345, 0) == 0);
    CHECK(malloc_info(1, stdout) == EINVAL);
    CHECK(malloc_info(0, stdout) == 0);
    malloc_stats();
    return 0;
}
