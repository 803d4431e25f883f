/* SPDX-License-Identifier: MIT */
/* Has 10 MB in small blocks and 20 MB that it has used and freed, says so and waits; or dumps core, with an argument.
 */
#include "check.h"

enum { BLOCKS = 20000, BLOCK_SIZE = 500, FREED = 20 << 20 };

int main(int count, char **arguments)
{
    char *freed;

    (void)arguments;
    for (int i = 0; i < BLOCKS; i++) {
        char *block = malloc(BLOCK_SIZE);
        CHECK(block);
        memset(block, 1, BLOCK_SIZE);
    }
    freed = malloc(FREED);
    CHECK(freed);
    memset(hidden_pointer(freed), 1, FREED);
    free(freed);
    CHECK(write(1, "ready\n", 6) == 6);
    if (count > 1)
        abort();
    pause();
    return 0;
}
