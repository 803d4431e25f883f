/* SPDX-License-Identifier: MIT */
#include "core/lock.h"

#include "core/atomic.h"
#include "core/kernel.h"
#include "core/syscall.h"

enum { FREE, TAKEN, CONTENDED };

/* Rounds of spinning before a thread sleeps: these locks are held for some hundred cycles. */
enum { SPINS = 100 };

/* The ranks that this thread holds, a bit each; kept in debug builds only. */
static _Thread_local uint32_t held_ranks;

/* `nested`: a lock of this rank is already held. */
static void lock_note_taken(const struct hak_lock *lock, unsigned nested)
{
    if (CONFIG_ASSERT_LEVEL < 1)
        return;
    hak_assert(held_ranks >> lock->rank >> nested == 0);
    held_ranks |= 1u << lock->rank;
}

static void lock_note_released(const struct hak_lock *lock)
{
    if (CONFIG_ASSERT_LEVEL >= 1)
        held_ranks &= ~(1u << lock->rank);
}

static bool lock_try(struct hak_lock *lock)
{
    uint32_t expected = FREE;

    return __atomic_compare_exchange_n(&lock->state, &expected, TAKEN, 0, __ATOMIC_ACQUIRE,
                                       __ATOMIC_RELAXED);
}

static void hak_cold lock_contended(struct hak_lock *lock)
{
    for (int spin = 0; spin < SPINS; spin++)
        if (atomic_load_relaxed(&lock->state) == FREE && lock_try(lock))
            return;
    while (atomic_exchange_acquire(&lock->state, CONTENDED) != FREE)
        kernel_futex_wait(&lock->state, CONTENDED, NULL);
}

/* The thread that forks (at most one, because it holds all locks), and the thread that ends the process. 0: none. */
static uintptr_t forker, dying;

/* Which of the two exist: the only word that a lock reads in the common case. */
enum { FORKING = 1, DYING = 2 };
static uint32_t exceptions;

static bool lock_is_me(const uintptr_t *thread)
{
    uintptr_t it = atomic_load_relaxed(thread);

    return it != 0 && it == hak_thread_pointer();
}

void hak_lock_forking(bool forking)
{
    atomic_store_relaxed(&forker, forking ? hak_thread_pointer() : 0);
    if (forking)
        __atomic_fetch_or(&exceptions, FORKING, __ATOMIC_RELAXED);
    else
        __atomic_fetch_and(&exceptions, ~(uint32_t)FORKING, __ATOMIC_RELAXED);
}

bool hak_lock_is_forking(void)
{
    return unlikely(atomic_load_relaxed(&exceptions) != 0) && lock_is_me(&forker);
}

void hak_lock_dying(void)
{
    atomic_store_relaxed(&dying, hak_thread_pointer());
    __atomic_fetch_or(&exceptions, DYING, __ATOMIC_RELAXED);
}

static hak_cold bool lock_is_exceptional(const struct hak_lock *lock)
{
    return lock_is_me(&forker) || (lock->rank <= HAK_RANK_INSIDE && lock_is_me(&dying));
}

/* Whether the calling thread ignores the lock. */
static inline bool lock_is_passed(const struct hak_lock *lock)
{
    return unlikely(atomic_load_relaxed(&exceptions) != 0) && lock_is_exceptional(lock);
}

static void lock_take(struct hak_lock *lock, unsigned nested)
{
    if (lock_is_passed(lock))
        return;
    if (unlikely(!lock_try(lock)))
        lock_contended(lock);
    lock_note_taken(lock, nested);
}

void hak_lock(struct hak_lock *lock)
{
    lock_take(lock, 0);
}

void hak_lock_nested(struct hak_lock *lock)
{
    lock_take(lock, 1);
}

bool hak_lock_try(struct hak_lock *lock)
{
    if (lock_is_passed(lock))
        return true;
    if (!lock_try(lock))
        return false;
    lock_note_taken(lock, 0);
    return true;
}

void hak_unlock(struct hak_lock *lock)
{
    if (lock_is_passed(lock))
        return;
    lock_note_released(lock);
    if (unlikely(__atomic_exchange_n(&lock->state, FREE, __ATOMIC_RELEASE) == CONTENDED))
        kernel_futex_wake(&lock->state, 1);
}

bool hak_lock_is_awaited(const struct hak_lock *lock)
{
    return atomic_load_relaxed(&lock->state) == CONTENDED;
}
