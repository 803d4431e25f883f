/* SPDX-License-Identifier: MIT */
/* Tests that fail in all the ways there are, beside some that pass: what the runner must tell apart. */
#include <criterion/criterion.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

static int prepared;

static void prepare(void)
{
    prepared++;
}

TestSuite(twin, .init = prepare, .timeout = 1);

Test(twin, passes)
{
    cr_assert(prepared == 1, "%d", prepared);
    cr_assert_eq(1, 1);
    cr_assert_str_eq("a", "a");
}

Test(twin, passes_by_its_signal, .signal = SIGABRT)
{
    abort();
}

Test(twin, is_skipped)
{
    cr_skip("not %s", "here");
}

Test(twin, fails)
{
    cr_assert_lt(2, 1, "%d", 2);
}

static void *fail(void *unused)
{
    cr_assert_not_null(unused);
    return NULL;
}

Test(twin, fails_in_a_thread)
{
    pthread_t thread;

    pthread_create(&thread, NULL, fail, NULL);
    pause();
}

Test(twin, crashes)
{
    *(volatile int *)NULL = 1;
}

Test(twin, exits)
{
    exit(EXIT_SUCCESS);
}

Test(twin, returns_without_its_signal, .signal = SIGABRT)
{
}

Test(twin, never_ends)
{
    if (fork() == 0)
        pause();
    pause();
}
