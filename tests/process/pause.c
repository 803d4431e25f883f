/* SPDX-License-Identifier: MIT */
/* Blocks of all sizes are replaced and freed, several times, and after a pause once more, between two marks that are
 * written to stdout, so that a trace shows what lies between them.
 */
#include "check.h"

#include <time.h>

enum { OPERATIONS = 100000, WARM_UP = 8, LIVE = 256, LARGEST_LOG2 = 20 };

static void mark(const char *text)
{
    CHECK(write(1, text, strlen(text)) == (ssize_t)strlen(text));
}

/* The same sequence each time. */
static void load(void)
{
    static void *live[LIVE];
    uint64_t state = 12345;

    for (int i = 0; i < OPERATIONS; i++) {
        uint64_t r = random_next(&state);
        void **slot = &live[r % LIVE];

        free(*slot);
        *slot = malloc((r >> 16) % ((size_t)1 << (4 + (r >> 48) % (LARGEST_LOG2 - 3))) + 1);
        CHECK(*slot);
        *(volatile char *)*slot = 1;
    }
    for (int i = 0; i < LIVE; i++) {
        free(live[i]);
        live[i] = NULL;
    }
}

int main(void)
{
    for (int i = 0; i < WARM_UP; i++)
        load();
    nanosleep(&(struct timespec){.tv_nsec = 800000000}, NULL);
    mark("load begin\n");
    load();
    mark("load end\n");
    return 0;
}
