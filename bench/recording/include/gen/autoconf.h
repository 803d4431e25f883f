/* SPDX-License-Identifier: MIT */
/* The recorder that is preloaded before any malloc is no composition: there is nothing to configure. */
#define CONFIG_ASSERT_LEVEL 0
