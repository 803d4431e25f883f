/* SPDX-License-Identifier: MIT */
/* A randomised run of every call, with the contents of all blocks checked. HAKMEM_TEST_SEED repeats
 * a run, as far as the threads' scheduling does. */
#include <criterion/criterion.h>

#include "core/heap.h"
#include "tests/contract/exercise.h"
#include "tests/contract/support.h"

static const size_t MIB = (size_t)1 << 20;

static void run(unsigned threads, unsigned lives, unsigned long steps)
{
    exercise_run(&(struct exercise){.seed = seed_of_run(),
                                    .threads = threads,
                                    .lives = lives,
                                    .steps = steps,
                                    .size_most = 4 * MIB});
    cr_assert(frontend_valid(&hak_heap_mine->cache));
    cr_assert(backend_valid(&hak_heap_mine->shard));
}

Test(random, one_thread)
{
    run(1, 1, 100000);
}

Test(random, two_threads_that_hand_blocks_over)
{
    run(2, 1, 50000);
}

Test(random, eight_threads_that_hand_blocks_over)
{
    run(8, 1, 12000);
}

Test(random, eight_threads_at_a_time_that_end_and_are_replaced)
{
    run(8, 20, 800);
}

/* After everything is freed the allocator has no more than it may keep: the same again costs no new
 * memory. */
Test(random, all_is_freed_at_the_end)
{
    run(4, 1, 10000);
    hak_malloc_trim(0);
    size_t after_one = resident_bytes();
    for (int i = 0; i < 5; i++)
        run(4, 1, 10000);
    hak_malloc_trim(0);
    cr_assert_leq(resident_bytes(), after_one + 32 * MIB);
}
