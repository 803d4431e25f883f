/* SPDX-License-Identifier: MIT */
/* The public functions, and the only place where the fast paths of the chosen front end and back end
 * become code.
 *
 *   malloc ─ size ≤ largest small? ─ class ─ frontend_alloc ─ hit ─► block
 *     │ no                              └─ miss ─► malloc_small_miss ─ frontend_refill ─ back end
 *     └─► malloc_large_alloc ─ back end
 *
 *   free ─ backend_lookup ─ small and mine? ─ frontend_free ─ room ─► done
 *            │ no                                └─ full ─► malloc_free_full ─ frontend_flush ─ back end
 *            └─► malloc_free_other: null, large, another heap's, foreign ─ backend_free
 *
 * A hit costs malloc two conditional branches (size, empty) and free three (window, tag, room). Both
 * are leaves: what is not a hit is tail-called. */
#include <hakmem/hakmem.h>
#include <hakmem/stats.h>

#include "core/atomic.h"
#include "core/foreign.h"
#include "core/fork.h"
#include "core/lock.h"
#include "core/malloc.h"
#include "core/os.h"
#include "core/purger.h"
#include "core/record.h"
#include "core/start.h"
#include "core/thread.h"
#include "core/trace.h"
#include "core/tuning.h"

#include <errno.h>
#include <string.h>

/* In this file, because every program links it: of an archive the linker takes only what is asked for. It sorts
 * constructors by the number at the end. */
static void (*const first_constructor)(void)
    __attribute__((used, section(".init_array.00000"))) = hak_start;

_Static_assert(sizeof(void *) == 8, "tags, packed chains and the window are made for 64 bits");

/* ── malloc ──────────────────────────────────────────────────────────────────────────────────── */

static void *malloc_out_of_memory(void)
{
    errno = ENOMEM;
    return NULL;
}

/* What happens outside of the hit paths: the trace gets the event, and the purge thread hears that there may be work, as
 * it does when a cold path of a heap ends. */
static inline void malloc_report(enum hak_event event, const void *pointer, size_t size)
{
    hak_trace(event, pointer, size);
    hak_purger_note();
}

/* The end of a cold path of malloc: the process may be large enough by now to need a purge thread. free does not ask, as
 * it is called where no thread can be made: by libc itself, under the locks of its stacks. */
static inline void malloc_leave_allocating(struct hak_heap *heap, enum hak_event event,
                                           const void *block, size_t size)
{
    hak_thread_leave(heap);
    malloc_report(event, block, size);
    hak_purger_want(heap);
}

/* Gives back what caches and shards hold, so that it can be had for any size. Returns whether some of it went back to
 * the operating system. */
static bool malloc_give_back(struct hak_heap *heap)
{
    malloc_report(HAK_EVENT_TRIM, heap, 0);
    frontend_empty(&heap->cache, &heap->shard);
    store_empty(&heap->shard);
    return backend_trim(&heap->shard);
}

/* A function of its own, so that malloc_small_miss need not save what only this uses. */
static hak_cold void *malloc_small_last_try(hak_class cls)
{
    struct hak_heap *heap = hak_thread_enter();
    void *block;

    if (heap == NULL)
        return malloc_out_of_memory();
    malloc_give_back(heap);
    block = frontend_refill(&heap->cache, &heap->shard, cls);
    malloc_leave_allocating(heap, HAK_EVENT_LAST_TRY, block, hak_class_size(cls));
    return block ? block : malloc_out_of_memory();
}

static hak_cold void *malloc_small_miss(hak_class cls)
{
    struct hak_heap *heap = hak_thread_enter();
    void *block;

    if (heap == NULL)
        return malloc_out_of_memory();
    /* Attaching may have allocated, so that the cache may have what is wanted by now. */
    block = frontend_alloc(&heap->cache, cls);
    if (block == NULL)
        block = frontend_refill(&heap->cache, &heap->shard, cls);
    malloc_leave_allocating(heap, HAK_EVENT_REFILL, block, hak_class_size(cls));
    return likely(block != NULL) ? block : malloc_small_last_try(cls);
}

static inline void *malloc_small_alloc(hak_class cls)
{
    void *block = frontend_alloc(&hak_heap_mine->cache, cls);

    hak_trace_hit(HAK_EVENT_MALLOC, block);
    return likely(block != NULL) ? block : malloc_small_miss(cls);
}

/* Whether so much could be had if nothing else were: else all is left as it is, and the refusal is a quick one. */
static bool malloc_giving_back_may_help(size_t size)
{
    size_t had = backend_footprint();

    return size <= had || os_can_map(size - had);
}

static hak_cold void *malloc_large_alloc(size_t size, size_t align, bool *zeroed)
{
    struct hak_heap *heap;
    struct hak_large large;

    if (align > PTRDIFF_MAX || size > PTRDIFF_MAX - align)
        return malloc_out_of_memory();
    heap = hak_thread_enter();
    if (heap == NULL) {
        large = backend_large_alloc(NULL, size, align);
        malloc_report(HAK_EVENT_LARGE, large.base, size);
    } else {
        large = backend_large_alloc(&heap->shard, size, align);
        if (unlikely(large.base == NULL) && malloc_giving_back_may_help(size)) {
            malloc_give_back(heap);
            large = backend_large_alloc(&heap->shard, size, align);
        }
        malloc_leave_allocating(heap, HAK_EVENT_LARGE, large.base, size);
    }
    *zeroed = large.zeroed;
    return large.base ? large.base : malloc_out_of_memory();
}

static hak_cold void *malloc_large_malloc(size_t size)
{
    bool zeroed;

    return malloc_large_alloc(size, 1, &zeroed);
}

hak_export void *hak_malloc(size_t size)
{
    if (likely(size <= HAK_SMALL_MAX))
        return hak_record_malloc(malloc_small_alloc(hak_class_of(size)), size);
    return hak_record_malloc(malloc_large_malloc(size), size);
}

hak_export void *hak_calloc(size_t count, size_t size)
{
    size_t bytes;
    bool zeroed = false;
    void *block;

    if (unlikely(__builtin_mul_overflow(count, size, &bytes)))
        return malloc_out_of_memory();
    if (likely(bytes <= HAK_SMALL_MAX))
        block = malloc_small_alloc(hak_class_of(bytes));
    else
        block = malloc_large_alloc(bytes, 1, &zeroed);
    hak_record_calloc(block, bytes);
    return block && !zeroed ? memset(block, 0, bytes) : block;
}

/* pre: align is a power of two */
static void *malloc_aligned(size_t align, size_t size)
{
    hak_class cls = hak_class_of_aligned(size, align);
    bool zeroed;

    void *block = cls < HAK_CLASS_END ? malloc_small_alloc(cls)
                                      : malloc_large_alloc(size ? size : 1, align, &zeroed);
    return hak_record_aligned(block, size, align);
}

static bool malloc_is_power_of_two(size_t number)
{
    return number && (number & (number - 1)) == 0;
}

hak_export void *hak_aligned_alloc(size_t alignment, size_t size)
{
    if (malloc_is_power_of_two(alignment))
        return malloc_aligned(alignment, size);
    errno = EINVAL;
    return NULL;
}

hak_export void *hak_memalign(size_t alignment, size_t size)
{
    size_t power = 1;

    while (power < alignment && power)
        power *= 2;
    return hak_aligned_alloc(power, size);
}

hak_export int hak_posix_memalign(void **block, size_t alignment, size_t size)
{
    int saved = errno;

    if (!malloc_is_power_of_two(alignment) || alignment % sizeof(void *) != 0)
        return EINVAL;
    void *allocated = malloc_aligned(alignment, size);
    errno = saved;
    if (allocated == NULL)
        return ENOMEM;
    *block = allocated;
    return 0;
}

hak_export void *hak_valloc(size_t size)
{
    return malloc_aligned(os_page_size(), size);
}

hak_export void *hak_pvalloc(size_t size)
{
    size_t page = os_page_size();

    if (size > PTRDIFF_MAX - page)
        return malloc_out_of_memory();
    size = (size + page - 1) & ~(page - 1);
    return malloc_aligned(page, size ? size : page);
}

/* ── free ────────────────────────────────────────────────────────────────────────────────────── */

static hak_cold void malloc_free_full(void *block, hak_class cls)
{
    struct hak_heap *heap = hak_heap_mine;

    malloc_report(HAK_EVENT_FLUSH, block, hak_class_size(cls));
    hak_heap_enter(heap);
    frontend_flush(&heap->cache, &heap->shard, cls, block);
    hak_thread_leave(heap);
}

static hak_cold void malloc_free_other(void *block)
{
    struct hak_heap *heap = hak_heap_mine;

    if (block == NULL)
        return;
    /* Before the back end looks at the pointer: it may stop the process, and print the trace. */
    malloc_report(HAK_EVENT_FREE_OTHER, block, 0);
    if (unlikely(hak_foreign(block))) {
        hak_foreign_free(block);
        return;
    }
    if (unlikely(hak_heap_is_empty(heap)))
        heap = hak_thread_enter_to_free();
    else
        hak_heap_enter(heap);
    backend_free(likely(heap != NULL) ? &heap->shard : NULL, block, "free()");
    if (likely(heap != NULL))
        hak_thread_leave(heap);
    else
        hak_purger_note();
}

hak_export void hak_free(void *block)
{
    struct hak_heap *heap = hak_heap_mine;
    hak_class cls = backend_lookup(&heap->shard, block);

    hak_record_free(block);
    hak_trace_hit(HAK_EVENT_FREE, block);
    if (likely(cls < HAK_CLASS_END)) {
        if (likely(frontend_free(&heap->cache, cls, block)))
            return;
        malloc_free_full(block, cls);
    } else {
        malloc_free_other(block);
    }
}

void hak_free_miss(void *block, hak_class cls)
{
    if (cls < HAK_CLASS_END) {
        malloc_free_full(block, cls); /* noted by the caller already */
    } else {
        hak_record_free(block);
        malloc_free_other(block);
    }
}

hak_export void hak_free_sized(void *block, size_t size)
{
    (void)size;
    hak_free(block);
}

hak_export void hak_free_aligned_sized(void *block, size_t alignment, size_t size)
{
    (void)alignment;
    (void)size;
    hak_free(block);
}

/* ── realloc ─────────────────────────────────────────────────────────────────────────────────── */

/* Moves what a block has into a new one, and frees it. */
static inline void *malloc_copied(void *moved, void *block, size_t usable, size_t size)
{
    malloc_report(HAK_EVENT_COPY, block, size);
    memcpy(moved, block, usable < size ? usable : size);
    hak_free(block);
    return moved;
}

static void *malloc_move_by_copy(void *block, size_t usable, size_t size)
{
    void *moved = hak_malloc(size);

    return moved ? malloc_copied(moved, block, usable, size) : NULL;
}

/* A large block that stays large: where it is, or moved by its pages, or copied. */
static void *malloc_large_realloc(void *block, size_t usable, size_t size)
{
    void *moved;

    if (size > PTRDIFF_MAX)
        return malloc_out_of_memory();
    if (backend_resize(block, size)) {
        malloc_report(HAK_EVENT_RESIZE, block, size);
        return block;
    }
    moved = size > usable ? backend_move(block, size) : NULL;
    if (moved == NULL)
        return malloc_move_by_copy(block, usable, size);
    malloc_report(HAK_EVENT_MOVE, moved, size);
    return moved;
}

/* A block that is freed, or is large, or becomes so. Not cold: what is cold is made small, memcpy too. */
static __attribute__((noinline)) void *malloc_realloc_across(void *block, size_t usable,
                                                             size_t size)
{
    if (size == 0) {
        hak_free(block);
        return NULL;
    }
    if (usable > HAK_SMALL_MAX && size > HAK_SMALL_MAX)
        return malloc_large_realloc(block, usable, size);
    return malloc_move_by_copy(block, usable, size);
}

/* Whether a small block is as good as one of class `cls` for `size` bytes: it keeps its place unless half of it would be
 * wasted. */
static inline bool malloc_stays(size_t usable, size_t size, hak_class cls)
{
    return size <= usable && (size >= usable / 2 || hak_class_size(cls) == usable);
}

/* A function of its own, so that hak_realloc saves no registers where it is malloc. */
static __attribute__((noinline)) void *malloc_resized(void *block, size_t size)
{
    if (hak_foreign(block))
        return hak_foreign_realloc(block, size);
    size_t usable = backend_usable_size(block, "realloc()");
    void *moved;
    if (likely(usable <= HAK_SMALL_MAX && size - 1 < HAK_SMALL_MAX)) {
        hak_class cls = hak_class_of(size);
        if (malloc_stays(usable, size, cls))
            return block;
        moved = malloc_small_alloc(cls);
        if (likely(moved != NULL))
            return malloc_copied(moved, block, usable, size);
    } else {
        moved = malloc_realloc_across(block, usable, size);
    }
    /* A block that need not grow is large enough as it is, if there is no memory for a smaller one. */
    return moved == NULL && 0 < size && size <= usable ? block : moved;
}

hak_export void *hak_realloc(void *block, size_t size)
{
    const void *frame = hak_record_give(block);

    /* Interpreters have one function for all that they allocate. */
    if (block == NULL)
        return hak_record_take(frame, block, hak_malloc(size), size);
    return hak_record_take(frame, block, malloc_resized(block, size), size);
}

hak_export void *hak_reallocarray(void *block, size_t count, size_t size)
{
    size_t bytes;

    if (unlikely(__builtin_mul_overflow(count, size, &bytes)))
        return malloc_out_of_memory();
    return hak_realloc(block, bytes);
}

/* ── the rest ────────────────────────────────────────────────────────────────────────────────── */

hak_export size_t hak_malloc_usable_size(void *block)
{
    if (block == NULL)
        return 0;
    if (hak_foreign(block))
        return hak_foreign_usable_size(block);
    return backend_usable_size(block, "malloc_usable_size()");
}

hak_export int hak_malloc_trim(size_t pad)
{
    struct hak_heap *heap = hak_thread_enter();
    bool trimmed;

    (void)pad;
    if (heap == NULL)
        return 0;
    trimmed = malloc_give_back(heap);
    hak_thread_leave(heap);
    return trimmed;
}

hak_export bool hak_purge(void)
{
    return hak_malloc_trim(0) != 0;
}

void hak_dirty_max_set(size_t bytes)
{
    bool lowered = bytes < atomic_load_relaxed(&hak_dirty_max);
    struct hak_heap *heap;
    bool stops = !hak_lock_is_forking();

    /* Attaches a heap, which may call others' functions, and does most of the work without the locks. */
    if (lowered)
        hak_malloc_trim(0);
    heap = hak_heap_mine;
    if (stops)
        hak_lock_all();
    /* Racks are filled without a lock, so the bound comes first: what is put there from now on keeps to it. */
    atomic_store_relaxed(&hak_dirty_max, bytes);
    if (lowered && !hak_heap_is_empty(heap)) {
        hak_heap_enter(heap);
        malloc_give_back(heap);
        hak_thread_leave(heap);
    }
    if (stops)
        hak_unlock_all();
}
