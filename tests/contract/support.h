/* SPDX-License-Identifier: MIT */
/* What the contract tests share. They hold for every composition: nothing here, and nothing in the
 * tests, knows which front end or back end is built in. */
#ifndef HAK_TESTS_CONTRACT_SUPPORT_H
#define HAK_TESTS_CONTRACT_SUPPORT_H

#include <hakmem/hakmem.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "tests/contract/death.h"

/* An assertion for any thread and for forked children, where Criterion's own cannot be used: says
 * what failed, and aborts. Allocates nothing. */
#define require(condition) ((condition) ? (void)0 : require_failed(#condition, __FILE__, __LINE__))
_Noreturn void require_failed(const char *condition, const char *file, int line);

/* What has not ended after so many seconds hangs: many times what the slowest takes on a busy machine. */
enum { HANG_SECONDS = 600 };

/* ── chance ──────────────────────────────────────────────────────────────────────────────────── */

/* The seed of this run: HAKMEM_TEST_SEED from the environment, else a new one. Printed, so that a
 * failure can be repeated. */
uint64_t seed_of_run(void);

/* The next number of the sequence that *state stands for. */
uint64_t random_next(uint64_t *state);

/* A number below `end`. */
size_t random_below(uint64_t *state, size_t end);

/* A size from 0 to `most`, each power of two about as likely as the next. */
size_t random_size(uint64_t *state, size_t most);

/* ── contents ────────────────────────────────────────────────────────────────────────────────── */

/* Fills a block with a pattern made of its address and a key that no other block has, so that two
 * owners of one byte cannot both find what they wrote. */
void pattern_fill(void *block, size_t size, uint64_t key);

/* Whether the first `size` bytes of a block hold the pattern of a block at `origin`. */
bool pattern_holds(const void *block, size_t size, const void *origin, uint64_t key);

bool all_zero(const void *block, size_t size);

/* ── threads ─────────────────────────────────────────────────────────────────────────────────── */

/* Runs function(argument) on a thread of its own and waits for its end. Returns its result. */
void *on_new_thread(void *(*function)(void *), void *argument);

/* ── memory ──────────────────────────────────────────────────────────────────────────────────── */

/* Bytes in memory of what the library has for blocks, page by page as the kernel says it (mincore), and what it needs
 * for itself. The kernel's own sum for the process (RSS) would count the test's memory, libc's and the stacks, too, and
 * is off by some pages for each processor. Allocates nothing. */
size_t resident_bytes(void);

/* Bytes that this process has mapped. */
size_t mapped_bytes(void);

/* Bytes of what the library has for blocks that lie in mappings without this flag, as VmFlags of /proc/self/smaps names
 * it: "nh" for no huge pages, "hg" for huge ones. SIZE_MAX: the kernel does not tell, or has no huge pages. */
size_t bytes_without_flag(const char *flag);

/* Whether the kernel moves pages and leaves their place mapped, by a call of the test's own. */
bool kernel_moves_pages(void);

/* Asserts that the calling thread's heap keeps the invariants of its front end and its back end. */
void require_valid_heap(void);

#endif
