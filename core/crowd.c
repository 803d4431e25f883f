/* SPDX-License-Identifier: MIT */
#include "core/crowd.h"

uint32_t hak_crowd_heaps;
