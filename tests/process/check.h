/* SPDX-License-Identifier: MIT */
/* What the test programs share. It allocates nothing, so that a program decides alone when malloc
 * is called for the first time. Failures go to stderr and end the program with status 1.
 */
#ifndef CHECK_H
#define CHECK_H

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What has not ended after so many seconds hangs: many times what the slowest takes on a busy machine. */
enum { HANG_SECONDS = 600 };

#define CHECK(holds)                                                                               \
    do {                                                                                           \
        if (!(holds))                                                                              \
            check_failed(__FILE__, __LINE__, #holds);                                              \
    } while (0)

static inline void check_failed(const char *file, int line, const char *claim)
{
    char text[512];
    int length = snprintf(text, sizeof text, "%s:%d: does not hold: %s (errno %d)\n", file, line,
                          claim, errno);

    if (write(2, text, (size_t)length) < 0)
        _exit(2);
    _exit(1);
}

/* Hides a size or a pointer from the compiler, which warns, rightly, of what is done with it here. */
static inline size_t hidden(size_t size)
{
    __asm__("" : "+r"(size));
    return size;
}

static inline void *hidden_pointer(void *pointer)
{
    __asm__("" : "+r"(pointer));
    return pointer;
}

/* xorshift: the same numbers in every run. */
static inline uint64_t random_next(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* Mostly small, some around the largest small size, a few large. */
static inline size_t random_size(uint64_t *state)
{
    uint64_t r = random_next(state);

    switch (r >> 8 & 63) {
    case 0:
        return 1 + (r >> 16) % (512 << 10);
    case 1:
    case 2:
    case 3:
        return 1 + (r >> 16) % (48 << 10);
    default:
        return 1 + (r >> 16) % 1024;
    }
}

/* A block that says what it holds: its size, then bytes that follow from the size. Large blocks are
 * marked once a page and at the end, so that a test does not spend its time on writing.
 */
enum { STRIDE_ABOVE = 4096, MIN_BLOCK_SIZE = sizeof(size_t) + 1 };

static inline size_t block_step(size_t size, size_t at)
{
    if (size <= STRIDE_ABOVE)
        return 1;
    return at + STRIDE_ABOVE < size ? STRIDE_ABOVE : size - 1 - at ? size - 1 - at : 1;
}

static inline void block_fill(void *block, size_t size)
{
    unsigned char *bytes = block;

    memcpy(block, &size, sizeof size);
    for (size_t at = sizeof size; at < size; at += block_step(size, at))
        bytes[at] = (unsigned char)(size * 31 + at);
}

static inline size_t block_check(const void *block)
{
    const unsigned char *bytes = block;
    size_t size;

    memcpy(&size, block, sizeof size);
    for (size_t at = sizeof size; at < size; at += block_step(size, at))
        CHECK(bytes[at] == (unsigned char)(size * 31 + at));
    return size;
}

/* A filled block of a random size. */
static inline void *block_new(uint64_t *state)
{
    size_t size = random_size(state);
    void *block;

    if (size < MIN_BLOCK_SIZE)
        size = MIN_BLOCK_SIZE;
    block = malloc(size);
    CHECK(block);
    block_fill(block, size);
    return block;
}

static inline void block_free(void *block)
{
    if (block)
        block_check(block);
    free(block);
}

#endif
