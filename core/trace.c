/* SPDX-License-Identifier: MIT */
#include "core/trace.h"

#include <unistd.h>

#include "core/atomic.h"
#include "core/syscall.h"
#include "core/text.h"

enum { EVENTS = 1 << CONFIG_TRACE_LOG2 };

/* One event. Its number is 0 while the rest is being written. */
struct entry {
    uint64_t number; /* from 1 on */
    const void *pointer;
    size_t size;
    uintptr_t thread;
    uint32_t event;
};

static struct entry ring[EVENTS];
static uint64_t recorded;

static const char *const NAMES[HAK_EVENTS] = {
    [HAK_EVENT_MALLOC] = "malloc",
    [HAK_EVENT_FREE] = "free",
    [HAK_EVENT_REFILL] = "refill",
    [HAK_EVENT_LAST_TRY] = "last try",
    [HAK_EVENT_LARGE] = "large",
    [HAK_EVENT_FLUSH] = "flush",
    [HAK_EVENT_FREE_OTHER] = "free other",
    [HAK_EVENT_RESIZE] = "resize",
    [HAK_EVENT_MOVE] = "move",
    [HAK_EVENT_COPY] = "copy",
    [HAK_EVENT_TRIM] = "trim",
    [HAK_EVENT_PURGE] = "purge",
    [HAK_EVENT_ATTACH] = "attach",
    [HAK_EVENT_DETACH] = "detach",
};

void hak_trace_record(enum hak_event event, const void *pointer, size_t size)
{
    uint64_t number = __atomic_add_fetch(&recorded, 1, __ATOMIC_RELAXED);
    struct entry *entry = &ring[number % EVENTS];

    atomic_store_relaxed(&entry->number, 0);
    atomic_fence_release();
    atomic_store_relaxed(&entry->pointer, pointer);
    atomic_store_relaxed(&entry->size, size);
    atomic_store_relaxed(&entry->thread, hak_thread_pointer());
    atomic_store_relaxed(&entry->event, (uint32_t)event);
    atomic_store_release(&entry->number, number);
}

static int trace_file = STDERR_FILENO;

static void trace_write_entry(const struct entry *entry, uint64_t number)
{
    struct hak_text line;

    if (atomic_load_acquire(&entry->number) != number)
        return;
    line.write = hak_write_to_file;
    line.context = &trace_file;
    line.length = 0;
    hak_text_add(&line, "hakmem: trace ");
    hak_text_number(&line, number, 0);
    hak_text_add(&line, ": thread ");
    hak_text_hex(&line, atomic_load_relaxed(&entry->thread));
    hak_text_add(&line, " ");
    hak_text_add(&line, NAMES[atomic_load_relaxed(&entry->event) % HAK_EVENTS]);
    hak_text_add(&line, " ");
    hak_text_hex(&line, (uintptr_t)atomic_load_relaxed(&entry->pointer));
    hak_text_add(&line, " size ");
    hak_text_number(&line, atomic_load_relaxed(&entry->size), 0);
    hak_text_add(&line, "\n");
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    if (atomic_load_relaxed(&entry->number) == number) /* else overwritten meanwhile */
        hak_text_end(&line);
}

void hak_trace_write(void)
{
    uint64_t last = atomic_load_relaxed(&recorded);
    uint64_t first = last > EVENTS ? last - EVENTS + 1 : 1;

    for (uint64_t number = first; number <= last; number++)
        trace_write_entry(&ring[number % EVENTS], number);
}
