/* SPDX-License-Identifier: MIT */
/* Proves that a program without rights can lock all its memory, now and in the future, under a limit of 8 MiB, and
 * allocate 2 MB then. Ends with 77 where not even the start is possible.
 */
#include <grp.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include "check.h"

enum { BLOCKS = 200, BLOCK_SIZE = 10000, NOBODY = 65534 };

int main(void)
{
    struct rlimit limit = {8 << 20, 8 << 20};
    static void *blocks[BLOCKS];

    free(hidden_pointer(malloc(10)));
    if (setrlimit(RLIMIT_MEMLOCK, &limit) != 0)
        return 77;
    if (geteuid() == 0)
        CHECK(setgroups(0, NULL) == 0 && setgid(NOBODY) == 0 && setuid(NOBODY) == 0);
    CHECK(mlockall(MCL_CURRENT | MCL_FUTURE) == 0);
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < BLOCKS; i++) {
            CHECK((blocks[i] = malloc(BLOCK_SIZE)) != NULL);
            block_fill(blocks[i], BLOCK_SIZE);
        }
        for (int i = 0; i < BLOCKS; i++)
            block_free(blocks[i]);
    }
    CHECK(write(1, "locked\n", 7) == 7);
    return 0;
}
