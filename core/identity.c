/* SPDX-License-Identifier: MIT */
/* The line that identifies the library. The only file that depends on the source's revision. */
#include <hakmem/hakmem.h>

#include "core/compiler.h"
#include "core/identity.h"
#include "gen/identity.h"

#define IDENTITY                                                                                   \
    "hakmem " HAK_VERSION " " HAK_FRONTEND "/" HAK_BACKEND " revision " HAK_REVISION               \
    " config " HAK_CONFIG_DIGEST " compiler " HAK_COMPILER " flags " HAK_FLAGS_DIGEST

const char hak_identity[] = IDENTITY;

hak_export const char *hak_config(void)
{
    return hak_identity;
}
