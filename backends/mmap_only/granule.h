/* SPDX-License-Identifier: MIT */
/* How this back end describes a granule of its space (core/space.h): a tag, and a description. Included by mmap_only.h.
 *
 * invariant: a granule of a slab has the class's code as its tag, and no other granule has
 * sync: `extent` as extents.h says, the rest belongs to the slab */
#ifndef HAK_MMAP_ONLY_GRANULE_H
#define HAK_MMAP_ONLY_GRANULE_H

#include "core/atomic.h"
#include "core/block_list.h"
#include "core/extents.h"

typedef uint16_t space_tag;

/* Beside these, a class's scaled value plus CODE_CLASS: taking that off gives the class, ready to use,
 * or a value that is none. */
#define TAG_NONE   0u
#define TAG_LARGE  0xffffu /* the first granule of a large block */
#define CODE_CLASS HAK_CLASS_SCALE

/* The description of a granule: for extents (core/extents.h), and as the first granule of a slab. */
struct slab {
    union {
        struct hak_extent_node extent;
        struct {                    /* while it is in use */
            uint64_t extent_in_use; /* the part of the node that remains */
            struct slab *next;      /* of the class's slabs with something to give */
            struct slab *previous;
            struct hak_block *free; /* the others of those that were cut, but for blank ones */
        };
    };
    uint32_t first; /* its granule */
    uint32_t used;  /* live, in caches, kept by shards, or being purged */
    uint32_t cut;   /* blocks [0, cut) have been given out at least once */
    uint32_t
        touched_at; /* hak_clock_ms when free blocks last came or went, | 1; 0: pages are settled */
    uint32_t block_size;   /* bytes; constant while it is a slab */
    uint16_t capacity;     /* blocks; likewise */
    uint16_t blank_blocks; /* that begin in blank pages of the slab */
    uint16_t blank; /* of this granule, the pages that are blank; a bit each, every granule's own */
    uint16_t distance; /* granules back to the first of its slab; at every granule of a slab */
    bool listed;       /* on one of its class's lists */
    bool being_purged; /* off its list: the thread that purges its pages has its free blocks */
};

_Static_assert(sizeof(struct slab) == 64, "a line each");
_Static_assert(HAK_CLASSES *HAK_CLASS_SCALE + CODE_CLASS < TAG_LARGE, "classes fit a tag");

#include "gen/space.h"

#endif
