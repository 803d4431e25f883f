/* SPDX-License-Identifier: MIT */
/* What test_record.py records: calls of known number and kind. Each mode marks its begin by a block of MARK bytes
 * and its end by one of MARK + 1, and prints nothing by stdio, which would allocate. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MARK = 77001 };

static void *volatile sink;

static void mark(size_t which)
{
    sink = malloc(MARK + which);
    free(sink);
}

static void say(const char *words)
{
    if (write(STDOUT_FILENO, words, strlen(words)) < 0)
        _exit(9);
}

static uint32_t random_of(uint32_t *state)
{
    *state = *state * 1664525 + 1013904223;
    return *state >> 8;
}

/* `count` mallocs and as many frees, of which 64 live at most. */
static void churn(uint32_t seed, unsigned count)
{
    void *kept[64] = {0};

    for (unsigned i = 0; i < count; i++) {
        unsigned at = random_of(&seed) % 64;
        free(kept[at]);
        kept[at] = malloc(1 + random_of(&seed) % 500);
    }
    for (unsigned i = 0; i < 64; i++)
        free(kept[i]);
}

/* ── Threads that free each other's blocks ───────────────────────────────────────────────────────── */

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_barrier_t together;
static void *shelf[32];
static unsigned rounds;

static void *exchange(void *number)
{
    uint32_t seed = (uint32_t)(uintptr_t)number;

    pthread_barrier_wait(&together);
    for (unsigned i = 0; i < rounds; i++) {
        void *block = malloc(1 + random_of(&seed) % 200);
        unsigned at = random_of(&seed) % 32;
        pthread_mutex_lock(&mutex);
        void *other = shelf[at];
        shelf[at] = block;
        pthread_mutex_unlock(&mutex);
        free(other);
        free(malloc(40));
        if (i % 8 == 0)
            sched_yield(); /* so that they meet on one processor too */
    }
    return NULL;
}

static void threads(unsigned count)
{
    pthread_t thread[256];

    pthread_barrier_init(&together, NULL, count);
    for (uintptr_t i = 0; i < count; i++)
        if (pthread_create(&thread[i], NULL, exchange, (void *)(i + 1)) != 0)
            _exit(8);
    for (unsigned i = 0; i < count; i++)
        pthread_join(thread[i], NULL);
    for (unsigned i = 0; i < 32; i++) {
        free(shelf[i]);
        shelf[i] = NULL;
    }
}

/* ── The kinds of calls ──────────────────────────────────────────────────────────────────────────── */

static void kinds(void)
{
    void *block = NULL, *volatile old;

    mark(0);
    free(calloc(3, 41));
    free(aligned_alloc(256, 1000));
    if (posix_memalign(&block, 64, 200) == 0)
        free(block);
    free(memalign(1024, 30));
    free(valloc(10));
    free(NULL);
    old = malloc(100);
    old = realloc(old, 101);                          /* in place */
    sink = malloc(5000);                              /* what lies behind */
    old = realloc(old, 50000);                        /* elsewhere */
    void *volatile huge = realloc(old, SIZE_MAX / 4); /* refused: the block lives on */
    old = reallocarray(old, 100, 700);
    (void)huge;
    free(old);
    free(sink);
    sink = realloc(NULL, 60);
    sink = realloc(sink, 0); /* frees */
    sink = malloc(SIZE_MAX / 4);
    mark(1);
}

static void large(void)
{
    size_t size = 64 << 20;

    mark(0);
    char *block = malloc(size);
    memset(block, 1, size / 4);
    memset(block + size / 2, 1, size / 8);
    free(block);
    mark(1);
}

/* ── What a program may do to the recorder ───────────────────────────────────────────────────────── */

static void forks(void)
{
    mark(0);
    void *inherited = malloc(555);
    for (int i = 0; i < 3; i++) {
        pid_t child = fork();
        if (child == 0) {
            mark(0);
            free(inherited);
            churn(7, 1000);
            mark(1);
            exit(0);
        }
        churn(8, 1000);
        waitpid(child, NULL, 0);
    }
    pid_t child = (pid_t)syscall(SYS_fork); /* past libc, and its handlers */
    if (child == 0) {
        mark(0);
        churn(9, 1000);
        mark(1);
        _exit(0);
    }
    waitpid(child, NULL, 0);
    free(inherited);
    mark(1);
}

static void closes_all(void)
{
    mark(0);
    for (int file = 3; file < 1024; file++)
        close(file);
    churn(1, 100000);
    rounds = 1000;
    threads(2);
    mark(1);
}

static int other_root(const char *folder)
{
    mark(0);
    churn(1, 1000);
    if (chdir(folder) != 0 || chroot(".") != 0 || setgid(65534) != 0 || setuid(65534) != 0) {
        perror("another root and no rights");
        return 7;
    }
    churn(2, 100000); /* more than a chunk */
    rounds = 1000;
    threads(2);
    mark(1);
    return 0;
}

static pthread_key_t key;

static void thread_late(void *block)
{
    free(block);
    free(malloc(333));
}

static void *begins_late(void *unused)
{
    (void)unused;
    pthread_setspecific(key, malloc(222));
    return NULL;
}

static void dies(unsigned count)
{
    pthread_key_create(&key, thread_late);
    mark(0);
    for (unsigned i = 0; i < count; i++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, begins_late, NULL) == 0)
            pthread_join(thread, NULL);
    }
    mark(1);
}

static volatile unsigned struck;

static void strikes(int number)
{
    (void)number;
    free(malloc(4000 + struck++ % 10));
}

/* A handler that allocates, between calls and in their middle. */
static void signals(unsigned count)
{
    struct itimerval often = {{0, 50}, {0, 50}}, never = {{0, 0}, {0, 0}};

    signal(SIGPROF, strikes);
    mark(0);
    setitimer(ITIMER_PROF, &often, NULL);
    for (unsigned i = 0; i < count; i++)
        getppid();
    setitimer(ITIMER_PROF, &never, NULL);
    mark(1);
}

static void virtual_fork(const char *self)
{
    mark(0);
    pid_t child = vfork();
    if (child == 0) {
        execl(self, self, "churn", "500", (char *)NULL);
        _exit(6);
    }
    waitpid(child, NULL, 0);
    churn(3, 500);
    mark(1);
}

/* Blocks kept so that the recording grows: until somebody kills us, or for `count` rounds. */
static void grows(unsigned count)
{
    say("ready\n");
    for (unsigned i = 0; count == 0 || i < count; i++)
        churn(i, 10000);
}

int main(int count, char **words)
{
    const char *mode = count > 1 ? words[1] : "";
    unsigned number = count > 2 ? (unsigned)strtoul(words[2], NULL, 10) : 0;

    if (strcmp(mode, "churn") == 0) {
        mark(0);
        churn(1, number);
        mark(1);
    } else if (strcmp(mode, "threads") == 0) {
        rounds = count > 3 ? (unsigned)strtoul(words[3], NULL, 10) : 1000;
        mark(0);
        threads(number);
        mark(1);
    } else if (strcmp(mode, "kinds") == 0) {
        kinds();
    } else if (strcmp(mode, "large") == 0) {
        large();
    } else if (strcmp(mode, "fork") == 0) {
        forks();
    } else if (strcmp(mode, "exec") == 0) {
        mark(0);
        churn(1, 500);
        mark(1);
        execl(words[0], words[0], "churn", "700", (char *)NULL);
    } else if (strcmp(mode, "vfork") == 0) {
        virtual_fork(words[0]);
    } else if (strcmp(mode, "closes") == 0) {
        closes_all();
    } else if (strcmp(mode, "root") == 0 && count > 2) {
        int status = other_root(words[2]);
        if (status != 0)
            return status;
    } else if (strcmp(mode, "dies") == 0) {
        dies(number);
    } else if (strcmp(mode, "signals") == 0) {
        signals(number);
    } else if (strcmp(mode, "grows") == 0) {
        grows(number);
    } else {
        return 2;
    }
    say("done\n");
    return 0;
}
