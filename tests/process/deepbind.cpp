// SPDX-License-Identifier: MIT
// Opens a plug-in with RTLD_DEEPBIND and exchanges blocks with it. Arguments: `open` or `mopen`, for dlopen and dlmopen,
// and optionally `bad`: then the plug-in frees what is no block.
//
// The plug-in is found beside the program through the program's RUNPATH, so dlopen must see that the program calls it.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dlfcn.h>
#include <malloc.h>
#include <thread>
#include <vector>

#define CHECK(holds)                                                                               \
    do {                                                                                           \
        if (!(holds)) {                                                                            \
            std::fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #holds);        \
            std::_Exit(1);                                                                         \
        }                                                                                          \
    } while (0)

extern "C" const char *deepbind_who()
{
    return "program";
}

static void *(*give)(int way, std::size_t size);
static std::size_t (*usable_size)(void *block);
static void (*take)(int way, void *block);

static void *find(void *plugin, const char *name)
{
    void *symbol = dlsym(plugin, name);
    CHECK(symbol);
    return symbol;
}

static void *open_plugin(const char *how)
{
    const int mode = RTLD_NOW | RTLD_DEEPBIND;
    const char *file = "deepbind_plugin.so";
    void *plugin = std::strcmp(how, "mopen") ? dlopen(file, mode) : dlmopen(LM_ID_BASE, file, mode);

    if (plugin == nullptr) {
        std::fprintf(stderr, "%s\n", dlerror());
        std::_Exit(1);
    }
    return plugin;
}

static void exchange()
{
    for (std::size_t size = 24; size < std::size_t{1} << 20; size *= 7)
        for (int way = 0;; way++) {
            void *block = give(way, size);
            if (block == nullptr) {
                CHECK(way >= 14);
                break;
            }
            CHECK(malloc_usable_size(block) >= size && usable_size(block) == malloc_usable_size(block));
            std::memset(block, 'p', size);
            block = std::realloc(block, 2 * size);
            CHECK(block && static_cast<char *>(block)[size - 1] == 'p');
            std::free(block);
            take(way, give(way, size));
            take(way, std::malloc(size));
            take(way, strdup("from the program"));
            ::operator delete(give(12, size));
        }
}

int main(int count, char **argument)
{
    CHECK(count >= 2);
    std::vector<std::thread> threads;
    // Several at once, of which one is the first.
    for (int i = 0; i < 4; i++)
        threads.emplace_back(open_plugin, argument[1]);
    for (std::thread &thread : threads)
        thread.join();
    void *plugin = open_plugin(argument[1]);
    *reinterpret_cast<void **>(&give) = find(plugin, "plugin_give");
    *reinterpret_cast<void **>(&usable_size) = find(plugin, "plugin_usable_size");
    *reinterpret_cast<void **>(&take) = find(plugin, "plugin_take");
    auto who = reinterpret_cast<const char *(*)()>(find(plugin, "plugin_who"));

    if (count > 2) {
        alignas(16) static char no_block[64];
        take(0, no_block + 16);
    }
    exchange();
    std::thread(exchange).join();
    std::printf("blocks came and went; the plug-in's name leads to the %s\n", who());
}
