/* SPDX-License-Identifier: MIT */
/* Frees and resizes blocks that it has from libc's own malloc, which it has asked libc for. Arguments: `abort`,
 * `forward` or `ignore`, as the library was configured; for `abort`, the call that shall do it; for `forward`, a plug-in
 * to open with RTLD_DEEPBIND in between. It has a heap or has none by then; large blocks are mappings of libc's own. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <malloc.h>
#include <pthread.h>
#include "check.h"

static void *(*libc_malloc)(size_t size);

static char *libc_block(size_t size)
{
    char *block = libc_malloc(size);

    CHECK(block);
    return memset(block, 'p', size);
}

static void one_call(const char *call, char *block)
{
    if (!strcmp(call, "free"))
        free(block);
    else if (!strcmp(call, "realloc"))
        hidden_pointer(realloc(block, 100));
    else
        hidden(malloc_usable_size(block));
}

/* libc hands out first the small block that it got back last. */
static void comes_back(size_t size)
{
    const char *block = hidden_pointer(libc_block(size));

    free((void *)block);
    char *again = libc_block(size);
    CHECK(again == block);
    free(again);
}

static void forwarded(size_t size)
{
    char *block = libc_block(size);

    CHECK(malloc_usable_size(block) >= size);
    block = realloc(block, 3 * size);
    CHECK(block && block[0] == 'p' && block[size - 1] == 'p');
    memset(block, 'q', 3 * size);
    errno = 77;
    free(block);
    CHECK(errno == 77);
    if (size < 1000)
        comes_back(size);
    block = realloc(libc_block(size), 0);
    CHECK(block == NULL);
}

static void ignored(size_t size)
{
    char *block = libc_block(size);

    CHECK(malloc_usable_size(block) == 0);
    errno = 0;
    CHECK(realloc(block, 3 * size) == NULL && errno == ENOMEM);
    errno = 77;
    free(block);
    CHECK(errno == 77);
    CHECK(block[0] == 'p' && block[size - 1] == 'p');
}

static void *without_a_heap(void *how)
{
    for (size_t size = 10; size < (size_t)1 << 20; size *= 5)
        (!strcmp(how, "forward") ? forwarded : ignored)(size);
    return NULL;
}

int main(int count, char **argument)
{
    CHECK(count >= 2);
    void *libc = dlopen("libc.so.6", RTLD_NOLOAD | RTLD_LAZY);
    CHECK(libc);
    *(void **)&libc_malloc = dlsym(libc, "malloc");
    CHECK(libc_malloc && libc_malloc != malloc);
    if (count > 2 && !strcmp(argument[1], "abort")) {
        one_call(argument[2], libc_block(100));
        return 0;
    }
    char *mine = hidden_pointer(malloc(100));
    memset(mine, 'm', 100);
    for (int round = 0; round < 100; round++)
        without_a_heap(argument[1]);
    if (count > 2) {
        CHECK(dlopen(argument[2], RTLD_NOW | RTLD_DEEPBIND));
        without_a_heap(argument[1]);
    }
    pthread_t thread;
    CHECK(!pthread_create(&thread, NULL, without_a_heap, argument[1]));
    CHECK(!pthread_join(thread, NULL));
    CHECK(mine[0] == 'm' && mine[99] == 'm');
    free(mine);
    puts("foreign blocks came and went");
    return 0;
}
