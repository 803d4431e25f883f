/* SPDX-License-Identifier: MIT */
/* A second preloaded library whose constructor allocates. It stands before the library or behind it
 * in LD_PRELOAD, so that its constructor runs after the library's or before it.
 */
#include "check.h"

void *early_block[100];

__attribute__((constructor)) static void allocate_early(void)
{
    uint64_t state = 11;

    for (int i = 0; i < 100; i++)
        early_block[i] = block_new(&state);
    for (int i = 0; i < 100; i += 2) {
        block_free(early_block[i]);
        early_block[i] = NULL;
    }
}

__attribute__((destructor)) static void allocate_last(void)
{
    uint64_t state = 12;

    for (int i = 0; i < 100; i++) {
        block_free(early_block[i]);
        block_free(block_new(&state));
    }
}
