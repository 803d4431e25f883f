/* SPDX-License-Identifier: MIT */
/* A space without memory, for a test that has extents over it: granules are mapped, purged and unmapped in tables. */
#ifndef HAK_TESTS_FAKE_SPACE_H
#define HAK_TESTS_FAKE_SPACE_H

#include "core/space.h"

enum { GRANULES = 4096, SPACE_UNIT = 4 };

static const size_t SPACE_GRANULES_MOST = GRANULES;

static struct {
    struct hak_extent_node nodes[GRANULES + 1];
    bool mapped[GRANULES + 1];
    bool locked[GRANULES + 1]; /* the kernel purges none of these */
    uint32_t place;            /* where the next call of space_map maps */
    bool is_full;              /* it maps nothing more */
    bool keeps;                /* it unmaps nothing */
    size_t used;
    size_t purged;
    char *base;
} space;

static inline void *space_address(uint32_t granule)
{
    return space.base + ((size_t)granule << HAK_GRANULE_SHIFT);
}

static inline uint32_t space_granule(const void *address)
{
    return (uint32_t)((size_t)((const char *)address - space.base) >> HAK_GRANULE_SHIFT);
}

static inline struct hak_extent_node *space_node(uint32_t granule)
{
    return &space.nodes[granule];
}

static inline bool space_has(uint32_t granule)
{
    return granule > 0 && granule <= GRANULES && space.mapped[granule];
}

static inline bool space_reaches(const void *address)
{
    return space_granule(address) <= GRANULES;
}

static inline bool space_owns(const void *address)
{
    return space_has(space_granule(address));
}

/* Nobody here asks for tags. */
static inline uint32_t space_tag_of(const void *address)
{
    (void)address;
    return 0;
}

static inline void space_set_tag(uint32_t granule, uint32_t tag)
{
    (void)granule;
    (void)tag;
}

static inline uint32_t space_take_tag(uint32_t granule)
{
    (void)granule;
    return 0;
}

#endif
