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

#endif
