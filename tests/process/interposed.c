/* SPDX-License-Identifier: MIT */
/* Calls malloc and its like in every way, with threads that come and go, while interposer.c stands before libc: none of
 * these calls may hold a lock when it calls something that can be interposed.
 */
#define _GNU_SOURCE
#include <malloc.h>
#include <pthread.h>
#include <sys/wait.h>
#include "check.h"

enum { THREADS = 3, ROUNDS = 3, STEPS = 400, SLOTS = 100 };

extern unsigned interposer_notes(void) __attribute__((weak));

static void *use_all(void *argument)
{
    uint64_t state = (uintptr_t)argument * 77 + 1;
    void *slot[SLOTS] = {NULL};

    for (int i = 0; i < STEPS; i++) {
        uint64_t random = random_next(&state);
        size_t size = random % 16 == 0 ? random >> 8 & 0x3fffff : random >> 8 & 0xfff;
        void **at = &slot[random >> 40 & 63];

        switch (random >> 60 & 3) {
        case 0:
            free(*at);
            *at = calloc(1, size + 1);
            break;
        case 1:
            *at = realloc(*at, size + 1);
            break;
        case 2:
            free(*at);
            *at = memalign(64, size + 1);
            break;
        default:
            free(*at);
            *at = malloc(size + 1);
        }
        CHECK(*at);
    }
    for (int i = 0; i < SLOTS; i++)
        free(slot[i]);
    return NULL;
}

int main(int count, char **argument)
{
    pthread_t thread[THREADS];
    int status = 1;
    unsigned before = interposer_notes ? interposer_notes() : 0;

    for (int round = 0; round < ROUNDS; round++) {
        for (uintptr_t i = 0; i < THREADS; i++)
            CHECK(!pthread_create(&thread[i], NULL, use_all, (void *)(i + 1)));
        for (int i = 0; i < THREADS; i++)
            CHECK(!pthread_join(thread[i], NULL));
        malloc_trim(0);
        CHECK(mallinfo2().arena > 0);
        pid_t child = fork();
        CHECK(child >= 0);
        if (child == 0) {
            use_all(NULL);
            _exit(0);
        }
        CHECK(waitpid(child, &status, 0) == child && status == 0);
    }
    CHECK(interposer_notes && interposer_notes() > before + 100);
    if (count > 1 && !strcmp(argument[1], "abort"))
        free(hidden_pointer((char *)malloc(1 << 20) + 4096));
    puts("nobody waited for ever");
    return 0;
}
