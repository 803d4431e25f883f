/* SPDX-License-Identifier: MIT */
#include <criterion/criterion.h>
#include <hakmem/hakmem.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/environment.h"
#include "tests/contract/death.h"

/* What reading the environment says on stderr: of no variable but this one. */
static void read_only(void *setting)
{
    clearenv();
    putenv(setting);
    hak_environment_read();
    abort();
}

static const char *said(const char *setting)
{
    static char text[128];

    snprintf(text, sizeof(text), "%s", setting);
    const char *words = last_words(read_only, text);
    cr_assert_not_null(words);
    return words;
}

Test(environment, the_version_is_said_when_it_is_wanted)
{
    char line[1024];

    snprintf(line, sizeof(line), "%s\n", hak_config());
    cr_assert_str_eq(said("HAKMEM_VERSION=1"), line);
    cr_assert_str_eq(said("HAKMEM_VERSION=0"), "");
    cr_assert_str_eq(said("HAKMEM_VERSION="), "");
}

Test(environment, what_is_unknown_or_ill_formed_is_said)
{
    cr_assert_str_eq(said("HAKMEM_VERSION=2"),
                     "hakmem: ill-formed variable of the environment: HAKMEM_VERSION=2\n");
    cr_assert_str_eq(said("HAKMEM_STATS=yes"),
                     "hakmem: ill-formed variable of the environment: HAKMEM_STATS=yes\n");
    cr_assert_str_eq(said("HAKMEM_STATSX=1"),
                     "hakmem: unknown variable of the environment: HAKMEM_STATSX=1\n");
}

Test(environment, others_variables_are_left_alone)
{
    cr_assert_str_eq(said("HAKMEMORY=1"), "");
    cr_assert_str_eq(said("HAKMEM_TEST_X=1"), "");
    cr_assert_str_eq(said("HAKMEM_BENCH_X=1"), "");
    cr_assert_str_eq(said("PATH=/bin"), "");
}
