/* SPDX-License-Identifier: MIT */
/* Proves that the library can be opened by a program that runs already: dlopen, use of its own
 * names by threads that are older and younger than it, dlclose, and use of the blocks and the
 * functions afterwards. The program's own malloc stays libc's throughout.
 * Arguments: the library, and optionally another library to open first.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include "check.h"

enum { BLOCKS = 500, THREADS = 4 };

static void *(*hak_malloc)(size_t);
static void *(*hak_calloc)(size_t, size_t);
static void *(*hak_realloc)(void *, size_t);
static void (*hak_free)(void *);
static size_t (*hak_malloc_usable_size)(void *);

static void *shared[THREADS][BLOCKS];
static pthread_barrier_t opened, used, closed;

static void *own_block_new(uint64_t *state)
{
    size_t size = random_size(state) + MIN_BLOCK_SIZE;
    void *block = hak_malloc(size);

    CHECK(block);
    CHECK(hak_malloc_usable_size(block) >= size);
    block_fill(block, size);
    return block;
}

static void own_block_free(void *block)
{
    block_check(block);
    hak_free(block);
}

static void use(int row)
{
    uint64_t state = (uint64_t)row + 1;

    for (int i = 0; i < BLOCKS; i++)
        shared[row][i] = own_block_new(&state);
    for (int i = 0; i < BLOCKS; i += 3) {
        own_block_free(shared[row][i]);
        shared[row][i] = own_block_new(&state);
    }
}

/* Older than the library, and outlives its dlclose. */
static void *older(void *argument)
{
    int row = (int)(uintptr_t)argument;
    void *libc_block = malloc(100);

    pthread_barrier_wait(&opened);
    use(row);
    pthread_barrier_wait(&used);
    pthread_barrier_wait(&closed);
    /* What the next thread allocated. */
    for (int i = 0; i < BLOCKS; i++)
        own_block_free(shared[(row + 1) % THREADS][i]);
    free(libc_block);
    return NULL;
}

static void *younger(void *argument)
{
    uint64_t state = (uintptr_t)argument;

    for (int i = 0; i < BLOCKS; i++)
        own_block_free(own_block_new(&state));
    return NULL;
}

static void run_younger(void)
{
    pthread_t thread;

    CHECK(!pthread_create(&thread, NULL, younger, (void *)(uintptr_t)9));
    CHECK(!pthread_join(thread, NULL));
}

static void *find(void *library, const char *name)
{
    void *symbol = dlsym(library, name);

    if (!symbol)
        fprintf(stderr, "no symbol %s\n", name);
    CHECK(symbol);
    return symbol;
}

int main(int count, char **argument)
{
    pthread_t thread[THREADS];
    void *library, *kept;
    char *zeroed;

    CHECK(count >= 2);
    CHECK(!pthread_barrier_init(&opened, NULL, THREADS + 1));
    CHECK(!pthread_barrier_init(&used, NULL, THREADS + 1));
    CHECK(!pthread_barrier_init(&closed, NULL, THREADS + 1));
    for (int i = 0; i < THREADS; i++)
        CHECK(!pthread_create(&thread[i], NULL, older, (void *)(uintptr_t)i));

    if (count > 2 && !dlopen(argument[2], RTLD_NOW)) {
        fprintf(stderr, "%s\n", dlerror());
        return 1;
    }
    library = dlopen(argument[1], RTLD_NOW);
    if (!library) {
        fprintf(stderr, "%s\n", dlerror());
        return 1;
    }
    *(void **)&hak_malloc = find(library, "hak_malloc");
    *(void **)&hak_calloc = find(library, "hak_calloc");
    *(void **)&hak_realloc = find(library, "hak_realloc");
    *(void **)&hak_free = find(library, "hak_free");
    *(void **)&hak_malloc_usable_size = find(library, "hak_malloc_usable_size");

    kept = hak_malloc(1000);
    CHECK(kept);
    block_fill(kept, 1000);
    pthread_barrier_wait(&opened);
    pthread_barrier_wait(&used);
    run_younger();

    CHECK(!dlclose(library));
    pthread_barrier_wait(&closed);
    CHECK(block_check(kept) == 1000);
    kept = hak_realloc(kept, 1 << 20);
    CHECK(kept);
    CHECK(block_check(kept) == 1000);
    hak_free(kept);
    zeroed = hak_calloc(100, 100);
    CHECK(zeroed);
    for (int i = 0; i < 10000; i++)
        CHECK(!zeroed[i]);
    hak_free(zeroed);
    run_younger();
    for (int i = 0; i < THREADS; i++)
        CHECK(!pthread_join(thread[i], NULL));

    /* A second time: the same library answers. */
    library = dlopen(argument[1], RTLD_NOW | RTLD_GLOBAL);
    CHECK(library);
    CHECK(dlsym(library, "hak_malloc") == *(void **)&hak_malloc);
    puts("opened, closed, and still at work");
    return 0;
}
