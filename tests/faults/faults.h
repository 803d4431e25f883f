/* SPDX-License-Identifier: MIT */
/* Failures of the kernel, on demand. The linker puts faults.c between the library and its system calls
 * (core/kernel.h) that map, unmap, protect, advise and move (--wrap); the library itself is the one that every other test has. */
#ifndef HAK_TESTS_FAULTS_H
#define HAK_TESTS_FAULTS_H

#include <stdbool.h>
#include <stddef.h>

/* What has been asked of the kernel since faults_begin. */
struct faults_seen {
    size_t calls;
    size_t failed;
    const char *name;   /* of the first that failed */
    size_t kept;        /* bytes of addresses that a failure may leave mapped: what munmap
                         * leaves, and the target of mremap, of which nobody knows whether it is gone */
    size_t moved_bytes; /* bytes that mremap moved to another place */
};

/* From now on call number `first`, counted from 1, fails; with `lasting` all later ones too. 0: none. */
void faults_begin(size_t first, bool lasting);

/* From now on none fails. */
struct faults_seen faults_end(void);

/* Whether every munmap fails, as at the kernel's limit on mappings. */
void faults_refuse_unmapping(bool refuses);

/* The next mapping for which the library leaves the place to the kernel is made here, if the place is free. */
void faults_map_next_at(void *place);

#endif
