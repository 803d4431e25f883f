/* SPDX-License-Identifier: MIT */
/* glibc's functions for statistics, and their meaning in this library. Their structures are defined here, because other
 * libcs' headers lack them, and binaries that were compiled against glibc's depend on the layout. Only the symbols have
 * glibc's names, so that <malloc.h> can be included where all is compiled as one file. */
#include <hakmem/hakmem.h>
#include <hakmem/stats.h>

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "core/malloc.h"
#include "core/text.h"

/* As struct mallinfo2 of glibc. */
struct hak_mallinfo2 {
    size_t arena;    /* bytes mapped for slabs and free extents */
    size_t ordblks;  /* free blocks */
    size_t smblks;   /* of these, in caches */
    size_t hblks;    /* large blocks */
    size_t hblkhd;   /* bytes in them */
    size_t usmblks;  /* 0, as in glibc */
    size_t fsmblks;  /* bytes in caches */
    size_t uordblks; /* bytes in live blocks, but for large ones */
    size_t fordblks; /* arena - uordblks */
    size_t keepcost; /* bytes that malloc_trim(0) could give back at the least */
};

/* As struct mallinfo, which wraps around beyond 2 GiB. */
struct hak_mallinfo {
    int arena, ordblks, smblks, hblks, hblkhd, usmblks, fsmblks, uordblks, fordblks, keepcost;
};

struct hak_mallinfo2 glibc_mallinfo2(void) __asm__("mallinfo2");
struct hak_mallinfo glibc_mallinfo(void) __asm__("mallinfo");
int glibc_mallopt(int parameter, int value) __asm__("mallopt");
void glibc_malloc_stats(void) __asm__("malloc_stats");
int glibc_malloc_info(int options, FILE *stream) __asm__("malloc_info");

hak_replaceable struct hak_mallinfo2 glibc_mallinfo2(void)
{
    struct hak_stats stats;
    struct hak_mallinfo2 info = {0};

    hak_stats_get(&stats, sizeof(stats));
    for (unsigned i = 0; i < stats.classes; i++) {
        const struct hak_stats_class *entry = &stats.by_class[i];
        info.ordblks += entry->cached + entry->kept + entry->free;
        info.smblks += entry->cached;
    }
    info.arena = stats.mapped - stats.large;
    info.hblks = stats.large_blocks;
    info.hblkhd = stats.large;
    info.fsmblks = stats.cached;
    info.uordblks = stats.live;
    info.fordblks = info.arena - info.uordblks;
    info.keepcost = stats.dirty;
    return info;
}

hak_replaceable struct hak_mallinfo glibc_mallinfo(void)
{
    struct hak_mallinfo2 info = glibc_mallinfo2();

    return (struct hak_mallinfo){(int)info.arena,   (int)info.ordblks,  (int)info.smblks,
                                 (int)info.hblks,   (int)info.hblkhd,   (int)info.usmblks,
                                 (int)info.fsmblks, (int)info.uordblks, (int)info.fordblks,
                                 (int)info.keepcost};
}

/* As <malloc.h> of glibc names them. */
enum {
    GLIBC_MXFAST = 1,
    GLIBC_TRIM_THRESHOLD = -1,
    GLIBC_TOP_PAD = -2,
    GLIBC_MMAP_THRESHOLD = -3,
    GLIBC_MMAP_MAX = -4,
    GLIBC_CHECK_ACTION = -5,
    GLIBC_PERTURB = -6,
    GLIBC_ARENA_TEST = -7,
    GLIBC_ARENA_MAX = -8,
};

/* glibc's largest fast bin. */
enum { GLIBC_MXFAST_MOST = 80 * sizeof(size_t) / 4 };

/* Returns the same as glibc 2.36: 1, or 0 for a fast bin that is too large. Programs that check the result treat 0 as an
 * error. The trim threshold is the most free memory that waits to be given back, as DIRTY_MAX is; with a negative
 * threshold, memory goes back by age alone. The other parameters have no meaning here: there is nothing for them to bound. */
hak_replaceable int glibc_mallopt(int parameter, int value)
{
    if (parameter == GLIBC_TRIM_THRESHOLD)
        hak_dirty_max_set((size_t)value);
    if (parameter == GLIBC_MXFAST)
        return value >= 0 && value <= GLIBC_MXFAST_MOST;
    return parameter >= GLIBC_ARENA_MAX && parameter <= GLIBC_TRIM_THRESHOLD;
}

hak_replaceable void glibc_malloc_stats(void)
{
    hak_stats_print(STDERR_FILENO);
}

static void override_stats_write_to_stream(const char *text, size_t length, void *stream)
{
    fwrite(text, 1, length, stream);
}

static void override_stats_add_attribute(struct hak_text *text, const char *before, uint64_t number)
{
    hak_text_add(text, before);
    hak_text_number(text, number, 0);
}

/* One <heap>, like glibc's for one arena, with the sums of all heaps. Writing to the stream may allocate, so all
 * counting comes first. */
hak_replaceable int glibc_malloc_info(int options, FILE *stream)
{
    struct hak_text text = {.write = override_stats_write_to_stream, .context = stream};
    struct hak_stats stats;

    if (options != 0)
        return EINVAL;
    hak_stats_get(&stats, sizeof(stats));
    hak_text_add(&text, "<malloc version=\"1\">\n<heap nr=\"0\">\n<sizes>\n");
    for (unsigned i = 0; i < stats.classes; i++) {
        const struct hak_stats_class *entry = &stats.by_class[i];
        uint64_t blocks = entry->cached + entry->kept + entry->free;
        if (blocks == 0)
            continue;
        override_stats_add_attribute(&text, "<size from=\"",
                                     i > 0 ? stats.by_class[i - 1].size + 1 : 1);
        override_stats_add_attribute(&text, "\" to=\"", entry->size);
        override_stats_add_attribute(&text, "\" total=\"", blocks * entry->size);
        override_stats_add_attribute(&text, "\" count=\"", blocks);
        hak_text_add(&text, "\"/>\n");
    }
    hak_text_add(&text, "</sizes>\n");
    override_stats_add_attribute(&text, "<total type=\"fast\" count=\"0\" size=\"", stats.cached);
    override_stats_add_attribute(&text, "\"/>\n<total type=\"rest\" count=\"0\" size=\"",
                                 stats.kept + stats.free);
    hak_text_add(&text, "\"/>\n</heap>\n");
    override_stats_add_attribute(&text, "<total type=\"mmap\" count=\"", stats.large_blocks);
    override_stats_add_attribute(&text, "\" size=\"", stats.large);
    override_stats_add_attribute(&text, "\"/>\n<system type=\"current\" size=\"", stats.mapped);
    override_stats_add_attribute(&text, "\"/>\n<live size=\"", stats.live);
    override_stats_add_attribute(&text, "\" exact=\"", stats.exact);
    hak_text_add(&text, "\"/>\n</malloc>\n");
    hak_text_end(&text);
    return 0;
}
