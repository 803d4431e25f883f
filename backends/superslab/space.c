/* SPDX-License-Identifier: MIT */
/* The space that the configuration names, over this back end's descriptions, and extents over that. */
#include "core/backend.h"

#include "gen/space.c"
