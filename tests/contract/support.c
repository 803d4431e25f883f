/* SPDX-License-Identifier: MIT */
#include "tests/contract/support.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "core/heap.h"

void require_failed(const char *condition, const char *file, int line)
{
    char text[512];
    int length = snprintf(text, sizeof(text), "%s:%d: does not hold: %s\n", file, line, condition);

    if (write(STDERR_FILENO, text, (size_t)length) < 0) {
        /* there is nobody to tell */
    }
    abort();
}

/* ── chance ──────────────────────────────────────────────────────────────────────────────────── */

uint64_t seed_of_run(void)
{
    const char *given = getenv("HAKMEM_TEST_SEED");
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    uint64_t seed = given
                        ? strtoull(given, NULL, 0)
                        : ((uint64_t)now.tv_sec << 30) ^ (uint64_t)now.tv_nsec ^ (uint64_t)getpid();
    fprintf(stderr, "HAKMEM_TEST_SEED=%llu\n", (unsigned long long)seed);
    return seed;
}

/* splitmix64 */
uint64_t random_next(uint64_t *state)
{
    uint64_t mixed = *state += 0x9e3779b97f4a7c15u;

    mixed = (mixed ^ mixed >> 30) * 0xbf58476d1ce4e5b9u;
    mixed = (mixed ^ mixed >> 27) * 0x94d049bb133111ebu;
    return mixed ^ mixed >> 31;
}

size_t random_below(uint64_t *state, size_t end)
{
    return (size_t)(random_next(state) % end);
}

size_t random_size(uint64_t *state, size_t most)
{
    unsigned bits = (unsigned)(64 - __builtin_clzll(most | 1));
    size_t size = (size_t)random_next(state) & (((size_t)1 << random_below(state, bits + 1)) - 1);

    return size <= most ? size : most;
}

/* ── contents ────────────────────────────────────────────────────────────────────────────────── */

/* The word at byte `offset`: differs between neighbours, between addresses and between keys. */
static uint64_t pattern_word(uint64_t start, size_t offset)
{
    return start + offset * 0x9e3779b97f4a7c15u;
}

static uint64_t pattern_start(const void *origin, uint64_t key)
{
    uint64_t state = (uint64_t)(uintptr_t)origin ^ key << 20;

    return random_next(&state);
}

void pattern_fill(void *block, size_t size, uint64_t key)
{
    uint64_t start = pattern_start(block, key);
    char *bytes = block;
    size_t at = 0;

    for (; at + sizeof(uint64_t) <= size; at += sizeof(uint64_t)) {
        uint64_t word = pattern_word(start, at);
        memcpy(bytes + at, &word, sizeof(word));
    }
    uint64_t word = pattern_word(start, at);
    memcpy(bytes + at, &word, size - at);
}

bool pattern_holds(const void *block, size_t size, const void *origin, uint64_t key)
{
    uint64_t start = pattern_start(origin, key);
    const char *bytes = block;
    uint64_t differs = 0;
    size_t at = 0;

    for (; at + sizeof(uint64_t) <= size; at += sizeof(uint64_t)) {
        uint64_t word;
        memcpy(&word, bytes + at, sizeof(word));
        differs |= word ^ pattern_word(start, at);
    }
    uint64_t word = pattern_word(start, at);
    return differs == 0 && memcmp(bytes + at, &word, size - at) == 0;
}

bool all_zero(const void *block, size_t size)
{
    const char *bytes = block;

    return size == 0 || (bytes[0] == 0 && memcmp(bytes, bytes + 1, size - 1) == 0);
}

/* ── threads ─────────────────────────────────────────────────────────────────────────────────── */

void *on_new_thread(void *(*function)(void *), void *argument)
{
    pthread_t thread;
    void *result;

    require(pthread_create(&thread, NULL, function, argument) == 0);
    require(pthread_join(thread, &result) == 0);
    return result;
}

/* ── memory ──────────────────────────────────────────────────────────────────────────────────── */

/* Field 0 of statm is what is mapped, 1 what is resident, 2 what of that is a file's or shared; in pages. */
static size_t statm(int field)
{
    char text[128];
    int file = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    require(file >= 0);
    ssize_t length = read(file, text, sizeof(text) - 1);
    close(file);
    require(length > 0);
    text[length] = '\0';
    char *at = text;
    size_t pages = strtoul(at, &at, 10);
    for (int i = 0; i < field; i++)
        pages = strtoul(at, &at, 10);
    return pages * (size_t)sysconf(_SC_PAGESIZE);
}

size_t resident_bytes(void)
{
    return statm(1);
}

size_t private_bytes(void)
{
    return statm(1) - statm(2);
}

size_t mapped_bytes(void)
{
    return statm(0);
}

void require_valid_heap(void)
{
    struct hak_heap *heap = hak_heap_mine;

    if (hak_heap_is_empty(heap))
        return;
    hak_inside_enter(&heap->inside); /* a purge thread may be at the shard */
    require(frontend_valid(&heap->cache));
    require(backend_valid(&heap->shard));
    hak_inside_leave(&heap->inside);
}
