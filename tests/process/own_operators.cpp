// SPDX-License-Identifier: MIT
// A program that replaces some forms of operator new and delete: -DOWN_PLAIN, -DOWN_ARRAY, -DOWN_ALIGNED. Calls each form
// and prints which of its own functions that came to, letter by letter; a block that another one gave stops it.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <new>
#include <string>
#include <vector>

namespace {

char reached[64];
int length;
const char *form = "before main";

void note(char letter)
{
    if (length < 60)
        reached[length++] = letter;
}

// A block of the program's own has 64 bytes in front, the last 16 of which say who gave it.
struct Mark {
    std::uint64_t magic;
    char *begin;
};

void *give(std::size_t size, std::size_t alignment, std::uint64_t magic)
{
    alignment = alignment < 64 ? 64 : alignment;
    char *begin = static_cast<char *>(std::aligned_alloc(alignment, (size + 2 * alignment - 1) & ~(alignment - 1)));
    if (begin == nullptr)
        throw std::bad_alloc();
    Mark *mark = reinterpret_cast<Mark *>(begin + alignment) - 1;
    *mark = {magic, begin};
    return begin + alignment;
}

void take(void *block, std::uint64_t magic)
{
    if (block == nullptr)
        return;
    Mark *mark = static_cast<Mark *>(block) - 1;
    if (mark->magic != magic) {
        std::printf("%s: a block that another function gave\n", form);
        std::fflush(stdout);
        std::_Exit(3);
    }
    char *begin = mark->begin;
    mark->magic = 0;
    std::free(begin);
}

} // namespace

#ifdef OWN_PLAIN
void *operator new(std::size_t size)
{
    note('n');
    return give(size, 16, 1);
}
void operator delete(void *block) noexcept
{
    note('d');
    take(block, 1);
}
#endif

#ifdef OWN_ARRAY
void *operator new[](std::size_t size)
{
    note('N');
    return give(size, 16, 2);
}
void operator delete[](void *block) noexcept
{
    note('D');
    take(block, 2);
}
#endif

#ifdef OWN_ALIGNED
void *operator new(std::size_t size, std::align_val_t alignment)
{
    note('a');
    return give(size, static_cast<std::size_t>(alignment), 3);
}
void operator delete(void *block, std::align_val_t) noexcept
{
    note('x');
    take(block, 3);
}
#endif

template <class Call> static void one(const char *name, Call call)
{
    form = name;
    length = 0;
    // More than a cache holds.
    for (int i = 0; i < 300; i++) {
        length = 0;
        call();
    }
    reached[length] = '\0';
    std::printf("%s: %s\n", name, reached);
}

int main()
{
    const std::align_val_t wide{256};
    const std::size_t size = 100;

    one("new", [] { ::operator delete(::operator new(size)); });
    one("new, sized", [] { ::operator delete(::operator new(size), size); });
    one("new, nothrow", [] { ::operator delete(::operator new(size, std::nothrow)); });
    one("nothrow delete", [] { ::operator delete(::operator new(size), std::nothrow); });
    one("new[]", [] { ::operator delete[](::operator new[](size)); });
    one("new[], sized", [] { ::operator delete[](::operator new[](size), size); });
    one("new[], nothrow", [] { ::operator delete[](::operator new[](size, std::nothrow)); });
    one("nothrow delete[]", [] { ::operator delete[](::operator new[](size), std::nothrow); });
    one("large new", [] { ::operator delete(::operator new(1 << 20), std::size_t{1 << 20}); });
    one("large new[]", [] { ::operator delete[](::operator new[](1 << 20), std::size_t{1 << 20}); });
    one("aligned new", [=] { ::operator delete(::operator new(size, wide), wide); });
    one("aligned new, sized", [=] { ::operator delete(::operator new(size, wide), size, wide); });
    one("aligned new, nothrow", [=] { ::operator delete(::operator new(size, wide, std::nothrow), wide); });
    one("aligned nothrow delete", [=] { ::operator delete(::operator new(size, wide), wide, std::nothrow); });
    one("aligned new[]", [=] { ::operator delete[](::operator new[](size, wide), wide); });
    one("aligned new[], sized", [=] { ::operator delete[](::operator new[](size, wide), size, wide); });
    one("aligned new[], nothrow", [=] { ::operator delete[](::operator new[](size, wide, std::nothrow), wide); });
    one("aligned nothrow delete[]", [=] { ::operator delete[](::operator new[](size, wide), wide, std::nothrow); });
    one("delete null", [] {
        ::operator delete(nullptr);
        ::operator delete[](nullptr);
    });
    one("containers", [] {
        std::vector<std::string> strings(3, std::string(50, 'x'));
        std::map<int, std::string> map;
        for (int i = 0; i < 5; i++)
            map[i] = strings[0];
    });
}
