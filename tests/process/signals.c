/* SPDX-License-Identifier: MIT */
/* Signals that strike malloc anywhere. `storm`: 3 threads allocate, and a handler that does not allocate
 * interrupts them some thousand times; all blocks keep their contents. `crash N`: the N-th signal's handler
 * frees what is no block, wherever that strikes; the process must end with its message, not hang.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/time.h>
#include "check.h"

enum { THREADS = 3, SLOTS = 200, SIGNALS = 3000, MICROSECONDS = 200, LARGE = 100000 };

static atomic_int signals;
static int crash_at;
static char no_block[64];

static void handle(int number)
{
    (void)number;
    if (atomic_fetch_add(&signals, 1) + 1 == crash_at)
        free(hidden_pointer(no_block + 16));
}

static void *allocate(void *argument)
{
    uint64_t state = (uintptr_t)argument;
    void *kept[SLOTS] = {NULL};

    while (atomic_load(&signals) < SIGNALS) {
        size_t i = random_next(&state) % SLOTS;
        block_free(kept[i]);
        kept[i] = block_new(&state);
        if (i == 0)
            free(hidden_pointer(malloc(LARGE + random_next(&state) % LARGE)));
    }
    for (int i = 0; i < SLOTS; i++)
        block_free(kept[i]);
    return NULL;
}

int main(int count, char **argument)
{
    struct itimerval often = {{0, MICROSECONDS}, {0, MICROSECONDS}};
    struct sigaction action = {.sa_handler = handle, .sa_flags = SA_RESTART};
    pthread_t thread[THREADS];

    crash_at = count > 1 ? atoi(argument[1]) : 0;
    alarm(HANG_SECONDS);
    CHECK(!sigaction(SIGALRM, &(struct sigaction){.sa_handler = SIG_DFL}, NULL));
    CHECK(!sigaction(SIGPROF, &action, NULL));
    CHECK(!setitimer(ITIMER_PROF, &often, NULL));
    for (uintptr_t i = 0; i < THREADS; i++)
        CHECK(!pthread_create(&thread[i], NULL, allocate, (void *)(i + 1)));
    /* The kernel's timer may be as coarse as its tick; what is missing comes from here. */
    for (unsigned i = 0; atomic_load(&signals) < SIGNALS; i++) {
        CHECK(!pthread_kill(thread[i % THREADS], SIGPROF));
        usleep(20);
    }
    for (int i = 0; i < THREADS; i++)
        CHECK(!pthread_join(thread[i], NULL));
    setitimer(ITIMER_PROF, &(struct itimerval){{0, 0}, {0, 0}}, NULL);
    puts("all blocks are whole");
    return 0;
}
