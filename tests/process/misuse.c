/* SPDX-License-Identifier: MIT */
/* Misuses the allocator once and must not survive it. Arguments: the function that is given a bad
 * pointer, the kind of bad pointer, and optionally `first`, so that the misuse is the first call that
 * the process makes. The pointer goes to stdout just before, for the caller to find in the message.
 */
#define _GNU_SOURCE
#include <malloc.h>
#include <pthread.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include "check.h"

enum { LARGE = 1 << 20, GRANULE = 64 << 10, SUPERSLAB = 2 << 20 };

void free_sized(void *, size_t) __attribute__((weak));
void free_aligned_sized(void *, size_t, size_t) __attribute__((weak));
void _ZdlPv(void *) __attribute__((weak));

static char global[4096];

static char *mapping(int protection)
{
    void *place = mmap(NULL, 2 * SUPERSLAB, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    CHECK(place != MAP_FAILED);
    return place;
}

static void *free_elsewhere(void *block)
{
    free(block);
    return NULL;
}

/* Whether a child that asks for the size of the block there lives on. */
static bool is_block(char *place)
{
    pid_t child = fork();
    int status;

    CHECK(child != -1);
    if (child == 0) {
        close(2);
        _exit(malloc_usable_size(place) == 0);
    }
    CHECK(waitpid(child, &status, 0) == child);
    return WIFEXITED(status);
}

static char *bad_pointer(const char *kind, char *stack)
{
    char *block;

    if (!strcmp(kind, "stack"))
        return stack + 64;
    if (!strcmp(kind, "global"))
        return global + 64;
    if (!strcmp(kind, "code"))
        return (char *)(uintptr_t)&bad_pointer;
    if (!strcmp(kind, "mapping"))
        return mapping(PROT_READ | PROT_WRITE) + 4096;
    if (!strcmp(kind, "mapping-unreadable"))
        return mapping(PROT_NONE) + 4096;
    if (!strcmp(kind, "mapping-aligned"))
        return (char *)(((uintptr_t)mapping(PROT_READ | PROT_WRITE) + SUPERSLAB - 1) &
                        ~(uintptr_t)(SUPERSLAB - 1));
    if (!strcmp(kind, "wild"))
        return (char *)(uintptr_t)0x1234567890f0;
    if (!strcmp(kind, "wild-small"))
        return (char *)(uintptr_t)0x10;
    if (!strcmp(kind, "wild-kernel"))
        return (char *)(uintptr_t)0xffff888000000010;
    if (!strcmp(kind, "wild-all-ones"))
        return (char *)UINTPTR_MAX;

    /* From here on the kinds that lie, or may lie, in the allocator's own memory. */
    if (!strcmp(kind, "slab-not-given")) {
        /* A process that holds one block has not used up a superslab: its last slab is nobody's. Without
         * superslabs some slab may be just there. */
        block = hidden_pointer(malloc(64));
        block = (char *)(((uintptr_t)block | (SUPERSLAB - 1)) + 1 - GRANULE);
        while (is_block(block))
            block -= GRANULE;
        return block;
    }
    if (!strcmp(kind, "superslab-not-given")) {
        block = hidden_pointer(malloc(64));
        return (char *)(((uintptr_t)block & ~(uintptr_t)(SUPERSLAB - 1)) + 32 * SUPERSLAB);
    }
    block = hidden_pointer(malloc(LARGE));
    CHECK(block);
    memset(block, 1, LARGE);
    if (!strcmp(kind, "large+16"))
        return block + 16;
    if (!strcmp(kind, "large+page"))
        return block + 4096;
    if (!strcmp(kind, "large+granule"))
        return block + GRANULE;
    if (!strcmp(kind, "large+half"))
        return block + LARGE / 2;
    if (!strcmp(kind, "large+last"))
        return block + LARGE - 16;
    if (!strcmp(kind, "large-freed")) {
        free(block);
        return block;
    }
    if (!strcmp(kind, "large-freed-elsewhere")) {
        pthread_t thread;

        CHECK(!pthread_create(&thread, NULL, free_elsewhere, block));
        CHECK(!pthread_join(thread, NULL));
        return block;
    }
    CHECK(!"a known kind");
    return NULL;
}

static void misuse(const char *function, char *pointer)
{
    if (!strcmp(function, "free"))
        free(pointer);
    else if (!strcmp(function, "realloc"))
        pointer = realloc(pointer, 100);
    else if (!strcmp(function, "realloc-to-0"))
        pointer = realloc(pointer, 0);
    else if (!strcmp(function, "reallocarray"))
        pointer = reallocarray(pointer, 10, 10);
    else if (!strcmp(function, "malloc_usable_size"))
        pointer += malloc_usable_size(pointer);
    else if (!strcmp(function, "free_sized") && free_sized)
        free_sized(pointer, 100);
    else if (!strcmp(function, "free_aligned_sized") && free_aligned_sized)
        free_aligned_sized(pointer, 64, 128);
    else if (!strcmp(function, "delete") && _ZdlPv)
        _ZdlPv(pointer);
    else
        CHECK(!"a known function");
    hidden_pointer(pointer);
}

int main(int count, char **argument)
{
    char stack[4096] = "on the stack", text[32];
    char *pointer;
    int length;

    CHECK(count >= 3);
    if (count == 3)
        free(hidden_pointer(malloc(100)));
    pointer = hidden_pointer(bad_pointer(argument[2], hidden_pointer(stack)));
    length = snprintf(text, sizeof text, "%p\n", (void *)pointer);
    CHECK(write(1, text, (size_t)length) == length);
    misuse(argument[1], pointer);
    return 0;
}
