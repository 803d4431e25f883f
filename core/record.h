/* SPDX-License-Identifier: MIT */
/* The recorder: what each thread asks of malloc, into a file of its own (record_format.h, doc/recording.md).
 * Without CONFIG_RECORD there is nothing of it: each function here is empty. bench/recording/preload.c makes a
 * library of it that records any malloc.
 *
 * order: an allocation is noted after the block is had, a free before the block is given up, so that the notes of
 * one address alternate in the order in which they were made, whichever threads made them.
 *
 * Any thread may note, also in a signal handler. Nothing is allocated, errno stays, and no lock is held that a
 * handler or a forked child could wait for. A place that cannot be written ends the recording, not the program. */
#ifndef HAK_RECORD_H
#define HAK_RECORD_H

#include "core/types.h"

void hak_record_write_malloc(const void *block, size_t size);
void hak_record_write_calloc(const void *block, size_t size);
void hak_record_write_aligned(const void *block, size_t size, size_t align);
void hak_record_write_free(const void *block);

/* What the calling thread notes between the two is a part of what `frame`, an address in its stack, is at, and is
 * left out. NULL, and then no end either, when it is within such a call already. A jump out of it ends it too. */
const void *hak_record_before(const void *frame);
void hak_record_after(const void *frame);

/* A free with parts, of which hak_record_after() tells the end; a realloc, before and after. */
const void *hak_record_write_gone(const void *block);
const void *hak_record_write_give(const void *block);
void hak_record_write_take(const void *frame, const void *given, const void *block, size_t size);

/* How much the calling thread has noted; and notes a block unless that was done since `before`: operator new
 * may or may not come by as malloc too. `operation` is of enum hak_record_operation, `align` a power of two. */
uint64_t hak_record_count(void);
void hak_record_write_once(int operation, const void *block, size_t size, size_t align,
                           uint64_t before);

/* Reads HAKMEM_RECORD, the folder to record to; false: it names none. */
bool hak_record_read(const char *folder);

/* Of a malloc of `size` bytes: `block` is what it returned, and is returned. */
static inline void *hak_record_malloc(void *block, size_t size)
{
    if (enabled(CONFIG_RECORD))
        hak_record_write_malloc(block, size);
    return block;
}

static inline void *hak_record_calloc(void *block, size_t size)
{
    if (enabled(CONFIG_RECORD))
        hak_record_write_calloc(block, size);
    return block;
}

/* `align` is a power of two. */
static inline void *hak_record_aligned(void *block, size_t size, size_t align)
{
    if (enabled(CONFIG_RECORD))
        hak_record_write_aligned(block, size, align);
    return block;
}

static inline void hak_record_free(const void *block)
{
    if (enabled(CONFIG_RECORD))
        hak_record_write_free(block);
}

/* Before and after a realloc of `given`, which may be NULL, to `size` bytes. What the same thread allocates and
 * frees in between is a part of it and is not noted. */
static inline const void *hak_record_give(const void *given)
{
    return enabled(CONFIG_RECORD) ? hak_record_write_give(given) : NULL;
}

static inline void *hak_record_take(const void *frame, const void *given, void *block, size_t size)
{
    if (enabled(CONFIG_RECORD))
        hak_record_write_take(frame, given, block, size);
    return block;
}

#endif
