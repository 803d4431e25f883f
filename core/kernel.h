/* SPDX-License-Identifier: MIT */
/* The system calls that the library makes: straight to the kernel, so that no other library comes between.
 *
 * Whatever a program or a preloaded library can define in libc's place (mmap, madvise, clock_gettime, write,
 * even syscall) may allocate, or wait for a thread that does: called under one of our locks it would never return.
 * These may be called anywhere. They leave errno alone and are no cancellation points.
 *
 * Each returns what the kernel returns: a negative error number for failure. They stand in a file of their own,
 * so that a test can have the linker put failures between (--wrap). */
#ifndef HAK_KERNEL_H
#define HAK_KERNEL_H

#include <time.h>

#include "core/types.h"

/* Private anonymous memory. The address as a number; kernel_is_error tells one from an error. */
long kernel_mmap(void *at, size_t size, int protection, int flags);
long kernel_munmap(void *base, size_t size);
long kernel_mprotect(void *base, size_t size, int protection);
long kernel_madvise(void *base, size_t size, int advice);
long kernel_mremap(void *base, size_t size, size_t new_size, int flags, void *to);
long kernel_mincore(void *base, size_t size, unsigned char *resident);

/* Opens a file for reading. */
long kernel_open(const char *path);
long kernel_read(long file, void *buffer, size_t size);
long kernel_write(long file, const void *buffer, size_t size);
long kernel_close(long file);

/* A copy of a file descriptor, closed by exec, at least as high as `least`. */
long kernel_duplicate(int file, int least);

/* Futexes of this process alone. `timeout`: NULL for none. */
long kernel_futex_wait(uint32_t *word, uint32_t value, const struct timespec *timeout);
long kernel_futex_wake(uint32_t *word, uint32_t threads);

bool kernel_is_main_thread(void);

/* The time of one of clock_gettime's clocks. Costs no system call once kernel_begin has been called, where the
 * kernel offers that. */
struct timespec kernel_clock(int clock);

/* Asks libc where the kernel's own clock function (vDSO) is. That can be interposed: not to be called under a
 * lock. Only the first call does anything. */
void kernel_begin(void);

/* As Linux has it: the last page of the address space is no result. */
static inline bool kernel_is_error(long result)
{
    return (unsigned long)result > -4096ul;
}

#endif
