/* SPDX-License-Identifier: MIT */
/* Numbers of /proc/self/status, read without an allocation. */
#ifndef STATUS_H
#define STATUS_H

#include <fcntl.h>
#include "check.h"

/* The number of the line that begins with `name`, "VmData:" say: kilobytes. */
static inline long status_number(const char *name)
{
    char text[8192];
    int file = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
    ssize_t length = file < 0 ? -1 : read(file, text, sizeof text - 1);
    const char *line;

    CHECK(length > 0);
    close(file);
    text[length] = '\0';
    line = strstr(text, name);
    CHECK(line);
    return strtol(line + strlen(name), NULL, 10);
}

#endif
