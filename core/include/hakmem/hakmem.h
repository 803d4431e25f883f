/* SPDX-License-Identifier: MIT */
/* HAKMEM: a malloc that is composed at build time. The public interface.
 *
 * Every function here is also there under its libc name, unless the library was configured without
 * CONFIG_OVERRIDE_LIBC; then both allocators can be used side by side, each for its own blocks.
 *
 * Sizes and alignments are in bytes. Functions that return memory return NULL and set errno to ENOMEM
 * when there is none, or when the size exceeds PTRDIFF_MAX. A block is aligned to 16 bytes, or, where
 * the configuration allows 8-byte blocks, to 8 if it is no larger than that. A size of 0 gives a
 * block of its own that must be freed. All functions may be called by any thread at any time, but by
 * no signal handler. A pointer that is no live block of this allocator stops the process, where it is
 * noticed, with one line on stderr. */
#ifndef HAKMEM_H
#define HAKMEM_H

#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Allocates `size` bytes, uninitialised. C23 7.24.3.6. */
void *hak_malloc(size_t size);

/* Frees a block; NULL: does nothing. Leaves errno as it was. C23 7.24.3.3, POSIX.1-2024. */
void hak_free(void *block);

/* Allocates an array of `count` elements of `size` bytes, all zero; ENOMEM when count * size
 * overflows. C23 7.24.3.2. */
void *hak_calloc(size_t count, size_t size);

/* Gives a block the size `size`, moving it if need be; the contents are kept as far as both sizes go.
 * NULL as the block: as hak_malloc. Size 0: frees the block and returns NULL, as glibc does. On
 * failure the block is as it was. C23 7.24.3.7. */
void *hak_realloc(void *block, size_t size);

/* hak_realloc to count * size bytes; ENOMEM when that overflows. POSIX.1-2024. */
void *hak_reallocarray(void *block, size_t count, size_t size);

/* Allocates `size` bytes aligned to `alignment`; EINVAL unless that is a power of two. The size need
 * not be a multiple of the alignment. C23 7.24.3.1. */
void *hak_aligned_alloc(size_t alignment, size_t size);

/* Likewise, but an alignment that is no power of two is rounded up to one, as glibc does; EINVAL when
 * that is not possible. */
void *hak_memalign(size_t alignment, size_t size);

/* Stores a block of `size` bytes aligned to `alignment` in *block and returns 0; on failure returns
 * EINVAL (the alignment is no power of two, or no multiple of sizeof(void *)) or ENOMEM, and leaves
 * *block and errno as they were. POSIX.1-2024. */
int hak_posix_memalign(void **block, size_t alignment, size_t size);

/* Allocates `size` bytes aligned to the page size; pvalloc also rounds the size up to whole pages.
 * glibc. */
void *hak_valloc(size_t size);
void *hak_pvalloc(size_t size);

/* Frees a block whose size, or size and alignment, the caller knows: those it was asked for with. NULL:
 * does nothing. C23 7.24.3.4, 7.24.3.5. */
void hak_free_sized(void *block, size_t size);
void hak_free_aligned_sized(void *block, size_t alignment, size_t size);

/* Bytes that may be used in the block: what was asked for, or more. NULL: 0. glibc. */
size_t hak_malloc_usable_size(void *block);

/* Gives unused memory back to the operating system: what the calling thread's cache holds, and all
 * that no thread uses. `pad` is ignored. Returns 1 if some memory went back, else 0. glibc. */
int hak_malloc_trim(size_t pad);

/* What this library is: version, source revision, front end, back end, digest of the configuration,
 * compiler, digest of its flags. One line, constant, never NULL. */
const char *hak_config(void);

#ifdef __cplusplus
}
#endif

#endif
