/* SPDX-License-Identifier: MIT */
/* The free blocks of one slab. Everything here is done by the slab's owner. */
#include "backends/superslab/slab.h"

/* Fresh blocks are cut a page's worth at a time: a program that wants one block touches one page. */
#define CUT_BYTES ((size_t)4096)

/* A slab is as long as gives this many blocks and wastes no more than one part in WASTE_PART. */
enum { BLOCKS_LEAST = 8, WASTE_PART = 8 };

size_t slab_granules(size_t block_size)
{
    size_t granules = 1;

    for (;; granules++) {
        size_t size = granules << GRANULE_SHIFT;
        if (size / block_size >= BLOCKS_LEAST && size % block_size <= size / WASTE_PART)
            return granules;
    }
}

static void close_loose(struct slab *slab)
{
    hak_chain_push(&slab->closed, (struct hak_chain){slab->loose, slab->loose_count});
    slab->loose = slab->loose_tail = NULL;
    slab->loose_count = 0;
}

struct hak_block *slab_nth(const struct slab *slab, struct hak_block *head, size_t count)
{
    while (--count > 0)
        head = slab_next(slab, head);
    return head;
}

void slab_add(struct slab *slab, hak_class cls, struct hak_chain chain, struct hak_block *last)
{
    if (slab->loose_count > 0 && slab->loose_count + chain.count > CONFIG_REFILL_BATCH &&
        hak_stackable(cls))
        close_loose(slab);
    last->next = slab->loose;
    if (slab->loose == NULL)
        slab->loose_tail = last;
    slab->loose = chain.head;
    slab->loose_count += (uint32_t)chain.count;
}

struct hak_chain slab_cut(struct slab *slab, size_t max, struct hak_block **last)
{
    size_t size = slab->block_size;
    size_t count = size < CUT_BYTES ? CUT_BYTES / size : 1;
    char *base = slab_base(slab) + slab->cut * size;

    count = count < max ? count : max;
    count = count < slab->capacity - slab->cut ? count : slab->capacity - slab->cut;
    if (count == 0)
        return (struct hak_chain){NULL, 0};
    slab->cut += (uint32_t)count;
    char *end = base + (count - 1) * size;
    for (char *block = base; block < end; block += size)
        ((struct hak_block *)(void *)block)->next = (struct hak_block *)(void *)(block + size);
    *last = (struct hak_block *)(void *)end;
    return (struct hak_chain){(struct hak_block *)(void *)base, count};
}

struct hak_chain slab_take_loose(struct slab *slab, size_t max, struct hak_block **last)
{
    struct hak_chain chain = {slab->loose, slab->loose_count};

    if (chain.count <= max) {
        *last = slab->loose_tail;
        slab->loose = slab->loose_tail = NULL;
        slab->loose_count = 0;
        return chain;
    }
    *last = slab_nth(slab, chain.head, max);
    slab->loose = slab_next(slab, *last);
    (*last)->next = NULL;
    slab->loose_count -= (uint32_t)max;
    return (struct hak_chain){chain.head, max};
}

struct hak_chain slab_take_closed(struct slab *slab, size_t max)
{
    struct hak_chain chain = hak_chain_pop(&slab->closed);

    if (slab->closed.top && unlikely(!slab_on_grid(slab, hak_chain_unpack(slab->closed.top).head)))
        hak_fatal_pointer("malloc()", chain.head, SLAB_BAD_LINK);
    if (chain.count > max) {
        struct hak_block *last = slab_nth(slab, chain.head, max);
        hak_chain_push(&slab->closed, (struct hak_chain){slab_next(slab, last), chain.count - max});
        last->next = NULL;
        chain.count = max;
    }
    return chain;
}
