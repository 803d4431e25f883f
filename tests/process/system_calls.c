/* SPDX-License-Identifier: MIT */
/* Loops that must make no system call once they are warm. Each is run between two marks that are
 * written to stdout, so that a trace shows what lies between them.
 */
#include "check.h"

enum { OPERATIONS = 1000000, WARM_UP = 4000000, LIVE = 1024 };

static void mark(const char *text)
{
    CHECK(write(1, text, strlen(text)) == (ssize_t)strlen(text));
}

static void pairs(size_t size, int count)
{
    for (int i = 0; i < count; i++) {
        void *block = malloc(size);

        CHECK(block);
        *(volatile char *)block = 1;
        free(block);
    }
}

static void replace(void **live, uint64_t *state, int count)
{
    for (int i = 0; i < count; i++) {
        uint64_t r = random_next(state);
        void **slot = &live[r % LIVE];

        free(*slot);
        *slot = malloc(16 + (r >> 32) % 512);
        CHECK(*slot);
        *(volatile char *)*slot = 1;
    }
}

int main(void)
{
    static const size_t size[] = {16, 64, 1000, 20000};
    static void *live[LIVE];
    uint64_t state = 12345;

    for (size_t i = 0; i < sizeof size / sizeof *size; i++) {
        pairs(size[i], WARM_UP);
        mark("pairs begin\n");
        pairs(size[i], OPERATIONS);
        mark("pairs end\n");
    }
    replace(live, &state, WARM_UP);
    mark("replacements begin\n");
    replace(live, &state, OPERATIONS);
    mark("replacements end\n");
    return 0;
}
