/* SPDX-License-Identifier: MIT */
/* HAKMEM with its own names only, in a process whose malloc is jemalloc. Says "both" when each has
 * served its own blocks, in threads that end and in a forked child too. */
#define _GNU_SOURCE
#include <hakmem/hakmem.h>
#include <dlfcn.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { BLOCKS = 20000, THREADS = 4 };

static int (*jemalloc_mallctl)(const char *name, void *old, size_t *length, void *new, size_t size);

#define require(condition)                                                                         \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "beside.c:%d: %s\n", __LINE__, #condition);                            \
            _exit(EXIT_FAILURE);                                                                   \
        }                                                                                          \
    } while (0)

/* What jemalloc has given this thread since it began. */
static uint64_t given_by_jemalloc(void)
{
    uint64_t bytes;
    size_t length = sizeof(bytes);

    require(jemalloc_mallctl("thread.allocated", &bytes, &length, NULL, 0) == 0);
    return bytes;
}

/* A block of each in turn, all alive at once. */
static void *use_both(void *unused)
{
    static _Thread_local unsigned char *ours[BLOCKS], *theirs[BLOCKS];
    uint64_t before = given_by_jemalloc(), asked = 0;

    for (size_t i = 0; i < BLOCKS; i++) {
        size_t size = i % 1000 + 1;
        ours[i] = memset(hak_malloc(size), (int)i, size);
    }
    require(given_by_jemalloc() == before);
    for (size_t i = 0; i < BLOCKS; i++) {
        size_t size = i % 1000 + 1;
        asked += size;
        theirs[i] = memset(malloc(size), ~(int)i, size);
    }
    require(given_by_jemalloc() - before >= asked);
    for (size_t i = 0; i < BLOCKS; i++) {
        size_t size = i % 1000 + 1;
        require(ours[i][0] == (unsigned char)i && ours[i][size - 1] == (unsigned char)i);
        require(theirs[i][0] == (unsigned char)~i && theirs[i][size - 1] == (unsigned char)~i);
        hak_free(ours[i]);
        free(theirs[i]);
    }
    return unused;
}

static void use_both_in_threads(void)
{
    pthread_t threads[THREADS];

    for (size_t i = 0; i < THREADS; i++)
        require(pthread_create(&threads[i], NULL, use_both, NULL) == 0);
    use_both(NULL);
    for (size_t i = 0; i < THREADS; i++)
        require(pthread_join(threads[i], NULL) == 0);
}

int main(void)
{
    *(void **)&jemalloc_mallctl = dlsym(RTLD_DEFAULT, "mallctl");
    require(jemalloc_mallctl != NULL);
    use_both_in_threads();
    pid_t child = fork();
    require(child >= 0);
    if (child == 0) {
        use_both_in_threads();
        _exit(EXIT_SUCCESS);
    }
    int status;
    require(waitpid(child, &status, 0) == child && status == 0);
    puts("both");
    return EXIT_SUCCESS;
}
