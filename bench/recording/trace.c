/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "bench/recording/trace.h"

#include <stdlib.h>

#include "core/record_format.h"

/* ── Reading ─────────────────────────────────────────────────────────────────────────────────────── */

static void report(struct trace_summary *summary, enum trace_trouble kind, uint32_t thread,
                   uint64_t offset, uint64_t value)
{
    if (summary->problem_count < TRACE_PROBLEMS)
        summary->problems[summary->problem_count] =
            (struct trace_problem){offset, value, (uint32_t)kind, thread};
    summary->problem_count++;
}

/* Bytes of a chunk that are left. A number beyond them is no number. */
struct source {
    const uint8_t *at, *end;
    bool bad;
};

static uint64_t take_number(struct source *source)
{
    uint64_t number = 0;

    for (unsigned shift = 0; shift < 64; shift += 7) {
        if (source->at == source->end)
            break;
        uint8_t byte = *source->at++;
        number |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80)
            return number;
    }
    source->bad = true;
    return 0;
}

static uint64_t add_difference(const struct hak_record_coder *coder, uint64_t zigzag)
{
    uint64_t units = zigzag >> 1 ^ -(zigzag & 1);

    return coder->last + (units << 3);
}

/* A difference whose lowest bits are in the first byte, and a bit that says whether more follow. */
static uint64_t take_first(const struct hak_record_coder *coder, struct source *source,
                           uint8_t first, unsigned bits)
{
    uint64_t low = first & ((1u << bits) - 1);

    if (first >> bits & 1)
        low |= take_number(source) << bits;
    return add_difference(coder, low);
}

static uint64_t take_address(const struct hak_record_coder *coder, struct source *source)
{
    return add_difference(coder, take_number(source));
}

struct reader {
    struct hak_record_coder coder;
    struct trace_event *events;
    uint32_t *runs;
    struct trace_summary *summary;
    uint64_t ticks, time, last_time;
    uint32_t thread;
    uint64_t odd, turn;
};

static void emit(struct reader *reader, struct trace_event event)
{
    event.time = reader->time;
    event.thread = reader->thread;
    event.turn = reader->turn;
    reader->turn = 0;
    if (reader->events)
        reader->events[reader->summary->events] = event;
    reader->summary->events++;
}

static void take_runs(struct reader *reader, struct source *source, struct trace_event *event)
{
    struct trace_summary *summary = reader->summary;
    uint64_t count = take_number(source);

    if (count > HAK_RECORD_RUNS) {
        source->bad = true;
        return;
    }
    event->runs = (uint32_t)summary->runs;
    for (uint64_t i = 0; i <= 2 * count; i++) {
        uint64_t word = i ? take_number(source) : count;
        if (reader->runs)
            reader->runs[summary->runs] = (uint32_t)word;
        summary->runs++;
        if (i && i % 2 == 0)
            event->size += word;
    }
}

/* One event, of the same shape as the encoder's functions. */
static void take_event(struct reader *reader, struct source *source)
{
    struct hak_record_coder *coder = &reader->coder;
    struct trace_event event = {0};
    uint8_t first = *source->at++;
    uint64_t odd = reader->odd;

    if (first & 0x80) {
        uint32_t slot = (uint32_t)(first & (first & 0x40 ? 0x3f : 0x1f)) << 8;
        slot = source->at == source->end ? UINT32_MAX : slot | *source->at++;
        uint64_t entry = slot < HAK_RECORD_DICTIONARY ? coder->entries[slot] : 0;
        source->bad |= entry == 0 || odd;
        event.address = entry >> HAK_RECORD_SIZE_BITS << 3;
        event.operation = first & 0x40 ? HAK_RECORD_FREE : HAK_RECORD_MALLOC;
        if (event.operation == HAK_RECORD_MALLOC)
            event.size = first & 0x20 ? entry & (((uint64_t)1 << HAK_RECORD_SIZE_BITS) - 1)
                                      : take_number(source);
    } else if (first & 0x40) {
        event.operation = HAK_RECORD_FREE;
        event.address = take_first(coder, source, first, 5);
    } else if (first & 0x20) {
        event.operation = HAK_RECORD_MALLOC;
        event.address = take_first(coder, source, first, 4);
        event.size = take_number(source);
    } else {
        event.operation = first & 0x0f;
        switch (first) {
        case 0x10 | HAK_RECORD_ALIGNED:
            event.align = (uint8_t)take_number(source);
            /* fall through */
        case 0x10 | HAK_RECORD_CALLOC:
        case 0x10 | HAK_RECORD_TAKE:
            event.address = take_address(coder, source);
            event.size = take_number(source);
            break;
        case 0x10 | HAK_RECORD_GIVE:
            event.address = take_address(coder, source);
            coder->given = event.address | odd;
            break;
        case 0x10 | HAK_RECORD_KEEP:
            event.address = coder->given;
            event.size = take_number(source);
            source->bad |= event.address == 0;
            break;
        case 0x10 | HAK_RECORD_RETRACT:
            event.address = take_address(coder, source);
            event.size = take_number(source);
            break;
        case 0x10 | HAK_RECORD_REFUSED:
            event.align = (uint8_t)take_number(source);
            event.size = take_number(source);
            break;
        case 0x10 | HAK_RECORD_TOUCHED:
            event.address = take_address(coder, source);
            take_runs(reader, source, &event);
            break;
        case 0x10 | HAK_RECORD_LOST:
            event.size = take_number(source);
            break;
        case 0x10 | HAK_RECORD_GAP:
            reader->ticks += take_number(source) << HAK_RECORD_TICK_SHIFT;
            return;
        case 0x10 | HAK_RECORD_SWITCH:
            reader->thread = (uint32_t)take_number(source);
            return;
        case 0x10 | HAK_RECORD_ODD:
            reader->odd = take_number(source) & 7;
            return;
        case 0x10 | HAK_RECORD_TURN:
            reader->turn = take_number(source);
            return;
        default:
            source->bad = true;
        }
    }
    reader->odd = 0;
    if (source->bad)
        return;
    switch (event.operation) {
    case HAK_RECORD_MALLOC:
    case HAK_RECORD_CALLOC:
    case HAK_RECORD_ALIGNED:
    case HAK_RECORD_TAKE:
        event.address |= odd;
        hak_record_enter(coder, event.address & ~(uint64_t)7, event.size);
        break;
    case HAK_RECORD_KEEP:
        hak_record_enter(coder, event.address, event.size);
        break;
    case HAK_RECORD_FREE:
    case HAK_RECORD_GIVE:
        hak_record_leave(coder, event.address);
        event.address |= odd;
        break;
    case HAK_RECORD_RETRACT:
    case HAK_RECORD_TOUCHED:
        coder->last = event.address;
        event.address |= odd;
        break;
    default:
        break;
    }
    emit(reader, event);
}

static void read_chunk(struct reader *reader, const struct hak_record_chunk *chunk, uint64_t offset)
{
    struct trace_summary *summary = reader->summary;
    struct source source = {.at = (const uint8_t *)(chunk + 1)};
    bool open = chunk->checksum == 0;
    uint64_t before = summary->events, all = 0;
    uint64_t known = chunk->end_ticks - chunk->begin_ticks;

    source.end = source.at + chunk->used;
    if (!open && chunk->end_ns > chunk->begin_ns &&
        (known > 10000 || known == chunk->end_ns - chunk->begin_ns))
        summary->ns_per_tick = (double)(chunk->end_ns - chunk->begin_ns) / (double)known;
    double scale = summary->ns_per_tick > 0 ? summary->ns_per_tick : 0.4;
    hak_record_begin(&reader->coder, chunk->base);
    reader->ticks = reader->odd = reader->turn = 0;
    reader->thread = chunk->thread;
    while (source.at < source.end) {
        const uint8_t *start = source.at;
        uint64_t time = chunk->begin_ns + (uint64_t)((double)reader->ticks * scale);
        if (!open && time > chunk->end_ns)
            time = chunk->end_ns;
        reader->time = time > reader->last_time ? time : reader->last_time;
        reader->last_time = reader->time;
        uint8_t first = *source.at;
        take_event(reader, &source);
        if (source.bad) {
            report(summary, TRACE_EVENT, chunk->thread,
                   offset + (uint64_t)(start - (const uint8_t *)chunk), *start);
            break;
        }
        all += first != (0x10 | HAK_RECORD_ODD) &&
               first != (0x10 | HAK_RECORD_TURN); /* a part of the next one */
    }
    if (!source.bad && open)
        report(summary, TRACE_OPEN, chunk->thread, offset, summary->events - before);
    if (!source.bad && !open && all != chunk->events)
        report(summary, TRACE_COUNT, chunk->thread, offset, all);
    if (!open && chunk->end_ns > reader->last_time)
        reader->last_time = chunk->end_ns;
    if (summary->begin_ns == 0 || chunk->begin_ns < summary->begin_ns)
        summary->begin_ns = chunk->begin_ns;
    if (reader->last_time > summary->end_ns)
        summary->end_ns = reader->last_time;
    summary->chunks++;
    summary->open_chunks += open;
    summary->bytes += sizeof *chunk + chunk->used;
    summary->last = chunk->flags & HAK_RECORD_LAST;
}

static bool is_zero(const uint8_t *data, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if (data[i])
            return false;
    return true;
}

/* Whether a chunk's sizes can be, so that the next one can be found behind it. */
static bool is_sound(const struct hak_record_chunk *chunk)
{
    return chunk->magic == HAK_RECORD_MAGIC && chunk->size >= sizeof *chunk &&
           chunk->size % 32 == 0 && chunk->size <= HAK_RECORD_CHUNK &&
           chunk->used <= chunk->size - sizeof *chunk;
}

/* The next place from `offset` on where a chunk can be; `size` if there is none. */
static size_t next_chunk(const uint8_t *data, size_t size, size_t offset)
{
    for (offset = (offset + 31) / 32 * 32; offset + sizeof(struct hak_record_chunk) <= size;
         offset += 32) {
        struct hak_record_chunk chunk;
        memcpy(&chunk, data + offset, sizeof chunk);
        if (is_sound(&chunk))
            return offset;
    }
    return size;
}

int trace_read_header(const uint8_t *data, size_t size, struct trace_header *header)
{
    struct hak_record_chunk chunk;
    struct hak_record_thread thread;

    if (size < sizeof chunk + sizeof thread)
        return 0;
    memcpy(&chunk, data, sizeof chunk);
    memcpy(&thread, data + sizeof chunk, sizeof thread);
    if (!is_sound(&chunk) || chunk.kind != HAK_RECORD_THREAD || chunk.used < sizeof thread)
        return 0;
    *header = (struct trace_header){.flags = thread.flags,
                                    .process = thread.process,
                                    .parent = thread.parent,
                                    .image = thread.image,
                                    .part = thread.part,
                                    .page = thread.page,
                                    .thread = chunk.thread,
                                    .start_ns = thread.start_ns};
    return 1;
}

void trace_decode(uint8_t *data, size_t size, struct trace_event *events, uint32_t *runs,
                  struct trace_summary *summary)
{
    struct reader reader = {.events = events, .runs = runs, .summary = summary};
    struct trace_header header;
    double scale = summary->ns_per_tick;
    uint64_t number = 0;

    memset(summary, 0, sizeof *summary);
    summary->ns_per_tick = scale;
    if (!trace_read_header(data, size, &header)) {
        report(summary, TRACE_NO_HEADER, 0, 0, 0);
        return;
    }
    for (size_t offset = 0; offset + sizeof(struct hak_record_chunk) <= size;) {
        struct hak_record_chunk *chunk = (struct hak_record_chunk *)(void *)(data + offset);
        if (chunk->magic == 0) { /* never written; more files may follow */
            size_t next = next_chunk(data, size, offset);
            if (!is_zero(data + offset, next - offset))
                report(summary, TRACE_GARBAGE, header.thread, offset, 0);
            offset = next;
            continue;
        }
        if (!is_sound(chunk)) {
            report(summary, TRACE_GARBAGE, header.thread, offset, 0);
            summary->damaged++;
            offset = next_chunk(data, size, offset + 32);
            continue;
        }
        size_t needed = (sizeof *chunk + chunk->used + 31) / 32 * 32;
        if (chunk->checksum == 0)
            needed = sizeof *chunk + chunk->used;
        if (size - offset < needed) {
            report(summary, TRACE_SHORT, chunk->thread, offset, size - offset);
            summary->damaged++;
            break;
        }
        bool fits = size - offset >= chunk->size;
        size_t behind = (fits ? chunk->size : size - offset) - needed;
        if (chunk->checksum != 0 && chunk->checksum != hak_record_checksum(chunk)) {
            report(summary, TRACE_CHECKSUM, chunk->thread, offset, chunk->number);
            summary->damaged++;
        } else if (chunk->kind == HAK_RECORD_THREAD) {
            uint32_t version;
            memcpy(&version, chunk + 1, sizeof version);
            if (version != HAK_RECORD_VERSION) {
                report(summary, TRACE_VERSION, chunk->thread, offset, version);
                return;
            }
            number = 0;
            reader.last_time = 0;
        } else if (chunk->kind != HAK_RECORD_EVENTS) {
            report(summary, TRACE_GARBAGE, chunk->thread, offset, chunk->kind);
            summary->damaged++;
        } else {
            if (chunk->number != number + 1)
                report(summary, TRACE_MISSING, chunk->thread, offset, chunk->number);
            if (chunk->checksum && !is_zero(data + offset + needed, behind))
                report(summary, TRACE_UNUSED, chunk->thread, offset + needed, behind);
            read_chunk(&reader, chunk, offset);
        }
        if (chunk->kind == HAK_RECORD_EVENTS)
            number = chunk->number;
        offset += chunk->size;
    }
}

/* ── Writing ─────────────────────────────────────────────────────────────────────────────────────── */

struct writer {
    uint8_t *out; /* NULL: count only */
    size_t size;
    union {
        struct hak_record_chunk chunk;
        uint8_t bytes[HAK_RECORD_CHUNK];
    } piece;
    struct hak_record_coder coder;
    uint8_t *at;
    uint32_t events;
    uint64_t number;
    uint64_t time;
};

static void begin_piece(struct writer *writer, uint32_t thread, uint64_t time)
{
    uint64_t base = writer->coder.last;

    writer->piece.chunk = (struct hak_record_chunk){.magic = HAK_RECORD_MAGIC,
                                                    .kind = HAK_RECORD_EVENTS,
                                                    .thread = thread,
                                                    .number = ++writer->number,
                                                    .base = base,
                                                    .begin_ns = time,
                                                    .begin_ticks = time};
    hak_record_begin(&writer->coder, base);
    writer->at = (uint8_t *)(&writer->piece.chunk + 1);
    writer->events = 0;
    writer->time = time;
}

static void end_piece(struct writer *writer, uint64_t time, uint16_t flags)
{
    struct hak_record_chunk *chunk = &writer->piece.chunk;

    chunk->used = (uint32_t)(writer->at - (uint8_t *)(chunk + 1));
    chunk->size = (uint32_t)((sizeof *chunk + chunk->used + 31) / 32 * 32);
    chunk->events = writer->events;
    chunk->flags = flags;
    chunk->end_ns = chunk->end_ticks = time; /* a tick is a nanosecond here */
    chunk->checksum = hak_record_checksum(chunk);
    if (writer->out)
        memcpy(writer->out + writer->size, chunk, chunk->size);
    writer->size += chunk->size;
}

static void put_event(struct writer *writer, const struct trace_event *event, const uint32_t *runs)
{
    struct hak_record_coder *coder = &writer->coder;
    uint8_t *at = writer->at;

    if (event->turn)
        at = hak_record_put_number(at, HAK_RECORD_TURN, event->turn);
    switch (event->operation) {
    case HAK_RECORD_MALLOC:
        at = hak_record_put_malloc(coder, at, event->address, event->size);
        break;
    case HAK_RECORD_FREE:
        at = hak_record_put_free(coder, at, event->address);
        break;
    case HAK_RECORD_CALLOC:
    case HAK_RECORD_ALIGNED:
    case HAK_RECORD_TAKE:
        at = hak_record_put_block(coder, at, (enum hak_record_operation)event->operation,
                                  event->address, event->size, event->align);
        break;
    case HAK_RECORD_GIVE:
        at = hak_record_put_give(coder, at, event->address);
        break;
    case HAK_RECORD_KEEP:
        at = coder->given == event->address
                 ? hak_record_put_keep(coder, at, event->size)
                 : hak_record_put_block(coder, at, HAK_RECORD_TAKE, event->address, event->size, 0);
        break;
    case HAK_RECORD_RETRACT:
        at = hak_record_put_retract(coder, at, event->address, event->size);
        break;
    case HAK_RECORD_REFUSED:
        at = hak_record_put_refused(at, event->align, event->size);
        break;
    case HAK_RECORD_TOUCHED:
        if (runs)
            at = hak_record_put_touched(coder, at, event->address, runs + event->runs + 1,
                                        runs[event->runs]);
        break;
    case HAK_RECORD_LOST:
        at = hak_record_put_number(at, HAK_RECORD_LOST, event->size);
        break;
    default:
        break;
    }
    writer->events += at != writer->at;
    writer->at = at;
}

size_t trace_encode(const struct trace_header *header, const struct trace_event *events,
                    size_t count, const uint32_t *runs, uint8_t *out)
{
    struct writer *writer = calloc(1, sizeof *writer);
    uint64_t first = count ? events[0].time : 0, last = count ? events[count - 1].time : 0;

    if (writer == NULL)
        return 0;
    struct hak_record_thread thread = {.version = HAK_RECORD_VERSION,
                                       .flags = header->flags,
                                       .process = header->process,
                                       .parent = header->parent,
                                       .image = header->image,
                                       .part = header->part,
                                       .page = header->page,
                                       .dictionary = HAK_RECORD_DICTIONARY,
                                       .start_ns = header->start_ns};
    writer->piece.chunk =
        (struct hak_record_chunk){.magic = HAK_RECORD_MAGIC,
                                  .kind = HAK_RECORD_THREAD,
                                  .size = sizeof writer->piece.chunk + sizeof thread,
                                  .used = sizeof thread,
                                  .thread = header->thread,
                                  .begin_ns = first};
    memcpy(writer->piece.bytes + sizeof writer->piece.chunk, &thread, sizeof thread);
    writer->piece.chunk.checksum = hak_record_checksum(&writer->piece.chunk);
    writer->out = out;
    if (out)
        memcpy(out, &writer->piece, writer->piece.chunk.size);
    writer->size = writer->piece.chunk.size;

    begin_piece(writer, header->thread, first);
    for (size_t i = 0; i < count; i++) {
        if (writer->at + 3 * HAK_RECORD_LONGEST > writer->piece.bytes + HAK_RECORD_CHUNK) {
            end_piece(writer, events[i].time, 0);
            begin_piece(writer, header->thread, events[i].time);
        }
        uint64_t gap = (events[i].time - writer->time) >> HAK_RECORD_TICK_SHIFT;
        if (gap) {
            writer->at = hak_record_put_number(writer->at, HAK_RECORD_GAP, gap);
            writer->events++;
            writer->time += gap << HAK_RECORD_TICK_SHIFT;
        }
        put_event(writer, &events[i], runs);
    }
    end_piece(writer, last, HAK_RECORD_LAST);
    size_t size = writer->size;
    free(writer);
    return size;
}

/* ── Order ───────────────────────────────────────────────────────────────────────────────────────────
 * Where several threads have events at an address, these are sorted by turn, and each waits for the one before it.
 * The threads' next events stand in a heap by time; the earliest is taken unless it has to wait. What is waited for
 * did come earlier in truth, so that somebody can always go on, unless the recording is wrong. */

enum { NOBODY = -1 };

struct place {
    uint64_t address;
    int32_t block; /* the event that allocated what lives here; NOBODY */
    int32_t last;  /* the block that lived here last */
    bool many;     /* several threads have events here */
    uint32_t thread;
};

struct cursor {
    uint64_t next, end;   /* the thread's events */
    uint32_t waiters;     /* 1 + the first thread that waits for an event of this one */
    uint32_t next_waiter; /* 1 + thread */
    bool waits;
};

struct sorter {
    const struct trace_event *events;
    uint32_t threads;
    struct place *places;
    uint64_t mask;
    struct cursor *cursors;
    uint32_t *owner; /* of each event: which cursor's */
    uint32_t *heap, heap_size;
    uint32_t *order, *after;
    uint64_t done;
    int32_t *block;
    struct trace_order_report *report;
};

static bool takes(uint8_t operation)
{
    return operation == HAK_RECORD_MALLOC || operation == HAK_RECORD_CALLOC ||
           operation == HAK_RECORD_ALIGNED || operation == HAK_RECORD_TAKE ||
           operation == HAK_RECORD_KEEP || operation == HAK_RECORD_RETRACT;
}

static bool gives(uint8_t operation)
{
    return operation == HAK_RECORD_FREE || operation == HAK_RECORD_GIVE;
}

static struct place *place_of(const struct sorter *sorter, uint64_t address)
{
    uint64_t slot = (address >> 3) * 0x9e3779b97f4a7c15u >> 20;

    for (;; slot++) {
        struct place *place = &sorter->places[slot & sorter->mask];
        if (place->address == address || place->address == 0)
            return place;
    }
}

/* Threads that come first by the time of their next event, then by number. */
static bool is_earlier(const struct sorter *sorter, uint32_t a, uint32_t b)
{
    uint64_t time_a = sorter->events[sorter->cursors[a].next].time;
    uint64_t time_b = sorter->events[sorter->cursors[b].next].time;

    return time_a < time_b || (time_a == time_b && a < b);
}

static void heap_push(struct sorter *sorter, uint32_t thread)
{
    uint32_t at = sorter->heap_size++;

    for (; at > 0 && is_earlier(sorter, thread, sorter->heap[(at - 1) / 2]); at = (at - 1) / 2)
        sorter->heap[at] = sorter->heap[(at - 1) / 2];
    sorter->heap[at] = thread;
}

/* Puts the thread at the top where it belongs now. */
static void heap_sift(struct sorter *sorter)
{
    uint32_t thread = sorter->heap[0], at = 0;

    for (;;) {
        uint32_t child = 2 * at + 1;
        if (child >= sorter->heap_size)
            break;
        if (child + 1 < sorter->heap_size &&
            is_earlier(sorter, sorter->heap[child + 1], sorter->heap[child]))
            child++;
        if (!is_earlier(sorter, sorter->heap[child], thread))
            break;
        sorter->heap[at] = sorter->heap[child];
        at = child;
    }
    sorter->heap[at] = thread;
}

static void heap_pop(struct sorter *sorter)
{
    sorter->heap[0] = sorter->heap[--sorter->heap_size];
    if (sorter->heap_size)
        heap_sift(sorter);
}

static bool is_done(const struct sorter *sorter, uint32_t event)
{
    return sorter->cursors[sorter->owner[event]].next > event;
}

static void impossible(struct sorter *sorter, uint64_t event)
{
    if (sorter->report->impossible++ == 0)
        sorter->report->first = event;
    sorter->block[event] = TRACE_IMPOSSIBLE;
}

static void execute(struct sorter *sorter, uint64_t event)
{
    const struct trace_event *what = &sorter->events[event];

    sorter->order[sorter->done++] = (uint32_t)event;
    if (what->address == 0)
        return;
    struct place *place = place_of(sorter, what->address);
    if (takes(what->operation)) {
        bool lives = place->block != NOBODY;
        sorter->block[event] = (int32_t)event;
        if (what->operation == HAK_RECORD_RETRACT && place->last != NOBODY)
            sorter->block[event] = place->last;
        place->block = sorter->block[event];
        if (lives)
            impossible(sorter, event);
    } else {
        sorter->block[event] = place->block == NOBODY ? TRACE_UNKNOWN : place->block;
        if (!gives(what->operation))
            return;
        if (place->block == NOBODY && place->last != NOBODY)
            impossible(sorter, event);
        place->last = place->block == NOBODY ? (int32_t)event : place->block;
        place->block = NOBODY;
    }
}

/* Lets go of the threads that wait for an event of this one, which is done. */
static void wake(struct sorter *sorter, struct cursor *cursor, uint64_t event)
{
    for (uint32_t *link = &cursor->waiters; *link;) {
        uint32_t thread = *link - 1;
        struct cursor *waiter = &sorter->cursors[thread];
        if (sorter->after[waiter->next] > event) {
            link = &waiter->next_waiter;
            continue;
        }
        *link = waiter->next_waiter;
        waiter->waits = false;
        heap_push(sorter, thread);
    }
}

/* All threads wait for each other. The one with the earliest time goes on. */
static bool break_circle(struct sorter *sorter)
{
    uint32_t found = sorter->threads;

    for (uint32_t t = 0; t < sorter->threads; t++)
        if (sorter->cursors[t].waits && (found == sorter->threads || is_earlier(sorter, t, found)))
            found = t;
    if (found == sorter->threads)
        return false;
    uint64_t event = sorter->cursors[found].next;
    struct cursor *other = &sorter->cursors[sorter->owner[sorter->after[event]]];
    uint32_t *link = &other->waiters;
    while (*link != found + 1)
        link = &sorter->cursors[*link - 1].next_waiter;
    *link = sorter->cursors[found].next_waiter;
    sorter->cursors[found].waits = false;
    sorter->after[event] = UINT32_MAX;
    impossible(sorter, event);
    heap_push(sorter, found);
    return true;
}

static void sort(struct sorter *sorter)
{
    for (uint32_t t = 0; t < sorter->threads; t++)
        if (sorter->cursors[t].next < sorter->cursors[t].end)
            heap_push(sorter, t);
    while (sorter->heap_size || break_circle(sorter)) {
        uint32_t thread = sorter->heap[0];
        struct cursor *cursor = &sorter->cursors[thread];
        uint64_t event = cursor->next;
        uint32_t before = sorter->after[event];
        if (before != UINT32_MAX && !is_done(sorter, before)) {
            struct cursor *other = &sorter->cursors[sorter->owner[before]];
            heap_pop(sorter);
            cursor->waits = true;
            cursor->next_waiter = other->waiters;
            other->waiters = thread + 1;
            sorter->report->late++;
            continue;
        }
        execute(sorter, event);
        cursor->next++;
        if (cursor->next < cursor->end)
            heap_sift(sorter);
        else
            heap_pop(sorter);
        if (cursor->waiters)
            wake(sorter, cursor, event);
    }
}

/* What events at an address are sorted by. */
struct link {
    uint64_t address, turn;
    uint32_t event;
};

static int compare_links(const void *a, const void *b)
{
    const struct link *first = a, *second = b;

    if (first->address != second->address)
        return first->address < second->address ? -1 : 1;
    if (first->turn != second->turn)
        return first->turn < second->turn ? -1 : 1;
    return (first->event > second->event) - (first->event < second->event);
}

/* Finds the turn of each event where several threads meet, sorts, and links each to the one before. */
static bool link_events(struct sorter *sorter, const uint64_t *starts)
{
    struct turn {
        uint64_t turn;
        uint32_t thread; /* 1 + whose it is */
    } *turns = calloc(HAK_RECORD_COUNTERS, sizeof *turns);
    struct link *links = malloc((starts[sorter->threads] + 1) * sizeof *links);
    uint64_t count = 0;

    for (uint32_t t = 0; turns && links && t < sorter->threads; t++)
        for (uint64_t i = starts[t]; i < starts[t + 1]; i++) {
            const struct trace_event *event = &sorter->events[i];
            struct turn *turn = &turns[hak_record_counter(event->address)];
            if (event->address == 0 || event->operation == HAK_RECORD_TOUCHED)
                continue;
            if (turn->thread != t + 1 || event->turn)
                *turn = (struct turn){event->turn, t + 1};
            if (place_of(sorter, event->address)->many)
                links[count++] = (struct link){event->address, turn->turn, (uint32_t)i};
        }
    if (turns && links)
        qsort(links, count, sizeof *links, compare_links);
    for (uint64_t i = 1; turns && links && i < count; i++)
        if (links[i].address == links[i - 1].address)
            sorter->after[links[i].event] = links[i - 1].event;
    bool linked = turns && links;
    free(turns);
    free(links);
    return linked;
}

static bool prepare(struct sorter *sorter, const uint64_t *starts)
{
    uint64_t slots = 64, count = starts[sorter->threads];

    while (slots < 2 * count)
        slots *= 2;
    sorter->mask = slots - 1;
    sorter->places = calloc(slots, sizeof *sorter->places);
    sorter->cursors = calloc(sorter->threads, sizeof *sorter->cursors);
    sorter->heap = malloc(sorter->threads * sizeof *sorter->heap);
    sorter->owner = malloc((count + 1) * sizeof *sorter->owner);
    if (!sorter->places || !sorter->cursors || !sorter->heap || !sorter->owner)
        return false;
    for (uint32_t t = 0; t < sorter->threads; t++) {
        sorter->cursors[t].next = starts[t];
        sorter->cursors[t].end = starts[t + 1];
        for (uint64_t i = starts[t]; i < starts[t + 1]; i++) {
            uint64_t address = sorter->events[i].address;
            sorter->owner[i] = t;
            sorter->block[i] = (int32_t)i;
            sorter->after[i] = UINT32_MAX;
            if (address == 0)
                continue;
            struct place *place = place_of(sorter, address);
            if (place->address == 0)
                *place = (struct place){.address = address,
                                        .block = NOBODY,
                                        .last = NOBODY,
                                        .thread = t};
            else if (place->thread != t)
                place->many = true;
        }
    }
    return link_events(sorter, starts);
}

int trace_order(const struct trace_event *events, const uint64_t *starts, uint32_t threads,
                uint32_t *order, uint32_t *after, int32_t *block, struct trace_order_report *report)
{
    uint64_t count = starts[threads];
    struct sorter sorter = {.events = events,
                            .threads = threads,
                            .order = order,
                            .after = after,
                            .block = block,
                            .report = report};

    memset(report, 0, sizeof *report);
    if (count >= INT32_MAX)
        return 0;
    bool ready = threads == 0 || prepare(&sorter, starts);
    if (ready && threads)
        sort(&sorter);
    for (uint64_t i = 0; ready && i < count; i++)
        if (gives(events[i].operation)) {
            report->unknown += block[i] == TRACE_UNKNOWN;
            report->transfers += block[i] >= 0 && events[block[i]].thread != events[i].thread;
        }
    free(sorter.places);
    free(sorter.cursors);
    free(sorter.heap);
    free(sorter.owner);
    return ready;
}

/* ── Overlap ─────────────────────────────────────────────────────────────────────────────────────────
 * Which of the sorted addresses have a live block: a bit each, and a bit for each word of bits, and so on up. */

enum { LEVELS = 6 };

struct bits {
    uint64_t *level[LEVELS];
    uint64_t size;
};

static bool bits_make(struct bits *bits, uint64_t size)
{
    bits->size = size;
    for (int i = 0; i < LEVELS; i++) {
        size = size / 64 + 1;
        bits->level[i] = calloc(size + 1, 8);
        if (bits->level[i] == NULL)
            return false;
    }
    return true;
}

static void bits_set(struct bits *bits, uint64_t at, bool on)
{
    for (int i = 0; i < LEVELS; i++, at /= 64) {
        uint64_t *word = &bits->level[i][at / 64], bit = (uint64_t)1 << at % 64;
        *word = on ? *word | bit : *word & ~bit;
        on = *word != 0;
    }
}

/* The next bit that is set after `at`, or, `down`, before it; UINT64_MAX: none. */
static uint64_t bits_next(const struct bits *bits, uint64_t at, bool down)
{
    for (int i = 0; i < LEVELS; i++, at /= 64) {
        uint64_t word = bits->level[i][at / 64], shift = at % 64;
        word &= down ? ((uint64_t)1 << shift) - 1 : shift == 63 ? 0 : ~(uint64_t)0 << (shift + 1);
        if (word == 0)
            continue;
        at = at / 64 * 64 + (uint64_t)(down ? 63 - __builtin_clzll(word) : __builtin_ctzll(word));
        while (i-- > 0) {
            word = bits->level[i][at];
            at = at * 64 + (uint64_t)(down ? 63 - __builtin_clzll(word) : __builtin_ctzll(word));
        }
        return at;
    }
    return UINT64_MAX;
}

static int compare_addresses(const void *a, const void *b)
{
    uint64_t first = *(const uint64_t *)a, second = *(const uint64_t *)b;

    return (first > second) - (first < second);
}

static uint64_t index_of(const uint64_t *addresses, uint64_t count, uint64_t address)
{
    uint64_t low = 0;

    while (count > 1) {
        uint64_t half = count / 2;
        if (addresses[low + half] <= address)
            low += half;
        count -= half;
    }
    return low;
}

uint64_t trace_overlaps(const struct trace_event *events, const uint32_t *order,
                        const int32_t *block, uint64_t count, uint64_t *first)
{
    uint64_t *addresses = malloc((count + 1) * sizeof *addresses),
             *sizes = malloc((count + 1) * sizeof *sizes);
    uint64_t unique = 0, found = 0;
    struct bits bits = {.size = 0};

    if (addresses == NULL || sizes == NULL || !bits_make(&bits, count + 1)) {
        found = UINT64_MAX;
        goto out;
    }
    for (uint64_t i = 0; i < count; i++)
        if (takes(events[i].operation))
            addresses[unique++] = events[i].address;
    qsort(addresses, unique, sizeof *addresses, compare_addresses);
    uint64_t kept = 0;
    for (uint64_t i = 0; i < unique; i++)
        if (kept == 0 || addresses[kept - 1] != addresses[i])
            addresses[kept++] = addresses[i];
    for (uint64_t i = 0; i < count; i++) {
        uint32_t event = order[i];
        const struct trace_event *what = &events[event];
        if (gives(what->operation) && block[event] >= 0)
            bits_set(&bits, index_of(addresses, kept, what->address), false);
        if (!takes(what->operation))
            continue;
        uint64_t at = index_of(addresses, kept, what->address);
        /* A realloc that has failed has the block back as it was. */
        uint64_t size = what->operation == HAK_RECORD_RETRACT && block[event] >= 0
                            ? events[block[event]].size
                            : what->size;
        uint64_t below = bits_next(&bits, at, true), above = bits_next(&bits, at, false);
        bool overlaps = (below != UINT64_MAX && addresses[below] + sizes[below] > what->address) ||
                        (above != UINT64_MAX && what->address + size > addresses[above]);
        if (overlaps && found++ == 0)
            *first = event;
        sizes[at] = size;
        bits_set(&bits, at, true);
    }
out:
    free(addresses);
    free(sizes);
    for (int i = 0; i < LEVELS; i++)
        free(bits.level[i]);
    return found;
}
