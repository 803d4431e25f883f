// SPDX-License-Identifier: MIT
// A plug-in that is opened with RTLD_DEEPBIND: hands out blocks of every function that allocates, its own and libc's,
// and frees what it is given.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <malloc.h>
#include <string>

extern "C" {
void *__libc_malloc(std::size_t);
void __libc_free(void *);

// The program has a function of this name too.
const char *deepbind_who()
{
    return "plug-in";
}

const char *plugin_who()
{
    return deepbind_who();
}

static char *early;

__attribute__((constructor)) static void begin()
{
    early = strdup("from the constructor");
}

// A new block of at least `size` bytes, the `way`-th way; NULL: there are no more.
void *plugin_give(int way, std::size_t size)
{
    void *block = nullptr;
    char *text = nullptr;

    switch (way) {
    case 0:
        return std::malloc(size);
    case 1:
        return std::calloc(size, 1);
    case 2:
        return std::realloc(strdup("short"), size);
    case 3:
        return reallocarray(nullptr, size, 1);
    case 4:
        return posix_memalign(&block, 64, size) ? nullptr : block;
    case 5:
        return aligned_alloc(64, size);
    case 6:
        return memalign(64, size);
    case 7:
        return valloc(size);
    case 8:
        return pvalloc(size);
    case 9:
        return __libc_malloc(size);
    case 10:
        return asprintf(&text, "%*s", static_cast<int>(size), "x") < 0 ? nullptr : text;
    case 11:
        return new char[size];
    case 12:
        return ::operator new(size);
    case 13: {
        char *given = early;
        early = strdup(std::string(size, 'e').c_str());
        return std::realloc(given, size);
    }
    }
    return nullptr;
}

std::size_t plugin_usable_size(void *block)
{
    return malloc_usable_size(block);
}

// Frees a block in one of several ways.
void plugin_take(int way, void *block)
{
    switch (way % 4) {
    case 0:
        return std::free(block);
    case 1:
        return __libc_free(block);
    case 2:
        block = std::realloc(block, 0);
        return;
    case 3:
        return ::operator delete(block);
    }
}
}
