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

    for (; count >= 8; count -= 8, word += 8, source += 8) {
        const hak_two_words *pair = (const hak_two_words *)(const void *)source;
        hak_two_words *target = (hak_two_words *)(void *)word;
        hak_two_words first = pair[0], second = pair[1], third = pair[2], fourth = pair[3];
        target[0] = first;
        target[1] = second;
        target[2] = third;
        target[3] = fourth;
        __asm__ volatile("" ::: "memory");
    }
    for (; count > 0; count--) {
        *word++ = *source++;
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
