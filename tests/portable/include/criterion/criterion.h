/* SPDX-License-Identifier: MIT */
/* Criterion's words, as far as our tests use them, for platforms that have no Criterion: another libc,
 * another processor. tests/portable/runner.c runs the tests, each in a process of its own.
 *
 * As with Criterion, an assertion that does not hold ends its test, and a message may follow its
 * arguments. Messages are formats: real Criterion, with which the same tests are compiled, checks them. */
#ifndef HAK_TESTS_PORTABLE_CRITERION_H
#define HAK_TESTS_PORTABLE_CRITERION_H

#include <signal.h>
#include <stddef.h>
#include <string.h>

/* What may stand behind the names in Test() and TestSuite(). */
struct cr_options {
    void (*init)(void);
    int signal;       /* the test passes when it ends by this one; 0: when it returns */
    unsigned timeout; /* seconds; 0: the suite's */
};

/* A test, or a suite: that has no function. */
struct cr_entry {
    struct cr_entry *next;
    const char *suite;
    const char *name;
    void (*function)(void);
    struct cr_options options;
};

void cr_register(struct cr_entry *entry);

/* Both end the calling test's process, whichever thread calls. */
_Noreturn void cr_fail(const char *file, int line, const char *what, const char *format, ...);
_Noreturn void cr_skip_now(const char *format, ...);

void cr_log_info(const char *format, ...);

#define CR_REGISTER(id, suite_, name_, function_, ...)                                             \
    __attribute__((constructor)) static void register_##id(void)                                   \
    {                                                                                              \
        static struct cr_entry entry = {NULL, suite_, name_, function_, {__VA_ARGS__}};            \
        cr_register(&entry);                                                                       \
    }

#define Test(suite, name, ...)                                                                     \
    static void suite##_##name##_test(void);                                                       \
    CR_REGISTER(suite##_##name, #suite, #name, suite##_##name##_test, __VA_ARGS__)                 \
    static void suite##_##name##_test(void)

#define TestSuite(suite, ...)                                                                      \
    CR_REGISTER(suite, #suite, NULL, NULL, __VA_ARGS__)                                            \
    extern int cr_semicolon_after_##suite

#define CR_REQUIRE(condition, what, ...)                                                           \
    ((condition) ? (void)0 : cr_fail(__FILE__, __LINE__, what, " " __VA_ARGS__))
#define CR_COMPARE(left, order, right, ...)                                                        \
    CR_REQUIRE((left)order(right), #left " " #order " " #right, __VA_ARGS__)

#define cr_assert(condition, ...)        CR_REQUIRE(condition, #condition, __VA_ARGS__)
#define cr_assert_not(condition, ...)    CR_REQUIRE(!(condition), "not " #condition, __VA_ARGS__)
#define cr_assert_null(pointer, ...)     CR_COMPARE(pointer, ==, NULL, __VA_ARGS__)
#define cr_assert_not_null(pointer, ...) CR_COMPARE(pointer, !=, NULL, __VA_ARGS__)
#define cr_assert_eq(left, right, ...)   CR_COMPARE(left, ==, right, __VA_ARGS__)
#define cr_assert_neq(left, right, ...)  CR_COMPARE(left, !=, right, __VA_ARGS__)
#define cr_assert_lt(left, right, ...)   CR_COMPARE(left, <, right, __VA_ARGS__)
#define cr_assert_leq(left, right, ...)  CR_COMPARE(left, <=, right, __VA_ARGS__)
#define cr_assert_gt(left, right, ...)   CR_COMPARE(left, >, right, __VA_ARGS__)
#define cr_assert_geq(left, right, ...)  CR_COMPARE(left, >=, right, __VA_ARGS__)
#define cr_assert_str_eq(left, right, ...)                                                         \
    CR_REQUIRE(strcmp(left, right) == 0, #left " equals " #right, __VA_ARGS__)

#define cr_skip(...)      cr_skip_now(" " __VA_ARGS__)
#define cr_skip_test(...) cr_skip_now(" " __VA_ARGS__)

#endif
