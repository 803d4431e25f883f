/* SPDX-License-Identifier: MIT */
/* The ring, compiled in whatever the configuration says. */
#undef CONFIG_TRACE
#define CONFIG_TRACE 1

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/trace.c"
#include "tests/contract/death.h"

static void write_and_abort(void *unused)
{
    (void)unused;
    hak_trace_write();
    abort();
}

static const char *written(void)
{
    const char *said = last_words(write_and_abort, NULL);

    cr_assert_not_null(said);
    return said;
}

static size_t lines(const char *text)
{
    size_t count = 0;

    for (; *text; text++)
        count += *text == '\n';
    return count;
}

Test(trace, an_event_is_a_line)
{
    char expected[256];

    cr_assert_str_eq(written(), "");
    hak_trace_record(HAK_EVENT_REFILL, (void *)(uintptr_t)0xabc0, 48);
    snprintf(expected, sizeof(expected), "hakmem: trace 1: thread 0x%lx refill 0xabc0 size 48\n",
             (unsigned long)hak_thread_pointer());
    cr_assert_str_eq(written(), expected);
}

Test(trace, the_ring_keeps_the_last_events_in_order)
{
    char first[64];

    for (size_t i = 1; i <= EVENTS; i++)
        hak_trace_record(HAK_EVENT_FREE, NULL, i);
    cr_assert_eq(lines(written()), EVENTS);
    cr_assert_eq(strncmp(written(), "hakmem: trace 1: ", 17), 0);
    for (size_t i = 1; i <= 3; i++)
        hak_trace_record(HAK_EVENT_DETACH, NULL, i);
    cr_assert_eq(lines(written()), EVENTS);
    snprintf(first, sizeof(first), "hakmem: trace %d: ", 4);
    cr_assert_eq(strncmp(written(), first, strlen(first)), 0);
    snprintf(first, sizeof(first), "hakmem: trace %d: ", EVENTS + 3);
    cr_assert_not_null(strstr(written(), first));
    cr_assert_not_null(strstr(strstr(written(), first), " detach 0x0 size 3\n"));
}

Test(trace, each_event_has_a_name)
{
    for (unsigned event = 0; event < HAK_EVENTS; event++)
        hak_trace_record((enum hak_event)event, NULL, 0);
    for (unsigned event = 0; event < HAK_EVENTS; event++)
        for (unsigned other = 0; other < event; other++)
            cr_assert_neq(strcmp(NAMES[event], NAMES[other]), 0);
    cr_assert_eq(lines(written()),
                 (size_t)HAK_EVENTS < (size_t)EVENTS ? (size_t)HAK_EVENTS : (size_t)EVENTS);
}
