/* SPDX-License-Identifier: MIT */
#include <criterion/criterion.h>

#include "core/size_class.h"
#include "core/traffic.h"

/* The class's counters, carried over and not. */
static struct hak_traffic_total sum(const struct hak_traffic *traffic, hak_class cls)
{
    struct hak_traffic_total total = hak_traffic_carried(cls);

    total.refills += traffic->refills;
    total.refilled += traffic->refilled;
    total.flushes += traffic->flushes;
    total.flushed += traffic->flushed;
    return total;
}

Test(traffic, counters_go_on_beyond_32_bits)
{
    const size_t batch = (size_t)1 << 30;
    const hak_class cls = hak_class_at(3);
    struct hak_traffic traffic = {0, 0, 0, 0};

    for (uint64_t i = 1; i <= 20; i++) {
        hak_traffic_in(&traffic, cls, batch);
        hak_traffic_out(&traffic, cls, batch / 2);
        struct hak_traffic_total total = sum(&traffic, cls);
        cr_assert_eq(total.refills, i);
        cr_assert_eq(total.refilled, i * batch);
        cr_assert_eq(total.flushes, i);
        cr_assert_eq(total.flushed, i * batch / 2);
    }
    cr_assert_eq(hak_traffic_carried(hak_class_at(4)).refills, 0, "each class has its own");
}
