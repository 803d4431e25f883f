/* SPDX-License-Identifier: MIT */
/* A preloaded library that stands before every function of libc that an allocator may want to call (all of doc/calls.md,
 * and the system calls), and that is unkind to an allocator which holds a lock while it calls one: each allocates
 * small and large blocks, and waits until another thread has done so. Then it calls libc's.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <time.h>

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static sem_t wanted, done;
static int ready;
static int *
    helped; /* whether there is the other thread: 0 in a child of fork, where the kernel wipes it */
static unsigned notes;
static __thread int inside __attribute__((tls_model("initial-exec")));

static void allocate(void)
{
    static const size_t sizes[] = {24, 3000, 20000, 300000, 3000000};

    for (int i = 0; i < 5; i++) {
        void *volatile block = malloc(sizes[i]);
        free(block);
    }
}

static void *help(void *unused)
{
    inside = 1;
    for (;;) {
        while (sem_wait(&wanted) != 0)
            continue;
        allocate();
        sem_post(&done);
    }
    return unused;
}

static void note(void)
{
    if (inside || !ready)
        return;
    inside = 1;
    int saved = errno;
    allocate();
    if (*helped) {
        pthread_mutex_lock(&mutex);
        sem_post(&wanted);
        while (sem_wait(&done) != 0)
            continue;
        notes++;
        pthread_mutex_unlock(&mutex);
    }
    errno = saved;
    inside = 0;
}

static void *behind(const char *name)
{
    int was = inside;

    inside = 1;
    void *function = dlvsym(RTLD_NEXT, name, "GLIBC_2.2.5");
    if (function == NULL || name[0] != 'd')
        function = dlsym(RTLD_NEXT, name);
    inside = was;
    return function;
}

#define STANDS_BEFORE(result, name, parameters, arguments)                                         \
    result name parameters                                                                         \
    {                                                                                              \
        static result(*real) parameters;                                                           \
        if (real == NULL)                                                                          \
            real = (result(*) parameters)behind(#name);                                            \
        note();                                                                                    \
        return real arguments;                                                                     \
    }

/* ── system calls ────────────────────────────────────────────────────────────────────────────── */

STANDS_BEFORE(void *, mmap, (void *a, size_t b, int c, int d, int e, off_t f), (a, b, c, d, e, f))
STANDS_BEFORE(int, munmap, (void *a, size_t b), (a, b))
STANDS_BEFORE(int, mprotect, (void *a, size_t b, int c), (a, b, c))
STANDS_BEFORE(int, madvise, (void *a, size_t b, int c), (a, b, c))
STANDS_BEFORE(int, mincore, (void *a, size_t b, unsigned char *c), (a, b, c))
STANDS_BEFORE(ssize_t, read, (int a, void *b, size_t c), (a, b, c))
STANDS_BEFORE(ssize_t, write, (int a, const void *b, size_t c), (a, b, c))
STANDS_BEFORE(int, close, (int a), (a))
STANDS_BEFORE(int, clock_gettime, (clockid_t a, struct timespec *b), (a, b))
STANDS_BEFORE(int, clock_nanosleep,
              (clockid_t a, int b, const struct timespec *c, struct timespec *d), (a, b, c, d))
STANDS_BEFORE(int, getrlimit, (__rlimit_resource_t a, struct rlimit *b), (a, b))
STANDS_BEFORE(pid_t, getpid, (void), ())
STANDS_BEFORE(long, sysconf, (int a), (a))

/* The variadic ones take as many as there can be. */
void *mremap(void *a, size_t b, size_t c, int d, ...)
{
    static void *(*real)(void *, size_t, size_t, int, void *);
    va_list rest;

    if (real == NULL)
        real = (void *(*)(void *, size_t, size_t, int, void *))behind("mremap");
    note();
    va_start(rest, d);
    void *to = va_arg(rest, void *);
    va_end(rest);
    return real(a, b, c, d, to);
}

int open(const char *a, int b, ...)
{
    static int (*real)(const char *, int, int);
    va_list rest;

    if (real == NULL)
        real = (int (*)(const char *, int, int))behind("open");
    note();
    va_start(rest, b);
    int mode = va_arg(rest, int);
    va_end(rest);
    return real(a, b, mode);
}

int fcntl(int a, int b, ...)
{
    static int (*real)(int, int, void *);
    va_list rest;

    if (real == NULL)
        real = (int (*)(int, int, void *))behind("fcntl");
    note();
    va_start(rest, b);
    void *argument = va_arg(rest, void *);
    va_end(rest);
    return real(a, b, argument);
}

long syscall(long a, ...)
{
    static long (*real)(long, long, long, long, long, long, long);
    va_list rest;
    long word[6];

    if (real == NULL)
        real = (long (*)(long, long, long, long, long, long, long))behind("syscall");
    note();
    va_start(rest, a);
    for (int i = 0; i < 6; i++)
        word[i] = va_arg(rest, long);
    va_end(rest);
    return real(a, word[0], word[1], word[2], word[3], word[4], word[5]);
}

/* ── what is on the list ─────────────────────────────────────────────────────────────────────── */

STANDS_BEFORE(unsigned long, getauxval, (unsigned long a), (a))
STANDS_BEFORE(int *, __errno_location, (void), ())
STANDS_BEFORE(void *, memset, (void *a, int b, size_t c), (a, b, c))
STANDS_BEFORE(void *, memcpy, (void *a, const void *b, size_t c), (a, b, c))
STANDS_BEFORE(void *, memmove, (void *a, const void *b, size_t c), (a, b, c))
STANDS_BEFORE(char *, getenv, (const char *a), (a))
STANDS_BEFORE(int, fstat, (int a, struct stat *b), (a, b))
STANDS_BEFORE(size_t, strlen, (const char *a), (a))
STANDS_BEFORE(int, strcmp, (const char *a, const char *b), (a, b))
STANDS_BEFORE(int, strncmp, (const char *a, const char *b, size_t c), (a, b, c))
STANDS_BEFORE(char *, strchr, (const char *a, int b), (a, b))
STANDS_BEFORE(char *, strrchr, (const char *a, int b), (a, b))
STANDS_BEFORE(long, strtol, (const char *a, char **b, int c), (a, b, c))
STANDS_BEFORE(size_t, fwrite, (const void *a, size_t b, size_t c, FILE *d), (a, b, c, d))
STANDS_BEFORE(void *, dlsym, (void *a, const char *b), (a, b))
STANDS_BEFORE(void *, dlopen, (const char *a, int b), (a, b))
STANDS_BEFORE(int, dlclose, (void *a), (a))
STANDS_BEFORE(int, dl_iterate_phdr, (int (*a)(struct dl_phdr_info *, size_t, void *), void *b),
              (a, b))
STANDS_BEFORE(pthread_t, pthread_self, (void), ())
STANDS_BEFORE(int, pthread_key_create, (pthread_key_t * a, void (*b)(void *)), (a, b))
STANDS_BEFORE(int, pthread_setspecific, (pthread_key_t a, const void *b), (a, b))
STANDS_BEFORE(int, pthread_create,
              (pthread_t * a, const pthread_attr_t *b, void *(*c)(void *), void *d), (a, b, c, d))
STANDS_BEFORE(int, pthread_attr_init, (pthread_attr_t * a), (a))
STANDS_BEFORE(int, pthread_attr_destroy, (pthread_attr_t * a), (a))
STANDS_BEFORE(int, pthread_attr_setdetachstate, (pthread_attr_t * a, int b), (a, b))
STANDS_BEFORE(int, pthread_attr_setstacksize, (pthread_attr_t * a, size_t b), (a, b))
STANDS_BEFORE(int, pthread_setname_np, (pthread_t a, const char *b), (a, b))
STANDS_BEFORE(int, pthread_sigmask, (int a, const sigset_t *b, sigset_t *c), (a, b, c))
STANDS_BEFORE(int, sigfillset, (sigset_t * a), (a))

int __register_atfork(void (*a)(void), void (*b)(void), void (*c)(void), void *d);
STANDS_BEFORE(int, __register_atfork, (void (*a)(void), void (*b)(void), void (*c)(void), void *d),
              (a, b, c, d))
void _IO_list_lock(void);
void _IO_list_unlock(void);
void _IO_list_resetlock(void);
STANDS_BEFORE(void, _IO_list_lock, (void), ())
STANDS_BEFORE(void, _IO_list_unlock, (void), ())
STANDS_BEFORE(void, _IO_list_resetlock, (void), ())

void abort(void)
{
    void (*real)(void) = (void (*)(void))behind("abort");

    note();
    real();
    for (;;)
        continue;
}

/* ── begin and end ───────────────────────────────────────────────────────────────────────────── */

__attribute__((constructor)) static void begin(void)
{
    pthread_t thread;

    sem_init(&wanted, 0, 0);
    sem_init(&done, 0, 0);
    helped = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (madvise(helped, 4096, MADV_WIPEONFORK) || pthread_create(&thread, NULL, help, NULL))
        abort();
    *helped = ready = 1;
}

/* The test checks that there were calls, and of which functions. */
unsigned interposer_notes(void);
unsigned interposer_notes(void)
{
    return notes;
}
