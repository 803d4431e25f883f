// SPDX-License-Identifier: MIT
// Each form of new and delete once, between the marks of exercise.c: nine blocks.
#include <cstdlib>
#include <new>
#include <string>
#include <vector>

struct alignas(128) Wide {
    char bytes[128];
};

static void *volatile sink;

static void mark(std::size_t which)
{
    sink = std::malloc(77001 + which);
    std::free(sink);
}

int main()
{
    mark(0);
    int *one = new int(1);
    sink = one;
    delete one;
    char *many = new char[300];
    sink = many;
    delete[] many;
    Wide *wide = new Wide;
    sink = wide;
    delete wide;
    Wide *wides = new Wide[3];
    sink = wides;
    delete[] wides;
    int *quiet = new (std::nothrow) int(2);
    sink = quiet;
    delete quiet;
    char *quiets = new (std::nothrow) char[77];
    sink = quiets;
    delete[] quiets;
    sink = ::operator new(1001);
    ::operator delete(sink, std::size_t(1001));
    sink = ::operator new(1002, std::align_val_t(64));
    ::operator delete(sink, std::align_val_t(64));
    {
        std::vector<int> some(100);
        sink = some.data();
    }
    mark(1);
    try {
        sink = ::operator new(std::size_t(1) << 62);
    } catch (const std::bad_alloc &) {
        return 0;
    }
    return 1;
}
