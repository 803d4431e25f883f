/* SPDX-License-Identifier: MIT */
/* Atomic access to plain objects, with the memory order in the name. Plain objects, because a word
 * that others may write is often read by its owner alone, and because C++ has no _Atomic. */
#ifndef HAK_ATOMIC_H
#define HAK_ATOMIC_H

#define atomic_load_relaxed(object)         __atomic_load_n((object), __ATOMIC_RELAXED)
#define atomic_load_acquire(object)         __atomic_load_n((object), __ATOMIC_ACQUIRE)
#define atomic_store_relaxed(object, value) __atomic_store_n((object), (value), __ATOMIC_RELAXED)
#define atomic_store_release(object, value) __atomic_store_n((object), (value), __ATOMIC_RELEASE)

#define atomic_exchange_acquire(object, value)                                                     \
    __atomic_exchange_n((object), (value), __ATOMIC_ACQUIRE)

/* Compare-and-swap; on failure *expected holds what was found, read relaxed. The weak forms may
 * fail for no reason and belong in a loop. */
#define atomic_cas_release(object, expected, desired)                                              \
    __atomic_compare_exchange_n((object), (expected), (desired), 1, __ATOMIC_RELEASE,              \
                                __ATOMIC_RELAXED)
#define atomic_cas_acq_rel(object, expected, desired)                                              \
    __atomic_compare_exchange_n((object), (expected), (desired), 1, __ATOMIC_ACQ_REL,              \
                                __ATOMIC_RELAXED)
#define atomic_cas_strong_acq_rel(object, expected, desired)                                       \
    __atomic_compare_exchange_n((object), (expected), (desired), 0, __ATOMIC_ACQ_REL,              \
                                __ATOMIC_RELAXED)

/* Orders the stores before it before those after it, as fork's snapshot of another thread sees them. */
#define atomic_fence_release() __atomic_thread_fence(__ATOMIC_RELEASE)

#define atomic_fence_acquire() __atomic_thread_fence(__ATOMIC_ACQUIRE)

/* Between the two, this thread reads objects that their owners may be changing, and allows for it: tells
 * ThreadSanitizer, which would report that. */
#if defined(__SANITIZE_THREAD__)
#define HAK_SANITIZES_THREADS 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define HAK_SANITIZES_THREADS 1
#endif
#endif

#ifdef HAK_SANITIZES_THREADS
#ifdef __cplusplus
extern "C" {
#endif
void AnnotateIgnoreReadsBegin(const char *file, int line);
void AnnotateIgnoreReadsEnd(const char *file, int line);
#ifdef __cplusplus
}
#endif
#define atomic_begin_racy_reads() AnnotateIgnoreReadsBegin(__FILE__, __LINE__)
#define atomic_end_racy_reads()   AnnotateIgnoreReadsEnd(__FILE__, __LINE__)
#else
#define atomic_begin_racy_reads() ((void)0)
#define atomic_end_racy_reads()   ((void)0)
#endif

#endif
