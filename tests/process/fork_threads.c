/* SPDX-License-Identifier: MIT */
/* Proves that a fork may strike a threaded program anywhere: 8 threads allocate and free without
 * pause while `forkers` threads fork 500 times in all. Each child frees blocks that threads of the
 * parent allocated, allocates, makes a thread of its own and exits. A lock or a list that the fork
 * left half done would hang or break a child.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include "check.h"

enum { THREADS = 8, SLOTS = 64, CHILDREN = 500 };

/* What is in a slot is whole: it is filled before the exchange that puts it there. */
static _Atomic(void *) slot[THREADS][SLOTS];
static atomic_bool stop;

static void *allocate_without_pause(void *argument)
{
    uint64_t state = (uintptr_t)argument * 2654435761u + 1;

    /* On few processors a fork would wait for its turn most of the time. */
    CHECK(!setpriority(PRIO_PROCESS, (id_t)gettid(), 10));
    while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
        uint64_t r = random_next(&state);
        void *block = block_new(&state);

        /* Half of the blocks go to another thread's row, to be freed there. */
        block_free(atomic_exchange(&slot[r % THREADS][r / THREADS % SLOTS], block));
    }
    return NULL;
}

static void *allocate_in_the_child(void *argument)
{
    uint64_t state = (uintptr_t)argument + 1;
    void *kept[100];

    for (int i = 0; i < 100; i++)
        kept[i] = block_new(&state);
    for (int i = 0; i < 100; i++)
        block_free(kept[i]);
    return NULL;
}

static void child(int number)
{
    uint64_t state = (uint64_t)number + 77;
    void *kept[300];
    pthread_t thread;

    alarm(HANG_SECONDS);
    for (int i = 0; i < 300; i++) {
        kept[i] = block_new(&state);
        if (i % 10 == 0)
            block_free(atomic_exchange(&slot[i / 10 % THREADS][i % SLOTS], NULL));
    }
    CHECK(!pthread_create(&thread, NULL, allocate_in_the_child, (void *)(uintptr_t)number));
    for (int i = 0; i < 300; i++)
        block_free(kept[i]);
    CHECK(!pthread_join(thread, NULL));
    for (int t = 0; t < THREADS; t++)
        for (int s = 0; s < SLOTS; s++)
            block_free(atomic_exchange(&slot[t][s], NULL));
    if (number % 10 == 0) {
        pid_t grandchild = fork();
        int status;

        CHECK(grandchild >= 0);
        if (!grandchild) {
            allocate_in_the_child(NULL);
            exit(0);
        }
        CHECK(waitpid(grandchild, &status, 0) == grandchild && status == 0);
    }
    if (number % 2)
        _exit(0);
    exit(0);
}

static void *fork_children(void *argument)
{
    int children = (int)(uintptr_t)argument;

    for (int i = 0; i < children; i++) {
        pid_t pid = fork();
        int status;

        CHECK(pid >= 0);
        if (!pid)
            child(i);
        CHECK(waitpid(pid, &status, 0) == pid);
        CHECK(status == 0);
    }
    return NULL;
}

int main(int count, char **argument)
{
    int forkers = count > 1 ? atoi(argument[1]) : 1;
    pthread_t thread[THREADS], forker[16];

    CHECK(forkers >= 1 && forkers <= 16);
    for (int i = 0; i < THREADS; i++)
        CHECK(
            !pthread_create(&thread[i], NULL, allocate_without_pause, (void *)(uintptr_t)(i + 1)));
    for (int i = 1; i < forkers; i++)
        CHECK(!pthread_create(&forker[i], NULL, fork_children,
                              (void *)(uintptr_t)(CHILDREN / forkers)));
    fork_children((void *)(uintptr_t)(CHILDREN / forkers));
    for (int i = 1; i < forkers; i++)
        CHECK(!pthread_join(forker[i], NULL));
    atomic_store(&stop, 1);
    for (int i = 0; i < THREADS; i++)
        CHECK(!pthread_join(thread[i], NULL));
    for (int t = 0; t < THREADS; t++)
        for (int s = 0; s < SLOTS; s++)
            block_free(atomic_load(&slot[t][s]));
    puts("all children ended well");
    return 0;
}
