/* SPDX-License-Identifier: MIT */
/* What a back end's slabs need of a space, in addition to what extents need (core/space.h). The space defines these too. */
#ifndef HAK_SPACE_SLABS_H
#define HAK_SPACE_SLABS_H

#include "core/space.h"

struct slab;

/* The description of a granule. pre: that of space_node */
static inline struct slab *space_slab(uint32_t granule);

/* The granule that is described, its address, and the description of the granule so many behind it, or before. */
static inline uint32_t space_number(const struct slab *slab);
static inline char *space_base(const struct slab *slab);
static inline struct slab *space_step(const struct slab *slab, ptrdiff_t granules);

/* The tag of a granule, which is the space's. Acquires. */
static inline uint32_t space_tag_at(uint32_t granule);

/* What a shard has at hand of the space, so that a free reads a tag without following a global: as much as there was at
 * the last update. Zero-filled, it reaches nothing.
 *
 *   struct space_view
 *
 * pre of space_view_tag: space_view_reaches */
struct space_view;
static inline void space_view_update(struct space_view *view);
static inline bool space_view_reaches(const struct space_view *view, const void *address);
static inline uint32_t space_view_tag(const struct space_view *view, const void *address);

/* Whether some of these granules lie in a huge page that the space has made. */
bool space_is_huge(uint32_t first, size_t granules);

/* Splits huge pages that do not lie in these granules whole, before pages in them are given back. */
void space_split_huge(uint32_t first, size_t granules);

/* What a space does by time, a bounded amount. The lock is not held. */
static inline void space_tick(uint32_t now);

/* Bytes of memory that describe granules. Any thread may ask. */
size_t space_metadata(void);

#endif
