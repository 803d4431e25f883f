/* SPDX-License-Identifier: MIT */
/* The process's private dirty memory, read without an allocation. */
#ifndef DIRTY_H
#define DIRTY_H

#include <fcntl.h>
#include "check.h"

static inline long dirty_kilobytes(void)
{
    static char text[8192];
    int file = open("/proc/self/smaps_rollup", O_RDONLY | O_CLOEXEC);
    ssize_t length;
    char *line;

    CHECK(file >= 0);
    length = read(file, text, sizeof text - 1);
    CHECK(length > 0);
    text[length] = 0;
    close(file);
    line = strstr(text, "Private_Dirty:");
    CHECK(line);
    return atol(line + strlen("Private_Dirty:"));
}

#endif
