/* SPDX-License-Identifier: MIT */
/* What holds for handlers of fork that were registered before the library was there, because it was opened late: they
 * run while it holds all of its locks. They may allocate themselves (`allocate`). A bad free then must end the
 * process with its message, not hang, whoever does it: `self`, the thread that forks; `other`, a thread that runs
 * meanwhile; `child`, the child before the locks are released. Arguments: the library, and one of these words.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "check.h"

enum { LARGE = 1 << 20, ROUNDS_MOST = 100000 };

static atomic_bool begin, crash;
static atomic_uint rounds;
static atomic_int allocating; /* the thread's number */
static const char *who = "";
static char no_block[64];

static void *(*hak_malloc)(size_t);
static void (*hak_free)(void *);

static void bad_free(void)
{
    hak_free(hidden_pointer(no_block + 16));
}

static void use_memory(void)
{
    for (size_t size = 16; size < 4000000; size *= 3)
        hak_free(hidden_pointer(hak_malloc(size)));
}

static void *allocate(void *unused)
{
    atomic_store(&allocating, gettid());
    while (!atomic_load(&crash)) {
        hak_free(hidden_pointer(hak_malloc(LARGE)));
        atomic_fetch_add(&rounds, 1);
    }
    return unused;
}

static void *crash_later(void *unused)
{
    while (!atomic_load(&crash))
        usleep(1000);
    bad_free();
    return unused;
}

/* Whether the allocating thread sleeps, which it does for a lock alone. */
static bool waits_for_a_lock(void)
{
    char text[64], line[512];
    const char *state;
    int file;
    ssize_t length;

    snprintf(text, sizeof text, "/proc/self/task/%d/stat", atomic_load(&allocating));
    file = open(text, O_RDONLY);
    CHECK(file >= 0);
    length = read(file, line, sizeof line - 1);
    close(file);
    CHECK(length > 0);
    line[length] = '\0';
    state = strrchr(line, ')');
    return state && !strncmp(state, ") S", 3);
}

static void when_all_is_locked(void)
{
    unsigned before;

    if (!atomic_load(&begin))
        return;
    before = atomic_load(&rounds);
    while (!waits_for_a_lock())
        CHECK(atomic_load(&rounds) - before < ROUNDS_MOST); /* or the locks are not held */
    if (!strcmp(who, "allocate"))
        use_memory();
    if (!strcmp(who, "self"))
        bad_free();
    if (!strcmp(who, "other")) {
        atomic_store(&crash, true);
        for (;;)
            pause();
    }
}

static void in_child(void)
{
    if (!strcmp(who, "allocate"))
        use_memory();
    if (!strcmp(who, "child"))
        bad_free();
}

int main(int count, char **argument)
{
    pthread_t thread;
    pid_t child;
    int status;

    CHECK(count == 3);
    who = argument[2];
    alarm(HANG_SECONDS);
    CHECK(!pthread_atfork(when_all_is_locked, NULL, in_child));
    void *library = dlopen(argument[1], RTLD_NOW);
    CHECK(library);
    *(void **)&hak_malloc = dlsym(library, "hak_malloc");
    *(void **)&hak_free = dlsym(library, "hak_free");
    CHECK(!pthread_create(&thread, NULL, allocate, NULL));
    CHECK(!pthread_create(&thread, NULL, crash_later, NULL));
    while (!atomic_load(&rounds))
        usleep(1000);
    atomic_store(&begin, true);
    child = fork();
    if (child == 0) {
        use_memory();
        _exit(0);
    }
    CHECK(child > 0 && waitpid(child, &status, 0) == child && (WIFSIGNALED(status) || status == 0));
    if (status)
        raise(WTERMSIG(status));
    puts("handlers and child had their memory");
    return 0;
}
