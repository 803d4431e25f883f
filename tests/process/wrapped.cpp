// SPDX-License-Identifier: MIT
// Under wrapper.c: each new and delete is seen by the wrapper of malloc and free, also when the caches are warm.
#include <cstdio>
#include <cstdlib>
#include <dlfcn.h>
#include <new>

static void *seen(void *block)
{
    asm volatile("" : "+r"(block) : : "memory");
    return block;
}

template <class Call> static void one(const char *form, Call call)
{
    long *mallocs = static_cast<long *>(dlsym(RTLD_DEFAULT, "wrapped_mallocs"));
    long *frees = static_cast<long *>(dlsym(RTLD_DEFAULT, "wrapped_frees"));
    long before[] = {*mallocs, *frees};

    for (int i = 0; i < 1000; i++)
        call();
    long after[] = {*mallocs, *frees};
    std::printf("%s: %ld %ld\n", form, after[0] - before[0], after[1] - before[1]);
}

int main()
{
    for (int i = 0; i < 100; i++)
        std::free(seen(std::malloc(100)));
    one("malloc", [] { std::free(seen(std::malloc(100))); });
    one("new", [] { ::operator delete(seen(::operator new(100))); });
    one("new, sized", [] { ::operator delete(seen(::operator new(100)), std::size_t{100}); });
    one("new[]", [] { ::operator delete[](seen(::operator new[](100))); });
    one("new[], sized", [] { ::operator delete[](seen(::operator new[](100)), std::size_t{100}); });
    one("new, nothrow", [] { ::operator delete(seen(::operator new(100, std::nothrow)), std::nothrow); });
}
