/* SPDX-License-Identifier: MIT */
/* launch: not a workload but the small program that starts one and measures it from outside.
 *
 *   launch FD [NAME=VALUE ...] PROGRAM [ARGUMENT ...]
 *
 * Runs PROGRAM with the NAME=VALUE pairs in its environment, waits for its end and writes one line
 * of key=value pairs to the file descriptor FD. Its own exit status is 0 whenever it has written
 * that line.
 *
 * Why the runner does not do this itself: Linux counts the peak resident memory of a process from
 * before its exec on, so that the child of a large interpreter seems to need at least what the
 * interpreter has. This program is so small that it disturbs no figure.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { USAGE = 2, CANNOT_MEASURE = 125, CANNOT_EXECUTE = 127 };

static uint64_t nanoseconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static double seconds(struct timeval time)
{
    return (double)time.tv_sec + (double)time.tv_usec / 1e6;
}

__attribute__((noreturn)) static void fail(int status, const char *what)
{
    fprintf(stderr, "launch: %s: %s\n", what, strerror(errno));
    _exit(status);
}

int main(int argc, char **argv)
{
    char **program = argv + 2, *end;
    struct rusage usage;
    uint64_t start, elapsed;
    long fd;
    pid_t child;
    int status;

    fd = argc > 2 ? strtol(argv[1], &end, 10) : -1;
    if (fd < 0 || *end || fcntl((int)fd, F_SETFD, FD_CLOEXEC) == -1) {
        fprintf(stderr, "usage: launch FD [NAME=VALUE ...] PROGRAM [ARGUMENT ...]\n"
                        "FD must be open for writing\n");
        return USAGE;
    }
    /* It is too late for these to change anything in this very process. */
    while (*program && strchr(*program, '='))
        putenv(*program++);
    if (!*program) {
        fprintf(stderr, "launch: no program given\n");
        return USAGE;
    }
    /* When the runner is killed, this ends too, and so does the program. */
    prctl(PR_SET_PDEATHSIG, SIGKILL);

    start = nanoseconds();
    child = fork();
    if (child == -1)
        fail(CANNOT_MEASURE, "fork");
    if (!child) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        execvp(*program, program);
        fail(CANNOT_EXECUTE, *program);
    }
    while (wait4(child, &status, 0, &usage) == -1)
        if (errno != EINTR)
            fail(CANNOT_MEASURE, "wait4");
    elapsed = nanoseconds() - start;

    if (dprintf((int)fd,
                "exit=%d signal=%d wall_seconds=%.9f user_seconds=%.6f system_seconds=%.6f "
                "peak_rss_kib=%ld minor_faults=%ld major_faults=%ld voluntary_switches=%ld "
                "involuntary_switches=%ld\n",
                WIFEXITED(status) ? WEXITSTATUS(status) : 0,
                WIFSIGNALED(status) ? WTERMSIG(status) : 0, (double)elapsed / 1e9,
                seconds(usage.ru_utime), seconds(usage.ru_stime), usage.ru_maxrss, usage.ru_minflt,
                usage.ru_majflt, usage.ru_nvcsw, usage.ru_nivcsw) < 0)
        fail(CANNOT_MEASURE, "the measurement cannot be written");
    return 0;
}
