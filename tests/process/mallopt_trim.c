/* SPDX-License-Identifier: MIT */
/* mallopt(M_TRIM_THRESHOLD) bounds the free memory that waits to be given back, at once and from then on. */
#include <malloc.h>
#include "check.h"

enum { BLOCKS = 400, BYTES = 256 << 10, LOW = 1 << 20 };

/* Bytes that wait after so many blocks were freed. */
static size_t waiting(int count)
{
    static char *blocks[BLOCKS];

    for (int i = 0; i < count; i++)
        CHECK((blocks[i] = malloc(BYTES)) != NULL);
    for (int i = 0; i < count; i++)
        free(blocks[i]);
    return mallinfo2().keepcost;
}

/* What is freed goes back by age too, half a second later: on a machine that is slower than that, again. */
static int waits_for_more_than(size_t bytes)
{
    for (int i = 0; i < 100; i++)
        if (waiting(BLOCKS) > bytes)
            return 1;
    return 0;
}

int main(void)
{
    CHECK(waits_for_more_than(8 * LOW));
    CHECK(mallopt(M_TRIM_THRESHOLD, LOW) == 1);
    CHECK(mallinfo2().keepcost <= LOW);
    for (int i = 0; i < 10; i++)
        CHECK(waiting(BLOCKS) <= LOW);
    CHECK(mallopt(M_TRIM_THRESHOLD, 0) == 1);
    CHECK(waiting(BLOCKS) == 0);
    CHECK(mallopt(M_TRIM_THRESHOLD, -1) == 1);
    CHECK(waits_for_more_than((size_t)90 << 20));
    puts("no more waits than was set");
    return 0;
}
