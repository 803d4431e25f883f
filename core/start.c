/* SPDX-License-Identifier: MIT */
#include "core/start.h"

#include "core/environment.h"
#include "core/fork.h"
#include "core/kernel.h"

void hak_start(void)
{
    hak_fork_handle();
    kernel_begin();
    hak_environment_read();
}
