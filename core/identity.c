/* SPDX-License-Identifier: MIT */
/* What the library says it is. The only file that depends on the source's revision. */
#define _GNU_SOURCE
#include <hakmem/hakmem.h>

#include "core/identity.h"
#include "core/os.h"
#include "gen/identity.h"

#include <stdlib.h>
#include <string.h>

#define IDENTITY                                                                                   \
    "hakmem " HAK_VERSION " " HAK_FRONTEND "/" HAK_BACKEND " revision " HAK_REVISION               \
    " config " HAK_CONFIG_DIGEST " compiler " HAK_COMPILER " flags " HAK_FLAGS_DIGEST

const char hak_identity[] = IDENTITY;

hak_export const char *hak_config(void)
{
    return hak_identity;
}

/* HAKMEM_VERSION=1 in the environment: the line above on stderr when the library is loaded. Not in
 * set-user-ID programs. */
__attribute__((constructor)) static void announce(void)
{
    static const char line[] = IDENTITY "\n";
    const char *wish = secure_getenv("HAKMEM_VERSION");

    if (wish && strcmp(wish, "1") == 0)
        os_write_error(line, sizeof(line) - 1);
}
