/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "core/kernel.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/auxv.h>

#include "core/atomic.h"
#include "core/syscall.h"
#include "core/vdso.h"

/* The kernel's numbers; some libcs come without the header that names them. */
enum { FUTEX_WAIT_PRIVATE = 0 | 128, FUTEX_WAKE_PRIVATE = 1 | 128 };

/* ── memory ──────────────────────────────────────────────────────────────────────────────────── */

long kernel_mmap(void *at, size_t size, int protection, int flags)
{
    return hak_syscall_mmap(at, size, protection, flags);
}

long kernel_munmap(void *base, size_t size)
{
    return hak_syscall_munmap(base, size);
}

long kernel_mprotect(void *base, size_t size, int protection)
{
    return hak_syscall(SYS_mprotect, (long)base, (long)size, protection, 0, 0, 0);
}

long kernel_madvise(void *base, size_t size, int advice)
{
    return hak_syscall(SYS_madvise, (long)base, (long)size, advice, 0, 0, 0);
}

long kernel_mremap(void *base, size_t size, size_t new_size, int flags, void *to)
{
    return hak_syscall(SYS_mremap, (long)base, (long)size, (long)new_size, flags, (long)to, 0);
}

long kernel_mincore(void *base, size_t size, unsigned char *resident)
{
    return hak_syscall(SYS_mincore, (long)base, (long)size, (long)resident, 0, 0, 0);
}

/* ── files ───────────────────────────────────────────────────────────────────────────────────── */

long kernel_open(const char *path)
{
    return hak_syscall(SYS_openat, AT_FDCWD, (long)path, O_RDONLY | O_CLOEXEC, 0, 0, 0);
}

long kernel_read(long file, void *buffer, size_t size)
{
    return hak_syscall(SYS_read, file, (long)buffer, (long)size, 0, 0, 0);
}

long kernel_write(long file, const void *buffer, size_t size)
{
    return hak_syscall(SYS_write, file, (long)buffer, (long)size, 0, 0, 0);
}

long kernel_close(long file)
{
    return hak_syscall(SYS_close, file, 0, 0, 0, 0, 0);
}

long kernel_duplicate(int file, int least)
{
    return hak_syscall(SYS_fcntl, file, F_DUPFD_CLOEXEC, least, 0, 0, 0);
}

/* ── threads ─────────────────────────────────────────────────────────────────────────────────── */

long kernel_futex_wait(uint32_t *word, uint32_t value, const struct timespec *timeout)
{
    return hak_syscall(SYS_futex, (long)word, FUTEX_WAIT_PRIVATE, value, (long)timeout, 0, 0);
}

long kernel_futex_wake(uint32_t *word, uint32_t threads)
{
    return hak_syscall(SYS_futex, (long)word, FUTEX_WAKE_PRIVATE, threads, 0, 0, 0);
}

bool kernel_is_main_thread(void)
{
    return hak_syscall(SYS_getpid, 0, 0, 0, 0, 0, 0) == hak_syscall(SYS_gettid, 0, 0, 0, 0, 0, 0);
}

/* ── time ────────────────────────────────────────────────────────────────────────────────────── */

typedef int clock_function(int clock, struct timespec *time);

static clock_function
    *vdso_clock; /* atomic; NULL: not looked for yet, or none, as under valgrind */

struct timespec kernel_clock(int clock)
{
    clock_function *function = atomic_load_relaxed(&vdso_clock);
    struct timespec time = {0, 0};

    if (function == NULL || function(clock, &time) != 0)
        hak_syscall(SYS_clock_gettime, clock, (long)&time, 0, 0, 0, 0);
    return time;
}

/* An interposed getauxval may allocate and so call this again. The second call finds that the question was asked, and the
 * clock makes system calls until there is an answer. */
void kernel_begin(void)
{
    static bool asked;

    if (likely(atomic_load_relaxed(&asked)) || __atomic_exchange_n(&asked, true, __ATOMIC_RELAXED))
        return;
    const void *image = (const void *)getauxval(AT_SYSINFO_EHDR);
    if (image)
        atomic_store_relaxed(&vdso_clock, (clock_function *)vdso_function(image, HAK_VDSO_CLOCK));
}
