/* SPDX-License-Identifier: MIT */
/* Stands between tests and an emulator, whose own memory and words the tests cannot know. The linker
 * puts these functions in place of those they are named after (--wrap). */
#define _GNU_SOURCE
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

size_t __wrap_resident_bytes(void);
_Noreturn void __wrap_abort(void);
_Noreturn void __real_abort(void);

/* The emulator reports each signal that ends a process on the process's own stderr, where tests look for
 * the message that was the last. */
void __wrap_abort(void)
{
    close(STDERR_FILENO);
    __real_abort();
}

static size_t resident_pages(uintptr_t from, uintptr_t to, size_t page)
{
    static unsigned char resident[1 << 16];
    size_t count = 0;

    for (uintptr_t at = from; at < to; at += sizeof(resident) * page) {
        size_t pages = (to - at) / page < sizeof(resident) ? (to - at) / page : sizeof(resident);
        if (mincore((void *)at, pages * page, resident) != 0)
            continue;
        for (size_t i = 0; i < pages; i++)
            count += resident[i] & 1;
    }
    return count;
}

/* statm counts the emulator, too, and it keeps much for each thread. The list of mappings is the
 * program's own, and so are their pages. */
size_t __wrap_resident_bytes(void)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    FILE *maps = fopen("/proc/self/maps", "re");
    size_t count = 0;
    char line[512], access;
    uintptr_t from, to;

    if (maps == NULL)
        abort();
    while (fgets(line, sizeof(line), maps))
        if (sscanf(line, "%zx-%zx %c", &from, &to, &access) == 3 && access == 'r')
            count += resident_pages(from, to, page);
    fclose(maps);
    return count * page;
}
