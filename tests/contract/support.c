/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "tests/contract/support.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "core/fork.h"
#include "core/heap.h"
#include "core/os.h"

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

static void add_resident(const struct hak_extent *extent, void *sum)
{
    static unsigned char pages[1 << 14];
    size_t most = sizeof(pages) * os_page_size();
    size_t *bytes = sum;

    for (size_t done = 0; done < extent->size; done += most) {
        size_t part = extent->size - done < most ? extent->size - done : most;
        size_t resident = 0;
        require(mincore(extent->base + done, part, pages) == 0);
        for (size_t i = 0; i < part / os_page_size(); i++)
            resident += pages[i] & 1;
        *bytes += resident * os_page_size();
    }
}

size_t resident_bytes(void)
{
    size_t bytes = 0;

    if (hak_heap_all() == NULL)
        return 0;
    hak_lock_all();
    backend_walk(add_resident, &bytes);
    bytes += backend_metadata();
    for (const struct hak_heap *heap = hak_heap_all(); heap; heap = heap->all_next)
        bytes += sizeof(*heap);
    hak_unlock_all();
    return bytes;
}

size_t mapped_bytes(void)
{
    char text[128];
    int file = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);

    require(file >= 0);
    ssize_t length = read(file, text, sizeof(text) - 1);
    close(file);
    require(length > 0);
    text[length] = '\0';
    return strtoul(text, NULL, 10) * os_page_size();
}

/* Neighbouring addresses. */
struct stretch {
    uintptr_t from, to;
};

enum { STRETCHES_MOST = 4096 };

static struct {
    struct stretch all[STRETCHES_MOST]; /* mappings without the flag */
    size_t count;
    size_t bytes; /* of extents in them */
} without;

static void add_common(const struct hak_extent *extent, void *unused)
{
    uintptr_t first = (uintptr_t)extent->base;
    uintptr_t end = first + extent->size;

    (void)unused;
    for (size_t i = 0; i < without.count; i++) {
        uintptr_t from = without.all[i].from > first ? without.all[i].from : first;
        uintptr_t to = without.all[i].to < end ? without.all[i].to : end;
        without.bytes += to > from ? to - from : 0;
    }
}

size_t bytes_without_flag(const char *flag)
{
    static const char NAME[] = "VmFlags:";
    char line[512];
    char word[8];
    struct stretch mapping = {0, 0};
    bool told = false;
    FILE *maps = access("/sys/kernel/mm/transparent_hugepage", F_OK) == 0
                     ? fopen("/proc/self/smaps", "r")
                     : NULL;

    if (maps == NULL)
        return SIZE_MAX;
    without.count = without.bytes = 0;
    snprintf(word, sizeof(word), " %s ", flag);
    while (fgets(line, sizeof(line), maps)) {
        struct stretch first_line;
        if (sscanf(line, "%zx-%zx ", &first_line.from, &first_line.to) == 2)
            mapping = first_line;
        if (strncmp(line, NAME, sizeof(NAME) - 1) != 0)
            continue;
        told = true;
        if (strstr(line, word))
            continue;
        require(without.count < STRETCHES_MOST);
        without.all[without.count++] = mapping;
    }
    fclose(maps);
    if (!told)
        return SIZE_MAX;
    hak_lock_all();
    backend_walk(add_common, NULL);
    hak_unlock_all();
    return without.bytes;
}

bool kernel_moves_pages(void)
{
    enum { DONTUNMAP = 4, FLAGS = MREMAP_MAYMOVE | MREMAP_FIXED | DONTUNMAP };
    size_t page = os_page_size();
    char *from = os_map(page);
    char *to = os_map(page);

    require(from && to);
    bool moves = mremap(from, page, page, FLAGS, to) == to;
    os_unmap(from, page);
    os_unmap(to, page);
    return moves;
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
