/* SPDX-License-Identifier: MIT */
/* What the compiler is told beyond C17: likely and unlikely paths, functions kept out of the hot
 * ones, and options of the configuration as constants that plain `if` can test. Hot headers are
 * included from C++ too. */
#ifndef HAK_COMPILER_H
#define HAK_COMPILER_H

#include "gen/autoconf.h"

#define likely(condition)   __builtin_expect(!!(condition), 1)
#define unlikely(condition) __builtin_expect(!!(condition), 0)

/* A rarely taken path: never inlined, and laid out away from the hot code, so that the function
 * that tail-calls it stays a leaf without a stack frame. */
#define hak_cold __attribute__((noinline, cold))

/* Visible outside the library. Everything else is hidden. */
#define hak_export __attribute__((visibility("default")))

/* Likewise, and gives way to the program's own definition where the two are linked into one file. The compiler
 * must not assume that a call by such a name ends up here. */
#define hak_replaceable __attribute__((weak, visibility("default")))

/* The function takes the place of its caller: what it calls sees the return address that the caller had. */
#if defined(__has_attribute) && __has_attribute(musttail)
#define hak_tail_call __attribute__((musttail))
#else
#define hak_tail_call /* what -O2 does anyway */
#endif

/* Computes a pointer here and keeps it in a register. A list head that is read through an indexed
 * operand is not forwarded from the store just before it; read through a plain register it is,
 * which halves the time of a malloc that follows a free. */
#define hak_pin(pointer)                                                                           \
    __extension__({                                                                                \
        __typeof__(pointer) pinned_ = (pointer);                                                   \
        __asm__("" : "+r"(pinned_));                                                               \
        pinned_;                                                                                   \
    })

/* 1 when a bool of the configuration is y, else 0: enabled(CONFIG_CACHE_ADAPTIVE). A bool that is n
 * is not defined at all; the trick is to see whether its expansion shifts the arguments. */
#define HAK_SECOND_(ignored, value, ...) value
#define HAK_SHIFT_1                      0,
#define HAK_ENABLED__(shift_or_junk)     HAK_SECOND_(shift_or_junk 1, 0, 0)
#define HAK_ENABLED_(value)              HAK_ENABLED__(HAK_SHIFT_##value)
#define enabled(option)                  HAK_ENABLED_(option)

#define HAK_CACHE_LINE 64

#define hak_container_of(member_pointer, type, member)                                             \
    ((type *)(void *)((char *)(member_pointer) - __builtin_offsetof(type, member)))

#endif
