/* SPDX-License-Identifier: MIT */
/* Racks: short dirty extents that are used again without a lock.
 *
 *   rack 0   │ one granule │ one │ … │ two granules │ two │ …     a slot has an extent, and since when; or none
 *   rack 1   │ …
 *
 * Slabs of blocks of some KiB hold few blocks, and so come and go all the time. A shard puts those that become empty on its
 * rack, and takes them from there, by one compare-and-swap each, on cache lines that no other shard has. Any thread may
 * take from any rack: one that finds nothing else takes from the others' before it uses memory that is clean, what is due
 * is purged from there, and a trim empties them all. So memory waits no longer.
 *
 * A rack is used as a stack: what was put there last is taken first, as its lines are in the processor's caches.
 *
 * `filled` has a bit for each rack that may have something on it, so that a process of few threads looks at few racks. It
 * is set after a put, and only one thread at a time clears it; then that thread looks again. Both orders are sequentially
 * consistent, so that either the one sees the extent, or the other the cleared bit.
 *
 * invariant: an extent in a slot is a used one that only the rack knows of, and has as many granules as the slot is for
 * invariant: a rack with an extent has its bit set, whenever no thread is inside a function; but in a child of fork, what another
 *            thread was just putting there waits for that rack's next put or take
 *
 * Zero-filled, all racks are empty. */
#ifndef HAK_RACK_H
#define HAK_RACK_H

#include "core/atomic.h"
#include "core/types.h"

/* Shards beyond so many share racks. */
enum { HAK_RACKS = 32 };

/* Slots for extents of one granule, and for those of two: the lengths of slabs of blocks up to 16 KiB. */
enum { HAK_RACK_ONES = 16, HAK_RACK_TWOS = 8, HAK_RACK_SLOTS = HAK_RACK_ONES + HAK_RACK_TWOS };

/* Granules that fit on all racks together. */
#define HAK_RACKS_GRANULES ((size_t)HAK_RACKS * (HAK_RACK_ONES + 2 * HAK_RACK_TWOS))

/* An extent, and hak_clock_ms when it was put there. */
struct hak_racked {
    uint32_t extent; /* 0: none */
    uint32_t since;
};

struct hak_rack {
    _Alignas(HAK_CACHE_LINE) uint64_t slot[HAK_RACK_SLOTS]; /* atomic; a packed hak_racked */
};

struct hak_racks {
    uint32_t filled; /* atomic */
    struct hak_rack rack[HAK_RACKS];
};

_Static_assert(HAK_RACKS <= 32, "a bit for each");

static inline uint64_t hak_rack_pack(struct hak_racked racked)
{
    return (uint64_t)racked.since << 32 | racked.extent;
}

static inline struct hak_racked hak_rack_unpack(uint64_t slot)
{
    return (struct hak_racked){(uint32_t)slot, (uint32_t)(slot >> 32)};
}

/* The first slot for a length, and the one after the last; equal, if no rack takes it. */
static inline unsigned hak_rack_from(size_t granules)
{
    return granules == 1 ? 0 : HAK_RACK_ONES;
}

static inline unsigned hak_rack_to(size_t granules)
{
    return granules == 2 ? HAK_RACK_SLOTS : HAK_RACK_ONES;
}

static inline size_t hak_rack_length(unsigned slot)
{
    return slot < HAK_RACK_ONES ? 1 : 2;
}

/* Whether any rack may have something; a hint. */
static inline bool hak_racks_have(const struct hak_racks *racks)
{
    return atomic_load_relaxed(&racks->filled) != 0;
}

/* Sets the bit of a rack on which an extent was put. */
static inline void hak_rack_note(struct hak_racks *racks, unsigned at)
{
    if (unlikely(!(__atomic_load_n(&racks->filled, __ATOMIC_SEQ_CST) >> at & 1)))
        __atomic_fetch_or(&racks->filled, 1u << at, __ATOMIC_SEQ_CST);
}

/* Puts an extent on a rack, of which only so much is used as fits when `most` granules lie on all racks together. false: there
 * is no room, and the extent is still the caller's.
 * pre: a used extent that only the caller knows of, of `granules` */
static inline bool hak_rack_put(struct hak_racks *racks, unsigned at, struct hak_racked racked,
                                size_t granules, size_t most)
{
    unsigned from = hak_rack_from(granules);
    size_t slots = hak_rack_to(granules) - from;

    if (unlikely(most < HAK_RACKS_GRANULES))
        slots = slots * most / HAK_RACKS_GRANULES;
    for (unsigned i = from; i < from + slots; i++) {
        uint64_t *slot = &racks->rack[at].slot[i];
        uint64_t none = 0;
        /* Releases what this thread has written of the extent. */
        if (atomic_load_relaxed(slot) == 0 &&
            __atomic_compare_exchange_n(slot, &none, hak_rack_pack(racked), 0, __ATOMIC_SEQ_CST,
                                        __ATOMIC_RELAXED)) {
            hak_rack_note(racks, at);
            return true;
        }
    }
    return false;
}

/* Empties a slot, if it has still what was seen there, which is the caller's now. */
static inline bool hak_rack_clear(uint64_t *slot, uint64_t seen)
{
    return seen != 0 && atomic_cas_strong_acq_rel(slot, &seen, 0);
}

/* Whether a rack has an extent of this length; a hint. */
static inline bool hak_rack_has(const struct hak_racks *racks, unsigned at, size_t granules)
{
    for (unsigned i = hak_rack_from(granules); i < hak_rack_to(granules); i++)
        if (atomic_load_relaxed(&racks->rack[at].slot[i]) != 0)
            return true;
    return false;
}

/* Takes the extent of this length that was put on a rack last. 0: there is none. */
static inline uint32_t hak_rack_take(struct hak_racks *racks, unsigned at, size_t granules)
{
    for (unsigned i = hak_rack_to(granules); i-- > hak_rack_from(granules);) {
        uint64_t *slot = &racks->rack[at].slot[i];
        uint64_t seen = atomic_load_relaxed(slot);
        if (hak_rack_clear(slot, seen))
            return hak_rack_unpack(seen).extent;
    }
    return 0;
}

/* Likewise from any rack that may have something, the first behind `at`. */
static inline uint32_t hak_racks_take(struct hak_racks *racks, unsigned at, size_t granules)
{
    uint32_t filled = atomic_load_relaxed(&racks->filled);
    uint32_t extent = 0;

    for (unsigned i = 1; filled != 0 && i <= HAK_RACKS && extent == 0; i++)
        if (filled >> (at + i) % HAK_RACKS & 1)
            extent = hak_rack_take(racks, (at + i) % HAK_RACKS, granules);
    return extent;
}

/* Takes what was put on a rack `ms` ago or earlier, and hands it to `visit`; clears the bit of a rack that is empty then.
 * Returns whether there was any.
 * pre: one thread at a time */
static inline bool hak_racks_sweep(struct hak_racks *racks, uint32_t now, uint32_t ms,
                                   void (*visit)(struct hak_racked racked, size_t granules))
{
    bool any = false;

    for (uint32_t filled = atomic_load_relaxed(&racks->filled); filled; filled &= filled - 1) {
        unsigned at = (unsigned)__builtin_ctz(filled);
        bool left = false;
        __atomic_fetch_and(&racks->filled, ~(1u << at), __ATOMIC_SEQ_CST);
        for (unsigned i = 0; i < HAK_RACK_SLOTS; i++) {
            uint64_t *slot = &racks->rack[at].slot[i];
            uint64_t seen = __atomic_load_n(slot, __ATOMIC_SEQ_CST);
            struct hak_racked racked = hak_rack_unpack(seen);
            /* Another thread's stamp may be later than `now`. */
            bool is_due = ms == 0 || (int32_t)(now - racked.since) >= (int32_t)ms;
            if (is_due && hak_rack_clear(slot, seen)) {
                visit(racked, hak_rack_length(i));
                any = true;
            } else {
                left = left || seen != 0;
            }
        }
        if (left)
            hak_rack_note(racks, at);
    }
    return any;
}

/* At most so many granules lie on those racks that may have something. */
static inline size_t hak_racks_bound(const struct hak_racks *racks)
{
    size_t bound = 0;

    /* Without an instruction for it, gcc counts bits by a call of libgcc, which the library does not link. */
    for (uint32_t filled = atomic_load_relaxed(&racks->filled); filled; filled &= filled - 1)
        bound += HAK_RACKS_GRANULES / HAK_RACKS;
    return bound;
}

/* Granules on all racks, about. */
static inline size_t hak_racks_granules(const struct hak_racks *racks)
{
    size_t granules = 0;

    for (uint32_t filled = atomic_load_relaxed(&racks->filled); filled; filled &= filled - 1)
        for (unsigned i = 0; i < HAK_RACK_SLOTS; i++)
            if (atomic_load_relaxed(&racks->rack[__builtin_ctz(filled)].slot[i]) != 0)
                granules += hak_rack_length(i);
    return granules;
}

#endif
