/* SPDX-License-Identifier: MIT */
/* Proves that a program which lowers its own limits on addresses and on data, at any time, still starts threads and
 * allocates up to the limit, gets NULL beyond, keeps its blocks, and has all again when the limits are raised.
 */
#include <malloc.h>
#include <pthread.h>
#include <sys/resource.h>
#include "check.h"
#include "status.h"

enum { BLOCKS = 4096, BLOCK_SIZE = 100000 };

static void *blocks[BLOCKS];

/* How many blocks can be had; they are freed again. */
static int fill(void)
{
    int count = 0;

    while (count < BLOCKS && (blocks[count] = malloc(BLOCK_SIZE)) != NULL)
        block_fill(blocks[count++], BLOCK_SIZE);
    CHECK(count == BLOCKS || errno == ENOMEM);
    for (int i = 0; i < count; i++)
        block_free(blocks[i]);
    return count;
}

static void *on_thread(void *unused)
{
    block_free(block_new(&(uint64_t){7}));
    return unused;
}

static void start_threads(void)
{
    pthread_t thread;

    for (int i = 0; i < 3; i++) {
        CHECK(pthread_create(&thread, NULL, on_thread, NULL) == 0);
        CHECK(pthread_join(thread, NULL) == 0);
    }
}

/* Lets the resource grow by so many MiB beyond what is used now. Free memory that the library keeps for its next use is
 * given back first: it would be had below any limit. */
static void lower(int resource, const char *used, rlim_t mebibytes)
{
    struct rlimit limit;

    malloc_trim(0);
    CHECK(getrlimit(resource, &limit) == 0);
    limit.rlim_cur = ((rlim_t)status_number(used) << 10) + (mebibytes << 20);
    CHECK(setrlimit(resource, &limit) == 0);
}

static void raise(int resource)
{
    struct rlimit limit;

    CHECK(getrlimit(resource, &limit) == 0);
    limit.rlim_cur = limit.rlim_max;
    CHECK(setrlimit(resource, &limit) == 0);
}

static void under(int resource, const char *used)
{
    int reached;

    lower(resource, used, 64);
    start_threads();
    reached = fill();
    CHECK(reached >= 300 && reached < BLOCKS);
    start_threads();
    lower(resource, used, 0);
    for (int i = 0; i < 1000; i++)
        free(hidden_pointer(malloc(hidden((size_t)i * 1000))));
    CHECK(malloc(hidden(512 << 20)) == NULL && errno == ENOMEM);
    raise(resource);
    CHECK(fill() == BLOCKS);
}

int main(void)
{
    void *early[100];
    uint64_t state = 5;

    for (int i = 0; i < 100; i++)
        early[i] = block_new(&state);
    for (int round = 0; round < 2; round++) {
        under(RLIMIT_AS, "VmSize:");
        under(RLIMIT_DATA, "VmData:");
    }
    for (int i = 0; i < 100; i++)
        block_free(early[i]);
    CHECK(write(1, "under all limits\n", 17) == 17);
    return 0;
}
