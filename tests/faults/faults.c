/* SPDX-License-Identifier: MIT */
#include "tests/faults/faults.h"

#include <errno.h>
#include <stdint.h>

#include "core/kernel.h"

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

static bool refuses_unmapping;
static void *next_place;

void faults_refuse_unmapping(bool refuses)
{
    refuses_unmapping = refuses;
}

void faults_map_next_at(void *place)
{
    next_place = place;
}

static bool fails(const char *name)
{
    if (!__atomic_load_n(&faults.counting, __ATOMIC_ACQUIRE))
        return false;
    size_t number = __atomic_add_fetch(&faults.seen.calls, 1, __ATOMIC_RELAXED);
    if (faults.first == 0 || number < faults.first || (number > faults.first && !faults.lasting))
        return false;
    __atomic_add_fetch(&faults.seen.failed, 1, __ATOMIC_RELAXED);
    if (number == faults.first)
        faults.seen.name = name;
    return true;
}

long __real_kernel_mmap(void *at, size_t size, int protection, int flags);
long __real_kernel_munmap(void *base, size_t size);
long __real_kernel_mprotect(void *base, size_t size, int protection);
long __real_kernel_madvise(void *base, size_t size, int advice);
long __real_kernel_mremap(void *base, size_t size, size_t new_size, int flags, void *to);

long __wrap_kernel_mmap(void *at, size_t size, int protection, int flags);
long __wrap_kernel_munmap(void *base, size_t size);
long __wrap_kernel_mprotect(void *base, size_t size, int protection);
long __wrap_kernel_madvise(void *base, size_t size, int advice);
long __wrap_kernel_mremap(void *base, size_t size, size_t new_size, int flags, void *to);

long __wrap_kernel_mmap(void *at, size_t size, int protection, int flags)
{
    if (fails("mmap"))
        return -ENOMEM;
    if (at == NULL && next_place) {
        at = next_place; /* a hint, which the kernel follows where it can */
        next_place = NULL;
    }
    return __real_kernel_mmap(at, size, protection, flags);
}

long __wrap_kernel_munmap(void *base, size_t size)
{
    if (!refuses_unmapping && !fails("munmap"))
        return __real_kernel_munmap(base, size);
    __atomic_add_fetch(&faults.seen.kept, size, __ATOMIC_RELAXED);
    return -ENOMEM;
}

long __wrap_kernel_mprotect(void *base, size_t size, int protection)
{
    return fails("mprotect") ? -ENOMEM : __real_kernel_mprotect(base, size, protection);
}

long __wrap_kernel_madvise(void *base, size_t size, int advice)
{
    return fails("madvise") ? -EAGAIN : __real_kernel_madvise(base, size, advice);
}

long __wrap_kernel_mremap(void *base, size_t size, size_t new_size, int flags, void *to)
{
    if (fails("mremap")) {
        __atomic_add_fetch(&faults.seen.kept, to ? new_size : 0, __ATOMIC_RELAXED);
        return -ENOMEM;
    }
    long moved = __real_kernel_mremap(base, size, new_size, flags, to);
    if (moved > 0 && moved != (long)base)
        __atomic_add_fetch(&faults.seen.moved_bytes, size, __ATOMIC_RELAXED);
    return moved;
}
