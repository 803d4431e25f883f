/* SPDX-License-Identifier: MIT */
/* launch: not a workload but the small program that starts one and measures it from outside.
 *
 *   launch FD [-c CPU[,CPU...]] [NAME=VALUE ...] PROGRAM [ARGUMENT ...]
 *
 * Runs PROGRAM with the NAME=VALUE pairs in its environment, on the CPUs if any are given, waits for
 * its end and writes to the file descriptor FD one line of key=value pairs, then a line for each
 * sample of the resident memory: milliseconds since the start, and KiB of the program with all its
 * descendants (what they share is counted for each). Its own exit status is 0 whenever it has
 * written that.
 *
 * Why the runner does not do this itself: Linux counts the peak resident memory of a process from
 * before its exec on, so that the child of a large interpreter seems to need at least what the
 * interpreter has. And a sample every ten milliseconds costs this program next to nothing, while an
 * interpreter that wakes up as often takes time from the workload.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
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
enum { HIGHEST_PRIORITY = -20 };

/* Samples are taken every PERIOD nanoseconds. When there is no room for more, every second one is
 * dropped and the period doubles, so that a program of any length fits. */
enum { MOST_SAMPLES = 2048, PERIOD = 10000000, MOST_PROCESSES = 64, TICKS_PER_SEARCH = 5 };

struct sample {
    uint32_t milliseconds, kib;
};

static struct sample samples[MOST_SAMPLES];
static size_t sample_count;
static uint64_t period = PERIOD;

/* The program and its descendants, as far as the last search found them. */
static pid_t processes[MOST_PROCESSES];
static size_t process_count;
static unsigned most_threads = 1; /* of all of them together, as far as was seen */

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

/* Reads a short file; returns false if it is gone, as it is when its process has ended. */
static bool read_text(const char *path, char *text, size_t size)
{
    int file = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t length = file == -1 ? -1 : read(file, text, size - 1);

    if (file != -1)
        close(file);
    if (length < 0)
        return false;
    text[length] = '\0';
    return true;
}

/* Appends the children of one thread of a process. */
static void add_children(pid_t process, const char *thread)
{
    char path[64], text[1024], *next = text, *end;

    snprintf(path, sizeof(path), "/proc/%d/task/%.12s/children", (int)process, thread);
    if (!read_text(path, text, sizeof(text)))
        return;
    while (process_count < MOST_PROCESSES) {
        long child = strtol(next, &end, 10);

        if (end == next)
            return;
        processes[process_count++] = (pid_t)child;
        next = end;
    }
}

/* Finds the descendants anew. The list grows while it is walked. */
static void find_processes(pid_t program)
{
    unsigned thread_count = 0;

    processes[0] = program;
    process_count = 1;
    for (size_t i = 0; i < process_count; i++) {
        char path[64];
        const struct dirent *entry;
        DIR *threads;

        snprintf(path, sizeof(path), "/proc/%d/task", (int)processes[i]);
        threads = opendir(path);
        if (!threads)
            continue;
        while ((entry = readdir(threads)))
            if (entry->d_name[0] != '.') {
                add_children(processes[i], entry->d_name);
                thread_count++;
            }
        closedir(threads);
    }
    if (thread_count > most_threads)
        most_threads = thread_count;
}

static uint32_t resident_kib(void)
{
    static long page_kib;
    unsigned long pages, sum = 0;

    if (!page_kib)
        page_kib = sysconf(_SC_PAGESIZE) / 1024;
    for (size_t i = 0; i < process_count; i++) {
        char path[64], text[128];

        snprintf(path, sizeof(path), "/proc/%d/statm", (int)processes[i]);
        if (read_text(path, text, sizeof(text)) && sscanf(text, "%*u %lu", &pages) == 1)
            sum += pages;
    }
    return (uint32_t)(sum * (unsigned long)page_kib);
}

static void take_sample(uint64_t elapsed)
{
    uint32_t kib = resident_kib();

    if (!kib)
        return; /* it is about to end, and its memory is gone already */
    if (sample_count == MOST_SAMPLES) {
        for (size_t i = 0; i < MOST_SAMPLES / 2; i++)
            samples[i] = samples[2 * i];
        sample_count = MOST_SAMPLES / 2;
        period *= 2;
    }
    samples[sample_count++] = (struct sample){(uint32_t)(elapsed / 1000000u), kib};
}

/* Waits for the program's end, and takes samples meanwhile. SIGCHLD is blocked. */
static void watch(pid_t program, uint64_t start, int *status, struct rusage *usage)
{
    sigset_t child_ended;
    pid_t ended;

    sigemptyset(&child_ended);
    sigaddset(&child_ended, SIGCHLD);
    for (unsigned tick = 0;; tick++) {
        struct timespec pause = {(time_t)(period / 1000000000u), (long)(period % 1000000000u)};

        sigtimedwait(&child_ended, NULL, &pause);
        ended = wait4(program, status, WNOHANG, usage);
        if (ended == program)
            return;
        if (ended == -1 && errno != EINTR)
            fail(CANNOT_MEASURE, "wait4");
        if (tick < TICKS_PER_SEARCH || tick % TICKS_PER_SEARCH == 0)
            find_processes(program);
        take_sample(nanoseconds() - start);
    }
}

/* "0,3" */
static bool parse_cpus(const char *text, cpu_set_t *cpus)
{
    char *end;

    CPU_ZERO(cpus);
    for (;; text = end + 1) {
        long cpu = strtol(text, &end, 10);

        if (end == text || cpu < 0 || cpu >= CPU_SETSIZE || (*end && *end != ','))
            return false;
        CPU_SET((size_t)cpu, cpus);
        if (!*end)
            return true;
    }
}

/* Other programs on the machine then disturb the figure less, where the user may do this. Linux shares
 * the processor among sessions first, and only then within one, so that both must be raised. */
static void raise_priority(void)
{
    int session = open("/proc/self/autogroup", O_WRONLY | O_CLOEXEC);

    setpriority(PRIO_PROCESS, 0, HIGHEST_PRIORITY);
    if (session != -1) {
        dprintf(session, "%d", HIGHEST_PRIORITY);
        close(session);
    }
}

int main(int argc, char **argv)
{
    char **program = argv + 2, *end;
    bool pinned = false;
    cpu_set_t cpus;
    sigset_t child_ended, before;
    struct rusage usage;
    uint64_t start, elapsed;
    FILE *out;
    long fd;
    pid_t child;
    int status;

    fd = argc > 2 ? strtol(argv[1], &end, 10) : -1;
    if (fd >= 0 && *program && !strcmp(*program, "-c")) {
        pinned = true;
        if (!program[1] || !parse_cpus(program[1], &cpus))
            fd = -1;
        else
            program += 2;
    }
    if (fd < 0 || *end || fcntl((int)fd, F_SETFD, FD_CLOEXEC) == -1) {
        fprintf(stderr,
                "usage: launch FD [-c CPU[,CPU...]] [NAME=VALUE ...] PROGRAM [ARGUMENT ...]\n"
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
    sigemptyset(&child_ended);
    sigaddset(&child_ended, SIGCHLD);
    sigprocmask(SIG_BLOCK, &child_ended, &before);

    start = nanoseconds();
    child = fork();
    if (child == -1)
        fail(CANNOT_MEASURE, "fork");
    if (!child) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        sigprocmask(SIG_SETMASK, &before, NULL);
        if (pinned && sched_setaffinity(0, sizeof(cpus), &cpus))
            fail(CANNOT_EXECUTE, "the CPUs asked for");
        raise_priority();
        execvp(*program, program);
        fail(CANNOT_EXECUTE, *program);
    }
    watch(child, start, &status, &usage);
    elapsed = nanoseconds() - start;

    out = fdopen((int)fd, "w");
    if (!out)
        fail(CANNOT_MEASURE, "the measurement cannot be written");
    fprintf(out,
            "exit=%d signal=%d wall_seconds=%.9f user_seconds=%.6f system_seconds=%.6f "
            "peak_rss_kib=%ld minor_faults=%ld major_faults=%ld voluntary_switches=%ld "
            "involuntary_switches=%ld threads=%u\n",
            WIFEXITED(status) ? WEXITSTATUS(status) : 0, WIFSIGNALED(status) ? WTERMSIG(status) : 0,
            (double)elapsed / 1e9, seconds(usage.ru_utime), seconds(usage.ru_stime),
            usage.ru_maxrss, usage.ru_minflt, usage.ru_majflt, usage.ru_nvcsw, usage.ru_nivcsw,
            most_threads);
    for (size_t i = 0; i < sample_count; i++)
        fprintf(out, "%u %u\n", (unsigned)samples[i].milliseconds, (unsigned)samples[i].kib);
    if (fclose(out))
        fail(CANNOT_MEASURE, "the measurement cannot be written");
    return 0;
}
