/* SPDX-License-Identifier: MIT */
#include "core/traffic.h"

#include "core/size_class.h"

static struct hak_traffic_total totals[HAK_CLASSES]; /* each counter a relaxed atomic */

static void traffic_carry(uint64_t *total, uint32_t *counter)
{
    __atomic_fetch_add(total, *counter, __ATOMIC_RELAXED);
    atomic_store_relaxed(counter, 0);
}

void hak_traffic_carry(struct hak_traffic *traffic, hak_class cls)
{
    struct hak_traffic_total *total = &totals[hak_class_index(cls)];

    traffic_carry(&total->refills, &traffic->refills);
    traffic_carry(&total->refilled, &traffic->refilled);
    traffic_carry(&total->flushes, &traffic->flushes);
    traffic_carry(&total->flushed, &traffic->flushed);
}

struct hak_traffic_total hak_traffic_carried(hak_class cls)
{
    const struct hak_traffic_total *total = &totals[hak_class_index(cls)];

    return (struct hak_traffic_total){
        atomic_load_relaxed(&total->refills), atomic_load_relaxed(&total->refilled),
        atomic_load_relaxed(&total->flushes), atomic_load_relaxed(&total->flushed)};
}
