/* SPDX-License-Identifier: MIT */
/* Huge pages for superslabs that are dense (CONFIG_HUGE_PAGES_DENSE).
 *
 *   small pages ── nearly all granules given out and nearly all pages in memory, at two sweeps ──► one huge page
 *        ▲                                                                                          │
 *        └─────────────── split, as soon as a part of it is to be purged ◄──────────────────────────┘
 *
 * The window's advice stays "no huge pages": the kernel makes none by itself, and none come back behind our
 * back. A superslab is collapsed by one call of a tick, while its blocks are in use. With
 * CONFIG_HUGE_PAGES_ALWAYS the advice is the reverse, and only the splitting is done here.
 *
 * invariant: used == granules of the superslab that are given out
 * invariant: `huge` is set from a collapse until the next split; it is a hint, as both are
 * sync: all but `huge` under the lock of run.c; `huge` is a relaxed atomic */
#ifndef HAK_SUPERSLAB_DENSE_H
#define HAK_SUPERSLAB_DENSE_H

#include "backends/superslab/window.h"

/* Granules were given out, or were given back. pre: the lock of run.c is held */
void dense_given(uint32_t first, size_t granules);
void dense_returned(uint32_t first, size_t granules);

/* Before pages in these granules are purged: huge pages that do not lie in them whole are split. */
void dense_split(uint32_t first, size_t granules);

/* Whether some of these granules lie in a huge page. */
bool dense_is_huge(uint32_t first, size_t granules);

/* Goes on with a sweep over the superslabs; collapses one at most. Takes the lock of run.c. */
void dense_tick(uint32_t now);

#endif
