/* SPDX-License-Identifier: MIT */
/* Size classes: the fixed sizes in which small blocks come.
 *
 * CONFIG_CLASS_STEPS classes per doubling, evenly spaced, but never closer than 16 bytes, so that
 * every block above 8 bytes is 16-aligned; above 512 bytes twice as many with CONFIG_CLASS_FINER, as there
 * a step is many bytes, and a slab for a class is few blocks. With 4 steps, finer:
 *
 *   16 32 48 64 | 80 96 112 128 | 160 192 224 256 | 320 384 448 512 | 576 640 704 768 832 896 960 1024 | …
 *
 * A class is handed around *scaled*: its index times HAK_CLASS_SCALE. That is the offset of a 16-byte
 * bin, and it is what the tag of a granule holds, so that neither malloc nor free shifts anything.
 *
 * invariant: hak_class_size(hak_class_of(n)) >= n, and the next smaller class is < n
 * invariant: the size of a class is a multiple of 16, but for the 8-byte class
 * invariant: every power of two from the smallest block to the largest small size is a class
 */
#ifndef HAK_SIZE_CLASS_H
#define HAK_SIZE_CLASS_H

#include "core/types.h"

#define HAK_SMALL_MAX   ((size_t)1 << CONFIG_SMALL_MAX_LOG2)
#define HAK_CLASS_UNIT  ((size_t)CONFIG_MIN_BLOCK)
#define HAK_CLASS_SCALE 16u

/* log2(CONFIG_CLASS_STEPS) and the number of classes below 16 bytes */
#define HAK_STEPS_LOG2                                                                             \
    (CONFIG_CLASS_STEPS == 8 ? 3 : CONFIG_CLASS_STEPS == 4 ? 2 : CONFIG_CLASS_STEPS == 2)
#define HAK_TINY            (CONFIG_MIN_BLOCK < 16)
#define HAK_LINEAR          (16u * CONFIG_CLASS_STEPS) /* up to here classes are 16 bytes apart */
#define HAK_FINE_ABOVE      512u
#define HAK_FINE_STEPS_LOG2 (HAK_STEPS_LOG2 + enabled(CONFIG_CLASS_FINER))

/* The index of the class of n bytes, as a constant expression: the table and its tests are made of it.
 * What is computed only to be dropped must be defined as well: clang looks at all of it. */
#define HAK_LOG2(n) (63 - __builtin_clzll((unsigned long long)(n)))
/* of m + 1 bytes, from 2^log2 bytes on, the first of which has the index `base`, in 2^steps steps */
#define HAK_INDEX_FROM(base, log2, steps, m)                                                       \
    ((base) + ((unsigned)(HAK_LOG2(m) - (log2)) << (steps)) +                                      \
     (unsigned)(((m) - (1ull << HAK_LOG2(m))) >> (HAK_LOG2(m) - (steps))))
#define HAK_INDEX_ABOVE(m)                                                                         \
    HAK_INDEX_FROM(HAK_TINY + CONFIG_CLASS_STEPS, 4 + HAK_STEPS_LOG2, HAK_STEPS_LOG2, m)
#define HAK_INDEX_FINE(m)                                                                          \
    HAK_INDEX_FROM(HAK_INDEX_ABOVE(HAK_FINE_ABOVE - 1ull) + 1u, HAK_LOG2(HAK_FINE_ABOVE),          \
                   HAK_FINE_STEPS_LOG2, m)
#define HAK_INDEX_OF(n)                                                                            \
    ((n) <= HAK_CLASS_UNIT ? 0u                                                                    \
     : (n) <= HAK_LINEAR   ? HAK_TINY + (unsigned)(((n) + 15) / 16 - 1)                            \
     : (n) <= HAK_FINE_ABOVE                                                                       \
         ? HAK_INDEX_ABOVE(((n) <= HAK_LINEAR ? HAK_LINEAR + 1 : (n)) - 1)                         \
         : HAK_INDEX_FINE(((n) <= HAK_FINE_ABOVE ? HAK_FINE_ABOVE + 1 : (n)) - 1))

#define HAK_CLASSES (HAK_INDEX_OF(HAK_SMALL_MAX) + 1u)
#define HAK_CLASS_END                                                                              \
    ((hak_class)(HAK_CLASSES * HAK_CLASS_SCALE)) /* the first value that is no class */

_Static_assert(HAK_CLASSES <= 96, "the table of sizes is too short");

/* Indexed by size in units, rounded up; holds scaled classes. */
extern const uint16_t hak_class_map[HAK_SMALL_MAX / HAK_CLASS_UNIT + 1];
/* Indexed by class index; bytes. Entries from HAK_CLASSES on are 0. */
#define HAK_CLASSES_MOST 96
extern const uint32_t hak_class_sizes[HAK_CLASSES_MOST];

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
