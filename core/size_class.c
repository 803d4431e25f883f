/* SPDX-License-Identifier: MIT */
#include "core/size_class.h"

/* Both tables are constant expressions of their index: they lie in read-only memory that all
 * processes share, and need no start-up. MAP_k(n) lists 2^k consecutive entries from n on. */

#define MAP_0(n)  (uint16_t)(HAK_INDEX_OF((n)*HAK_CLASS_UNIT) * HAK_CLASS_SCALE),
#define MAP_1(n)  MAP_0(n) MAP_0((n) + 1)
#define MAP_2(n)  MAP_1(n) MAP_1((n) + 2)
#define MAP_3(n)  MAP_2(n) MAP_2((n) + 4)
#define MAP_4(n)  MAP_3(n) MAP_3((n) + 8)
#define MAP_5(n)  MAP_4(n) MAP_4((n) + 16)
#define MAP_6(n)  MAP_5(n) MAP_5((n) + 32)
#define MAP_7(n)  MAP_6(n) MAP_6((n) + 64)
#define MAP_8(n)  MAP_7(n) MAP_7((n) + 128)
#define MAP_9(n)  MAP_8(n) MAP_8((n) + 256)
#define MAP_10(n) MAP_9(n) MAP_9((n) + 512)
#define MAP_11(n) MAP_10(n) MAP_10((n) + 1024)
#define MAP_12(n) MAP_11(n) MAP_11((n) + 2048)
#define MAP_13(n) MAP_12(n) MAP_12((n) + 4096)
#define MAP_14(n) MAP_13(n) MAP_13((n) + 8192)

/* By CONFIG_SMALL_MAX_LOG2 and CONFIG_MIN_BLOCK: 2^(log2 - 3) or 2^(log2 - 4) units. */
#define MAP_10_8  MAP_7(0)
#define MAP_10_16 MAP_6(0)
#define MAP_11_8  MAP_8(0)
#define MAP_11_16 MAP_7(0)
#define MAP_12_8  MAP_9(0)
#define MAP_12_16 MAP_8(0)
#define MAP_13_8  MAP_10(0)
#define MAP_13_16 MAP_9(0)
#define MAP_14_8  MAP_11(0)
#define MAP_14_16 MAP_10(0)
#define MAP_15_8  MAP_12(0)
#define MAP_15_16 MAP_11(0)
#define MAP_16_8  MAP_13(0)
#define MAP_16_16 MAP_12(0)
#define MAP_17_8  MAP_14(0)
#define MAP_17_16 MAP_13(0)

#define MAP_OF_(log2, unit) MAP_##log2##_##unit
#define MAP_OF(log2, unit)  MAP_OF_(log2, unit)

const uint16_t hak_class_map[HAK_SMALL_MAX / HAK_CLASS_UNIT + 1] = {
    MAP_OF(CONFIG_SMALL_MAX_LOG2, CONFIG_MIN_BLOCK) /* and the largest small size itself: */
    MAP_0(HAK_SMALL_MAX / HAK_CLASS_UNIT)};

/* The size of a class from its index, not counting the 8-byte class: 16, 32, … up to HAK_LINEAR, then
 * STEPS classes to a doubling, and above HAK_FINE_ABOVE so many as there. Shifts are masked, as entries
 * beyond the last class are computed before they are dropped. */
#define STEPS                 CONFIG_CLASS_STEPS
#define FINE_STEPS            (1u << HAK_FINE_STEPS_LOG2)
#define FINE_INDEX            (HAK_INDEX_OF(HAK_FINE_ABOVE) - HAK_TINY + 1u) /* the first above */
/* the (n+1)-th class after the size `first`, in `steps` to a doubling */
#define BASE(first, steps, n) ((first) << ((n) / (steps)&31u))
#define SIZE_FROM(first, steps, n)                                                                 \
    (BASE(first, steps, n) + BASE(first, steps, n) / (steps) * ((n) % (steps) + 1))
#define SIZE_OF(index)                                                                             \
    ((index) < STEPS        ? 16u * ((index) + 1)                                                  \
     : (index) < FINE_INDEX ? SIZE_FROM(HAK_LINEAR, STEPS, (index)-STEPS)                          \
                            : SIZE_FROM(HAK_FINE_ABOVE, FINE_STEPS, (index)-FINE_INDEX))
#define SIZE_0(index)                                                                              \
    (index) >= HAK_CLASSES ? 0u                                                                    \
    : (index) < HAK_TINY   ? 8u                                                                    \
                           : SIZE_OF((index) < HAK_CLASSES ? (index)-HAK_TINY : 0u),
#define SIZE_1(n) SIZE_0(n) SIZE_0((n) + 1u)
#define SIZE_2(n) SIZE_1(n) SIZE_1((n) + 2u)
#define SIZE_3(n) SIZE_2(n) SIZE_2((n) + 4u)
#define SIZE_4(n) SIZE_3(n) SIZE_3((n) + 8u)
#define SIZE_5(n) SIZE_4(n) SIZE_4((n) + 16u)

const uint32_t hak_class_sizes[HAK_CLASSES_MOST] = {SIZE_5(0u) SIZE_5(32u) SIZE_5(64u)};

hak_class hak_class_of_aligned(size_t size, size_t align)
{
    size_t wanted = size < align ? align : size;

    if (wanted > HAK_SMALL_MAX)
        return HAK_CLASS_END;
    hak_class cls = hak_class_of(wanted);
    while ((hak_class_size(cls) & (align - 1)) != 0)
        cls += HAK_CLASS_SCALE; /* ends at the next power of two at the latest */
    return cls;
}
