/* SPDX-License-Identifier: MIT */
#include "tests/fake/fake_backend.h"
