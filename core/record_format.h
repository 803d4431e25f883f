/* SPDX-License-Identifier: MIT */
/* The format of a recording, and the encoder and decoder of its events. doc/recording.md explains both, and why
 * the order of events between threads follows from what is here.
 *
 *   file    thread header │ chunk │ chunk │ chunk │ … │ zeros, or the end
 *   chunk   struct hak_record_chunk │ events, `used` bytes │ zeros up to `size`
 *
 * A thread has a file of its own; files may also be put one behind the other, in any order, as each says in its
 * header whose it is. A chunk can be read without the ones before it: addresses and the dictionary start anew.
 * All numbers are little-endian. A file that ends in the middle of a chunk, or in zeros, is whole up to there. */
#ifndef HAK_RECORD_FORMAT_H
#define HAK_RECORD_FORMAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum {
    HAK_RECORD_MAGIC = 0x31524b48, /* "HKR1" */
    HAK_RECORD_VERSION = 1,
    HAK_RECORD_CHUNK = 64 * 1024, /* bytes of a full chunk, with its header */
    HAK_RECORD_FIRST =
        4096, /* where the second chunk starts: a thread that does little needs one page */
    HAK_RECORD_LONGEST = 96,   /* bytes that one event takes at most */
    HAK_RECORD_RUNS = 8,       /* of touched pages, in one event */
    HAK_RECORD_TICK_SHIFT = 8, /* a gap counts 2^8 ticks of the processor's clock */
};

enum hak_record_kind {
    HAK_RECORD_THREAD = 1, /* a header: struct hak_record_thread follows */
    HAK_RECORD_EVENTS = 2,
};

enum hak_record_flags {
    HAK_RECORD_LAST = 1, /* chunk: the thread, or the process, ended with it */

    HAK_RECORD_SHARED =
        1, /* header: the file shared by all threads without one of their own; SWITCH names the thread */
    HAK_RECORD_FORKED =
        2, /* header: the process began as a copy, with blocks that the recording does not have */
    HAK_RECORD_BUILT_IN = 4, /* header: made by CONFIG_RECORD */
    HAK_RECORD_CUT =
        8, /* header: a part of a recording; blocks from before are allocated at its start */
    HAK_RECORD_IMPORTED = 16, /* header: converted from another format */
    HAK_RECORD_NUMBERED = 32, /* header: addresses are mere numbers, and blocks seem to overlap */
};

/* 96 bytes. A chunk that is still written to has checksum and events 0, `used` grows with each event, and the
 * end's times are not there yet. */
struct hak_record_chunk {
    uint32_t magic;
    uint16_t kind;
    uint16_t flags;
    uint32_t size;        /* from this header to the next one, a multiple of 32 */
    uint32_t used;        /* bytes of events, or of the thread header */
    uint32_t events;      /* how many */
    uint32_t thread;      /* the file's thread; 0 is the one that started the process */
    uint64_t checksum;    /* hak_record_checksum(); 0: not written yet */
    uint64_t number;      /* 1, 2, … within the file; a header has 0 */
    uint64_t base;        /* what the first address is relative to */
    uint64_t begin_ns;    /* CLOCK_MONOTONIC when the chunk was begun */
    uint64_t begin_ticks; /* the processor's clock at the same time: what gaps are relative to */
    uint64_t end_ns;
    uint64_t end_ticks;
    uint64_t unused[2];
};

/* Follows a chunk header of kind HAK_RECORD_THREAD. Nothing here tells what program it was, or whose. */
struct hak_record_thread {
    uint32_t version;
    uint32_t flags;
    uint32_t process; /* its id */
    uint32_t parent;  /* id of the process that it was forked from; 0 if it was not */
    uint32_t image;   /* 0, 1, …: how often the process has called exec while it was recorded */
    uint32_t part;    /* 0, 1, …: of a thread with more than one file */
    uint32_t page;    /* bytes */
    uint32_t dictionary; /* entries, as HAK_RECORD_DICTIONARY */
    uint64_t start_ns;   /* CLOCK_REALTIME when the recorder started in this process */
    uint64_t unused[3];
};

_Static_assert(sizeof(struct hak_record_chunk) == 96 && sizeof(struct hak_record_thread) == 64,
               "the format");

/* The first byte of an event, and what follows. `n` is a number of seven bits a byte, the lowest first, bit 7 set
 * in all but the last (LEB128); `d` is an address: the difference to the event before, in units of 8 bytes, its
 * sign in the lowest bit (zigzag), as such a number.
 *
 *   11ssssss ssssssss   free of the address in the dictionary's slot s
 *   10esssss ssssssss n malloc that returned the address in slot s; e: of the size that is there, and no n
 *   01mddddd …          free of another address; m: more bytes of d follow
 *   001mdddd … n        malloc of n bytes that returned another address
 *   0001oooo …          an operation of enum hak_record_operation
 *   00000000            no event: the end of a chunk that was not finished
 *
 * The dictionary has the addresses of recent events: both sides enter an address with its size at each allocation
 * and keep it at its free, at hak_record_slot(address). Addresses of 2^48 and above are never in it. */
enum hak_record_operation {
    HAK_RECORD_CALLOC = 0, /* d n        zeroed bytes */
    HAK_RECORD_ALIGNED =
        1, /* a d n      n bytes at a multiple of 2^a: aligned_alloc and its family */
    HAK_RECORD_GIVE =
        2, /* d          realloc begins: the block is given up, unless RETRACT follows */
    HAK_RECORD_TAKE = 3, /* d n        realloc ends: n bytes at another place, or realloc(NULL) */
    HAK_RECORD_KEEP = 4, /* n          realloc ends: n bytes where the block of the last GIVE was */
    HAK_RECORD_RETRACT =
        5, /* d n        realloc to n bytes has failed: the block that was given up lives on */
    HAK_RECORD_REFUSED =
        6, /* a n        malloc, or with a > 0 an aligned request, of n bytes had no memory */
    HAK_RECORD_GAP =
        7, /* n          n ticks (HAK_RECORD_TICK_SHIFT) since the last gap, or the begin */
    HAK_RECORD_TOUCHED =
        8, /* d r (s t)… pages of the large block at d: r runs of s untouched, t touched ones */
    HAK_RECORD_SWITCH = 9,  /* n          what follows is of thread n (shared files) */
    HAK_RECORD_ODD = 10,    /* n          the next address is n bytes beyond a multiple of 8 */
    HAK_RECORD_LOST = 11,   /* n          n events could not be written here */
    HAK_RECORD_MALLOC = 12, /* decoded only */
    HAK_RECORD_FREE = 13,   /* decoded only */
    HAK_RECORD_TURN =
        14, /* n          the next event is the first of turn n at its address's counter */
};

/* Addresses share 2^20 counters. Each time another thread than the last one has an event at one, it counts, and that
 * event has a TURN before it. So a thread's events at an address, in its own order, and the turns of all threads
 * there are the order of all events at the address. */
enum { HAK_RECORD_COUNTERS = 1 << 20 };

static inline uint32_t hak_record_counter(uint64_t address)
{
    return (uint32_t)(address >> 4) % HAK_RECORD_COUNTERS;
}

enum { HAK_RECORD_DICTIONARY_BITS = 9, HAK_RECORD_DICTIONARY = 1 << HAK_RECORD_DICTIONARY_BITS };
enum { HAK_RECORD_SIZE_BITS = 19 };

/* What encoder and decoder carry from event to event of a chunk. */
struct hak_record_coder {
    uint64_t last;  /* address of the event before, a multiple of 8 */
    uint64_t given; /* address of the last GIVE */
    uint64_t
        entries[HAK_RECORD_DICTIONARY]; /* address / 8 << HAK_RECORD_SIZE_BITS | size, of 0: none */
};

static inline void hak_record_begin(struct hak_record_coder *coder, uint64_t base)
{
    memset(coder, 0, sizeof *coder);
    coder->last = base & ~(uint64_t)7;
}

static inline uint32_t hak_record_slot(uint64_t address)
{
    return (uint32_t)((address >> 3) * 0x9e3779b97f4a7c15u >> (64 - HAK_RECORD_DICTIONARY_BITS));
}

/* The size as the dictionary has it: those beyond its reach are all alike, and never said to be equal. */
static inline uint64_t hak_record_short_size(uint64_t size)
{
    uint64_t most = ((uint64_t)1 << HAK_RECORD_SIZE_BITS) - 1;

    return size < most ? size : most;
}

static inline bool hak_record_fits(uint64_t address)
{
    return address >> 48 == 0 && (address & 7) == 0;
}

static inline bool hak_record_known(const struct hak_record_coder *coder, uint64_t address)
{
    return coder->entries[hak_record_slot(address)] >> HAK_RECORD_SIZE_BITS == address >> 3;
}

/* Called by both sides for each allocation. */
static inline void hak_record_enter(struct hak_record_coder *coder, uint64_t address, uint64_t size)
{
    if (hak_record_fits(address))
        coder->entries[hak_record_slot(address)] =
            address >> 3 << HAK_RECORD_SIZE_BITS | hak_record_short_size(size);
    coder->last = address & ~(uint64_t)7;
}

/* Called by both sides for each free. */
static inline void hak_record_leave(struct hak_record_coder *coder, uint64_t address)
{
    if (hak_record_fits(address) && !hak_record_known(coder, address))
        coder->entries[hak_record_slot(address)] = address >> 3 << HAK_RECORD_SIZE_BITS;
    coder->last = address & ~(uint64_t)7;
}

/* ── Writing ─────────────────────────────────────────────────────────────────────────────────────
 * Each function writes one event at `at`, where there is room for HAK_RECORD_LONGEST bytes, and returns what is
 * behind it. */

static inline uint8_t *hak_record_put(uint8_t *at, uint64_t number)
{
    while (number >= 0x80) {
        *at++ = (uint8_t)(number | 0x80);
        number >>= 7;
    }
    *at++ = (uint8_t)number;
    return at;
}

static inline uint64_t hak_record_difference(const struct hak_record_coder *coder, uint64_t address)
{
    uint64_t units = (uint64_t)((int64_t)(address - coder->last) >> 3);

    return units << 1 ^ (uint64_t)((int64_t)units >> 63);
}

static inline uint8_t *hak_record_put_operation(uint8_t *at, enum hak_record_operation operation)
{
    *at = (uint8_t)(0x10 | operation);
    return at + 1;
}

static inline uint8_t *hak_record_put_odd(uint8_t *at, uint64_t *address)
{
    if (__builtin_expect((*address & 7) != 0, 0)) {
        at = hak_record_put(hak_record_put_operation(at, HAK_RECORD_ODD), *address & 7);
        *address &= ~(uint64_t)7;
    }
    return at;
}

/* The difference to the last address, its lowest bits in a first byte that has room for `bits`. */
static inline uint8_t *hak_record_put_first(uint8_t *at, uint8_t head, unsigned bits,
                                            uint64_t difference)
{
    uint64_t rest = difference >> bits;

    *at++ = (uint8_t)(head | (rest != 0) << bits | (difference & ((1u << bits) - 1)));
    return rest ? hak_record_put(at, rest) : at;
}

static inline __attribute__((always_inline)) uint8_t *
hak_record_put_free(struct hak_record_coder *coder, uint8_t *at, uint64_t address)
{
    at = hak_record_put_odd(at, &address);
    if (hak_record_fits(address) && hak_record_known(coder, address)) {
        uint32_t slot = hak_record_slot(address);
        *at++ = (uint8_t)(0xc0 | slot >> 8);
        *at++ = (uint8_t)slot;
    } else {
        at = hak_record_put_first(at, 0x40, 5, hak_record_difference(coder, address));
    }
    hak_record_leave(coder, address);
    return at;
}

static inline __attribute__((always_inline)) uint8_t *
hak_record_put_malloc(struct hak_record_coder *coder, uint8_t *at, uint64_t address, uint64_t size)
{
    at = hak_record_put_odd(at, &address);
    if (hak_record_fits(address) && hak_record_known(coder, address)) {
        uint32_t slot = hak_record_slot(address);
        uint64_t kept = coder->entries[slot] & (((uint64_t)1 << HAK_RECORD_SIZE_BITS) - 1);
        bool equal = kept == size && size == hak_record_short_size(size) &&
                     size + 1 < (uint64_t)1 << HAK_RECORD_SIZE_BITS;
        *at++ = (uint8_t)(0x80 | equal << 5 | slot >> 8);
        *at++ = (uint8_t)slot;
        if (!equal)
            at = hak_record_put(at, size);
    } else {
        at = hak_record_put_first(at, 0x20, 4, hak_record_difference(coder, address));
        at = hak_record_put(at, size);
    }
    hak_record_enter(coder, address, size);
    return at;
}

/* CALLOC, TAKE; and ALIGNED, whose alignment is 2^align. */
static inline uint8_t *hak_record_put_block(struct hak_record_coder *coder, uint8_t *at,
                                            enum hak_record_operation operation, uint64_t address,
                                            uint64_t size, unsigned align)
{
    at = hak_record_put_operation(hak_record_put_odd(at, &address), operation);
    if (operation == HAK_RECORD_ALIGNED)
        at = hak_record_put(at, align);
    at = hak_record_put(at, hak_record_difference(coder, address));
    at = hak_record_put(at, size);
    hak_record_enter(coder, address, size);
    return at;
}

static inline uint8_t *hak_record_put_give(struct hak_record_coder *coder, uint8_t *at,
                                           uint64_t address)
{
    coder->given = address;
    at = hak_record_put_operation(hak_record_put_odd(at, &address), HAK_RECORD_GIVE);
    at = hak_record_put(at, hak_record_difference(coder, address));
    hak_record_leave(coder, address);
    return at;
}

/* Of the block of the last GIVE. */
static inline uint8_t *hak_record_put_keep(struct hak_record_coder *coder, uint8_t *at,
                                           uint64_t size)
{
    at = hak_record_put(hak_record_put_operation(at, HAK_RECORD_KEEP), size);
    hak_record_enter(coder, coder->given, size);
    return at;
}

static inline uint8_t *hak_record_put_retract(struct hak_record_coder *coder, uint8_t *at,
                                              uint64_t address, uint64_t size)
{
    at = hak_record_put_operation(hak_record_put_odd(at, &address), HAK_RECORD_RETRACT);
    at = hak_record_put(at, hak_record_difference(coder, address));
    coder->last = address;
    return hak_record_put(at, size);
}

static inline uint8_t *hak_record_put_refused(uint8_t *at, unsigned align, uint64_t size)
{
    at = hak_record_put_operation(at, HAK_RECORD_REFUSED);
    return hak_record_put(hak_record_put(at, align), size);
}

/* `runs` holds pairs: untouched pages, touched pages. */
static inline uint8_t *hak_record_put_touched(struct hak_record_coder *coder, uint8_t *at,
                                              uint64_t address, const uint32_t *runs,
                                              unsigned count)
{
    at = hak_record_put_operation(hak_record_put_odd(at, &address), HAK_RECORD_TOUCHED);
    at = hak_record_put(at, hak_record_difference(coder, address));
    at = hak_record_put(at, count);
    for (unsigned i = 0; i < 2 * count; i++)
        at = hak_record_put(at, runs[i]);
    coder->last = address;
    return at;
}

/* GAP, SWITCH, LOST. */
static inline uint8_t *hak_record_put_number(uint8_t *at, enum hak_record_operation operation,
                                             uint64_t number)
{
    return hak_record_put(hak_record_put_operation(at, operation), number);
}

/* ── Checking ────────────────────────────────────────────────────────────────────────────────────── */

static inline uint64_t hak_record_mix(uint64_t sum, uint64_t word)
{
    sum = (sum ^ word) * 0x9e3779b97f4a7c15u;
    return sum ^ sum >> 32;
}

/* Of a chunk's header, with 0 in place of the checksum, and its `used` bytes, padded with zeros to a multiple
 * of 32; four sums run side by side, each over every fourth word. Never 0. The bytes behind `used` are written. */
static inline uint64_t hak_record_checksum(struct hak_record_chunk *chunk)
{
    uint64_t sums[4] = {1, 2, 3, 4}, kept = chunk->checksum;
    size_t bytes = (sizeof *chunk + chunk->used + 31) / 32 * 32;
    const unsigned char *at = (const unsigned char *)chunk;

    memset((unsigned char *)(chunk + 1) + chunk->used, 0, bytes - sizeof *chunk - chunk->used);
    chunk->checksum = 0;
    for (size_t i = 0; i < bytes; i += 32) {
        uint64_t words[4];
        memcpy(words, at + i, sizeof words);
        for (int lane = 0; lane < 4; lane++)
            sums[lane] = hak_record_mix(sums[lane], words[lane]);
    }
    chunk->checksum = kept;
    uint64_t sum =
        hak_record_mix(hak_record_mix(hak_record_mix(sums[0], sums[1]), sums[2]), sums[3]);
    return sum ? sum : 1;
}

#endif
