// SPDX-License-Identifier: MIT
// Proves that every form of operator new and delete follows the standard: alignment, sizes, zero
// sizes, nothrow, bad_alloc for what cannot be had, new handlers that help, give up or throw.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <malloc.h>
#include <new>
#include <vector>

#define CHECK(holds)                                                                               \
    do {                                                                                           \
        if (!(holds)) {                                                                            \
            std::fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #holds);        \
            std::exit(1);                                                                          \
        }                                                                                          \
    } while (0)

// Hides a size from the compiler, which knows that it cannot be had.
static std::size_t hidden(std::size_t size)
{
    asm("" : "+r"(size));
    return size;
}

// Makes a block seen: the compiler may leave out an operator new whose result nobody looks at.
static void *seen(void *block)
{
    asm volatile("" : "+r"(block) : : "memory");
    return block;
}

static bool aligned(const void *block, std::size_t alignment)
{
    return reinterpret_cast<std::uintptr_t>(block) % alignment == 0;
}

static void use(void *block, std::size_t size)
{
    CHECK(seen(block));
    CHECK(malloc_usable_size(block) >= size);
    std::memset(block, 0x5a, size);
}

static void plain_forms()
{
    for (std::size_t size : {0, 1, 8, 24, 100, 1024, 5000, 40000, 1 << 20}) {
        void *block = ::operator new(size);
        use(block, size);
        CHECK(size < 16 || aligned(block, 16));
        ::operator delete(block);

        block = ::operator new(size);
        use(block, size);
        ::operator delete(block, size);

        block = ::operator new[](size);
        use(block, size);
        ::operator delete[](block);

        block = ::operator new[](size);
        use(block, size);
        ::operator delete[](block, size);

        block = ::operator new(size, std::nothrow);
        use(block, size);
        ::operator delete(block, std::nothrow);

        block = ::operator new[](size, std::nothrow);
        use(block, size);
        ::operator delete[](block, std::nothrow);
    }
    ::operator delete(nullptr);
    ::operator delete[](nullptr);
    ::operator delete (nullptr, std::size_t{10});
    ::operator delete (nullptr, std::align_val_t{64});
    void *a = ::operator new(0), *b = ::operator new(0);
    CHECK(a != b);
    ::operator delete(a);
    ::operator delete(b);
}

static void aligned_forms()
{
    for (std::size_t alignment = 8; alignment <= std::size_t{4} << 20; alignment *= 2)
        for (std::size_t size : {std::size_t{1}, std::size_t{24}, alignment, alignment * 3 / 2}) {
            std::align_val_t value{alignment};

            void *block = ::operator new(size, value);
            use(block, size);
            CHECK(aligned(block, alignment));
            ::operator delete(block, value);

            block = ::operator new(size, value);
            use(block, size);
            ::operator delete(block, size, value);

            block = ::operator new[](size, value);
            use(block, size);
            CHECK(aligned(block, alignment));
            ::operator delete[](block, value);

            block = ::operator new[](size, value);
            use(block, size);
            ::operator delete[](block, size, value);

            block = ::operator new(size, value, std::nothrow);
            use(block, size);
            CHECK(aligned(block, alignment));
            ::operator delete(block, value, std::nothrow);

            block = ::operator new[](size, value, std::nothrow);
            use(block, size);
            CHECK(aligned(block, alignment));
            ::operator delete[](block, value, std::nothrow);
        }
}

struct alignas(256) Wide {
    char byte[256];
};

static void expressions()
{
    Wide *one = new Wide;
    CHECK(aligned(one, 256));
    delete one;
    Wide *many = new Wide[7];
    CHECK(aligned(many, 256));
    delete[] many;
    std::vector<Wide> grown;
    for (int i = 0; i < 100; i++) {
        grown.emplace_back();
        CHECK(aligned(grown.data(), 256));
    }
    std::vector<int> *vectors = new std::vector<int>[10];
    for (int i = 0; i < 10; i++)
        vectors[i].assign(1000, i);
    delete[] vectors;
}

template <class Call> static bool throws_bad_alloc(Call call)
{
    try {
        call();
    } catch (const std::bad_alloc &) {
        return true;
    }
    return false;
}

static void too_much()
{
    for (std::size_t size : {std::size_t{1} << 47, static_cast<std::size_t>(PTRDIFF_MAX),
                             SIZE_MAX / 2 + 2, SIZE_MAX - 64, SIZE_MAX}) {
        std::size_t n = hidden(size);

        CHECK(throws_bad_alloc([n] { seen(::operator new(n)); }));
        CHECK(throws_bad_alloc([n] { seen(::operator new[](n)); }));
        CHECK(throws_bad_alloc([n] { seen(::operator new (n, std::align_val_t{64})); }));
        CHECK(throws_bad_alloc([n] { seen(::operator new[](n, std::align_val_t{4096})); }));
        CHECK(!seen(::operator new(n, std::nothrow)));
        CHECK(!seen(::operator new[](n, std::nothrow)));
        CHECK(!seen(::operator new (n, std::align_val_t{64}, std::nothrow)));
        CHECK(!seen(::operator new[](n, std::align_val_t{4096}, std::nothrow)));
    }
    CHECK(throws_bad_alloc([] { seen(new double[hidden(SIZE_MAX / 4)]); }));
    CHECK(throws_bad_alloc([] { std::vector<char>().reserve(hidden(PTRDIFF_MAX)); }));
}

static int handled;

static void give_up_at_the_third()
{
    if (++handled == 3)
        std::set_new_handler(nullptr);
}

struct Own {
};

static void throw_own()
{
    handled++;
    throw Own();
}

static void throw_bad_alloc()
{
    handled++;
    throw std::bad_alloc();
}

static void handlers()
{
    std::size_t n = hidden(PTRDIFF_MAX);

    handled = 0;
    std::set_new_handler(give_up_at_the_third);
    CHECK(throws_bad_alloc([n] { seen(::operator new(n)); }));
    CHECK(handled == 3);

    handled = 0;
    std::set_new_handler(give_up_at_the_third);
    CHECK(!seen(::operator new(n, std::nothrow)));
    CHECK(handled == 3);

    handled = 0;
    std::set_new_handler(throw_own);
    try {
        seen(::operator new (n, std::align_val_t{64}));
        CHECK(false);
    } catch (const Own &) {
    }
    CHECK(handled == 1);

    handled = 0;
    std::set_new_handler(throw_bad_alloc);
    CHECK(!seen(::operator new[](n, std::nothrow)));
    CHECK(handled == 1);
    std::set_new_handler(nullptr);
}

int main()
{
    plain_forms();
    aligned_forms();
    expressions();
    too_much();
    handlers();
    plain_forms();
    std::puts("all forms");
}
