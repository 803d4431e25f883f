/* SPDX-License-Identifier: MIT */
/* THE SPACE: the seam between a back end's slabs and the operating system.
 *
 * A space is the memory that a back end has mapped, in granules of 64 KiB. It numbers the granules, keeps a description
 * of each, and is the only part of a back end that maps, purges, moves or unmaps. core/extents.c keeps account of which
 * granules are in use; slabs and large blocks stand on extents and make no system call for memory.
 *
 *   back end   slabs, large blocks      owned or shared
 *   core       extents.c                length lists, join, carve, age, decay, DIRTY_MAX
 *   space      window, plain mmap, …    this contract
 *   core       os.h                     system calls
 *
 * CONFIG_SPACE names the space of a build, a folder of core/spaces/, which comes in by what the build generates:
 *
 *   gen/space.h   in the back end's header, behind its struct slab: the description of a granule, in which `extent` is a
 *                 struct hak_extent_node; and behind its space_tag, an unsigned integer type for tags
 *   gen/space.c   in a .c of the back end: the space, and core/extents.c over it; neither is compiled elsewhere
 *
 * A back end without CONFIG_SPACE brings a space of its own in the same way, or none. This header has what extents and
 * large blocks need of a space; core/space_slabs.h has what slabs need in addition.
 *
 * "The lock" is hak_extents_lock. Granule numbers of neighbouring addresses are neighbours; number 0 is no granule.
 * Lengths are in granules unless bytes are named. */
#ifndef HAK_SPACE_H
#define HAK_SPACE_H

#include "core/os.h"
#include "core/page_set.h"

#define HAK_GRANULE_SHIFT 16

_Static_assert((size_t)1 << HAK_GRANULE_SHIFT == HAK_SLAB_GRANULE,
               "one granule for slabs and extents");

enum { HAK_NO_EXTENT = 0 };

enum hak_node_state {
    HAK_NODE_INSIDE, /* not an end of an extent */
    HAK_NODE_LAST, /* the last granule of an extent of several; the others are those of a first granule: */
    HAK_NODE_USED,  /* a slab, a large block, or an extent that is changing hands */
    HAK_NODE_DIRTY, /* free, and its pages hold memory */
    HAK_NODE_CLEAN, /* free, and they hold none */
};

/* The part of a granule's description that extents need. Zero-filled, the granule is inside. The space embeds it. */
struct hak_extent_node {
    uint32_t granules; /* length of the extent; at its first and last granule, as is `state` */
    uint8_t state;     /* enum hak_node_state */
    bool zeroed;       /* clean: reads as zeros */
    bool hidden;       /* free: core dumps may leave a part of it out */
    uint8_t moved;     /* used: mappings that the kernel keeps apart since it moved the pages */
    /* While the extent is free. A back end may use the room of these otherwise when it is not. */
    uint32_t next, previous; /* on its length list */
    uint32_t younger, older; /* dirty: neighbours by age */
    uint32_t freed_at;       /* dirty: hak_clock_ms when the oldest part of it was freed */
};

/* Neighbouring granules; none if `granules` is 0. */
struct hak_stretch {
    uint32_t first;
    size_t granules;
};

/* The space defines these constants as well:
 *   SPACE_GRANULES_MOST  longest extent there can be
 *   SPACE_UNIT           granules that space_release takes at least */

/* The address of a granule, whether it is mapped or not, and the granule at an address of the space. */
static inline void *space_address(uint32_t granule);
static inline uint32_t space_granule(const void *address);

/* The description of a granule. pre: space_has, or it has been mapped at some time */
static inline struct hak_extent_node *space_node(uint32_t granule);

/* Whether a granule is mapped and the space's.
 * pre: the granule adjoins an extent, or the lock is held and its node tells more */
static inline bool space_has(uint32_t granule);

/* Whether a block may ever have had this address; whether memory of the space is mapped there. Any address at all.
 * sync: none; what other threads just map or unmap may be seen or not */
static inline bool space_reaches(const void *address);
static inline bool space_owns(const void *address);

/* The tag of the granule in which any address lies; of a granule of the space, set; likewise set to TAG_NONE, and what it
 * was. A tag says whether a granule is a slab's, and of which class, or begins a large block (TAG_LARGE).
 * sync: space_tag_of is relaxed, as what handed a pointer to this thread orders its tag before it; space_take_tag acquires,
 *       space_set_tag releases */
static inline uint32_t space_tag_of(const void *address);
static inline void space_set_tag(uint32_t granule, uint32_t tag);
static inline uint32_t space_take_tag(uint32_t granule);

/* Prepares the space, once, before the first call of space_map; it may add granules (hak_extents_add).
 * post: false: out of memory, and the next call tries again
 * sync: the lock is held */
bool space_begin(void);

/* Maps memory that reads as zeros, adds it with hak_extents_add, and returns what that returned. At least `granules`
 * from a multiple of `align` granules in the address space; `batch` of them if that many can be had.
 * post: HAK_NO_EXTENT: out of memory or of mappings, and nothing has changed
 * sync: the lock is held, and may be let go meanwhile */
uint32_t space_map(size_t granules, size_t align, size_t batch);

/* The part of some mapped granules that space_release would take now; none if unmapping would leave too many mappings.
 * sync: the lock is held */
struct hak_stretch space_releasable(uint32_t first, size_t granules);

/* Unmaps granules, and tells hak_extents_leave.
 * pre:  as space_releasable said; they are part of a used extent that only the caller knows of
 * post: false: the kernel refused, and they are mapped and in use as before
 * sync: the lock is held, and is let go meanwhile */
bool space_release(uint32_t first, size_t granules);

/* Gives the pages of granules back. false: refused, and some pages may have gone all the same.
 * sync: the lock is not held; the granules are the caller's */
bool space_purge(uint32_t first, size_t granules);

/* Maps `more` granules behind an extent, if nothing is mapped there, and tells hak_extents_enter.
 * post: false: not possible, and nothing has changed
 * sync: the lock is held, and may be let go meanwhile */
bool space_extend(uint32_t first, size_t granules, size_t more);

/* Moves the pages of a used extent to another one of `granules`, and frees the first. hak_extents_set_moved says what
 * that costs.
 * pre:  the caller has the extent to itself; granules > its length
 * post: the new extent; HAK_NO_EXTENT: not possible here (copy instead), and nothing has changed
 * sync: the lock is not held */
uint32_t space_move(uint32_t first, size_t granules);

/* Granules begin or end to be used; for what the space counts. The lock is held. */
void space_note_use(uint32_t first, size_t granules, bool used);

/* The nearest granule from `granule` on, or back, whose node may be read: every extent begins and ends at such ones.
 * HAK_NO_EXTENT: none.
 * sync: with the lock, all are found; without, what other threads just map or unmap may be missed */
uint32_t space_next(uint32_t granule);
uint32_t space_previous(uint32_t granule);

#endif
