/* SPDX-License-Identifier: MIT */
/* A bad free while every lock of the allocator is held, as fork holds them: the process must end with its
 * message, not hang. The argument says who frees: `self`, the thread that forks; `other`, a thread that runs
 * meanwhile; `child`, the child before it has released the locks.
 */
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/wait.h>
#include "check.h"

enum { LARGE = 1 << 20, MOMENT = 100000 };

static atomic_bool begin, crash;
static atomic_uint rounds;
static const char *who = "";
static char no_block[64];

static void bad_free(void)
{
    free(hidden_pointer(no_block + 16));
}

static void *allocate(void *unused)
{
    while (!atomic_load(&crash)) {
        free(hidden_pointer(malloc(LARGE)));
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

static void when_all_is_locked(void)
{
    unsigned before;

    if (!atomic_load(&begin))
        return;
    usleep(MOMENT); /* what the allocating thread had begun is done, or waits */
    before = atomic_load(&rounds);
    usleep(MOMENT);
    CHECK(atomic_load(&rounds) == before); /* or the locks are not held */
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
    if (!strcmp(who, "child"))
        bad_free();
}

/* Before any library's: so these run when the library's own handlers have taken the locks, and in the child
 * before it has released them. */
static void register_first(void)
{
    CHECK(!pthread_atfork(when_all_is_locked, NULL, in_child));
}

__attribute__((section(".preinit_array"),
               used)) static void (*const preinit)(void) = register_first;

int main(int count, char **argument)
{
    pthread_t thread;
    pid_t child;
    int status;

    CHECK(count == 2);
    who = argument[1];
    alarm(HANG_SECONDS);
    CHECK(!pthread_create(&thread, NULL, allocate, NULL));
    CHECK(!pthread_create(&thread, NULL, crash_later, NULL));
    while (!atomic_load(&rounds))
        usleep(1000);
    atomic_store(&begin, true);
    child = fork();
    CHECK(child > 0 && waitpid(child, &status, 0) == child && WIFSIGNALED(status));
    raise(WTERMSIG(status));
    return 0;
}
