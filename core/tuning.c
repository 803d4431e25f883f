/* SPDX-License-Identifier: MIT */
#include "core/tuning.h"

size_t hak_dirty_max = (size_t)CONFIG_DIRTY_MAX << 20;
