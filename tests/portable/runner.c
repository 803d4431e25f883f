/* SPDX-License-Identifier: MIT */
/* Runs the tests of a program, each in a process of its own, and says as Criterion does what came of
 * them: a line for each that did not pass, and the sum. A name runs the tests that begin with it.
 *
 *     PROGRAM [SUITE[/TEST]] */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* How the process of a test ends. A test that passes says so by this status, as a call of exit with any
 * other, or none, is no proof. */
enum { PASSED = 77, FAILED = 78, SKIPPED = 79 };

enum { SECONDS_BY_DEFAULT = 900 };

/* In the order of the sources. */
static struct cr_entry *entries;
static struct cr_entry **last = &entries;

void cr_register(struct cr_entry *entry)
{
    *last = entry;
    last = &entry->next;
}

/* ── in the test's process ───────────────────────────────────────────────────────────────────── */

/* One write, as several threads may fail; on the stack, as malloc may be what fails. */
static void say(const char *before, const char *format, va_list arguments)
{
    char text[1024];
    size_t room = sizeof(text) - 1; /* of the line without its end */
    size_t length = (size_t)snprintf(text, room, "%s", before);

    if (length < room)
        length += (size_t)vsnprintf(text + length, room - length, format, arguments);
    if (length >= room)
        length = room - 1;
    text[length] = '\n';
    if (write(STDERR_FILENO, text, length + 1) < 0) {
        /* there is nobody to tell */
    }
}

void cr_fail(const char *file, int line, const char *what, const char *format, ...)
{
    char before[512];
    va_list arguments;

    snprintf(before, sizeof(before), "%s:%d: does not hold: %s", file, line, what);
    va_start(arguments, format);
    say(before, format, arguments);
    va_end(arguments);
    _exit(FAILED);
}

void cr_skip_now(const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    say("reason:", format, arguments);
    va_end(arguments);
    _exit(SKIPPED);
}

void cr_log_info(const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    say("", format, arguments);
    va_end(arguments);
}

static const struct cr_entry *suite_of(const struct cr_entry *test)
{
    static const struct cr_entry none;

    for (const struct cr_entry *entry = entries; entry; entry = entry->next)
        if (entry->function == NULL && strcmp(entry->suite, test->suite) == 0)
            return entry;
    return &none;
}

_Noreturn static void run_here(const struct cr_entry *test)
{
    const struct cr_entry *suite = suite_of(test);

    setpgid(0, 0);
    if (suite->options.init)
        suite->options.init();
    if (test->options.init)
        test->options.init();
    test->function();
    _exit(PASSED);
}

/* ── in the runner ───────────────────────────────────────────────────────────────────────────── */

static double now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static unsigned seconds_of(const struct cr_entry *test)
{
    unsigned seconds =
        test->options.timeout ? test->options.timeout : suite_of(test)->options.timeout;

    return seconds ? seconds : SECONDS_BY_DEFAULT;
}

/* The status with which the test's process ended; -1: it did not, in its time. */
static int run(const struct cr_entry *test)
{
    double end = now() + seconds_of(test);
    int status = -1;
    pid_t child = fork();

    if (child < 0) {
        perror("fork");
        exit(EXIT_FAILURE);
    }
    if (child == 0)
        run_here(test);
    setpgid(child, child); /* here too: whichever process comes first */
    while (waitpid(child, &status, WNOHANG) == 0) {
        if (now() > end) {
            kill(-child, SIGKILL);
            waitpid(child, NULL, 0);
            return -1;
        }
        nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
    }
    kill(-child, SIGKILL); /* what it left behind */
    return status;
}

struct tally {
    unsigned tested, passed, failed, crashed, skipped;
};

static void judge(const struct cr_entry *test, int status, struct tally *tally)
{
    bool exited = status != -1 && WIFEXITED(status);
    bool ended_by_signal = status != -1 && WIFSIGNALED(status);
    bool passed = test->options.signal ? ended_by_signal && WTERMSIG(status) == test->options.signal
                                       : exited && WEXITSTATUS(status) == PASSED;

    if (exited && WEXITSTATUS(status) == SKIPPED) {
        printf("[SKIP] %s/%s\n", test->suite, test->name);
        tally->skipped++;
        return;
    }
    tally->tested++;
    if (passed) {
        tally->passed++;
        return;
    }
    tally->failed++;
    printf("[FAIL] %s/%s: ", test->suite, test->name);
    if (status == -1)
        printf("still running after %u s\n", seconds_of(test));
    else if (ended_by_signal)
        printf("ended by signal %d\n", WTERMSIG(status));
    else if (WEXITSTATUS(status) == FAILED)
        printf("an assertion does not hold\n");
    else if (WEXITSTATUS(status) == PASSED)
        printf("returned, where signal %d was to end it\n", test->options.signal);
    else
        printf("called exit(%d)\n", WEXITSTATUS(status));
    tally->crashed += ended_by_signal;
}

/* A name as SUITE or SUITE/TEST, or the beginning of one. */
static bool is_wanted(const struct cr_entry *test, const char *wanted)
{
    char name[512];

    snprintf(name, sizeof(name), "%s/%s", test->suite, test->name);
    return strncmp(name, wanted, strlen(wanted)) == 0;
}

int main(int count, char **arguments)
{
    struct tally tally = {0};

    setvbuf(stdout, NULL, _IONBF, 0); /* nothing of ours waits where a child would write it again */
    for (const struct cr_entry *test = entries; test; test = test->next)
        if (test->function && is_wanted(test, count > 1 ? arguments[1] : ""))
            judge(test, run(test), &tally);
    printf("[====] Synthesis: Tested: %u | Passing: %u | Failing: %u | Crashing: %u\n",
           tally.tested, tally.passed, tally.failed, tally.crashed);
    return tally.failed || tally.passed + tally.skipped == 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
