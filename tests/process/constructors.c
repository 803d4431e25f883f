/* SPDX-License-Identifier: MIT */
/* Proves that malloc works before main: in .preinit_array, which runs before any library's own
 * constructor, in constructors with and without a priority, and in those of another preloaded
 * library (early.c), and that main may use and free what they allocated.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include "check.h"

static void *block[3][100];

static void allocate(int who)
{
    uint64_t state = (uint64_t)who + 1;

    for (int i = 0; i < 100; i++)
        block[who][i] = block_new(&state);
}

static void allocate_before_all(void)
{
    allocate(0);
}

__attribute__((section(".preinit_array"),
               used)) static void (*before_all)(void) = allocate_before_all;

__attribute__((constructor(101))) static void allocate_first(void)
{
    allocate(1);
}

__attribute__((constructor)) static void allocate_next(void)
{
    allocate(2);
}

int main(void)
{
    void **early = dlsym(RTLD_DEFAULT, "early_block");
    int seen = 0;

    for (int who = 0; who < 3; who++)
        for (int i = 0; i < 100; i++) {
            CHECK(block[who][i]);
            block_free(block[who][i]);
        }
    for (int i = 0; early && i < 100; i++) {
        seen += early[i] != NULL;
        block_free(early[i]);
        early[i] = NULL;
    }
    printf("%d blocks of another library\n", seen);
    return 0;
}
