/* SPDX-License-Identifier: MIT */
/* What a process says before the library stops it, to the last byte. */
#ifndef HAK_TESTS_CONTRACT_DEATH_H
#define HAK_TESTS_CONTRACT_DEATH_H

/* All that function(argument) writes to stderr in a child of fork that SIGABRT ends; NULL: it ended in another way. The
 * text is there until the next call. */
const char *last_words(void (*function)(void *argument), void *argument);

/* The line by which `call` says of a pointer `what` is wrong, to the last byte; there until the next call. */
const char *line_of(const char *call, const void *pointer, const char *what);

/* What a line says is wrong, if all else is as line_of has it: some words without a newline. NULL: it is not. There until
 * the next call. */
const char *what_of(const char *line, const char *call, const void *pointer);

/* The line about a condition of ours that does not hold; there until the next call. */
const char *line_of_check(const char *condition, const char *file, int line);

/* Asserts that function(argument) stops the process, and that all it says is line_of(call, pointer, what). */
#define cr_assert_dies(function, argument, call, pointer, what)                                    \
    do {                                                                                           \
        const char *said_ = last_words(function, argument);                                        \
        cr_assert_not_null(said_, "it does not abort");                                            \
        cr_assert_str_eq(said_, line_of(call, pointer, what));                                     \
    } while (0)

#endif
