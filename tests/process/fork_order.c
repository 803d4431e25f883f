/* SPDX-License-Identifier: MIT */
/* Proves that the allocator's fork handlers run inside all others': 10 forks of a process with the library
 * fork_order_lib.c, linked or preloaded or opened now (the argument), while two threads use that library; and with
 * handlers of the program's own, registered in its constructor and in main.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include "check.h"

enum { FORKS = 10 };

extern void order_work(void) __attribute__((weak));

static void (*work)(void);
static atomic_bool stop;
static int handled;

static void *allocate(void *unused)
{
    for (size_t size = 16; size < 4000000; size *= 3)
        free(hidden_pointer(malloc(size)));
    return unused;
}

/* A thread that allocates is started and waited for, before the fork and on both sides after it. */
static void handle(void)
{
    pthread_t thread;

    CHECK(!pthread_create(&thread, NULL, allocate, NULL));
    CHECK(!pthread_join(thread, NULL));
    handled++;
}

__attribute__((constructor)) static void register_early(void)
{
    CHECK(!pthread_atfork(handle, handle, handle));
}

static void *work_on(void *unused)
{
    while (!atomic_load(&stop)) {
        work();
        sched_yield(); /* the mutex is not fair */
    }
    return unused;
}

int main(int count, char **argument)
{
    pthread_t thread[2];

    work = order_work;
    if (count > 1) {
        void *library = dlopen(argument[1], RTLD_NOW | RTLD_LOCAL);
        CHECK(library);
        *(void **)&work = dlsym(library, "order_work");
    }
    CHECK(work);
    CHECK(!pthread_atfork(handle, handle, handle));
    for (int i = 0; i < 2; i++)
        CHECK(!pthread_create(&thread[i], NULL, work_on, NULL));
    for (int i = 0; i < FORKS; i++) {
        pid_t child = fork();
        int status = 1;

        CHECK(child >= 0);
        if (child == 0) {
            work();
            exit(0);
        }
        CHECK(waitpid(child, &status, 0) == child && status == 0);
    }
    CHECK(handled == 4 * FORKS);
    atomic_store(&stop, 1);
    for (int i = 0; i < 2; i++)
        CHECK(!pthread_join(thread[i], NULL));
    puts("all handlers had their memory");
    return 0;
}
