/* SPDX-License-Identifier: MIT */
/* Statistics as text: JSON for programs, a table for people. */
#include <hakmem/hakmem.h>
#include <hakmem/stats.h>

#include <string.h>

#include "core/text.h"

struct stats_text_member {
    const char *name;
    size_t offset;
};

#define MEMBER(of, name)                                                                           \
    {                                                                                              \
#name, offsetof(struct of, name)                                                           \
    }

static const struct stats_text_member stats_text_totals[] = {
    MEMBER(hak_stats, mapped), MEMBER(hak_stats, slabs),       MEMBER(hak_stats, live),
    MEMBER(hak_stats, cached), MEMBER(hak_stats, kept),        MEMBER(hak_stats, free),
    MEMBER(hak_stats, uncut),  MEMBER(hak_stats, large),       MEMBER(hak_stats, dirty),
    MEMBER(hak_stats, clean),  MEMBER(hak_stats, purged),      MEMBER(hak_stats, metadata),
    MEMBER(hak_stats, huge),   MEMBER(hak_stats, live_blocks), MEMBER(hak_stats, large_blocks),
    MEMBER(hak_stats, heaps),  MEMBER(hak_stats, parked),      MEMBER(hak_stats, classes),
};

static const struct stats_text_member stats_text_of_class[] = {
    MEMBER(hak_stats_class, size),    MEMBER(hak_stats_class, slabs),
    MEMBER(hak_stats_class, live),    MEMBER(hak_stats_class, cached),
    MEMBER(hak_stats_class, kept),    MEMBER(hak_stats_class, free),
    MEMBER(hak_stats_class, refills), MEMBER(hak_stats_class, refilled),
    MEMBER(hak_stats_class, flushes), MEMBER(hak_stats_class, flushed),
};

enum {
    TOTALS = sizeof(stats_text_totals) / sizeof(*stats_text_totals),
    OF_CLASS = sizeof(stats_text_of_class) / sizeof(*stats_text_of_class)
};

static uint64_t stats_text_value(const void *object, const struct stats_text_member *member)
{
    return *(const uint64_t *)(const void *)((const char *)object + member->offset);
}

static bool stats_text_is_used(const struct hak_stats_class *entry)
{
    return entry->slabs > 0 || entry->refills > 0 || entry->flushes > 0;
}

static void stats_text_json(struct hak_text *text, const void *object,
                            const struct stats_text_member *members, int count)
{
    for (int i = 0; i < count; i++) {
        hak_text_add(text, i > 0 ? ", \"" : "\"");
        hak_text_add(text, members[i].name);
        hak_text_add(text, "\": ");
        hak_text_number(text, stats_text_value(object, &members[i]), 0);
    }
}

hak_export void hak_stats_json(void (*write)(const char *text, size_t length, void *context),
                               void *context)
{
    struct hak_text text = {.write = write, .context = context};
    struct hak_stats stats;
    const char *between = "";

    hak_stats_get(&stats, sizeof(stats));
    hak_text_add(&text, stats.exact ? "{\"exact\": true, " : "{\"exact\": false, ");
    stats_text_json(&text, &stats, stats_text_totals, TOTALS);
    hak_text_add(&text, ", \"by_class\": [");
    for (unsigned i = 0; i < stats.classes; i++) {
        if (!stats_text_is_used(&stats.by_class[i]))
            continue;
        hak_text_add(&text, between);
        between = ",";
        hak_text_add(&text, "\n  {");
        stats_text_json(&text, &stats.by_class[i], stats_text_of_class, OF_CLASS);
        hak_text_add(&text, "}");
    }
    hak_text_add(&text, "]}\n");
    hak_text_end(&text);
}

static void stats_text_hak_write_to_file(const char *text, size_t length, void *context)
{
    hak_write(*(int *)context, text, length);
}

hak_export void hak_stats_print(int file)
{
    struct hak_text text = {.write = stats_text_hak_write_to_file, .context = &file};
    struct hak_stats stats;

    hak_stats_get(&stats, sizeof(stats));
    hak_text_add(&text, hak_config());
    hak_text_add(&text, stats.exact ? "\n" : "\nother threads were allocating: about\n");
    for (int i = 0; i < TOTALS; i++) {
        hak_text_number(&text, stats_text_value(&stats, &stats_text_totals[i]), 20);
        hak_text_add(&text, "  ");
        hak_text_add(&text, stats_text_totals[i].name);
        hak_text_add(&text, "\n");
    }
    for (int i = 0; i < OF_CLASS; i++) {
        for (size_t width = strlen(stats_text_of_class[i].name); width < 12; width++)
            hak_text_add(&text, " ");
        hak_text_add(&text, stats_text_of_class[i].name);
    }
    hak_text_add(&text, "\n");
    for (unsigned c = 0; c < stats.classes; c++) {
        for (int i = 0; stats_text_is_used(&stats.by_class[c]) && i < OF_CLASS; i++)
            hak_text_number(&text, stats_text_value(&stats.by_class[c], &stats_text_of_class[i]),
                            12);
        if (stats_text_is_used(&stats.by_class[c]))
            hak_text_add(&text, "\n");
    }
    hak_text_end(&text);
}
