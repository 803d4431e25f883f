/* SPDX-License-Identifier: MIT */
#include <criterion/criterion.h>
#include <hakmem/hakmem.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "core/assert.h"
#include "tests/contract/death.h"

static void bad_pointer(void *pointer)
{
    hak_fatal_pointer("free()", pointer, "not a block");
}

static void bad_check(void *unused)
{
    (void)unused;
    hak_check(1 + 1 == 3);
}
enum { LINE_OF_THE_CHECK = __LINE__ - 2 };

Test(fatal, a_bad_pointer_is_one_line_with_call_pointer_reason_and_configuration)
{
    void *pointer = (void *)(uintptr_t)0xabc0;
    char expected[1024];

    snprintf(expected, sizeof(expected),
             "hakmem: free(): invalid pointer 0xabc0: not a block (%s)\n", hak_config());
    cr_assert_str_eq(line_of("free()", pointer, "not a block"), expected);
    cr_assert_dies(bad_pointer, pointer, "free()", pointer, "not a block");
}

Test(fatal, a_broken_invariant_names_its_place)
{
    const char *said = last_words(bad_check, NULL);

    cr_assert_not_null(said);
    cr_assert_str_eq(said,
                     line_of_check("1 + 1 == 3", "tests/unit/test_fatal.c", LINE_OF_THE_CHECK));
}

/* The frame of the line is known to the byte, the words in it are not. */
Test(fatal, what_a_line_says_is_told_from_what_all_say)
{
    char text[1024];
    void *pointer = (void *)(uintptr_t)0x10;

    snprintf(text, sizeof(text), "%s", line_of("free()", pointer, "a reason"));
    cr_assert_str_eq(what_of(text, "free()", pointer), "a reason");
    cr_assert_null(what_of(text, "realloc()", pointer));
    cr_assert_null(what_of(text, "free()", text));
    cr_assert_null(what_of(NULL, "free()", pointer));
    text[strlen(text) - 1] = '.';
    cr_assert_null(what_of(text, "free()", pointer));
}

Test(fatal, levels_that_are_off_test_nothing)
{
    int evaluated = 0;

    if (CONFIG_ASSERT_LEVEL < 1)
        hak_assert(++evaluated == 0);
    if (CONFIG_ASSERT_LEVEL < 2)
        hak_assert_expensive(++evaluated == 0);
    cr_assert_eq(evaluated, 0);
}
