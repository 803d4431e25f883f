/* SPDX-License-Identifier: MIT */
#include <criterion/criterion.h>
#include <hakmem/hakmem.h>
#include <string.h>

#include "core/identity.h"
#include "gen/identity.h"

Test(identity, one_line_names_all_that_makes_a_build)
{
    const char *const parts[] = {HAK_VERSION,  HAK_FRONTEND "/" HAK_BACKEND,
                                 HAK_REVISION, HAK_CONFIG_DIGEST,
                                 HAK_COMPILER, HAK_FLAGS_DIGEST};
    const char *at = hak_config();

    cr_assert_eq(at, hak_identity, "the very string that is in the file");
    cr_assert_eq(strncmp(at, "hakmem " HAK_VERSION " ", strlen("hakmem " HAK_VERSION " ")), 0);
    for (size_t i = 0; i < sizeof(parts) / sizeof(*parts); i++) {
        at = strstr(at, parts[i]);
        cr_assert_not_null(at, "%s is not in it, or comes too early", parts[i]);
        at += strlen(parts[i]);
    }
    cr_assert_eq(*at, '\0');
    cr_assert_null(strchr(hak_config(), '\n'));
}
