/* SPDX-License-Identifier: MIT */
/* A plug-in that hands out blocks. Opened with RTLD_DEEPBIND, it gets them from libc, whatever malloc the
 * program itself has. */
#include <stdlib.h>
#include <string.h>

char *plugin_block(size_t size);

char *plugin_block(size_t size)
{
    char *block = malloc(size);

    return block ? memset(block, 'p', size) : NULL;
}
