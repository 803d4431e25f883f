/* SPDX-License-Identifier: MIT */
/* The words of this project, as types; core/README.md has the glossary. */
#ifndef HAK_TYPES_H
#define HAK_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/assert.h"

/* A size class, scaled (size_class.h). As wide as an address, so that using it as an offset costs no
 * extension. */
typedef size_t hak_class;

/* A free block: its first word links to the next one of a list. What the program stored there was of
 * any type, and must not be taken for unrelated to the link where the whole is optimised together. */
struct __attribute__((may_alias)) hak_block {
    struct hak_block *next;
};

/* Blocks of one class linked through their first word, the last one's link NULL. Returned in two
 * registers. */
struct hak_chain {
    struct hak_block *head;
    size_t count; /* 0: empty, and head is NULL */
};

/* A large block. */
struct hak_large {
    void *base;  /* NULL: out of memory */
    bool zeroed; /* every byte reads as zero */
};

#endif
