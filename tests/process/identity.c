/* SPDX-License-Identifier: MIT */
/* Prints what hak_config() returns in a process that has the library preloaded. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include "check.h"

int main(void)
{
    const char *(*config)(void) = (const char *(*)(void))dlsym(RTLD_DEFAULT, "hak_config");

    CHECK(config);
    CHECK(config() && *config());
    fputs(config(), stdout);
    return 0;
}
