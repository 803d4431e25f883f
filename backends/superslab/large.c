/* SPDX-License-Identifier: MIT */
#include "backends/superslab/remote.h"
#include "backends/superslab/run.h"
#include "backends/superslab/shard.h"

/* A large block is moved by the kernel rather than copied from here on. Below, copying is cheaper: the pages
 * that it leaves behind are used again, while those that a move takes away have to come back one fault each. */
static const size_t MOVE_BYTES_LEAST = (size_t)1 << 20;

/* Says why a pointer is no block. */
_Noreturn static hak_cold void large_reject(const void *pointer, const char *call)
{
    if (!window_reaches(pointer))
        hak_fatal_pointer(call, pointer, "not from this allocator");
    for (size_t granule = granule_of(pointer); granule > 0; granule--) {
        uint32_t tag = atomic_load_relaxed(&window.tags[granule]);
        if (tag == TAG_LARGE && granule + window.slabs[granule].run_granules > granule_of(pointer))
            hak_fatal_pointer(call, pointer, "inside a large block, not its start");
        if (tag != TAG_NONE || !window_committed(granule))
            break;
    }
    hak_fatal_pointer(call, pointer, "not a live block (freed twice?)");
}

/* The slab of a live small block, or the run of a large one; anything else stops the process. */
static inline struct slab *large_checked_block(const void *pointer, const char *call, bool *large)
{
    hak_class cls = slab_class_at(pointer);

    *large = false;
    if (likely(cls < HAK_CLASS_END)) {
        struct slab *slab = slab_of(pointer);
        if (unlikely(!slab_on_grid(slab, pointer)))
            hak_fatal_pointer(call, pointer, HAK_NOT_A_BLOCK);
        return slab;
    }
    *large = cls == tag_class(TAG_LARGE) && (uintptr_t)pointer % GRANULE_SIZE == 0;
    if (!*large)
        large_reject(pointer, call);
    return &window.slabs[granule_of(pointer)];
}

/* A large block that was moved is a mapping of its own until it is freed. Grown in its place since, it ends
 * in the window's mapping, and is two when it is moved again, and so on. The kernel limits the number of
 * mappings (vm.max_map_count, 65530 by default), and each of ours splits another. Beyond this many, blocks
 * are copied, into one again. */
enum { MOVED_MOST = 8192, MOVED_MOST_OF_BLOCK = 32 };
static uint32_t moved_mappings;

static void large_mark_moved(struct slab *run, unsigned mappings)
{
    __atomic_fetch_add(&moved_mappings, mappings - run->moved, __ATOMIC_RELAXED);
    run->moved = (uint8_t)mappings;
}

/* Puts fresh memory in the place of a moved block's, so that its mapping melts into the window's. */
static bool large_renew(uint32_t first, size_t granules)
{
    if (!os_map_over(granule_address(first), granules << GRANULE_SHIFT))
        return false;
    os_advise_huge_pages(granule_address(first), granules << GRANULE_SHIFT);
    return true;
}

static void large_free(struct slab *run, const void *pointer, const char *call)
{
    uint32_t first = (uint32_t)(run - window.slabs);

    /* Of two threads that free it, one finds the tag gone; the other has the block to itself from here on. */
    if (atomic_exchange_acquire(&window.tags[first], TAG_NONE) != TAG_LARGE)
        large_reject(pointer, call);
    size_t granules = run->run_granules;
    unsigned moved = run->moved;
    if (moved)
        large_mark_moved(run, 0);
    run_free(first, granules, moved && large_renew(first, granules));
}

void backend_free(struct hak_shard *shard, void *pointer, const char *call)
{
    bool large;

    if (pointer == NULL)
        return;
    struct slab *slab = large_checked_block(pointer, call, &large);
    if (large) {
        large_free(slab, pointer, call);
        return;
    }
    struct hak_block *block = pointer;
    struct hak_chain chain = {block, 1};
    if (shard == NULL) {
        remote_push(slab, chain, block);
        return;
    }
    shard_see_window(shard);
    remote_add(shard, slab, chain, block);
}

static uint32_t large_new(size_t size, size_t align, bool *zeroed)
{
    size_t granules = (size + GRANULE_SIZE - 1) >> GRANULE_SHIFT;
    uint32_t run;

    if (granules + (align >> GRANULE_SHIFT) > WINDOW_GRANULES)
        return NO_RUN;
    run = run_alloc(granules, align <= GRANULE_SIZE ? 1 : align >> GRANULE_SHIFT, zeroed);
    if (run != NO_RUN) {
        window.slabs[run].moved = 0;
        atomic_store_relaxed(&window.tags[run], TAG_LARGE);
    }
    return run;
}

struct hak_large backend_large_alloc(struct hak_shard *shard, size_t size, size_t align)
{
    struct hak_large large = {NULL, false};

    if (shard)
        remote_collect(shard);
    uint32_t run = large_new(size, align, &large.zeroed);

    if (run != NO_RUN)
        large.base = granule_address(run);
    return large;
}

size_t backend_usable_size(const void *pointer, const char *call)
{
    bool large;
    const struct slab *slab = large_checked_block(pointer, call, &large);

    return large ? (size_t)slab->run_granules << GRANULE_SHIFT : slab->block_size;
}

bool backend_owns(const void *pointer)
{
    return window_holds(pointer);
}

bool backend_has(const void *address)
{
    return window_holds(address);
}

bool backend_resize(void *pointer, size_t size)
{
    uint32_t run = granule_of(pointer);
    size_t granules = (size + GRANULE_SIZE - 1) >> GRANULE_SHIFT;
    size_t now = window.slabs[run].run_granules;

    if (granules < now)
        run_trim(run, granules,
                 window.slabs[run].moved && large_renew(run + (uint32_t)granules, now - granules));
    return granules <= now || run_extend(run, granules);
}

/* Asked once. */
static bool large_is_charged(void)
{
    static uint8_t answer; /* relaxed atomic; 0: not asked yet, 1: no, 2: yes */
    uint8_t known = atomic_load_relaxed(&answer);

    if (known == 0) {
        known = os_charges_committed() ? 2 : 1;
        atomic_store_relaxed(&answer, known);
    }
    return known == 2;
}

void *backend_move(void *pointer, size_t size)
{
    uint32_t from = granule_of(pointer);
    size_t bytes = (size_t)window.slabs[from].run_granules << GRANULE_SHIFT;
    bool zeroed;
    unsigned mappings;

    /* Where memory is charged the kernel may unmap the target and then refuse. */
    if (bytes < MOVE_BYTES_LEAST || large_is_charged() ||
        atomic_load_relaxed(&moved_mappings) >= MOVED_MOST)
        return NULL;
    uint32_t to = large_new(size, 1, &zeroed);
    if (to == NO_RUN)
        return NULL;
    large_mark_moved(&window.slabs[to], 1);
    mappings = os_move(pointer, granule_address(to), bytes, MOVED_MOST_OF_BLOCK);
    if (mappings == 0) {
        large_free(&window.slabs[to], granule_address(to), "realloc()");
        return NULL;
    }
    large_mark_moved(&window.slabs[to], mappings);
    large_mark_moved(&window.slabs[from], 1); /* for the kernel keeps the emptied mappings apart */
    large_free(&window.slabs[from], pointer, "realloc()");
    return granule_address(to);
}
