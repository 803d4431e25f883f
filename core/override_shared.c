/* SPDX-License-Identifier: MIT */
/* C++ for the shared library alone: the nothrow forms of new, and a C++ runtime that is loaded late.
 *
 * They must catch what a new-handler throws, which C cannot. The C++ runtime's own forms can, and call
 * the throwing ones, which are ours: the dynamic linker has them behind these, and they are asked when
 * memory runs out and there is a handler. A static program has no "behind", so the archive leaves this
 * file out, and the C++ runtime's own nothrow forms call our throwing ones from the start. */
#define _GNU_SOURCE
#include <hakmem/hakmem.h>

#include "core/compiler.h"

#include <dlfcn.h>

typedef void (*new_handler)(void);

extern new_handler _ZSt15get_new_handlerv(void) __attribute__((weak)); /* std::get_new_handler */

static bool has_handler(void)
{
    return _ZSt15get_new_handlerv && _ZSt15get_new_handlerv() != NULL;
}

static hak_cold void *new_again(size_t size, const void *tag)
{
    void *(*behind)(size_t, const void *) = NULL;

    if (has_handler())
        behind = (void *(*)(size_t, const void *))dlsym(RTLD_NEXT, "_ZnwmRKSt9nothrow_t");
    return behind ? behind(size, tag) : NULL;
}

static hak_cold void *new_again_aligned(size_t size, size_t align, const void *tag)
{
    void *(*behind)(size_t, size_t, const void *) = NULL;

    if (has_handler())
        behind = (void *(*)(size_t, size_t, const void *))dlsym(
            RTLD_NEXT, "_ZnwmSt11align_val_tRKSt9nothrow_t");
    return behind ? behind(size, align, tag) : NULL;
}

void *hak_late_symbol(const char *name);
void *hak_late_symbol(const char *name)
{
    static const char *const runtimes[] = {"libstdc++.so.6", "libc++.so.1"};
    void *symbol = NULL;

    for (int i = 0; i < 2 && symbol == NULL; i++) {
        void *runtime = dlopen(runtimes[i], RTLD_NOLOAD | RTLD_LAZY);
        if (runtime) {
            symbol = dlsym(runtime, name);
            dlclose(runtime); /* it stays loaded: whoever called new uses it */
        }
    }
    return symbol;
}

/* malloc_usable_size of whoever comes behind the library: libc. */
size_t hak_libc_usable_size(void *pointer);
size_t hak_libc_usable_size(void *pointer)
{
    size_t (*behind)(void *) = (size_t(*)(void *))dlsym(RTLD_NEXT, "malloc_usable_size");

    return behind ? behind(pointer) : 0;
}

#define CXX_NEW_NOTHROW(name)                                                                      \
    void *name(size_t size, const void *tag);                                                      \
    hak_export void *name(size_t size, const void *tag)                                            \
    {                                                                                              \
        void *block = hak_malloc(size);                                                            \
        return likely(block != NULL) ? block : new_again(size, tag);                               \
    }
#define CXX_NEW_ALIGNED_NOTHROW(name)                                                              \
    void *name(size_t size, size_t align, const void *tag);                                        \
    hak_export void *name(size_t size, size_t align, const void *tag)                              \
    {                                                                                              \
        void *block = hak_aligned_alloc(align, size);                                              \
        return likely(block != NULL) ? block : new_again_aligned(size, align, tag);                \
    }

CXX_NEW_NOTHROW(_ZnwmRKSt9nothrow_t)                        /* new (nothrow) */
CXX_NEW_NOTHROW(_ZnamRKSt9nothrow_t)                        /* new[] (nothrow) */
CXX_NEW_ALIGNED_NOTHROW(_ZnwmSt11align_val_tRKSt9nothrow_t) /* new (align_val_t, nothrow) */
CXX_NEW_ALIGNED_NOTHROW(_ZnamSt11align_val_tRKSt9nothrow_t) /* new[] (align_val_t, nothrow) */
