/* SPDX-License-Identifier: MIT */
/* Words copied and cleared without memcpy, memmove or memset, which a program may define: under a lock and in cold paths
 * of a heap nothing of libc is called. The empty assembler statements keep the compiler from making such calls itself. */
#ifndef HAK_WORDS_H
#define HAK_WORDS_H

#include "core/types.h"

/* Two words, in whatever register the processor has for them. */
typedef uint64_t hak_two_words __attribute__((vector_size(16), aligned(8), may_alias));

/* Copies `count` words of 8 bytes, in ascending order: the ranges may overlap if `to` lies below `from`. */
static inline void hak_words_copy(void *to, const void *from, size_t count)
{
    uint64_t *word = (uint64_t *)to;
    const uint64_t *source = (const uint64_t *)from;
    size_t at = 0;

    for (size_t end = count & ~(size_t)15; at < end; at += 16) {
        const hak_two_words *pair = (const hak_two_words *)(const void *)(source + at);
        hak_two_words *target = (hak_two_words *)(void *)(word + at);
        hak_two_words a = pair[0], b = pair[1], c = pair[2], d = pair[3];
        hak_two_words e = pair[4], f = pair[5], g = pair[6], h = pair[7];
        target[0] = a;
        target[1] = b;
        target[2] = c;
        target[3] = d;
        target[4] = e;
        target[5] = f;
        target[6] = g;
        target[7] = h;
        __asm__ volatile("" ::: "memory");
    }
    for (; at < count; at++) {
        word[at] = source[at];
        __asm__ volatile("" ::: "memory");
    }
}

static inline void hak_words_clear(void *to, size_t count)
{
    uint64_t *word = (uint64_t *)to;

    for (size_t i = 0; i < count; i++) {
        word[i] = 0;
        __asm__ volatile("" ::: "memory");
    }
}

#endif
