/* SPDX-License-Identifier: MIT */
/* A C++ plug-in: new that runs out of memory throws what the plug-in catches. */
#include <cstddef>
#include <cstdint>
#include <new>

extern "C" int catches_bad_alloc()
{
    volatile std::size_t size = PTRDIFF_MAX;

    try {
        char *volatile block = new char[size];
        return block == nullptr ? -1 : 0;
    } catch (const std::bad_alloc &) {
        return 1;
    }
}
