/* SPDX-License-Identifier: MIT */
/* Proves that destructors of thread-specific data may allocate and free in every round that POSIX
 * allows (4), whether their keys were made before or after the library made its own, and that
 * threads that do so leave nothing behind: 3000 of them end without the process growing.
 */
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include "dirty.h"
#include "live.h"

enum { KEYS = 4, AT_ONCE = 10, BATCHES = 300, SETTLED = 50, ROUNDS = 3, GROWTH_KB = 4 << 10 };

static pthread_key_t key[KEYS];
static atomic_int destroyed;

/* Until the process has settled the threads of a batch wait for each other, so that as many heaps are in use at
 * once as ever can be. */
static pthread_barrier_t all_allocate;
static bool settling = true;

struct value {
    size_t size; /* what block_fill() wrote there */
    int key, round;
};

static struct value *value_new(int k, int round)
{
    struct value *value = malloc(sizeof *value);

    CHECK(value);
    *value = (struct value){.size = sizeof *value, .key = k, .round = round};
    return value;
}

/* Allocates as much as a careless program would, and in all rounds but the last again for the next. */
static void destroy(void *argument)
{
    struct value *value = argument;
    uint64_t state = (uint64_t)value->round * 31 + 7;
    int k = value->key, round = value->round;
    void *kept[50];

    for (int i = 0; i < 50; i++)
        kept[i] = block_new(&state);
    if (k == 0 && round == 1 && settling)
        pthread_barrier_wait(&all_allocate);
    CHECK(value->size == sizeof *value);
    free(value);
    for (int i = 0; i < 50; i++)
        block_free(kept[i]);
    if (round < ROUNDS)
        CHECK(!pthread_setspecific(key[k], value_new(k, round + 1)));
    else
        atomic_fetch_add(&destroyed, 1);
}

/* A thread whose only frees and allocations happen in its destructors. */
static void *set_only(void *argument)
{
    CHECK(!pthread_setspecific(key[0], argument));
    return NULL;
}

static void *set_all(void *argument)
{
    uint64_t state = (uintptr_t)argument;

    for (int i = 0; i < 100; i++)
        block_free(block_new(&state));
    for (int k = 0; k < KEYS; k++)
        CHECK(!pthread_setspecific(key[k], value_new(k, 1)));
    return NULL;
}

/* In the fourth and last round too: no later destructor can clear up after the allocator then. */
static pthread_key_t stubborn;

static void destroy_stubbornly(void *argument)
{
    uintptr_t round = (uintptr_t)argument;
    uint64_t state = round;

    for (int i = 0; i < 50; i++)
        block_free(block_new(&state));
    if (round < PTHREAD_DESTRUCTOR_ITERATIONS)
        CHECK(!pthread_setspecific(stubborn, (void *)(round + 1)));
    else
        atomic_fetch_add(&destroyed, 1);
}

static void *set_stubborn(void *argument)
{
    CHECK(!pthread_setspecific(stubborn, argument));
    return NULL;
}

/* Before any allocation, and so before the library's own key. */
__attribute__((constructor(101))) static void make_the_first_keys(void)
{
    for (int k = 0; k < KEYS / 2; k++)
        CHECK(!pthread_key_create(&key[k], destroy));
}

int main(void)
{
    long settled = 0, end, blocks = 0;

    free(malloc(1));
    for (int k = KEYS / 2; k < KEYS; k++)
        CHECK(!pthread_key_create(&key[k], destroy));
    CHECK(!pthread_key_create(&stubborn, destroy_stubbornly));
    CHECK(!pthread_barrier_init(&all_allocate, NULL, AT_ONCE));

    for (int batch = 0; batch < BATCHES; batch++) {
        pthread_t thread[AT_ONCE];

        for (int i = 0; i < AT_ONCE; i++)
            if (i % 2)
                CHECK(!pthread_create(&thread[i], NULL, set_only, value_new(0, 1)));
            else
                CHECK(!pthread_create(&thread[i], NULL, set_all, (void *)(uintptr_t)(i + 1)));
        for (int i = 0; i < AT_ONCE; i++)
            CHECK(!pthread_join(thread[i], NULL));
        if (batch == SETTLED) {
            settled = dirty_kilobytes();
            blocks = live_blocks();
            settling = false;
        }
    }
    end = dirty_kilobytes();
    CHECK(live_blocks() == blocks);
    CHECK(atomic_load(&destroyed) == BATCHES * AT_ONCE / 2 * (1 + KEYS));
    if (end > settled + settled / 4 + GROWTH_KB) {
        fprintf(stderr, "private dirty memory grew from %ld to %ld KB\n", settled, end);
        return 1;
    }

    atomic_store(&destroyed, 0);
    for (int i = 0; i < 20; i++) {
        pthread_t thread;

        CHECK(!pthread_create(&thread, NULL, set_stubborn, (void *)(uintptr_t)1));
        CHECK(!pthread_join(thread, NULL));
    }
    CHECK(atomic_load(&destroyed) == 20);
    puts("destructors allocated in every round");
    return 0;
}
