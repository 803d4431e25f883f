/* SPDX-License-Identifier: MIT */
/* What memory the program has, as the kernel counts it, at chosen moments. It is read between two
 * operations, without a thread of its own and without allocating. */
#ifndef BENCH_MEMORY_H
#define BENCH_MEMORY_H

#include "bench.h"

#include <fcntl.h>
#include <unistd.h>

enum { BENCH_MOMENTS = 64, BENCH_NOT_KNOWN = -1 };

struct bench_memory {
    size_t count;
    uint64_t milliseconds[BENCH_MOMENTS]; /* of the workload's own time */
    int64_t kib[BENCH_MOMENTS];
};

/* The beginning of a file of /proc; an empty text if it cannot be read. */
static inline void bench_read_file(const char *path, char *text, size_t room)
{
    int file = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t length = file < 0 ? -1 : read(file, text, room - 1);

    if (file >= 0)
        close(file);
    text[length > 0 ? length : 0] = '\0';
}

static inline int64_t bench_resident_kib(void)
{
    char text[128], *second;
    long pages;

    bench_read_file("/proc/self/statm", text, sizeof(text));
    second = strchr(text, ' ');
    pages = second ? strtol(second, NULL, 10) : 0;
    return pages > 0 ? pages * (sysconf(_SC_PAGESIZE) / 1024) : BENCH_NOT_KNOWN;
}

/* Memory that this process alone has written to: what it really costs. Linux 4.14 and later tell. */
static inline int64_t bench_private_dirty_kib(void)
{
    static const char name[] = "\nPrivate_Dirty:";
    char text[2048], *line;

    bench_read_file("/proc/self/smaps_rollup", text, sizeof(text));
    line = strstr(text, name);
    return line ? strtol(line + sizeof(name) - 1, NULL, 10) : BENCH_NOT_KNOWN;
}

/* Keeps one figure, unless it is not known or there are too many already. */
static inline void bench_memory_add(struct bench_memory *memory, uint64_t nanoseconds, int64_t kib)
{
    if (kib == BENCH_NOT_KNOWN || memory->count == BENCH_MOMENTS)
        return;
    memory->milliseconds[memory->count] = nanoseconds / 1000000;
    memory->kib[memory->count++] = kib;
}

/* Prints NAME_ms=… NAME_kib=…, or nothing where the kernel did not tell. */
static inline void bench_report_memory(const char *name, const struct bench_memory *memory)
{
    for (size_t i = 0; i < memory->count; i++)
        printf("%s%s%s%" PRIu64, i ? "," : " ", i ? "" : name,
               i ? "" : "_ms=", memory->milliseconds[i]);
    for (size_t i = 0; i < memory->count; i++)
        printf("%s%s%s%" PRId64, i ? "," : " ", i ? "" : name, i ? "" : "_kib=", memory->kib[i]);
}

#endif
