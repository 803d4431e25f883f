/* SPDX-License-Identifier: MIT */
/* Whether a process has so many threads that a new one should begin with little memory.
 *
 * A thread that takes a page for each class it touches is fast, and costs 80 KiB for twenty blocks. That is
 * nothing for a few threads and most of the memory of thousands. So the first CONFIG_CROWD_THREADS heaps take whole
 * pages; heaps that are made after them begin *crowded*: the first blocks of each class come a few at a
 * time, from memory that heaps share, until the heap has shown that it uses the class. Each policy and back end says
 * what else a crowded heap does differently. */
#ifndef HAK_CROWD_H
#define HAK_CROWD_H

#include "core/atomic.h"
#include "core/types.h"

/* How many heaps have been made; atomic. */
extern uint32_t hak_crowd_heaps;

/* Whether the heap that is being made begins crowded. */
static inline bool hak_is_crowded(void)
{
    return (int32_t)atomic_load_relaxed(&hak_crowd_heaps) >=
           CONFIG_CROWD_THREADS; /* which may be 0 */
}

/* The first refill of a class by a crowded heap gets one block, the next two, then four, and so on up to so many bytes. */
#define HAK_CROWD_BATCH_BYTES ((size_t)1024)

/* The heap uses the class once the doubled batch would be more than so many bytes. */
#define HAK_CROWD_BYTES ((size_t)8192)

/* How many blocks the next refill of a class takes, after `refills` of them; 0: the heap uses the class. */
static inline size_t hak_crowd_batch(unsigned refills, size_t block_size)
{
    size_t batch = (size_t)1 << refills;
    size_t most = HAK_CROWD_BATCH_BYTES / block_size;

    if (batch * block_size > HAK_CROWD_BYTES)
        return 0;
    if (batch > most)
        return most > 0 ? most : 1;
    return batch;
}

/* How many of `max` blocks the next refill of a crowded heap takes, which is counted; 0: the heap has used the class. */
static inline size_t hak_crowd_refill(uint8_t *refills, size_t block_size, size_t max)
{
    size_t batch = hak_crowd_batch(*refills, block_size);

    *refills += batch > 0;
    return batch < max ? batch : max;
}

#endif
