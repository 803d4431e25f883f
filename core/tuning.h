/* SPDX-License-Identifier: MIT */
/* Settings that a program may change while it runs. */
#ifndef HAK_TUNING_H
#define HAK_TUNING_H

#include "core/types.h"

/* Most free memory that waits to be given back, in bytes: CONFIG_DIRTY_MAX MiB, until mallopt(M_TRIM_THRESHOLD).
 * sync: changes with all locks held, while no more than the new bound waits (hak_dirty_max_set in malloc.h) */
extern size_t hak_dirty_max;

#endif
