/* SPDX-License-Identifier: MIT */
#include <criterion/criterion.h>
#include <hakmem/hakmem.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/assert.h"

/* What a child writes to stderr before it dies of SIGABRT. */
static void last_words(void (*die)(void), char *text, size_t size)
{
    int ends[2];
    int status;
    size_t length = 0;
    ssize_t got;

    cr_assert_eq(pipe(ends), 0);
    pid_t child = fork();
    if (child == 0) {
        dup2(ends[1], STDERR_FILENO);
        signal(SIGABRT, SIG_DFL);
        die();
        _exit(0);
    }
    close(ends[1]);
    while ((got = read(ends[0], text + length, size - 1 - length)) > 0)
        length += (size_t)got;
    text[length] = '\0';
    cr_assert_eq(waitpid(child, &status, 0), child);
    cr_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

static void bad_pointer(void)
{
    hak_fatal_pointer("free()", (void *)(uintptr_t)0xabc0, "not a block");
}

static void bad_check(void)
{
    hak_check(1 + 1 == 3);
}

Test(fatal, a_bad_pointer_is_one_line_with_call_pointer_reason_and_configuration)
{
    char text[1024];
    char expected[1024];

    last_words(bad_pointer, text, sizeof(text));
    snprintf(expected, sizeof(expected),
             "hakmem: free(): invalid pointer 0xabc0: not a block (%s)\n", hak_config());
    cr_assert_str_eq(text, expected);
}

Test(fatal, a_broken_invariant_names_its_place)
{
    char text[1024];

    last_words(bad_check, text, sizeof(text));
    cr_assert(strstr(text, "hakmem: internal error: 1 + 1 == 3 does not hold at ") == text, "%s",
              text);
    cr_assert(strstr(text, "test_fatal.c:"));
    cr_assert_eq(strchr(text, '\n'), text + strlen(text) - 1);
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
