/* SPDX-License-Identifier: MIT */
/* C++'s operators new and delete, under their mangled names (Itanium C++ ABI, size_t = m), so that no C++ compiler is
 * needed: the operators that programs call all the time, and aligned new, because libstdc++'s returns a small block for a
 * size near SIZE_MAX. The other operators (nothrow, the rest of the aligned ones) are the C++ runtime's, which call these
 * and free.
 *
 * The standard lets a program replace each of them, and an operator that it has not replaced must call the one it has:
 *
 *   new[] ──► new ──► malloc             delete[](sized) ──► delete[] ──┐
 *   new(aligned) ──► aligned_alloc       delete(sized) ─────────────────┴─► delete ──► free
 *
 * Each arrow is a call by name, which the linker or the dynamic linker resolves to the program's function. If all the
 * names that follow are the library's own, as in nearly all programs, a hit takes a shortcut past them and costs the
 * same as malloc and free. The shortcut is the bound that each operator compares with: 0 disables it. */
#include <stdlib.h>

#include <hakmem/hakmem.h>

#include "core/assert.h"
#include "core/malloc.h"
#include "core/record.h"
#include "core/trace.h"

void *_Znwm(size_t size);
void *_Znam(size_t size);
void *_ZnwmSt11align_val_t(size_t size, size_t align);
void _ZdlPv(void *block);
void _ZdaPv(void *block);
void _ZdlPvm(void *block);
void _ZdaPvm(void *block);

/* invariant: new: 0 or HAK_SMALL_MAX + 1; delete: 0 or HAK_CLASS_END
 * written before main only */
static struct {
    size_t new;
    size_t new_array;
    hak_class delete;
    hak_class delete_derived;     /* sized delete, delete[] */
    hak_class delete_array_sized; /* sized delete[] */
} shortcut;

/* ── new ─────────────────────────────────────────────────────────────────────────────────────── */

typedef void (*new_handler)(void);

extern new_handler _ZSt15get_new_handlerv(void) __attribute__((weak)); /* std::get_new_handler */
_Noreturn extern void _ZSt17__throw_bad_allocv(void) __attribute__((weak));       /* libstdc++ */
_Noreturn extern void _ZNSt3__117__throw_bad_allocEv(void) __attribute__((weak)); /* libc++ */

/* Weak symbols are bound at start; a C++ runtime that is loaded later, with a plug-in, is found by name. Only the
 * shared library can do that (override_shared.c). */
extern void *hak_late_symbol(const char *name) __attribute__((weak, visibility("hidden")));

static void *cxx_late_symbol(const char *name)
{
    return hak_late_symbol ? hak_late_symbol(name) : NULL;
}

_Noreturn static void cxx_throw_bad_alloc(void)
{
    if (_ZSt17__throw_bad_allocv)
        _ZSt17__throw_bad_allocv();
    if (_ZNSt3__117__throw_bad_allocEv)
        _ZNSt3__117__throw_bad_allocEv();
    void (*late)(void) = (void (*)(void))cxx_late_symbol("_ZSt17__throw_bad_allocv");
    if (late == NULL)
        late = (void (*)(void))cxx_late_symbol("_ZNSt3__117__throw_bad_allocEv");
    if (late)
        late();
    hak_fatal_pointer("operator new()", NULL,
                      "out of memory, and no C++ runtime to throw bad_alloc");
}

static new_handler cxx_handler_now(void)
{
    new_handler (*get)(void) = _ZSt15get_new_handlerv;

    if (get == NULL)
        get = (new_handler(*)(void))cxx_late_symbol("_ZSt15get_new_handlerv");
    return get ? get() : NULL;
}

/* Out of memory: calls the new-handler, which frees memory, throws, or ends the process; throws bad_alloc if there is no
 * handler. C++ [new.delete.single]. */
static hak_cold void cxx_ask_handler(void)
{
    new_handler handler = cxx_handler_now();

    if (handler == NULL)
        cxx_throw_bad_alloc();
    handler();
}

/* A program's own malloc may return NULL for 0 bytes. */
static hak_cold void *cxx_new_miss(size_t size)
{
    for (;;) {
        void *block = malloc(size ? size : 1);
        if (block)
            return block;
        cxx_ask_handler();
    }
}

static hak_cold void *cxx_new_array_miss(size_t size)
{
    return shortcut.new_array ? cxx_new_miss(size) : _Znwm(size);
}

static inline void *cxx_hit_or(size_t size, size_t below, void *(*miss)(size_t size))
{
    if (likely(size < below)) {
        void *block = frontend_alloc(&hak_heap_mine->cache, hak_class_of(size));
        hak_trace_hit(HAK_EVENT_MALLOC, block);
        if (likely(block != NULL))
            return hak_record_malloc(block, size);
    }
    return miss(size);
}

static void *cxx_new_own(size_t size)
{
    return cxx_hit_or(size, shortcut.new, cxx_new_miss);
}

static void *cxx_new_array(size_t size)
{
    return cxx_hit_or(size, shortcut.new_array, cxx_new_array_miss);
}

/* A program's own aligned_alloc may be as strict as C11: the size must be a multiple of the alignment. */
static void *cxx_new_aligned(size_t size, size_t align)
{
    if (align < sizeof(void *))
        align = sizeof(void *);
    for (;;) {
        size_t rounded = ((size ? size : 1) + align - 1) & ~(align - 1);
        void *block = rounded >= size ? aligned_alloc(align, rounded) : NULL;
        if (likely(block != NULL))
            return block;
        cxx_ask_handler();
    }
}

/* ── delete ──────────────────────────────────────────────────────────────────────────────────── */

static hak_cold void cxx_delete_miss(void *block, hak_class cls)
{
    if (likely(shortcut.delete > 0))
        hak_free_miss(block, cls);
    else
        free(block);
}

static hak_cold void cxx_delete_derived_miss(void *block, hak_class cls)
{
    if (likely(shortcut.delete_derived > 0))
        hak_free_miss(block, cls);
    else
        _ZdlPv(block);
}

static hak_cold void cxx_delete_array_sized_miss(void *block, hak_class cls)
{
    if (likely(shortcut.delete_array_sized > 0))
        hak_free_miss(block, cls);
    else
        _ZdaPv(block);
}

static inline void cxx_freed_or(void *block, const hak_class *below,
                                void (*miss)(void *block, hak_class cls))
{
    struct hak_heap *heap = hak_heap_mine;
    hak_class cls = backend_lookup(&heap->shard, block);

    hak_trace_hit(HAK_EVENT_FREE, block);
    if (likely(cls < *below)) {
        hak_record_free(block);
        if (likely(frontend_free(&heap->cache, cls, block)))
            return;
    }
    miss(block, cls);
}

static void cxx_delete_own(void *block)
{
    cxx_freed_or(block, &shortcut.delete, cxx_delete_miss);
}

static void cxx_delete_derived(void *block)
{
    cxx_freed_or(block, &shortcut.delete_derived, cxx_delete_derived_miss);
}

static void cxx_delete_array_sized(void *block)
{
    cxx_freed_or(block, &shortcut.delete_array_sized, cxx_delete_array_sized_miss);
}

/* ── the names ───────────────────────────────────────────────────────────────────────────────── */

#define SAME_AS(function) __attribute__((weak, alias(#function), visibility("default")))

void *_Znwm(size_t size) SAME_AS(cxx_new_own);
void *_Znam(size_t size) SAME_AS(cxx_new_array);
void *_ZnwmSt11align_val_t(size_t size, size_t align) SAME_AS(cxx_new_aligned);

/* An alias that takes fewer arguments than it is given ignores the size. */
void _ZdlPv(void *block) SAME_AS(cxx_delete_own);
void _ZdaPv(void *block) SAME_AS(cxx_delete_derived);
void _ZdlPvm(void *block) SAME_AS(cxx_delete_derived);
void _ZdaPvm(void *block) SAME_AS(cxx_delete_array_sized);

/* Pinned: the compiler would otherwise decide the comparison of two names of one file at compile time. */
#define LEADS_TO(name, function) (hak_pin(&(name)) == (__typeof__(&(name)))(function))

/* If an executable that is not position-independent takes the address of one of these functions, the address is that of
 * a PLT stub in the executable: then there is no shortcut, and everything else works. */
__attribute__((constructor)) static void cxx_take_shortcuts(void)
{
    bool allocates = LEADS_TO(malloc, hak_malloc);
    bool frees = LEADS_TO(free, hak_free);
    bool deletes = frees && LEADS_TO(_ZdlPv, cxx_delete_own);

    shortcut.new = allocates ? HAK_SMALL_MAX + 1 : 0;
    shortcut.new_array = allocates && LEADS_TO(_Znwm, cxx_new_own) ? HAK_SMALL_MAX + 1 : 0;
    shortcut.delete = frees ? HAK_CLASS_END : 0;
    shortcut.delete_derived = deletes ? HAK_CLASS_END : 0;
    shortcut.delete_array_sized =
        deletes && LEADS_TO(_ZdaPv, cxx_delete_derived) ? HAK_CLASS_END : 0;
}
