/* SPDX-License-Identifier: MIT */
#include <criterion/criterion.h>

#include "core/crowd.h"
#include "core/size_class.h"

Test(crowd, the_first_heaps_are_none)
{
    if (CONFIG_CROWD_THREADS > 0) {
        hak_crowd_heaps = CONFIG_CROWD_THREADS - 1;
        cr_assert(!hak_is_crowded());
    }
    hak_crowd_heaps = CONFIG_CROWD_THREADS;
    cr_assert(hak_is_crowded());
}

/* Blocks come by at most as many as there were before, or by a KiB, and a class is used after some KiB of them. */
Test(crowd, batches_double_until_the_class_is_used)
{
    for (unsigned i = 0; i < HAK_CLASSES; i++) {
        size_t size = hak_class_sizes[i];
        size_t had = 0;
        size_t batch;
        unsigned refills = 0;
        for (; (batch = hak_crowd_batch(refills, size)) > 0; refills++) {
            cr_assert(batch <= had + 1);
            cr_assert(batch == 1 || batch * size <= HAK_CROWD_BATCH_BYTES);
            had += batch;
        }
        cr_assert_leq(had * size, HAK_CROWD_BYTES);
        cr_assert(had > 0 || size > HAK_CROWD_BYTES);
        cr_assert_lt(refills, 64, "a few bits count them");
    }
}
