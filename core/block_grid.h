/* SPDX-License-Identifier: MIT */
/* The grid of equal blocks in a slab, to check many pointers against.
 *
 * Multiplied by the inverse, modulo 2^64, of the odd part of the block size, and rotated by the even
 * part, an offset that the size divides becomes the quotient, and any other becomes more than any
 * quotient: one comparison is the whole test. */
#ifndef HAK_BLOCK_GRID_H
#define HAK_BLOCK_GRID_H

#include "core/types.h"

struct hak_grid {
    const char *base; /* of the first block */
    uint64_t inverse;
    unsigned shift; /* the power of two in the block size */
    uint32_t blocks;
};

/* pre: block_size > 0 */
static inline struct hak_grid hak_grid_of(const char *base, uint32_t block_size, uint32_t blocks)
{
    unsigned shift = (unsigned)__builtin_ctz(block_size);
    uint64_t odd = block_size >> shift;
    uint64_t inverse = 3 * odd ^ 2; /* right in its lowest 5 bits; each step doubles them */

#pragma GCC unroll 4
    for (int step = 0; step < 4; step++)
        inverse *= 2 - odd * inverse;
    return (struct hak_grid){base, inverse, shift, blocks};
}

/* The number of the block that begins at the pointer, which may be any; `blocks` or more: none does. */
static inline uint64_t hak_grid_index(const struct hak_grid *grid, const void *pointer)
{
    uint64_t product = (uint64_t)((const char *)pointer - grid->base) * grid->inverse;

    return product >> grid->shift | product << (-grid->shift & 63);
}

static inline bool hak_grid_has(const struct hak_grid *grid, const void *pointer)
{
    return hak_grid_index(grid, pointer) < grid->blocks;
}

#endif
