/* SPDX-License-Identifier: MIT */
/* The processor's own instructions for a system call and for the thread pointer, its clock, and the few memory calls that a
 * sanitizer has to see. kernel.c makes all system calls with it, and record.c, whose calls nothing else needs.
 *
 * libc's syscall() would do, were it not a function like any other: a preloaded library may define it, it is free
 * to allocate, and it writes errno. */
#ifndef HAK_SYSCALL_H
#define HAK_SYSCALL_H

#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>

#if defined(__x86_64__) && defined(__LP64__)

#define HAK_VDSO_CLOCK "__vdso_clock_gettime"

/* Returns what the kernel returns: a negative error number for failure. */
static inline long hak_syscall(long number, long a, long b, long c, long d, long e, long f)
{
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    long result;

    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return result;
}

/* A number that no other living thread has; never 0. glibc and musl give it out as pthread_self(). */
static inline uintptr_t hak_thread_pointer(void)
{
    uintptr_t pointer;

    __asm__("mov %%fs:0, %0" : "=r"(pointer));
    return pointer;
}

/* The processor's clock, which no call is needed for: some ticks a nanosecond. */
static inline uint64_t hak_processor_ticks(void)
{
    return __builtin_ia32_rdtsc();
}

#elif defined(__aarch64__) && defined(__LP64__)

#define HAK_VDSO_CLOCK "__kernel_clock_gettime"

static inline long hak_syscall(long number, long a, long b, long c, long d, long e, long f)
{
    register long x8 __asm__("x8") = number;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    register long x4 __asm__("x4") = e;
    register long x5 __asm__("x5") = f;

    __asm__ volatile("svc #0"
                     : "+r"(x0)
                     : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
                     : "memory", "cc");
    return x0;
}

static inline uintptr_t hak_thread_pointer(void)
{
    uintptr_t pointer;

    __asm__("mrs %0, tpidr_el0" : "=r"(pointer));
    return pointer;
}

static inline uint64_t hak_processor_ticks(void)
{
    uint64_t ticks;

    __asm__ volatile("mrs %0, cntvct_el0" : "=r"(ticks));
    return ticks << 6; /* it counts some ten nanoseconds each */
}

#else

/* Other processors go through libc, where an interposer of syscall() must not allocate. */
#include <errno.h>
#include <time.h>
#include <unistd.h>

#define HAK_VDSO_CLOCK "__vdso_clock_gettime"

static inline long hak_syscall(long number, long a, long b, long c, long d, long e, long f)
{
    int saved = errno;
    long result = syscall(number, a, b, c, d, e, f);

    result = result == -1 ? -(long)errno : result;
    errno = saved;
    return result;
}

static inline uintptr_t hak_thread_pointer(void)
{
    return (uintptr_t)__builtin_thread_pointer();
}

static inline uint64_t hak_processor_ticks(void)
{
    struct timespec now = {0, 0};

    hak_syscall(SYS_clock_gettime, CLOCK_MONOTONIC, (long)&now, 0, 0, 0, 0);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

#endif

/* A sanitizer keeps notes on memory, which start anew where memory is mapped: it finds that out by standing before
 * libc's functions. Its own do not allocate from us. */
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define HAK_SYSCALLS_ARE_WATCHED 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer) || __has_feature(address_sanitizer) ||                         \
    __has_feature(memory_sanitizer)
#define HAK_SYSCALLS_ARE_WATCHED 1
#endif
#endif

#ifdef HAK_SYSCALLS_ARE_WATCHED
#include <errno.h>
#include <sys/mman.h>

static inline long hak_syscall_mmap(void *at, size_t size, int protection, int flags)
{
    int saved = errno;
    void *base = mmap(at, size, protection, flags, -1, 0);
    long result = base == MAP_FAILED ? -(long)errno : (long)base;

    errno = saved;
    return result;
}

static inline long hak_syscall_munmap(void *base, size_t size)
{
    int saved = errno;
    long result = munmap(base, size) == 0 ? 0 : -(long)errno;

    errno = saved;
    return result;
}

#else

static inline long hak_syscall_mmap(void *at, size_t size, int protection, int flags)
{
    return hak_syscall(SYS_mmap, (long)at, (long)size, protection, flags, -1, 0);
}

static inline long hak_syscall_munmap(void *base, size_t size)
{
    return hak_syscall(SYS_munmap, (long)base, (long)size, 0, 0, 0, 0);
}

#endif

#endif
