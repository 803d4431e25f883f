/* SPDX-License-Identifier: MIT */
/* Our fork handlers come first among all of the process's.
 *
 * Locks are held from our prepare handler on until our handler in parent or child, so that no other library's handler
 * may run in between: it may wait for a thread that allocates. libc runs prepare handlers in the reverse order of
 * registration and the others in that order, so ours are to be registered before all others. Constructors have no order
 * that would do. But who registers handlers calls glibc's __register_atfork (pthread_atfork is a part of each library,
 * from libc_nonshared.a), and finds this one, as it finds our malloc.
 *
 * A static program has libc's own function, which is no weak one. There, the first constructor of all has to do
 * (heap.c). With another libc nobody calls this. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>

#include "core/atomic.h"
#include "core/heap.h"

typedef int register_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void),
                            void *object);

hak_export register_atfork __register_atfork __attribute__((weak));

/* Not there in a static program. */
extern __typeof__(dlsym) dlsym __attribute__((weak));

/* The function behind ours; NULL: there is none. It is looked for once, by the first call, which nobody waits for: a
 * constructor's. Later, another thread might hold the dynamic linker's lock and wait for this one. */
static register_atfork *override_fork_behind(void)
{
    static register_atfork *found; /* atomic */
    register_atfork *known = atomic_load_relaxed(&found);

    if (known == NULL && dlsym) {
        known = (register_atfork *)dlsym(RTLD_NEXT, "__register_atfork");
        atomic_store_relaxed(&found, known);
    }
    return known;
}

int __register_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void),
                      void *object)
{
    hak_heap_handle_forks();
    register_atfork *behind = override_fork_behind();
    return behind ? behind(prepare, parent, child, object)
                  : 0; /* a static program that does not fork */
}

/* Declared where it is called, in heap.c, which also works without it. */
int hak_atfork_first(void (*prepare)(void), void (*parent)(void), void (*child)(void));
int hak_atfork_first(void (*prepare)(void), void (*parent)(void), void (*child)(void))
{
    register_atfork *behind = override_fork_behind();

    return behind ? behind(prepare, parent, child, NULL) : pthread_atfork(prepare, parent, child);
}
