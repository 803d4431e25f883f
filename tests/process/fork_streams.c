/* SPDX-License-Identifier: MIT */
/* Proves that fork and stdio cannot wait for each other: a thread flushes all streams without pause, one
 * of which allocates in its write function, while the main thread forks 500 times. fork takes
 * stdio's lock as well as the allocator's; in the wrong order both would wait for ever.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static ssize_t write_by_allocating(void *cookie, const char *bytes, size_t size)
{
    volatile char *block = malloc(100000);

    (void)cookie;
    (void)bytes;
    *block = 1;
    free((void *)block);
    return (ssize_t)size;
}

static void *flush_without_pause(void *unused)
{
    FILE *stream = fopencookie(NULL, "w", (cookie_io_functions_t){.write = write_by_allocating});

    for (;;) {
        fputc('x', stream);
        fflush(NULL);
    }
    return unused;
}

int main(void)
{
    static const char done[] = "500 children beside stdio\n";
    pthread_t thread;

    if (pthread_create(&thread, NULL, flush_without_pause, NULL) != 0)
        return 1;
    for (int i = 0; i < 500; i++) {
        pid_t child = fork();
        if (child == 0) {
            free(malloc(100000));
            _exit(0);
        }
        int status = 1;
        if (child < 0 || waitpid(child, &status, 0) != child || status != 0)
            return 1;
    }
    _exit(write(STDOUT_FILENO, done, sizeof(done) - 1) != sizeof(done) - 1);
}
