/* SPDX-License-Identifier: MIT */
/* Size classes: the fixed sizes in which small blocks come.
 *
 * The build makes the table from the configuration: gen/size_class.h has each class with the sizes that it serves and what
 * it wastes at most. They are those of CONFIG_CLASS_TABLE, or without one CONFIG_CLASS_STEPS classes to a doubling, evenly spaced but never closer than 16 bytes, so that every
 * block above 8 bytes is 16-aligned; above 512 bytes twice as many with CONFIG_CLASS_FINER, because there a step is many
 * bytes, and a slab of a class is few blocks. With 4 steps, finer:
 *
 *   16 32 48 64 | 80 96 112 128 | 160 192 224 256 | 320 384 448 512 | 576 640 704 768 832 896 960 1024 | …
 *
 * A class is handed around *scaled*: its index times HAK_CLASS_SCALE. That is the offset of a 16-byte
 * bin, and it is what the tag of a granule holds, so that neither malloc nor free shifts anything.
 *
 * site_scons/size_class.py checks what follows of any list before it makes the table of it:
 * invariant: hak_class_size(hak_class_of(n)) >= n, and the next smaller class is < n
 * invariant: a class is at most twice the next smaller one
 * invariant: the size of a class is a multiple of 16, but for the 8-byte class
 * invariant: every power of two from the smallest block to the largest small size is a class
 */
#ifndef HAK_SIZE_CLASS_H
#define HAK_SIZE_CLASS_H

#include "core/types.h"
#include "gen/size_class.h"

#define HAK_CLASS_SCALE 16u
#define HAK_CLASS_END                                                                              \
    ((hak_class)(HAK_CLASSES * HAK_CLASS_SCALE)) /* the first value that is no class */

/* Indexed by size in units, rounded up; holds scaled classes. */
extern const uint16_t hak_class_map[HAK_SMALL_MAX / HAK_CLASS_UNIT + 1];
/* Indexed by class index; bytes. Entries from HAK_CLASSES on are 0, and there is one. */
#define HAK_CLASSES_MOST 96
extern const uint32_t hak_class_sizes[HAK_CLASSES_MOST];

_Static_assert(HAK_CLASSES < HAK_CLASSES_MOST, "site_scons/size_class.py has the same bound");
_Static_assert(HAK_SMALL_MAX == (size_t)1 << CONFIG_SMALL_MAX_LOG2,
               "the table ends where slabs do");
_Static_assert(HAK_CLASS_UNIT == CONFIG_MIN_BLOCK, "the table begins with the smallest block");

/* The class of a block of `size` bytes. pre: size <= HAK_SMALL_MAX; 0 is served as 1. */
static inline hak_class hak_class_of(size_t size)
{
    return hak_class_map[(size + HAK_CLASS_UNIT - 1) / HAK_CLASS_UNIT];
}

static inline unsigned hak_class_index(hak_class cls)
{
    return cls / HAK_CLASS_SCALE;
}

static inline hak_class hak_class_at(unsigned index)
{
    return index * HAK_CLASS_SCALE;
}

static inline size_t hak_class_size(hak_class cls)
{
    return hak_class_sizes[hak_class_index(cls)];
}

/* The smallest class that holds `size` bytes and all of whose blocks are aligned to `align`, a power
 * of two; HAK_CLASS_END when there is none. */
hak_class hak_class_of_aligned(size_t size, size_t align);

#endif
