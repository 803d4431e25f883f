/* SPDX-License-Identifier: MIT */
#include "core/size_class.h"

/* Both lie in read-only memory that all processes share, and need no start-up. */
const uint16_t hak_class_map[HAK_SMALL_MAX / HAK_CLASS_UNIT + 1] = {HAK_CLASS_MAP};
const uint32_t hak_class_sizes[HAK_CLASSES_MOST] = {HAK_CLASS_SIZES};

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
