/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "tests/faults/faults.h"

#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/types.h>

static struct {
    bool counting, lasting;
    size_t first;
    struct faults_seen seen;
} faults;

void faults_begin(size_t first, bool lasting)
{
    faults.seen = (struct faults_seen){.calls = 0};
    faults.first = first;
    faults.lasting = lasting;
    __atomic_store_n(&faults.counting, true, __ATOMIC_RELEASE);
}

struct faults_seen faults_end(void)
{
    __atomic_store_n(&faults.counting, false, __ATOMIC_RELEASE);
    return faults.seen;
}

static bool fails(const char *name, int error)
{
    if (!__atomic_load_n(&faults.counting, __ATOMIC_ACQUIRE))
        return false;
    size_t number = __atomic_add_fetch(&faults.seen.calls, 1, __ATOMIC_RELAXED);
    if (faults.first == 0 || number < faults.first || (number > faults.first && !faults.lasting))
        return false;
    __atomic_add_fetch(&faults.seen.failed, 1, __ATOMIC_RELAXED);
    if (number == faults.first)
        faults.seen.name = name;
    errno = error;
    return true;
}

void *__real_mmap(void *at, size_t size, int protection, int flags, int file, off_t offset);
int __real_munmap(void *base, size_t size);
int __real_mprotect(void *base, size_t size, int protection);
int __real_madvise(void *base, size_t size, int advice);
void *__real_mremap(void *base, size_t size, size_t new_size, int flags, ...);

void *__wrap_mmap(void *at, size_t size, int protection, int flags, int file, off_t offset);
int __wrap_munmap(void *base, size_t size);
int __wrap_mprotect(void *base, size_t size, int protection);
int __wrap_madvise(void *base, size_t size, int advice);
void *__wrap_mremap(void *base, size_t size, size_t new_size, int flags, ...);

void *__wrap_mmap(void *at, size_t size, int protection, int flags, int file, off_t offset)
{
    return fails("mmap", ENOMEM) ? MAP_FAILED
                                 : __real_mmap(at, size, protection, flags, file, offset);
}

int __wrap_munmap(void *base, size_t size)
{
    if (!fails("munmap", ENOMEM))
        return __real_munmap(base, size);
    __atomic_add_fetch(&faults.seen.kept, size, __ATOMIC_RELAXED);
    return -1;
}

int __wrap_mprotect(void *base, size_t size, int protection)
{
    return fails("mprotect", ENOMEM) ? -1 : __real_mprotect(base, size, protection);
}

int __wrap_madvise(void *base, size_t size, int advice)
{
    return fails("madvise", EAGAIN) ? -1 : __real_madvise(base, size, advice);
}

void *__wrap_mremap(void *base, size_t size, size_t new_size, int flags, ...)
{
    void *to = NULL;
    va_list rest;

    if (flags & MREMAP_FIXED) {
        va_start(rest, flags);
        to = va_arg(rest, void *);
        va_end(rest);
    }
    if (fails("mremap", ENOMEM)) {
        __atomic_add_fetch(&faults.seen.kept, to ? new_size : 0, __ATOMIC_RELAXED);
        return MAP_FAILED;
    }
    void *moved = __real_mremap(base, size, new_size, flags, to);
    if (moved != MAP_FAILED && moved != base)
        __atomic_add_fetch(&faults.seen.moved_bytes, size, __ATOMIC_RELAXED);
    return moved;
}
