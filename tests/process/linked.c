/* SPDX-License-Identifier: MIT */
/* Proves that a program linked with the library, shared or as an archive, also into a static
 * program, gets libc's names and the library's own from it, without a clash of symbols: blocks pass
 * between the two sets of names, libc's own functions allocate through them, and threads and fork
 * work.
 */
#define _GNU_SOURCE
#include <hakmem/hakmem.h>
#include <malloc.h>
#include <pthread.h>
#include <sys/wait.h>
#include "check.h"

static void *allocate(void *argument)
{
    uint64_t state = (uintptr_t)argument;
    void *kept[300];

    for (int i = 0; i < 300; i++)
        kept[i] = block_new(&state);
    for (int i = 0; i < 300; i++)
        block_free(kept[i]);
    return NULL;
}

int main(void)
{
    pthread_t thread[4];
    void *block, *aligned;
    char *text;
    int status;
    pid_t pid;

    block = malloc(100);
    CHECK(block);
    CHECK(hak_malloc_usable_size(block) == malloc_usable_size(block));
    hak_free(block);
    block = hak_malloc(100);
    CHECK(block);
    free(block);
    CHECK(!posix_memalign(&aligned, 4096, 10));
    hak_free(aligned);
    /* Aborts, if strdup and asprintf took the block elsewhere. */
    text = strdup("duplicated by libc");
    CHECK(text);
    hak_free(text);
    CHECK(asprintf(&text, "%s", hak_config()) > 0);
    CHECK(!strcmp(text, hak_config()));
    hak_free(text);

    for (int i = 0; i < 4; i++)
        CHECK(!pthread_create(&thread[i], NULL, allocate, (void *)(uintptr_t)(i + 1)));
    for (int i = 0; i < 4; i++)
        CHECK(!pthread_join(thread[i], NULL));
    pid = fork();
    CHECK(pid >= 0);
    if (!pid) {
        allocate((void *)(uintptr_t)9);
        exit(0);
    }
    CHECK(waitpid(pid, &status, 0) == pid && status == 0);
    puts(hak_config());
    return 0;
}
