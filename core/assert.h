/* SPDX-License-Identifier: MIT */
/* Three levels of assertion, and the one way in which this library ends a process.
 *
 *   hak_check            always compiled: what would corrupt memory if the process went on
 *   hak_assert           CONFIG_ASSERT_LEVEL >= 1: what only a mistake of the library can break
 *   hak_assert_expensive CONFIG_ASSERT_LEVEL >= 2: walks structures
 *
 * A condition has no side effects, so that a level that is off changes nothing. */
#ifndef HAK_ASSERT_H
#define HAK_ASSERT_H

#include "core/compiler.h"

/* Writes one line to stderr with write(2), which names the call, the pointer, what is wrong with it
 * and the configuration, then aborts. Allocates nothing and takes no lock; the caller may be inside a heap, but
 * holds no lock of a higher rank. */
_Noreturn void hak_fatal_pointer(const char *call, const void *pointer, const char *what) hak_cold;

/* Likewise, for a broken invariant of our own. */
_Noreturn void hak_fatal_check(const char *condition, const char *file, int line) hak_cold;

#define hak_check(condition)                                                                       \
    (likely(condition) ? (void)0 : hak_fatal_check(#condition, __FILE__, __LINE__))
#define hak_assert(condition)                                                                      \
    (CONFIG_ASSERT_LEVEL < 1 || likely(condition)                                                  \
         ? (void)0                                                                                 \
         : hak_fatal_check(#condition, __FILE__, __LINE__))
#define hak_assert_expensive(condition)                                                            \
    (CONFIG_ASSERT_LEVEL < 2 || likely(condition)                                                  \
         ? (void)0                                                                                 \
         : hak_fatal_check(#condition, __FILE__, __LINE__))

#endif
