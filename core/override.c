/* SPDX-License-Identifier: MIT */
/* libc's and C++'s names. An alias must stand in the translation unit of what it names, so this file
 * is compiled in place of malloc.c and includes it: malloc is then the very function hak_malloc. */
#define _GNU_SOURCE
#include "core/malloc.c"

#include <malloc.h>
#include <stdlib.h>

#define SAME_AS(function) __attribute__((alias(#function), visibility("default")))

/* ── C ───────────────────────────────────────────────────────────────────────────────────────── */

void *malloc(size_t size) SAME_AS(hak_malloc);
void *calloc(size_t count, size_t size) SAME_AS(hak_calloc);
void *realloc(void *block, size_t size) SAME_AS(hak_realloc);
void *reallocarray(void *block, size_t count, size_t size) SAME_AS(hak_reallocarray);
void *aligned_alloc(size_t alignment, size_t size) SAME_AS(hak_aligned_alloc);
void *memalign(size_t alignment, size_t size) SAME_AS(hak_memalign);
int posix_memalign(void **block, size_t alignment, size_t size) SAME_AS(hak_posix_memalign);
void *valloc(size_t size) SAME_AS(hak_valloc);
void *pvalloc(size_t size) SAME_AS(hak_pvalloc);
void free(void *block) SAME_AS(hak_free);
void free_sized(void *block, size_t size) SAME_AS(hak_free_sized);
void free_aligned_sized(void *block, size_t alignment, size_t size) SAME_AS(hak_free_aligned_sized);
size_t malloc_usable_size(void *block) SAME_AS(hak_malloc_usable_size);
int malloc_trim(size_t pad) SAME_AS(hak_malloc_trim);

/* ── C++ ─────────────────────────────────────────────────────────────────────────────────────────
 * Under their mangled names (Itanium C++ ABI, size_t = m), so that no C++ compiler is needed. What
 * the C++ runtime must do, when there is one in the process, is reached through weak symbols. The
 * nothrow forms are in override_shared.c. */

typedef void (*new_handler)(void);

extern new_handler _ZSt15get_new_handlerv(void) __attribute__((weak)); /* std::get_new_handler */
_Noreturn extern void _ZSt17__throw_bad_allocv(void) __attribute__((weak));       /* libstdc++ */
_Noreturn extern void _ZNSt3__117__throw_bad_allocEv(void) __attribute__((weak)); /* libc++ */

/* Weak symbols are bound at start; a C++ runtime that came later, with a plug-in, is found by name. Only
 * the shared library can (override_shared.c). */
extern void *hak_late_symbol(const char *name) __attribute__((weak, visibility("hidden")));

static void *late_symbol(const char *name)
{
    return hak_late_symbol ? hak_late_symbol(name) : NULL;
}

_Noreturn static void throw_bad_alloc(void)
{
    if (_ZSt17__throw_bad_allocv)
        _ZSt17__throw_bad_allocv();
    if (_ZNSt3__117__throw_bad_allocEv)
        _ZNSt3__117__throw_bad_allocEv();
    void (*late)(void) = (void (*)(void))late_symbol("_ZSt17__throw_bad_allocv");
    if (late == NULL)
        late = (void (*)(void))late_symbol("_ZNSt3__117__throw_bad_allocEv");
    if (late)
        late();
    hak_fatal_pointer("operator new()", NULL,
                      "out of memory, and no C++ runtime to throw bad_alloc");
}

static new_handler handler_now(void)
{
    new_handler (*get)(void) = _ZSt15get_new_handlerv;

    if (get == NULL)
        get = (new_handler(*)(void))late_symbol("_ZSt15get_new_handlerv");
    return get ? get() : NULL;
}

/* Out of memory: asks the new-handler, which frees some, throws, or ends the process, as long as there
 * is one, and throws bad_alloc otherwise. C++ [new.delete.single]. */
static hak_cold void *new_again(size_t size, size_t align)
{
    for (;;) {
        new_handler handler = handler_now();
        if (handler == NULL)
            throw_bad_alloc();
        handler();
        void *block = aligned(align, size);
        if (block)
            return block;
    }
}

static hak_cold void *new_miss(size_t size)
{
    void *block = hak_malloc(size);

    return block ? block : new_again(size, 1);
}

#define CXX_NEW(name)                                                                              \
    void *name(size_t size);                                                                       \
    hak_export void *name(size_t size)                                                             \
    {                                                                                              \
        if (likely(size <= HAK_SMALL_MAX)) {                                                       \
            void *block = frontend_alloc(&hak_heap_mine->cache, hak_class_of(size));               \
            if (likely(block != NULL))                                                             \
                return block;                                                                      \
        }                                                                                          \
        return new_miss(size);                                                                     \
    }
#define CXX_NEW_ALIGNED(name)                                                                      \
    void *name(size_t size, size_t align);                                                         \
    hak_export void *name(size_t size, size_t align)                                               \
    {                                                                                              \
        void *block = aligned(align, size);                                                        \
        return likely(block != NULL) ? block : new_again(size, align);                             \
    }

CXX_NEW(_Znwm)                        /* new */
CXX_NEW(_Znam)                        /* new[] */
CXX_NEW_ALIGNED(_ZnwmSt11align_val_t) /* new (align_val_t) */
CXX_NEW_ALIGNED(_ZnamSt11align_val_t) /* new[] (align_val_t) */

/* delete, delete[]: plain, nothrow, sized, aligned, aligned nothrow, sized and aligned. Whatever else
 * they are given, ours need the block alone, and an alias that takes fewer arguments ignores the rest. */
void _ZdlPv(void *block) SAME_AS(hak_free);
void _ZdaPv(void *block) SAME_AS(hak_free);
void _ZdlPvRKSt9nothrow_t(void *block) SAME_AS(hak_free);
void _ZdaPvRKSt9nothrow_t(void *block) SAME_AS(hak_free);
void _ZdlPvm(void *block) SAME_AS(hak_free);
void _ZdaPvm(void *block) SAME_AS(hak_free);
void _ZdlPvSt11align_val_t(void *block) SAME_AS(hak_free);
void _ZdaPvSt11align_val_t(void *block) SAME_AS(hak_free);
void _ZdlPvSt11align_val_tRKSt9nothrow_t(void *block) SAME_AS(hak_free);
void _ZdaPvSt11align_val_tRKSt9nothrow_t(void *block) SAME_AS(hak_free);
void _ZdlPvmSt11align_val_t(void *block) SAME_AS(hak_free);
void _ZdaPvmSt11align_val_t(void *block) SAME_AS(hak_free);
