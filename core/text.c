/* SPDX-License-Identifier: MIT */
#include "core/text.h"

#include <errno.h>
#include <unistd.h>

#include "core/kernel.h"

void hak_write(int file, const char *text, size_t length)
{
    while (length > 0) {
        long written = kernel_write(file, text, length);
        if (written == -EINTR)
            continue;
        if (written <= 0)
            break;
        text += written;
        length -= (size_t)written;
    }
}

void hak_write_error(const char *text, size_t length)
{
    hak_write(STDERR_FILENO, text, length);
}

void hak_write_to_file(const char *text, size_t length, void *file)
{
    hak_write(*(int *)file, text, length);
}
