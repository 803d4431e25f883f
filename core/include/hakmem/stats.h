/* SPDX-License-Identifier: MIT */
/* HAKMEM: where the memory is. Statistics, and a walk over all live blocks.
 *
 *   mapped ─┬─ slabs ─┬─ live      blocks that the program has
 *           │         ├─ cached    free, in threads' caches and the store that they share
 *           │         ├─ kept      free, in batches at hand, or on their way to another thread's slabs
 *           │         ├─ free      free, back in their slabs
 *           │         └─ uncut     never used, or the rest of a slab that is too short for a block
 *           ├─ large               blocks above the largest size class
 *           ├─ dirty               free runs that still hold memory
 *           └─ clean               free runs that hold none
 *
 * invariant: mapped == slabs + large + dirty + clean
 * invariant: slabs == live + cached + kept + free + uncut
 *
 * Nothing is counted while the program allocates and frees: all of this is found out when it is asked for, which
 * stops other threads' refills and flushes for as long (about a microsecond for each slab), but no hit.
 * The figures are exact when no other thread is inside the allocator meanwhile; else `exact` is 0, and they are
 * off by what those threads were just doing, and the two sums may not hold. Blocks that lay in the caches of other
 * threads at a fork are lost to the child, and are live in its statistics; a thread that was inside the allocator
 * at the fork stays so in the child, whose figures are approximate for good. */
#ifndef HAKMEM_STATS_H
#define HAKMEM_STATS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Most size classes that any configuration has. */
#define HAK_STATS_CLASSES 96

/* One size class. Counts of blocks, unless said otherwise. */
struct hak_stats_class {
    uint64_t size; /* of a block, in bytes; 0: no such class, and all else is 0 */
    uint64_t slabs;
    uint64_t live;
    uint64_t cached;
    uint64_t kept;
    uint64_t free;
    uint64_t refills;  /* batches that went from the back end to caches, ever */
    uint64_t refilled; /* blocks in them */
    uint64_t flushes;  /* batches that went back */
    uint64_t flushed;  /* blocks in them */
    uint64_t reserved[2];
};

/* All of it; bytes, unless said otherwise. New members are added at the end only. */
struct hak_stats {
    uint64_t exact; /* 1, or 0: approximate */
    uint64_t mapped;
    uint64_t slabs;
    uint64_t live; /* of size classes: each block counts with its class's size */
    uint64_t cached;
    uint64_t kept;
    uint64_t free;
    uint64_t uncut;
    uint64_t large;
    uint64_t dirty;
    uint64_t clean;
    uint64_t purged; /* pages of free blocks within slabs that went back to the operating system */
    uint64_t metadata; /* what the allocator needs for itself, not counted in `mapped` */
    uint64_t huge;     /* of `mapped`, what lies in transparent huge pages (AnonHugePages) */
    uint64_t live_blocks;
    uint64_t large_blocks;
    uint64_t heaps;  /* of threads, living and ended */
    uint64_t parked; /* of these, those whose thread has ended */
    uint64_t classes;
    struct hak_stats_class by_class[HAK_STATS_CLASSES];
};

/* Fills in *stats, of which the caller knows `size` bytes: sizeof(struct hak_stats). Returns the bytes that were
 * filled in: less than `size` where the library is older than the header, and the rest is 0. Takes a
 * file descriptor for a moment, to read /proc/self/smaps; where that cannot be read, `huge` is 0. Never
 * fails, allocates nothing, leaves errno. */
size_t hak_stats_get(struct hak_stats *stats, size_t size);

/* Writes the same as one JSON object, with the names of the members, and "by_class" an array of objects of
 * those classes of which there is a slab or was a batch. Calls `write` with pieces of text, in order; they end with
 * no zero byte, and `write` may allocate. */
void hak_stats_json(void (*write)(const char *text, size_t length, void *context), void *context);

/* Writes a table for people to a file descriptor. What cannot be written is left out. */
void hak_stats_print(int file);

/* Calls `visit` for each live block, in order of address: where it begins, the bytes that may be used in it, and
 * whether it is large. Blocks in caches are free and left out. `visit` must not allocate, free or fork; it returns
 * false to end the walk. Other threads' refills, flushes and large blocks wait until the walk is over; their hits
 * do not, so that a block which such a thread allocates or frees meanwhile is visited or not.
 * Returns whether all was visited and no other thread was inside the allocator: what was visited are then exactly
 * the blocks that are live. false also where there is no memory for the list of free blocks (ENOMEM). */
bool hak_walk(bool (*visit)(void *block, size_t size, bool large, void *context), void *context);

/* Gives back to the operating system, now, all that can be given without the help of other threads: what the calling
 * thread's cache, the store that threads share and the heaps of ended threads hold goes back to the slabs, and
 * free memory is purged. Other threads' caches and the slabs that they own stay. Returns whether memory went back. */
bool hak_purge(void);

#ifdef __cplusplus
}
#endif

#endif
