/* SPDX-License-Identifier: MIT */
/* The SuperSlab back end itself: its tags, its slabs, the remote word, ended threads' slabs. What any
 * back end must do is in tests/contract. */
#include <criterion/criterion.h>
#include <hakmem/hakmem.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "backends/superslab/common.h"
#include "backends/superslab/shard.h"
#include "backends/superslab/slab.h"
#include "core/crowd.h"
#include "core/fork.h"
#include "core/heap.h"
#include "core/kept.h"
#include "tests/contract/support.h"

_Static_assert(BACKEND_RESIZES &&BACKEND_MOVES &&BACKEND_TICKS &&BACKEND_TRIMS,
               "it brings what the contract's tests would else skip");

static struct hak_shard *shard;

static void start(void)
{
    hak_free(hak_malloc(1));
    shard = &hak_heap_mine->shard;
}

static uint32_t tag_at(const void *block)
{
    return space_tag_at(space_granule(block));
}

static struct slab *slab_at(const void *block)
{
    return slab_of(block);
}

static void *one(hak_class cls)
{
    return backend_refill_chain(shard, cls, 1).head;
}

static void run_in_thread(void *(*function)(void *), void *argument)
{
    pthread_t thread;

    cr_assert_eq(pthread_create(&thread, NULL, function, argument), 0);
    cr_assert_eq(pthread_join(thread, NULL), 0);
}

static void *free_one(void *block)
{
    hak_free(block);
    return NULL;
}

TestSuite(superslab, .init = start);

Test(superslab, a_tag_minus_the_heaps_is_the_class)
{
    for (unsigned i = 0; i < HAK_CLASSES; i++) {
        void *block = one(hak_class_at(i));
        cr_assert_eq(tag_at(block) - shard->tag, hak_class_at(i));
        cr_assert_eq(backend_lookup(shard, block), hak_class_at(i));
    }
}

Test(superslab, a_slab_has_eight_blocks_and_wastes_at_most_an_eighth)
{
    for (unsigned i = 0; i < HAK_CLASSES; i++) {
        struct slab *slab = slab_at(one(hak_class_at(i)));
        size_t size = (size_t)slab->extent.granules << GRANULE_SHIFT;
        size_t used = (size_t)slab->capacity * slab->block_size;
        cr_assert_geq(slab->capacity, 8);
        cr_assert_leq(size - used, size / 8);
    }
}

Test(superslab, blocks_are_aligned_to_every_power_of_two_that_divides_their_size)
{
    for (unsigned i = 0; i < HAK_CLASSES; i++) {
        size_t align = hak_class_sizes[i] & -hak_class_sizes[i];
        for (int slabs = 0; slabs < 40; slabs++) {
            void *block = one(hak_class_at(i));
            cr_assert_eq((uintptr_t)block % align, 0);
            if (slabs % 3 == 0) /* so that the next slab may begin anywhere */
                cr_assert_not_null(backend_large_alloc(NULL, 1, 1).base);
        }
    }
}

Test(superslab, blocks_are_cut_a_page_at_a_time)
{
    hak_class cls = hak_class_of(64);
    struct hak_chain chain = backend_refill_chain(shard, cls, 1000);

    cr_assert_eq(chain.count, 4096 / 64);
    cr_assert_eq(slab_at(chain.head)->cut, 4096 / 64);
}

/* The pages with memory of a slab. */
static size_t resident(struct slab *slab)
{
    if (enabled(CONFIG_HUGE_PAGES_ALWAYS))
        cr_skip_test("the pages of a slab come together");
    return os_resident_pages(slab_base(slab), slab->extent.granules * HAK_SLAB_GRANULE);
}

/* Uses a slab up, and returns the first block of the next one, which is made of fresh memory. */
static void *first_of_second(hak_class cls)
{
    struct slab *first = slab_at(one(cls));
    void *block;

    hak_malloc_trim(0); /* what the start of the process has freed */
    while (slab_at(block = one(cls)) == first)
        ;
    return block;
}

static void skip_without_populate(void)
{
    char *probe = os_map(os_page_size());

    if (AHEAD_BLOCK == 0 || AHEAD % os_page_size() != 0 || AHEAD == os_page_size())
        cr_skip_test("pages get no memory ahead");
    os_populate(probe, os_page_size());
    if (os_resident_pages(probe, os_page_size()) != 1)
        cr_skip_test("the kernel gives no memory ahead");
}

Test(superslab, a_second_slab_has_memory_ahead)
{
    hak_class cls = hak_class_of(64);

    skip_without_populate();
    struct slab *slab = slab_at(first_of_second(cls));
    size_t step = AHEAD / os_page_size();
    cr_assert_eq(resident(slab), step);
    while (slab->cut * slab->block_size < AHEAD)
        one(cls);
    cr_assert_eq(resident(slab), step, "not before it is needed");
    one(cls);
    cr_assert_eq(resident(slab), 2 * step);
}

Test(superslab, a_first_slab_has_the_memory_that_is_touched)
{
    cr_assert_eq(resident(slab_at(one(hak_class_of(64)))), 1);
}

Test(superslab, a_class_that_shrinks_has_no_memory_ahead)
{
    hak_class cls = hak_class_of(64);

    skip_without_populate();
    void *block = first_of_second(cls);
    slab_at(block)->ahead = false;
    backend_return_chain(shard, cls, (struct hak_chain){block, 1});
    hak_malloc_trim(0); /* deletes it */
    cr_assert_eq(tag_at(block), TAG_NONE);
    cr_assert_eq(resident(slab_at(one(cls))), 1);
}

Test(superslab, blocks_that_may_be_touched_in_part_have_no_memory_ahead)
{
    struct slab *slab = slab_at(first_of_second(hak_class_of(4096)));

    cr_assert_eq(resident(slab), 1);
}

Test(superslab, a_returned_chain_is_handed_out_again_whole)
{
    hak_class cls = hak_class_of(64);
    struct hak_chain chain = backend_refill_chain(shard, cls, 64);

    backend_return_chain(shard, cls, chain);
    struct hak_chain again = backend_refill_chain(shard, cls, 64);
    cr_assert_eq(again.head, chain.head);
    cr_assert_eq(again.count, chain.count);
    cr_assert(backend_valid(shard));
}

Test(superslab, a_returned_array_is_handed_out_again_in_its_order)
{
    hak_class cls = hak_class_of(48);
    void *blocks[40];
    void *again[40];

    struct hak_chain chain = backend_refill_chain(shard, cls, 40);
    size_t count = chain.count;
    hak_chain_spread(chain, cls, blocks);
    backend_return_chain(shard, cls, hak_chain_of(blocks, count));
    chain = backend_refill_chain(shard, cls, 40);
    cr_assert_eq(chain.count, count);
    hak_chain_spread(chain, cls, again);
    for (size_t i = 0; i < count; i++)
        cr_assert_eq(again[i], blocks[i]);
    backend_return_chain(shard, cls, hak_chain_of(blocks, count));
    for (size_t left = count; left > 0;
         left -= chain.count) { /* in parts, what is left stays kept */
        chain = backend_refill_chain(shard, cls, left < 8 ? left : 8);
        hak_chain_spread(chain, cls, again + left - chain.count);
    }
    for (size_t i = 0; i < count; i++)
        cr_assert_eq(again[i], blocks[i]);
    cr_assert_eq(shard->lists->kept.bytes, 0);
    cr_assert(backend_valid(shard));
}

/* One multiplication must tell what the division tells, for every size, at the edges and between. */
Test(superslab, the_quick_grid_is_the_grid)
{
    for (unsigned i = 0; i < HAK_CLASSES; i++) {
        char *block = one(hak_class_at(i));
        struct slab *slab = slab_at(block);
        struct hak_grid grid = hak_slab_grid(slab);
        ptrdiff_t end = (ptrdiff_t)slab->capacity * slab->block_size;
        for (ptrdiff_t offset = -1000; offset < end + 1000; offset++)
            cr_assert_eq(hak_grid_has(&grid, slab_base(slab) + offset),
                         slab_on_grid(slab, slab_base(slab) + offset));
        for (unsigned bit = 20; bit < 64; bit++) {
            uintptr_t far = (uintptr_t)block ^ (uintptr_t)1 << bit;
            cr_assert(!hak_grid_has(&grid, (void *)far));
        }
    }
}

/* A slab that has only fresh blocks left makes way for one that has freed ones. */
Test(superslab, a_slab_without_freed_blocks_goes_to_the_end_of_its_list)
{
    hak_class cls = hak_class_of(1024);
    void *first = one(cls);
    struct slab *whole = slab_at(first);

    while (whole->cut < whole->capacity)
        one(cls);
    one(cls); /* so that it does not become empty */
    void *second = one(cls);
    struct slab *partly = slab_at(second);
    cr_assert_neq(partly, whole);
    cr_assert_lt(partly->cut, partly->capacity);
    backend_return_chain(shard, cls, hak_chain_of(&first, 1));
    backend_settle(shard);
    backend_return_chain(shard, cls, hak_chain_of(&second, 1));
    backend_settle(shard);
    cr_assert_eq(shard->lists->open[hak_class_index(cls)], partly);
    cr_assert_eq(one(cls), second);
    cr_assert_eq(shard->lists->open[hak_class_index(cls)], whole);
    cr_assert(partly->listed);
    cr_assert(backend_valid(shard));
}

Test(superslab, an_empty_slab_goes_back_and_its_tags_are_cleared)
{
    hak_class cls = hak_class_of(HAK_SMALL_MAX);
    void *block = one(cls);
    uint32_t granule = space_granule(block);
    uint32_t granules = slab_at(block)->extent.granules;

    ((struct hak_block *)block)->next = NULL;
    backend_return_chain(shard, cls, (struct hak_chain){block, 1});
    backend_settle(shard);
    for (uint32_t i = 0; i < granules; i++)
        cr_assert_eq(space_tag_at(granule + i), TAG_NONE);
    cr_assert_null(shard->lists->open[hak_class_index(cls)]);
    cr_assert(hak_extents_valid());
}

Test(superslab, a_remote_free_queues_the_slab_once_and_comes_back)
{
    hak_class cls = hak_class_of(1024);
    void *blocks[2] = {one(cls), one(cls)};
    struct slab *slab = slab_at(blocks[0]);
    uint32_t used = slab->used;

    cr_assert_eq(slab_at(blocks[1]), slab);
    run_in_thread(free_one, blocks[0]);
    cr_assert_eq(shard->queue, slab);
    cr_assert(slab->remote & REMOTE_QUEUED);
    run_in_thread(free_one, blocks[1]);
    cr_assert_eq(shard->queue, slab);
    cr_assert_null(slab->queue_next);
    cr_assert_eq((uint32_t)slab->remote >> REMOTE_COUNT_SHIFT, 2);
    backend_settle(shard);
    cr_assert_null(shard->queue);
    cr_assert(slab->extent.state != HAK_NODE_USED || (slab->remote == 0 && slab->used == used - 2));
    cr_assert(backend_valid(shard));
}

static void *free_three(void *blocks)
{
    void *own = hak_malloc(40); /* so that the thread has a heap, and slabs of its own */

    for (size_t i = 0; i < 3; i++)
        hak_free(((void **)blocks)[i]);
    hak_free(own);
    return NULL;
}

/* Too few for a batch, they wait with the thread that has freed them, until it ends. */
Test(superslab, a_thread_that_ends_sends_what_it_has_for_others)
{
    void *blocks[3];

    for (size_t i = 0; i < 3; i++)
        cr_assert_not_null(blocks[i] = hak_malloc(1000));
    struct slab *slab = slab_at(blocks[0]);
    cr_assert(slab_at(blocks[1]) == slab && slab_at(blocks[2]) == slab);
    on_new_thread(free_three, blocks);
    cr_assert_eq((uint32_t)slab->remote >> REMOTE_COUNT_SHIFT, 3);
}

struct heir {
    void *block;
    hak_class cls;
};

static void *leave_a_slab(void *pointer)
{
    struct heir *heir = pointer;
    struct hak_chain chain = backend_refill_chain(&hak_heap_mine->shard, heir->cls, 1);

    heir->block = chain.head;
    return NULL;
}

static void *leave_a_slab_with_heap(void *pointer)
{
    hak_free(hak_malloc(1));
    return leave_a_slab(pointer);
}

Test(superslab, a_refill_adopts_an_ended_threads_slab)
{
    struct heir heir = {.cls = hak_class_of(HAK_SMALL_MAX / 2)};

    run_in_thread(leave_a_slab_with_heap, &heir);
    cr_assert_neq(tag_at(heir.block) - shard->tag, heir.cls);
    void *mine = one(heir.cls);
    cr_assert_eq(slab_at(mine), slab_at(heir.block));
    cr_assert_eq(tag_at(heir.block) - shard->tag, heir.cls);
    cr_assert(backend_valid(shard));
}

static void *leave_a_full_slab(void *pointer)
{
    struct heir *heir = pointer;

    hak_free(hak_malloc(1));
    leave_a_slab(heir);
    for (uint32_t i = 1; i < slab_at(heir->block)->capacity; i++)
        leave_a_slab(heir);
    return NULL;
}

Test(superslab, adopting_a_slab_without_free_blocks_is_not_out_of_memory)
{
    struct heir heir = {.cls = hak_class_of(HAK_SMALL_MAX)};

    run_in_thread(leave_a_full_slab, &heir);
    cr_assert_not_null(one(heir.cls));
    cr_assert(backend_valid(shard));
}

Test(superslab, a_queued_slab_is_not_adopted_before_it_is_collected)
{
    struct heir heir = {.cls = hak_class_of(HAK_SMALL_MAX / 2)};

    run_in_thread(leave_a_slab_with_heap, &heir);
    struct slab *slab = slab_at(heir.block);
    slab->remote |= REMOTE_QUEUED; /* as if somebody were between his CAS and his push */
    void *mine = one(heir.cls);
    cr_assert_neq(slab_at(mine), slab);
    slab->remote = 0;
}

Test(superslab, a_sleepers_slab_is_purged_by_the_last_remote_free)
{
    hak_class cls = hak_class_of(HAK_SMALL_MAX);
    static struct hak_block *blocks[64];
    size_t count = slab_at(blocks[0] = one(cls))->capacity;

    cr_assert_leq(count, 64);
    struct slab *slab = slab_at(blocks[0]);
    for (size_t i = 1; i < count; i++) {
        blocks[i] = one(cls);
        cr_assert_eq(slab_at(blocks[i]), slab);
        memset(blocks[i], 1, HAK_SMALL_MAX);
    }
    shard->seen_at -= CONFIG_PURGE_DELAY_MS + 1000;
    for (size_t i = 0; i < count; i++)
        run_in_thread(free_one, blocks[i]);
    cr_assert_eq(slab->remote, REMOTE_QUEUED | REMOTE_ALL_FREE);
    cr_assert_eq(shard->queue, slab);
    backend_settle(shard);
    cr_assert_eq(space_tag_at(space_number(slab)), TAG_NONE);
    /* A space of small units has unmapped it. */
    cr_assert(slab->extent.state == HAK_NODE_CLEAN || !space_has(space_number(slab)));
    cr_assert(hak_extents_valid());
}

static void free_again_and_again(void *block)
{
    size_t count = slab_at(block)->capacity;

    for (size_t i = 0; i <= count; i++)
        run_in_thread(free_one, block);
}

Test(superslab, a_remote_block_freed_twice_is_noticed)
{
    void *block = one(hak_class_of(HAK_SMALL_MAX));

    cr_assert_dies(free_again_and_again, block, "free()", block, HAK_FREED_TWICE);
}

static void return_one(hak_class cls, void *block)
{
    backend_return_chain(shard, cls, hak_chain_of(&block, 1));
    backend_settle(shard);
}

/* A full slab's blocks; the last of them is the first that the owner returns. */
struct full {
    void *blocks[64];
    size_t count;
};

static void return_all_after_another(void *argument)
{
    struct full *full = argument;

    run_in_thread(free_one, full->blocks[0]);
    shard->queue = NULL; /* as if the owner had not come to it yet */
    for (size_t i = full->count; i-- > 0;)
        return_one(hak_class_of(HAK_SMALL_MAX), full->blocks[i]);
}

Test(superslab, a_block_freed_by_another_and_by_the_owner_is_noticed)
{
    struct full full = {.count = 0};

    do
        full.blocks[full.count++] = one(hak_class_of(HAK_SMALL_MAX));
    while (slab_at(full.blocks[0])->used < slab_at(full.blocks[0])->capacity);
    cr_assert_dies(return_all_after_another, &full, "free()", full.blocks[0], HAK_FREED_TWICE);
}

/* The slab is empty then, and would wait for its class. */
static void return_both_after_another(void *argument)
{
    void **blocks = argument;

    run_in_thread(free_one, blocks[0]);
    shard->queue = NULL; /* as if the owner had not come to it yet */
    for (size_t i = 2; i-- > 0;) {
        ((struct hak_block *)blocks[i])->next = NULL;
        kept_sort(shard, hak_class_of(HAK_SMALL_MAX), (struct hak_chain){blocks[i], 1});
    }
}

Test(superslab, a_block_freed_by_another_is_noticed_before_its_slab_waits)
{
    hak_class cls = hak_class_of(HAK_SMALL_MAX);
    void *blocks[2] = {one(cls), one(cls)};

    cr_assert(slab_at(blocks[0]) == slab_at(blocks[1]) && slab_at(blocks[0])->used == 2);
    cr_assert_dies(return_both_after_another, blocks, "free()", blocks[0], HAK_FREED_TWICE);
}

/* The owner gives more blocks of a slab back than are out: a chain that a link back to its head makes longer. */
static void return_three_of_two(void *head)
{
    struct hak_block *block = head;

    block->next = block;
    backend_return_chain(shard, hak_class_of(HAK_SMALL_MAX), (struct hak_chain){block, 3});
    backend_settle(shard);
}

Test(superslab, more_blocks_than_are_out_are_noticed_at_the_return)
{
    hak_class cls = hak_class_of(HAK_SMALL_MAX);
    void *blocks[2] = {one(cls), one(cls)};

    cr_assert(slab_at(blocks[0]) == slab_at(blocks[1]) && slab_at(blocks[0])->used == 2);
    cr_assert_dies(return_three_of_two, blocks[0], "free()", blocks[0], HAK_FREED_TWICE);
}

/* Here it is the count of what is on the remote word. */
static void return_after_another_freed_both(void *argument)
{
    void **blocks = argument;

    run_in_thread(free_one, blocks[0]);
    run_in_thread(free_one, blocks[1]);
    return_one(hak_class_of(HAK_SMALL_MAX), blocks[0]);
}

Test(superslab, blocks_freed_by_another_and_one_by_the_owner_are_noticed)
{
    hak_class cls = hak_class_of(HAK_SMALL_MAX);
    void *blocks[2] = {one(cls), one(cls)};

    cr_assert(slab_at(blocks[0]) == slab_at(blocks[1]) && slab_at(blocks[0])->used == 2);
    cr_assert_dies(return_after_another_freed_both, blocks, "free()", blocks[1], HAK_FREED_TWICE);
}

static void return_whole_chain(void *chain)
{
    backend_return_chain(shard, hak_class_of(64), *(struct hak_chain *)chain);
    backend_settle(shard);
}

Test(superslab, a_written_link_is_noticed_at_the_return)
{
    struct hak_chain chain = backend_refill_chain(shard, hak_class_of(64), 4);

    chain.head->next = (struct hak_block *)((char *)chain.head->next + 8);
    cr_assert_dies(return_whole_chain, &chain, "free()", chain.head->next, HAK_NOT_A_BLOCK);
}

static void refill_array_of_48(void *unused)
{
    void *blocks[16];

    (void)unused;
    hak_chain_spread(backend_refill_chain(shard, hak_class_of(48), 16), hak_class_of(48), blocks);
}

static void cr_assert_that_a_write_is_noticed(ptrdiff_t moves, const char *what)
{
    hak_class cls = hak_class_of(48);
    void *blocks[16];
    struct hak_chain chain = backend_refill_chain(shard, cls, 16);

    hak_chain_spread(chain, cls, blocks);
    backend_return_chain(shard, cls, hak_chain_of(blocks, chain.count));
    struct hak_block *written = blocks[chain.count / 2];
    written->next = (struct hak_block *)((char *)written->next + moves);
    cr_assert_dies(refill_array_of_48, NULL, "free()", written->next, what);
}

Test(superslab, a_written_link_is_noticed_at_the_refill_of_an_array)
{
    cr_assert_that_a_write_is_noticed(8, HAK_NOT_A_BLOCK);
}

Test(superslab, a_link_out_of_the_space_is_noticed_at_the_refill_of_an_array)
{
    cr_assert_that_a_write_is_noticed((ptrdiff_t)1 << 50, HAK_BAD_LINK);
}

static void return_and_refill_256(void *block)
{
    hak_class cls = hak_class_of(256);

    backend_return_chain(shard, cls, hak_chain_of(&block, 1));
    hak_chain_spread(backend_refill_chain(shard, cls, 1), cls, &block);
}

Test(superslab, a_pointer_inside_a_block_is_noticed_at_the_refill_of_an_array)
{
    void *inside = (char *)one(hak_class_of(256)) + 16;

    cr_assert_dies(return_and_refill_256, inside, "free()", inside, HAK_NOT_A_BLOCK);
}

static void return_256(void *block)
{
    struct hak_block *inside = block;

    inside->next = NULL;
    backend_return_chain(shard, hak_class_of(256), (struct hak_chain){inside, 1});
    backend_settle(shard);
}

Test(superslab, a_block_inside_another_is_noticed_at_the_return)
{
    void *inside = (char *)one(hak_class_of(256)) + 16;

    cr_assert_dies(return_256, inside, "free()", inside, HAK_NOT_A_BLOCK);
}

Test(superslab, a_large_block_as_long_as_a_slab_waits_on_the_rack)
{
    for (size_t granules = 1; granules <= 2; granules++) {
        size_t size = granules * HAK_SLAB_GRANULE - 1000;
        void *block = hak_malloc(size);
        hak_free(block);
        cr_assert(hak_extents_have_racked(shard_rack(shard), granules));
        cr_assert_eq(tag_at(block), TAG_NONE);
        cr_assert_eq(hak_malloc(size), block);
        cr_assert_not(hak_extents_have_racked(shard_rack(shard), granules));
    }
}

Test(superslab, a_longer_block_is_free_for_all)
{
    size_t dirty = hak_extents_dirty();

    hak_free(hak_malloc(3 * HAK_SLAB_GRANULE));
    cr_assert_eq(hak_extents_dirty(), dirty + 3);
}

Test(superslab, a_block_from_the_rack_is_zeroed)
{
    unsigned char *block = memset(hak_malloc(HAK_SLAB_GRANULE), 255, HAK_SLAB_GRANULE);

    hak_free(block);
    cr_assert_eq(hak_calloc(1, HAK_SLAB_GRANULE), block);
    for (size_t i = 0; i < HAK_SLAB_GRANULE; i++)
        cr_assert_eq(block[i], 0);
}

static void free_again(void *block)
{
    hak_free(block);
}

Test(superslab, a_block_on_the_rack_freed_again_is_noticed)
{
    void *block = hak_malloc(HAK_SLAB_GRANULE);

    hak_free(block);
    cr_assert_dies(free_again, block, "free()", block, "not a live block (freed twice?)");
}

Test(superslab, a_moved_block_takes_its_pages_with_it)
{
    size_t size = (size_t)8 << 20;
    char *block = backend_large_alloc(NULL, size, 1).base;
    char *behind = backend_large_alloc(NULL, size, 1).base;

    memset(block, 5, size);
    char *moved = backend_move(block, 4 * size);
    if (moved) { /* a kernel from 5.7 on */
        cr_assert(moved[0] == 5 && moved[size - 1] == 5);
        cr_assert_eq(tag_at(block), TAG_NONE);
        backend_free(shard, moved, "free()");
    }
    backend_free(shard, behind, "free()");
    cr_assert(hak_extents_valid());
}

/* A block that was moved and has grown in its place is several mappings. */
Test(superslab, a_block_is_moved_again_and_again)
{
    size_t size = (size_t)2 << 20;
    unsigned char *block = backend_large_alloc(NULL, size, 1).base;

    memset(block, 1, size);
    for (unsigned char turn = 2; turn < 9; turn++) {
        void *behind = backend_large_alloc(NULL, size, 1).base;
        unsigned char *moved = backend_move(block, 2 * size);
        if (moved == NULL && turn == 2)
            cr_skip_test("this kernel does not move pages");
        cr_assert_not_null(moved, "%zu MiB were not moved", size >> 20);
        cr_assert_eq(tag_at(block), TAG_NONE);
        memset(moved + size, turn, size);
        block = moved;
        size *= 2;
        for (size_t at = (size_t)2 << 20, value = 1; at < size; at *= 2, value++)
            cr_assert(block[at - 1] == value && block[at] == value + 1);
        backend_free(shard, behind, "free()");
    }
    backend_free(shard, block, "free()");
    cr_assert(hak_extents_valid());
}

/* ── common shards ───────────────────────────────────────────────────────────────────────────── */

enum { CROWDED = 4 };

static pthread_barrier_t all_have_one;

static void *have_one(void *unused)
{
    void *block = hak_malloc(100);

    pthread_barrier_wait(
        &all_have_one); /* so that no thread takes the heap of another that has ended */
    hak_free(block);
    return unused;
}

Test(superslab, each_common_shard_has_lists_of_its_own)
{
    pthread_t threads[CROWDED];
    const void *lists[COMMONS];
    unsigned used = 0;

    hak_crowd_heaps = CONFIG_CROWD_THREADS;
    pthread_barrier_init(&all_have_one, NULL, CROWDED);
    for (int i = 0; i < CROWDED; i++)
        cr_assert_eq(pthread_create(&threads[i], NULL, have_one, NULL), 0);
    for (int i = 0; i < CROWDED; i++)
        cr_assert_eq(pthread_join(threads[i], NULL), 0);
    for (unsigned at = 0; at < COMMONS; at++) {
        struct hak_shard *common = common_lock(at);
        if (common == NULL)
            continue;
        lists[used] = common->lists;
        common_unlock(at);
        for (unsigned k = 0; k < used; k++)
            cr_assert_neq(lists[k], lists[used]);
        used++;
    }
    cr_assert_gt(used, 1);
}

/* ── empty slabs ─────────────────────────────────────────────────────────────────────────────── */

/* Uses one block of a class and gives it back to its slab, which is the class's only one. */
static struct slab *make_empty(hak_class cls)
{
    void *block = one(cls);
    struct slab *slab = slab_at(block);

    ((struct hak_block *)block)->next = NULL;
    kept_sort(shard, cls, (struct hak_chain){block, 1});
    return slab;
}

static struct slab **empty_of(hak_class cls)
{
    return &shard->lists->empty[hak_class_index(cls)];
}

static void skip_without_empty_slabs(void)
{
    if (CONFIG_PURGE_DELAY_MS == 0)
        cr_skip_test("no empty slab waits");
}

Test(superslab, an_empty_slab_waits_for_its_class)
{
    hak_class cls = hak_class_of(192);

    skip_without_empty_slabs();
    struct slab *slab = make_empty(cls);
    cr_assert_eq(*empty_of(cls), slab);
    cr_assert_eq(slab_tag(slab), shard->tag + cls);
    cr_assert(backend_valid(shard));
    void *again = one(cls);
    cr_assert_eq(slab_at(again), slab);
    cr_assert_null(*empty_of(cls));
    cr_assert(backend_valid(shard));
}

Test(superslab, of_a_class_the_last_slab_waits)
{
    hak_class cls = hak_class_of(1024);
    void *blocks[100];
    size_t empty = 0;

    skip_without_empty_slabs();
    for (size_t i = 0; i < 100; i++)
        blocks[i] = one(cls);
    for (size_t i = 0; i < 100; i++) {
        ((struct hak_block *)blocks[i])->next = NULL;
        kept_sort(shard, cls, (struct hak_chain){blocks[i], 1});
        cr_assert(*empty_of(cls) == NULL || i == 99);
    }
    for (struct slab *slab = shard->lists->open[hak_class_index(cls)]; slab; slab = slab->next)
        empty += slab->used == 0;
    cr_assert_eq(empty, 1);
    cr_assert(backend_valid(shard));
}

Test(superslab, a_slab_of_which_many_blocks_were_used_does_not_wait)
{
    hak_class cls = hak_class_of(16);
    void *blocks[EMPTY_BLOCKS + 1];

    for (size_t i = 0; i <= EMPTY_BLOCKS; i++)
        blocks[i] = one(cls);
    for (size_t i = 0; i <= EMPTY_BLOCKS; i++) {
        ((struct hak_block *)blocks[i])->next = NULL;
        kept_sort(shard, cls, (struct hak_chain){blocks[i], 1});
    }
    cr_assert_null(*empty_of(cls));
}

Test(superslab, an_empty_slab_that_its_class_does_not_need_goes)
{
    hak_class cls = hak_class_of(192);

    skip_without_empty_slabs();
    make_empty(cls);
    /* Large blocks leave dirty memory, so that none is taken from the empty slab for the lack of it. */
    hak_free(memset(hak_malloc(16 << 20), 1, 16 << 20));
    cr_assert_not_null(*empty_of(cls));
    for (unsigned i = 0; i < HAK_CLASSES / 4 + 1; i++)
        cr_assert_not_null(open_new(shard, hak_class_of(16)));
    cr_assert_null(*empty_of(cls));
}

Test(superslab, an_empty_slab_goes_before_fresh_memory_is_used)
{
    hak_class cls = hak_class_of(192);

    skip_without_empty_slabs();
    hak_malloc_trim(0);
    cr_assert_eq(hak_extents_dirty(), 0);
    struct slab *slab = make_empty(cls);
    cr_assert_eq(open_new(shard, hak_class_of(16)), slab);
    cr_assert_null(*empty_of(cls));
}

Test(superslab, an_empty_slab_goes_at_the_end_of_a_thread_and_with_a_trim)
{
    hak_class cls = hak_class_of(192);

    skip_without_empty_slabs();
    cr_assert_eq(make_empty(cls), *empty_of(cls));
    backend_settle(shard);
    cr_assert_null(*empty_of(cls));
    cr_assert_eq(make_empty(cls), *empty_of(cls));
    hak_malloc_trim(0);
    cr_assert_null(*empty_of(cls));
    cr_assert_null(shard->lists->open[hak_class_index(cls)]);
}

/* ── what is valid ───────────────────────────────────────────────────────────────────────────── */

/* Each clause of the invariants is looked at: what breaks it is noticed. */
Test(superslab, a_broken_shard_is_not_valid)
{
    hak_class cls = hak_class_of(64);
    struct hak_chain chain = backend_refill_chain(shard, cls, 64);
    struct hak_chain kept = {chain.head->next, 2};
    struct slab *slab = slab_at(chain.head);

    kept.head->next->next = NULL;
    chain.head->next = NULL;
    backend_return_chain(shard, cls, (struct hak_chain){chain.head, 1});
    backend_settle(shard); /* into the slab */
    backend_return_chain(shard, cls, kept);
    cr_assert(slab->loose_count > 0 || slab->closed.top != 0);
    cr_assert(backend_valid(shard));
    const struct slab sound = *slab;

    shard->lists->kept.bytes += 64;
    cr_assert(!backend_valid(shard), "more bytes than are kept");
    shard->lists->kept.bytes -= 64;
    slab->used++;
    cr_assert(!backend_valid(shard), "more blocks than were cut");
    *slab = sound;
    slab->block_size += 16;
    cr_assert(!backend_valid(shard), "another size than its class has");
    *slab = sound;
    slab->listed = false;
    cr_assert(!backend_valid(shard), "on the list, and it does not say so");
    *slab = sound;
    slab->previous = NULL;
    cr_assert(!backend_valid(shard), "the list does not lead back");
    *slab = sound;
    uint32_t tag = tag_at(chain.head);
    space_set_tag(space_granule(chain.head), TAG_NONE);
    cr_assert(!backend_valid(shard), "a slab without a tag");
    space_set_tag(space_granule(chain.head), tag);
    shard->lists->empty[hak_class_index(cls)] = slab;
    cr_assert(!backend_valid(shard), "an empty slab with used blocks");
    shard->lists->empty[hak_class_index(cls)] = NULL;
    cr_assert(backend_valid(shard));
}
