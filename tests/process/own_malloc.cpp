// SPDX-License-Identifier: MIT
// A program with a malloc of its own: the functions that glibc's manual lists ("Replacing malloc"). What libc, the C++
// runtime and a preloaded library make of malloc must come from it and go back to it: its free stops the program at a
// stranger, and it counts what came.
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <string>
#include <unistd.h>

extern "C" void free_sized(void *block, std::size_t size) __attribute__((weak));
extern "C" void free_aligned_sized(void *block, std::size_t alignment, std::size_t size) __attribute__((weak));

namespace {

alignas(4096) char heap[64 << 20];
std::size_t used;
long given, taken;

struct Head {
    std::size_t size, magic;
};

bool is_own(const void *block)
{
    return block >= heap && block < heap + sizeof(heap) && static_cast<const Head *>(block)[-1].magic == 0xfeed;
}

[[noreturn]] void stop(const char *why)
{
    if (write(2, why, std::strlen(why)) < 0)
        std::_Exit(5);
    std::_Exit(4);
}

void *carve(std::size_t alignment, std::size_t size)
{
    alignment = alignment < 16 ? 16 : alignment;
    std::size_t at = (used + sizeof(Head) + alignment - 1) & ~(alignment - 1);
    if (size > sizeof(heap) || at + size > sizeof(heap)) {
        errno = ENOMEM;
        return nullptr;
    }
    used = at + size;
    given++;
    reinterpret_cast<Head *>(heap + at)[-1] = {size, 0xfeed};
    return heap + at;
}

} // namespace

extern "C" {
void *malloc(std::size_t size) noexcept
{
    return carve(16, size);
}
void free(void *block) noexcept
{
    if (block == nullptr)
        return;
    if (!is_own(block))
        stop("the program's free got a stranger\n");
    taken++;
}
void *calloc(std::size_t count, std::size_t size) noexcept
{
    return carve(16, count * size); // fresh, so zeroed
}
void *realloc(void *block, std::size_t size) noexcept
{
    if (block && !is_own(block))
        stop("the program's realloc got a stranger\n");
    void *moved = carve(16, size);
    if (block && moved) {
        std::size_t old = static_cast<Head *>(block)[-1].size;
        std::memcpy(moved, block, old < size ? old : size);
        taken++;
    }
    return moved;
}
void *memalign(std::size_t alignment, std::size_t size) noexcept
{
    return carve(alignment, size);
}
// Nothing for nothing, as the C standard allows.
void *aligned_alloc(std::size_t alignment, std::size_t size) noexcept
{
    return size ? carve(alignment, size) : nullptr;
}
int posix_memalign(void **block, std::size_t alignment, std::size_t size) noexcept
{
    *block = carve(alignment, size);
    return *block ? 0 : ENOMEM;
}
void *valloc(std::size_t size) noexcept
{
    return carve(4096, size);
}
void *pvalloc(std::size_t size) noexcept
{
    return carve(4096, (size + 4095) & ~std::size_t{4095});
}
std::size_t malloc_usable_size(void *block) noexcept
{
    return block ? static_cast<Head *>(block)[-1].size : 0;
}
}

#define CHECK(holds)                                                                               \
    do {                                                                                           \
        if (!(holds))                                                                              \
            stop("does not hold: " #holds "\n");                                                   \
    } while (0)

// Makes a block seen, as the compiler may leave out what nobody looks at; and the program gave it.
template <class T> static T *own(T *block)
{
    asm volatile("" : "+r"(block) : : "memory");
    CHECK(is_own(block));
    return block;
}

int main()
{
    for (int i = 0; i < 300; i++) {
        std::size_t size = 20 + 10 * static_cast<std::size_t>(i);

        char *text = own(static_cast<char *>(reallocarray(strdup("hello"), size, 2)));
        CHECK(std::strcmp(text, "hello") == 0);
        free(text);
        free(own(reallocarray(nullptr, size, 2)));
        text = nullptr;
        CHECK(asprintf(&text, "%d", i) > 0);
        free(own(text));
        if (free_sized)
            free_sized(own(malloc(size)), size);
        if (free_aligned_sized)
            free_aligned_sized(own(aligned_alloc(64, size)), 64, size);

        ::operator delete(own(::operator new(size)));
        ::operator delete(own(::operator new(size)), size);
        ::operator delete[](own(::operator new[](size)));
        ::operator delete[](own(::operator new[](size)), size);
        ::operator delete(own(::operator new(size, std::nothrow)), std::nothrow);
        std::align_val_t wide{256};
        ::operator delete(own(::operator new(size, wide)), wide);
        ::operator delete[](own(::operator new[](size, wide)), size, wide);
        ::operator delete(own(::operator new(size, wide, std::nothrow)), wide, std::nothrow);
        ::operator delete(own(::operator new(0, wide)), wide);
        // What new gave may come to free, of a runtime whose new is malloc.
        free(own(::operator new(size)));
        std::unique_ptr<std::string> string(own(new std::string(size, 'x')));
    }
    std::size_t most = PTRDIFF_MAX; // of which the compiler must not know
    asm("" : "+r"(most));
    errno = 0;
    CHECK(reallocarray(nullptr, most, 3) == nullptr && errno == ENOMEM);
    bool threw = false;
    try {
        own(::operator new(most));
    } catch (const std::bad_alloc &) {
        threw = true;
    }
    CHECK(threw);
    std::printf("all from the program's own malloc\n");
    CHECK(given - taken < 20);
}
