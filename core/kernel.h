/* SPDX-License-Identifier: MIT */
/* The system calls that the library makes, straight to the kernel: no other library can interpose them.
 *
 * A program or a preloaded library can define any libc function itself (mmap, madvise, clock_gettime, write, even
 * syscall). Its version may allocate, or wait for a thread that does: called under one of our locks, it would never
 * return. The functions below may be called anywhere. They leave errno alone and are no cancellation points.
 *
 * Each returns what the kernel returns: a negative error number for failure. They are in a file of their own so that
 * a test can inject failures by the linker's --wrap. */
#ifndef HAK_KERNEL_H
#define HAK_KERNEL_H

#include <time.h>

#include "core/types.h"

/* Maps private anonymous memory. Returns its address as a number, or an error (kernel_is_error). */
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

/* The time of one of clock_gettime's clocks. After kernel_begin, and where the kernel has a vDSO, without a system
 * call. */
struct timespec kernel_clock(int clock);

/* Asks libc where the vDSO with the kernel's clock function is. That call can be interposed, so the caller holds no
 * lock. Only the first call does anything. */
void kernel_begin(void);

/* Linux returns errors as -4095 to -1; no address lies in the last page of the address space. */
static inline bool kernel_is_error(long result)
{
    return (unsigned long)result > -4096ul;
}

#endif
