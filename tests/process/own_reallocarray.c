/* SPDX-License-Identifier: MIT */
/* A program that carries functions that its libc may lack, as many do. */
#include <stdint.h>
#include "check.h"

static int own_calls;

void *reallocarray(void *block, size_t count, size_t size)
{
    own_calls++;
    return size && count > SIZE_MAX / size ? NULL : realloc(block, count * size);
}

void free_sized(void *block, size_t size);
void free_sized(void *block, size_t size)
{
    own_calls += size > 0;
    free(block);
}

int main(void)
{
    free_sized(hidden_pointer(reallocarray(hidden_pointer(malloc(10)), 10, 10)), 100);
    CHECK(own_calls == 2);
    puts("the program's own");
    return 0;
}
