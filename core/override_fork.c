/* SPDX-License-Identifier: MIT */
/* Registers our fork handlers before all others of the process.
 *
 * All locks are held from our prepare handler until our handler in the parent or the child. No other library's handler
 * may run in between, because it may wait for a thread that allocates. libc runs prepare handlers in the reverse order
 * of registration and the others in that order, so ours must be registered first. The order of constructors does not
 * guarantee that. But every library registers its handlers through glibc's __register_atfork (pthread_atfork comes
 * from libc_nonshared.a and is a part of each library), and finds this one, as it finds our malloc.
 *
 * A static program has libc's own function, which is not weak; there, the first constructor registers the handlers
 * (start.h). Other libcs do not call this function. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>

#include "core/atomic.h"
#include "core/fork.h"

typedef int register_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void),
                            void *object);

hak_export register_atfork __register_atfork __attribute__((weak));

/* NULL in a static program. */
extern __typeof__(dlsym) dlsym __attribute__((weak));

/* The next __register_atfork after ours; NULL: there is none. The first call looks it up, from a constructor, when no
 * thread can wait for it. Later, another thread might hold the dynamic linker's lock and wait for this one. */
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
    hak_fork_handle();
    register_atfork *behind = override_fork_behind();
    return behind ? behind(prepare, parent, child, object)
                  : 0; /* a static program that does not fork */
}

/* Declared by its caller, fork.c, which also works without it. */
int hak_atfork_first(void (*prepare)(void), void (*parent)(void), void (*child)(void));
int hak_atfork_first(void (*prepare)(void), void (*parent)(void), void (*child)(void))
{
    register_atfork *behind = override_fork_behind();

    return behind ? behind(prepare, parent, child, NULL) : pthread_atfork(prepare, parent, child);
}
