/* SPDX-License-Identifier: MIT */
#include "core/backend.h"

#include "backends/mmap_only/page_map.h"
#include "core/os.h"

_Static_assert(sizeof(struct range) == 64, "a line each");
_Static_assert(HAK_CLASSES *HAK_CLASS_SCALE + CODE_CLASS < TAG_FREE, "classes fit a tag");

struct page_map page_map;

static bool cover(intptr_t *entry)
{
    if (*entry != 0)
        return true;
    struct leaf *leaf = os_map(sizeof(*leaf));
    if (leaf == NULL)
        return false;
    os_no_huge_pages(leaf, sizeof(*leaf));
    atomic_store_release(entry, (intptr_t)((uintptr_t)leaf - (uintptr_t)page_map.zero));
    return true;
}

bool page_map_cover(size_t first, size_t last)
{
    for (size_t i = first / LEAF_GRANULES; i <= last / LEAF_GRANULES; i++)
        if (!cover(&page_map.root[i]))
            return false;
    return true;
}

const struct range *page_map_range_around(size_t granule)
{
    const struct range *end = NULL; /* of what begins further down */

    for (size_t at = granule; at > 0; at--) {
        if (page_map.root[at / LEAF_GRANULES] == 0) {
            at = at / LEAF_GRANULES * LEAF_GRANULES + (at < LEAF_GRANULES);
            continue;
        }
        unsigned tag = page_map_tag(at);
        const struct range *range = page_map_range(at);
        if (tag == TAG_NONE)
            continue;
        if (tag == TAG_TAKEN) {
            if (at != granule)
                return end;
            end = range;
            continue;
        }
        if (tag == TAG_FREE) /* either end */
            range = page_map_range(range->first);
        else if (tag != TAG_LARGE)
            range = page_map_range(at - range->distance);
        return granule - range->first < range->granules ? range : end;
    }
    return end;
}
