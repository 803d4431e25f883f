/* SPDX-License-Identifier: MIT */
/* What is asked of the operating system: address space and memory. Every
 * function here leaves errno as it was, so that free may call any of them. Sizes are in bytes and
 * multiples of the page size. */
#ifndef HAK_OS_H
#define HAK_OS_H

#include "core/atomic.h"
#include "core/types.h"

/* The page size in bytes, read from the kernel once. */
size_t os_page_size(void);

/* Readable and writable zeroed memory. NULL when there is none. */
void *os_map(size_t size);

/* Likewise, at a multiple of `align`, a power of two of at least the page size. */
void *os_map_aligned(size_t size, size_t align);

/* Maps readable, writable, zeroed memory at just this place. Unless it is placed, nothing has changed. */
enum os_placed {
    OS_PLACED,
    OS_TAKEN,     /* something lies there, or in a part of it */
    OS_NO_MEMORY, /* or there are no such addresses */
};
enum os_placed os_map_at(void *base, size_t size);

/* A place for os_map_at, a multiple of 2 MiB: far from where the kernel puts the program's mappings, and hard to
 * guess. Each attempt, counted from 0, names another, for processors with fewer bits of addresses. 0: no more. */
uintptr_t os_place(unsigned attempt);

/* ThreadSanitizer knows no memory that is far from the program's: then places are below it, by 64 GiB. */
#ifdef HAK_SANITIZES_THREADS
#define OS_PLACES_FAR false
#else
#define OS_PLACES_FAR true
#endif

/* Whether the kernel would map so much now. */
bool os_can_map(size_t size);

/* Sets what may be done with a mapped range. false: refused, and the range is as it was. */
enum os_access { OS_READ, OS_READ_WRITE, OS_READ_EXECUTE };
bool os_protect(void *base, size_t size, enum os_access access);

/* Maps fresh zeroed memory over a mapped range, whose contents are lost. false: refused, and the range
 * is as it was; but a kernel that charges memory may have unmapped it first. */
bool os_map_over(void *base, size_t size);

/* Gives a mapping back. false: refused (the kernel may have to split a mapping and be at its
 * limit); then the range is as it was. */
bool os_unmap(void *base, size_t size);

/* Gives the pages of a range back; the range stays mapped and reads as zeros if os_purge_zeroes().
 * false: refused, and the contents are undefined. */
bool os_purge(void *base, size_t size);

/* Gives memory to pages that are about to be written, at once instead of by a fault for each. It may do nothing: pages
 * that have none get it when they are touched. */
void os_populate(void *base, size_t size);

/* Whether purged pages read as zeros, as Linux promises and some emulators do not keep. Probes the
 * first time it is asked. */
bool os_purge_zeroes(void);

/* Asks for no huge pages in a range, whatever the system's mode. Advice: failure is no error. */
void os_no_huge_pages(void *base, size_t size);

/* For memory that blocks lie in: asks for huge pages with CONFIG_HUGE_PAGES_ALWAYS, else for none. */
void os_advise_huge_pages(void *base, size_t size);

/* Core dumps leave a range out; or have it again. Advice. */
void os_leave_out_of_dumps(void *base, size_t size);
void os_take_into_dumps(void *base, size_t size);

/* Makes huge pages of a range of them, whose contents stay; from then on none are made by themselves. false: the
 * kernel (before 6.1) cannot, or has none. */
bool os_collapse(void *base, size_t size);

/* Splits the huge page in which a page lies, so that a part of it can be given back. Advice. */
void os_split_huge_page(void *page);

/* How many pages of a range of at most 512 are in memory; 0 where the kernel does not tell. */
size_t os_resident_pages(void *base, size_t size);

/* Moves the pages of [from, from+size) onto [to, to+size), both mapped; `from` stays mapped and reads
 * as zeros. Of how many mappings `to` consists now, at most `most`. 0: the kernel cannot, or there are
 * more, and `from` is as it was; `to` may have been unmapped. */
unsigned os_move(void *from, void *to, size_t size, unsigned most);

/* Makes a mapping longer where it lies; the new memory is zeroed. false: something lies behind it, or
 * there is no memory, or the range is not one mapping's end; nothing has changed. */
bool os_grow(void *base, size_t size, size_t new_size);

/* Moves the mapping [from, from+size) to `to`, where [to, to+new_size) is mapped and given up for it;
 * `from` is unmapped and the rest beyond `size` is zeroed. */
enum os_moved {
    OS_MOVED,
    OS_REFUSED, /* nothing has changed */
    OS_LOST,    /* `from` is as it was, but `to` may have been unmapped, and be another's by now */
};
enum os_moved os_move_away(void *from, size_t size, void *to, size_t new_size);

/* How many mappings a process may have (vm.max_map_count), Linux's default where that is not told. */
size_t os_mappings_limit(void);

/* Whether the kernel charges committed memory whether or not it is touched (overcommit mode 2), as read the first time. */
bool os_charges_committed(void);

/* Bytes of this process's memory in transparent huge pages, of those mappings for which `ours` says true. 0 where
 * the kernel does not tell. */
size_t os_huge_bytes(bool (*ours)(uintptr_t from, uintptr_t to));

#endif
