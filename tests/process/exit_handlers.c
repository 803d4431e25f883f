/* SPDX-License-Identifier: MIT */
/* Proves that handlers of exit and destructors may allocate and free, also blocks of ended threads,
 * whether they were registered before the first allocation or after it. With the argument `busy`,
 * 4 threads go on allocating while the process exits.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include "check.h"

enum { BLOCKS = 200 };

static void *kept[BLOCKS];

static void use_malloc(uint64_t state)
{
    for (int i = 0; i < BLOCKS; i++) {
        block_free(kept[i]);
        kept[i] = block_new(&state);
    }
}

static void say(const char *text)
{
    CHECK(write(1, text, strlen(text)) == (ssize_t)strlen(text));
}

static void registered_early(void)
{
    use_malloc(3);
    say("early\n");
}

static void registered_late(void)
{
    use_malloc(1);
    say("late\n");
}

static void with_status(int status, void *argument)
{
    CHECK(status == 0);
    block_free(argument);
    use_malloc(2);
    say("with status\n");
}

__attribute__((constructor(101))) static void register_early(void)
{
    CHECK(!atexit(registered_early));
}

__attribute__((destructor)) static void last(void)
{
    use_malloc(4);
    for (int i = 0; i < BLOCKS; i++)
        block_free(kept[i]);
    say("destructor\n");
}

static void *allocate(void *argument)
{
    use_malloc((uintptr_t)argument);
    return NULL;
}

static unsigned long allocated; /* atomic; may wrap */

static void *allocate_for_ever(void *argument)
{
    uint64_t state = (uintptr_t)argument;
    void *own[BLOCKS] = {0};

    for (int i = 0;; i = (i + 1) % BLOCKS) {
        block_free(own[i]);
        own[i] = block_new(&state);
        __atomic_fetch_add(&allocated, 1, __ATOMIC_RELAXED);
    }
    return NULL;
}

int main(int count, char **argument)
{
    uint64_t state = 99;
    pthread_t thread;

    CHECK(!on_exit(with_status, block_new(&state)));
    CHECK(!atexit(registered_late));
    CHECK(!pthread_create(&thread, NULL, allocate, (void *)(uintptr_t)5));
    CHECK(!pthread_join(thread, NULL));
    if (count > 1 && !strcmp(argument[1], "busy")) {
        for (int i = 1; i <= 4; i++)
            CHECK(!pthread_create(&thread, NULL, allocate_for_ever, (void *)(uintptr_t)i));
        while (__atomic_load_n(&allocated, __ATOMIC_RELAXED) < 10000)
            sched_yield();
    }
    exit(0);
}
