/* SPDX-License-Identifier: MIT */
#include "tests/contract/death.h"

#include <hakmem/hakmem.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static void must(bool holds)
{
    if (!holds)
        abort();
}

const char *last_words(void (*function)(void *argument), void *argument)
{
    static char text[4096];
    size_t length = 0;
    int ends[2];
    int status;
    ssize_t got;

    must(pipe(ends) == 0);
    pid_t child = fork();
    must(child >= 0);
    if (child == 0) {
        dup2(ends[1], STDERR_FILENO);
        close(ends[0]);
        close(ends[1]);
        signal(SIGABRT, SIG_DFL);
        alarm(600); /* a hang */
        function(argument);
        _exit(0);
    }
    close(ends[1]);
    while ((got = read(ends[0], text + length, sizeof(text) - 1 - length)) > 0)
        length += (size_t)got;
    close(ends[0]);
    text[length] = '\0';
    must(waitpid(child, &status, 0) == child);
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT ? text : NULL;
}

const char *line_of(const char *call, const void *pointer, const char *what)
{
    static char text[1024];

    snprintf(text, sizeof(text), "hakmem: %s: invalid pointer 0x%lx: %s (%s)\n", call,
             (unsigned long)(uintptr_t)pointer, what, hak_config());
    return text;
}

const char *line_of_check(const char *condition, const char *file, int line)
{
    static char text[1024];

    snprintf(text, sizeof(text), "hakmem: internal error: %s does not hold at %s:%d (%s)\n",
             condition, file, line, hak_config());
    return text;
}

const char *what_of(const char *line, const char *call, const void *pointer)
{
    static char what[1024];
    char frame[1024]; /* with nothing between the two parts */

    snprintf(frame, sizeof(frame), "%s", line_of(call, pointer, ""));
    size_t before = (size_t)(strstr(frame, " (hakmem ") - frame);
    size_t after = strlen(frame + before);
    size_t length = line ? strlen(line) : 0;
    if (length <= before + after || strncmp(line, frame, before) != 0 ||
        strcmp(line + length - after, frame + before) != 0)
        return NULL;
    snprintf(what, sizeof(what), "%.*s", (int)(length - before - after), line + before);
    return strchr(what, '\n') ? NULL : what;
}
