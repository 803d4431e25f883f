/* SPDX-License-Identifier: MIT */
/* The randomised exercise: every call of the public interface, with sizes from 0 to a few MiB, in
 * several threads that hand blocks to each other, with the contents of every block checked before it
 * is freed or resized. Any mistake that it finds ends the process (require). Used by test_random.c
 * and, without a test framework, by stress.c under the sanitizers. */
#ifndef HAK_TESTS_CONTRACT_EXERCISE_H
#define HAK_TESTS_CONTRACT_EXERCISE_H

#include <stddef.h>
#include <stdint.h>

struct exercise {
    uint64_t seed;
    unsigned threads;    /* at a time; 1 runs on the calling thread */
    unsigned lives;      /* threads that run one after the other in each place */
    unsigned long steps; /* calls of one life */
    size_t size_most;    /* bytes */
};

/* Returns when all threads have ended and every block is freed. */
void exercise_run(const struct exercise *exercise);

#endif
