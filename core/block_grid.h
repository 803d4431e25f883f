/* SPDX-License-Identifier: MIT */
/* The grid of equal blocks in a slab, to check many pointers against.
 *
 * Let the block size be odd * 2^shift. An offset is multiplied by the inverse of `odd` modulo 2^64 and rotated right by
 * `shift`. If the block size divides the offset, the result is the quotient; otherwise it is greater than any possible
 * quotient. So one comparison checks both that a block begins at the offset and that the slab has that block. */
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
    uint64_t inverse = 3 * odd ^ 2; /* correct in the low 5 bits; each Newton step doubles that */

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
