/* SPDX-License-Identifier: MIT */
/* libhakmem-record.so: records what a program asks of whatever malloc it has. It is preloaded before that malloc
 * and hands each call on to the next one of the same name.
 *
 *   HAKMEM_RECORD=FOLDER LD_PRELOAD=libhakmem-record.so[:libhakmem.so] program
 *
 * An operator new that calls malloc (libstdc++'s) comes by twice: what has been noted inside of a call is not noted
 * again. Until dlsym has found the next functions, which may itself allocate, blocks come from a small area of
 * this library's, are never noted, and freeing them does nothing. */
#include "core/record.c"

#include <dlfcn.h>
#include <malloc.h>

#define NEXT(type, name, ...) type (*name)(__VA_ARGS__)

/* The next functions of each name; those of C++ and C23 may be missing. */
static struct {
    NEXT(void *, malloc, size_t);
    NEXT(void *, calloc, size_t, size_t);
    NEXT(void *, realloc, void *, size_t);
    NEXT(void *, reallocarray, void *, size_t, size_t);
    NEXT(void, free, void *);
    NEXT(void, free_sized, void *, size_t);
    NEXT(void, free_aligned_sized, void *, size_t, size_t);
    NEXT(void *, aligned_alloc, size_t, size_t);
    NEXT(void *, memalign, size_t, size_t);
    NEXT(int, posix_memalign, void **, size_t, size_t);
    NEXT(void *, valloc, size_t);
    NEXT(void *, pvalloc, size_t);
    NEXT(size_t, malloc_usable_size, void *);
    NEXT(void *, _Znwm, size_t);
    NEXT(void *, _Znam, size_t);
    NEXT(void *, _ZnwmRKSt9nothrow_t, size_t, const void *);
    NEXT(void *, _ZnamRKSt9nothrow_t, size_t, const void *);
    NEXT(void *, _ZnwmSt11align_val_t, size_t, size_t);
    NEXT(void *, _ZnamSt11align_val_t, size_t, size_t);
    NEXT(void *, _ZnwmSt11align_val_tRKSt9nothrow_t, size_t, size_t, const void *);
    NEXT(void *, _ZnamSt11align_val_tRKSt9nothrow_t, size_t, size_t, const void *);
    NEXT(void, _ZdlPv, void *);
    NEXT(void, _ZdaPv, void *);
    NEXT(void, _ZdlPvRKSt9nothrow_t, void *, const void *);
    NEXT(void, _ZdaPvRKSt9nothrow_t, void *, const void *);
    NEXT(void, _ZdlPvm, void *, size_t);
    NEXT(void, _ZdaPvm, void *, size_t);
    NEXT(void, _ZdlPvSt11align_val_t, void *, size_t);
    NEXT(void, _ZdaPvSt11align_val_t, void *, size_t);
    NEXT(void, _ZdlPvSt11align_val_tRKSt9nothrow_t, void *, size_t, const void *);
    NEXT(void, _ZdaPvSt11align_val_tRKSt9nothrow_t, void *, size_t, const void *);
    NEXT(void, _ZdlPvmSt11align_val_t, void *, size_t, size_t);
    NEXT(void, _ZdaPvmSt11align_val_t, void *, size_t, size_t);
} next;

static char area[64 << 10] __attribute__((aligned(64)));
static size_t area_used;
static bool is_resolving;

static bool is_early(const void *block)
{
    return (uintptr_t)block - (uintptr_t)area < sizeof area;
}

/* Zeroed, with its size before it. NULL when the area is used up. */
static void *early(size_t align, size_t size)
{
    size_t place = (area_used + 16 + align - 1) & ~(align - 1);

    if (place > sizeof area || size > sizeof area - place)
        return NULL;
    area_used = place + size;
    memcpy(area + place - 8, &size, 8);
    return area + place;
}

static size_t early_size(const void *block)
{
    size_t size;

    memcpy(&size, (const char *)block - 8, sizeof size);
    return size;
}

/* By name, also in a C++ runtime that came late, with a plug-in, and is nowhere to be seen for RTLD_NEXT. */
static hak_cold void *find(const char *name)
{
    static const char *const runtimes[] = {"libstdc++.so.6", "libc++.so.1"};
    int was = inside, saved = errno;

    inside = IN_LIBC;
    void *found = dlsym(RTLD_NEXT, name);
    for (int i = 0; i < 2 && found == NULL && name[0] == '_' && name[1] == 'Z'; i++) {
        void *runtime = dlopen(runtimes[i], RTLD_NOLOAD | RTLD_LAZY);
        if (runtime) {
            found = dlsym(runtime, name);
            dlclose(runtime); /* it stays loaded: the caller uses it */
        }
    }
    inside = was;
    errno = saved;
    return found;
}

#define FIND(name) (next.name = (__typeof__(next.name))find(#name))

static hak_cold void resolve(void)
{
    is_resolving = true;
    FIND(calloc);
    FIND(realloc);
    FIND(reallocarray);
    FIND(free);
    FIND(aligned_alloc);
    FIND(memalign);
    FIND(posix_memalign);
    FIND(valloc);
    FIND(pvalloc);
    FIND(malloc_usable_size);
    FIND(free_sized);
    FIND(free_aligned_sized);
    FIND(malloc);
    is_resolving = false;
    if (next.malloc == NULL || next.free == NULL) {
        static const char said[] = "hakmem: record: no malloc behind libhakmem-record.so\n";
        record_to_stderr(said, sizeof said - 1, NULL);
        abort();
    }
}

/* Whether the next functions are known; false while they are looked for. */
static inline bool is_ready(void)
{
    if (likely(next.malloc != NULL))
        return true;
    if (!is_resolving)
        resolve();
    return next.malloc != NULL;
}

/* For libhakmem.so with CONFIG_RECORD: one of the two records. */
extern const char hak_record_is_preloaded[];
hak_export const char hak_record_is_preloaded[] = "";

__attribute__((constructor(101))) static void begin(void)
{
    if (!is_ready() || (getenv("HAKMEM_RECORD") ? *getenv("HAKMEM_RECORD") : 0) ||
        getauxval(AT_SECURE))
        return;
    static const char said[] =
        "hakmem: record: HAKMEM_RECORD names no folder: nothing is recorded\n";
    record_to_stderr(said, sizeof said - 1, NULL);
}

/* ── C ───────────────────────────────────────────────────────────────────────────────────────── */

hak_export void *malloc(size_t size)
{
    if (unlikely(!is_ready()))
        return early(16, size);
    void *block = next.malloc(size);
    hak_record_write_malloc(block, size);
    return block;
}

hak_export void free(void *block)
{
    if (unlikely(is_early(block)))
        return;
    hak_record_write_free(block);
    if (likely(is_ready()))
        next.free(block);
}

hak_export void *calloc(size_t count, size_t size)
{
    size_t bytes;

    if (unlikely(__builtin_mul_overflow(count, size, &bytes)))
        bytes = SIZE_MAX;
    if (unlikely(!is_ready()))
        return early(16, bytes);
    uint64_t before = hak_record_count();
    void *block = next.calloc(count, size);
    hak_record_write_once(HAK_RECORD_CALLOC, block, bytes, 1, before);
    return block;
}

static void *move_early(void *block, size_t size)
{
    void *moved = malloc(size);

    if (moved)
        memcpy(moved, block, early_size(block) < size ? early_size(block) : size);
    return moved;
}

hak_export void *realloc(void *block, size_t size)
{
    if (unlikely(!is_ready()) || is_early(block))
        return block ? move_early(block, size) : malloc(size);
    const void *frame = hak_record_write_give(block);
    void *moved = next.realloc(block, size);
    hak_record_write_take(frame, block, moved, size);
    return moved;
}

hak_export void *reallocarray(void *block, size_t count, size_t size)
{
    size_t bytes;

    if (__builtin_mul_overflow(count, size, &bytes)) {
        errno = ENOMEM;
        return NULL;
    }
    return realloc(block, bytes);
}

hak_export void free_sized(void *block, size_t size)
{
    (void)size;
    free(block);
}

hak_export void free_aligned_sized(void *block, size_t alignment, size_t size)
{
    (void)alignment;
    (void)size;
    free(block);
}

static size_t page_size(void)
{
    return getauxval(AT_PAGESZ);
}

#define ALIGNED(name, parameters, call, align, size)                                               \
    hak_export void *name parameters                                                               \
    {                                                                                              \
        if (unlikely(!is_ready()))                                                                 \
            return early(align, size);                                                             \
        uint64_t before = hak_record_count();                                                      \
        void *block = next.name call;                                                              \
        hak_record_write_once(HAK_RECORD_ALIGNED, block, size, align, before);                     \
        return block;                                                                              \
    }

ALIGNED(aligned_alloc, (size_t alignment, size_t size), (alignment, size), alignment, size)
ALIGNED(memalign, (size_t alignment, size_t size), (alignment, size), alignment, size)
ALIGNED(valloc, (size_t size), (size), page_size(), size)
ALIGNED(pvalloc, (size_t size), (size), page_size(), (size + page_size() - 1) & ~(page_size() - 1))

hak_export int posix_memalign(void **block, size_t alignment, size_t size)
{
    if (unlikely(!is_ready()))
        return (*block = early(alignment, size)) ? 0 : ENOMEM;
    uint64_t before = hak_record_count();
    int error = next.posix_memalign(block, alignment, size);
    if (error != EINVAL)
        hak_record_write_once(HAK_RECORD_ALIGNED, error ? NULL : *block, size, alignment, before);
    return error;
}

hak_export size_t malloc_usable_size(void *block)
{
    if (unlikely(is_early(block)))
        return early_size(block);
    return is_ready() && next.malloc_usable_size ? next.malloc_usable_size(block) : 0;
}

/* ── C++ ─────────────────────────────────────────────────────────────────────────────────────────
 * Under their mangled names (Itanium C++ ABI, size_t = m). A program that has its own comes first and is never
 * here; the other forms of a C++ runtime call it. */

#define CXX(name)                                                                                  \
    (likely(next.name != NULL) ? next.name                                                         \
                               : (__typeof__(next.name))missing(#name, (void **)&next.name))

static hak_cold void *missing(const char *name, void **place)
{
    static const char said[] = "hakmem: record: operator new or delete without a C++ runtime\n";

    (void)is_ready();
    if ((*place = find(name)) == NULL) {
        record_to_stderr(said, sizeof said - 1, NULL);
        abort();
    }
    return *place;
}

#define CXX_NEW(name, operation, align, parameters, ...)                                           \
    void *name parameters;                                                                         \
    hak_export void *name parameters                                                               \
    {                                                                                              \
        __typeof__(next.name) call = CXX(name);                                                    \
        uint64_t before = hak_record_count();                                                      \
        void *block = call(__VA_ARGS__);                                                           \
        hak_record_write_once(operation, block, size, align, before);                              \
        return block;                                                                              \
    }
#define CXX_DELETE(name, parameters, ...)                                                          \
    void name parameters;                                                                          \
    hak_export void name parameters                                                                \
    {                                                                                              \
        __typeof__(next.name) call = CXX(name);                                                    \
        const void *outer = hak_record_write_gone(block);                                          \
        call(__VA_ARGS__);                                                                         \
        hak_record_after(outer);                                                                   \
    }

CXX_NEW(_Znwm, HAK_RECORD_MALLOC, 1, (size_t size), size)
CXX_NEW(_Znam, HAK_RECORD_MALLOC, 1, (size_t size), size)
CXX_NEW(_ZnwmRKSt9nothrow_t, HAK_RECORD_MALLOC, 1, (size_t size, const void *tag), size, tag)
CXX_NEW(_ZnamRKSt9nothrow_t, HAK_RECORD_MALLOC, 1, (size_t size, const void *tag), size, tag)
CXX_NEW(_ZnwmSt11align_val_t, HAK_RECORD_ALIGNED, align, (size_t size, size_t align), size, align)
CXX_NEW(_ZnamSt11align_val_t, HAK_RECORD_ALIGNED, align, (size_t size, size_t align), size, align)
CXX_NEW(_ZnwmSt11align_val_tRKSt9nothrow_t, HAK_RECORD_ALIGNED, align,
        (size_t size, size_t align, const void *tag), size, align, tag)
CXX_NEW(_ZnamSt11align_val_tRKSt9nothrow_t, HAK_RECORD_ALIGNED, align,
        (size_t size, size_t align, const void *tag), size, align, tag)
CXX_DELETE(_ZdlPv, (void *block), block)
CXX_DELETE(_ZdaPv, (void *block), block)
CXX_DELETE(_ZdlPvRKSt9nothrow_t, (void *block, const void *tag), block, tag)
CXX_DELETE(_ZdaPvRKSt9nothrow_t, (void *block, const void *tag), block, tag)
CXX_DELETE(_ZdlPvm, (void *block, size_t size), block, size)
CXX_DELETE(_ZdaPvm, (void *block, size_t size), block, size)
CXX_DELETE(_ZdlPvSt11align_val_t, (void *block, size_t align), block, align)
CXX_DELETE(_ZdaPvSt11align_val_t, (void *block, size_t align), block, align)
CXX_DELETE(_ZdlPvSt11align_val_tRKSt9nothrow_t, (void *block, size_t align, const void *tag), block,
           align, tag)
CXX_DELETE(_ZdaPvSt11align_val_tRKSt9nothrow_t, (void *block, size_t align, const void *tag), block,
           align, tag)
CXX_DELETE(_ZdlPvmSt11align_val_t, (void *block, size_t size, size_t align), block, size, align)
CXX_DELETE(_ZdaPvmSt11align_val_t, (void *block, size_t size, size_t align), block, size, align)
