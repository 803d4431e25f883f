/* SPDX-License-Identifier: MIT */
#include <criterion/criterion.h>

#include "core/words.h"

enum { WORDS = 100, SHIFT = 3 };

static uint64_t words[2 * WORDS];

static void number(void)
{
    for (uint64_t i = 0; i < 2 * WORDS; i++)
        words[i] = i + 1;
}

Test(words, a_copy_of_any_length_is_whole_and_no_longer)
{
    for (size_t count = 0; count < WORDS; count++) {
        number();
        hak_words_copy(words, words + WORDS, count);
        for (size_t i = 0; i < WORDS; i++)
            cr_assert_eq(words[i], i < count ? WORDS + i + 1 : i + 1, "%zu of %zu", i, count);
    }
}

Test(words, a_copy_may_overlap_what_lies_above)
{
    for (size_t count = 0; count < WORDS; count++)
        for (size_t by = 1; by <= 20; by++) {
            number();
            hak_words_copy(words, words + by, count);
            for (size_t i = 0; i < count; i++)
                cr_assert_eq(words[i], i + by + 1, "%zu of %zu by %zu", i, count, by);
            for (size_t i = count; i < WORDS; i++)
                cr_assert_eq(words[i], i + 1);
        }
}

Test(words, clearing_any_length_is_whole_and_no_longer)
{
    for (size_t count = 0; count < WORDS; count++) {
        number();
        hak_words_clear(words + SHIFT, count);
        for (size_t i = 0; i < WORDS; i++)
            cr_assert_eq(words[i], i >= SHIFT && i < count + SHIFT ? 0 : i + 1);
    }
}
