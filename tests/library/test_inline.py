# SPDX-License-Identifier: MIT
"""hakmem/inline.h of a library that was built: programs compile with it in every way, run with this library and with no other,
and a hit takes no more instructions than are promised."""

import os
import re
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

BUILD = Path(os.environ["HAKMEM_TEST_BUILD"])
HEADER = (BUILD / "include/hakmem/inline.h").read_text()
KNOWN_CODE = bool(os.environ.get("HAKMEM_TEST_KNOWN_CODE"))
SECONDS = 600

# Instructions of a pair of 64 bytes, net of the loop, at most: what doc/using.md promises.
EXACT = {"gcc": 16, "clang": 17}

COMMON = """
#include <hakmem/inline.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
"""
C = COMMON + """
struct node { struct node *next; char text[40]; };

int main(void)
{
    struct node *all = NULL;
    for (int round = 0; round < 300; round++) {
        for (int i = 0; i < 100; i++) {
            struct node *node = hak_inline_malloc(sizeof(*node));
            snprintf(node->text, sizeof(node->text), "%d", i);
            node->next = all;
            all = node;
        }
        for (int i = 99; i >= 0; i--) {
            struct node *node = all;
            all = node->next;
            if (atoi(node->text) != i)
                return 1;
            if (i % 3 == 0)
                hak_inline_free(node);
            else if (i % 3 == 1)
                hak_inline_free_exact(node, sizeof(*node));
            else
                hak_free(node);
        }
    }
    char *zeroed = hak_inline_calloc(10, 10);
    for (int i = 0; i < 100; i++)
        if (zeroed[i])
            return 2;
    zeroed = hak_realloc(zeroed, 50000);
    hak_inline_free(zeroed);
    puts("well");
    return 0;
}
"""
CXX = COMMON + """
#include <list>
#include <map>
#include <memory>
#include <string>
#include <vector>

struct base : hakmem::inline_new { virtual ~base() {} virtual int value() const { return 1; } char room[20]; };
struct derived : base { int value() const override { return 2; } char more[500]; };
struct alignas(64) wide { char bytes[64]; };
struct alignas(128) alignas_new : hakmem::inline_new { char bytes[128]; };

template <typename T> using allocator = hakmem::inline_allocator<T>;

int main()
{
    std::list<int, allocator<int>> list;
    std::map<std::string, int, std::less<std::string>, allocator<std::pair<const std::string, int>>> map;
    std::vector<wide, allocator<wide>> wides;
    long sum = 0;
    for (int i = 0; i < 1000; i++) {
        list.push_back(i);
        map[std::to_string(i)] = i;
        wides.emplace_back();
        if (reinterpret_cast<std::size_t>(&wides.back()) % 64)
            return 1;
        std::unique_ptr<base> one(i % 2 ? new base : new derived);
        sum += one->value();
        if (i % 3 == 0)
            list.pop_front();
    }
    for (const auto &entry : map)
        sum += entry.second;
    base *array = new base[10];
    delete[] array;
    base *none = nullptr;
    delete none;
#if defined(__cpp_aligned_new)
    for (int i = 0; i < 100; i++) {
        auto *one = new (std::nothrow) alignas_new, *many = new (std::nothrow) alignas_new[3];
        if (reinterpret_cast<std::size_t>(one) % 128 || reinterpret_cast<std::size_t>(many) % 128)
            return 3;
        delete one;
        delete[] many;
    }
#endif
    alignas(base) char place[3 * sizeof(base)];
    (new (place) base)->~base();
    base *several = new (std::nothrow) base[3];
    delete[] several;
    struct plain : hakmem::inline_new { int value; };
    if (static_cast<void *>(new (place) plain[2]) != place)
        return 4;
    bool thrown = false;
    try {
        allocator<int>().allocate(SIZE_MAX / 2);
    } catch (const std::bad_alloc &) {
        thrown = true;
    }
    if (sum != 499500 + 1500 || list.size() != 666 || !thrown)
        return 2;
    puts("well");
    return 0;
}
"""
COUNTED = COMMON + """
__attribute__((noinline)) void timed_loop(long count)
{
    for (long i = 0; i < count; i++) {
        void *block = ALLOCATE;
        __asm__ volatile("" : "+r"(block) : : "memory");
        FREE;
    }
}
int main(int argc, char **argv) { (void)argc; timed_loop(atol(argv[1])); return 0; }
"""
LOOPS = {
    "loop": ("NULL", "(void)block"),
    "exact": ("hak_inline_malloc(64)", "hak_inline_free_exact(block, 64)"),
    "checked": ("hak_inline_malloc(64)", "hak_inline_free(block)"),
    "called": ("hak_malloc(64)", "hak_free(block)"),
}
# Before ours in the process: gives out memory of its own, and bears no block that is not.
OTHER_MALLOC = """
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
static _Alignas(16) char memory[64 << 20];
static size_t used;
void *malloc(size_t size)
{
    char *block = memory + used;
    used += (size + 15) / 16 * 16 + 16;
    return used <= sizeof(memory) ? block : NULL;
}
void free(void *block)
{
    if (block && ((char *)block < memory || (char *)block >= memory + sizeof(memory))) {
        write(2, "not mine\\n", 9);
        _exit(99);
    }
}
void *calloc(size_t count, size_t size) { return memset(malloc(count * size), 0, count * size); }
void *realloc(void *block, size_t size)
{
    void *moved = malloc(size);
    return block ? memcpy(moved, block, size) : moved;
}
"""


class Inline(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="hakmem-inline-")
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.include = BUILD / "include"

    def run_it(self, *words, status=0, **variables):
        done = subprocess.run(
            [str(word) for word in words], env={**os.environ, "LC_ALL": "C", **variables}, cwd=self.folder, timeout=SECONDS,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
        )
        if status is not None:
            self.assertEqual(done.returncode, status, f"{' '.join(map(str, words))}\n{done.stdout}")
        return done.stdout

    def compile(self, text, *flags, compiler="gcc", language="c", output="program", static=False, status=0):
        source = self.folder / f"{output}.{language}"
        source.write_text(text)
        linked = [BUILD / "libhakmem.a", "-static", "-pthread"] if static else [f"-L{BUILD}", "-lhakmem", f"-Wl,-rpath,{BUILD}"]
        said = self.run_it(compiler, "-Werror", "-Wall", "-Wextra", f"-I{self.include}", *flags, source, "-o", output, *linked, status=status)
        return said


@unittest.skipIf("#error" in HEADER.splitlines()[1], "this composition has no such header")
class Programs(Inline):
    def test_in_every_way(self):
        """gcc and clang, C and C++, with and without optimising, for programs and for libraries, shared and static."""
        ways = [
            (language, compiler, flags, static)
            for language, compilers, standards in (("c", ("gcc", "clang"), ("c11", "gnu17")), ("cc", ("g++", "clang++"), ("c++11", "gnu++17")))
            for compiler in compilers
            for flags, static in (((f"-std={standards[0]}", "-O2"), False), ((f"-std={standards[1]}", "-O0"), False),
                                  (("-O2", "-fPIC", "-fno-strict-aliasing"), False), (("-O3", "-fno-pie"), True))
        ]
        for language, compiler, flags, static in ways:
            with self.subTest(f"{compiler} {' '.join(flags)}, {'static' if static else 'shared'}"):
                self.compile(CXX if language == "cc" else C, *flags, compiler=compiler, language=language, static=static)
                self.assertEqual(self.run_it("./program"), "well\n")

    def test_without_exceptions(self):
        text = COMMON + "struct one : hakmem::inline_new { int value; };\nint main() { delete new one; puts(\"well\"); }\n"
        self.compile(text, "-O2", "-fno-exceptions", "-fno-rtti", compiler="g++", language="cc")
        self.assertEqual(self.run_it("./program"), "well\n")

    def test_its_own_text_has_no_warnings(self):
        for compiler, language in (("gcc", "c"), ("clang", "c"), ("g++", "cc"), ("clang++", "cc")):
            said = self.run_it(compiler, "-O2", "-Wall", "-Wextra", "-Wshadow", "-Wsystem-headers", "-Wno-unused-function", f"-I{self.include}",
                               "-fsyntax-only", "-x", "c++" if language == "cc" else "c", BUILD / "include/hakmem/inline.h")
            ours = [line for line in said.splitlines() if "inline.h" in line and "warning" in line and "pragma" not in line]
            self.assertEqual(ours, [], compiler)

    def test_a_library_of_another_layout_does_not_link(self):
        shutil.copytree(BUILD / "include", self.folder / "include")
        header = self.folder / "include/hakmem/inline.h"
        abi = re.search(r"hak_inline_heap_([0-9a-f]{12})", HEADER)[1]
        header.write_text(HEADER.replace(abi, "0123456789ab"))
        self.include = self.folder / "include"
        for static in (False, True):
            said = self.compile(C, "-O2", static=static, status=1)
            self.assertIn("undefined reference to `hak_inline_heap_0123456789ab'", said)

    def test_a_library_of_another_layout_does_not_start(self):
        """A program that was linked with another library, which is replaced by this one."""
        other = "__thread void *hak_inline_heap_0123456789ab; void *hak_malloc(unsigned long n) { (void)n; return 0; }\nvoid hak_free(void *p) { (void)p; }\n"
        (self.folder / "other.c").write_text(other)
        self.run_it("gcc", "-shared", "-fPIC", "-Wl,-soname,libhakmem.so.0", "other.c", "-o", "libother.so")
        shutil.copytree(BUILD / "include", self.folder / "include")
        header = self.folder / "include/hakmem/inline.h"
        header.write_text(re.sub(r"hak_inline_heap_[0-9a-f]{12}", "hak_inline_heap_0123456789ab", HEADER))
        (self.folder / "program.c").write_text("#include <hakmem/inline.h>\nint main(void) { hak_inline_free(hak_inline_malloc(64)); return 0; }\n")
        self.run_it("gcc", "-O2", "-Iinclude", "program.c", "-L.", "-lother", "-o", "program")
        said = self.run_it("./program", status=127, LD_LIBRARY_PATH=str(BUILD))
        self.assertIn("undefined symbol: hak_inline_heap_0123456789ab", said)

    def test_another_malloc_before_ours(self):
        """Blocks of the header stay ours, and malloc's are the other's."""
        (self.folder / "other.c").write_text(OTHER_MALLOC)
        self.run_it("gcc", "-O2", "-shared", "-fPIC", "-fno-builtin", "other.c", "-o", "other.so")
        mixed = C.replace('puts("well");', 'for (int i = 0; i < 1000; i++) free(malloc(48));\n    puts("well");')
        for text, compiler, language in ((mixed, "gcc", "c"), (CXX, "g++", "cc")):
            self.compile(text, "-O2", "-fno-builtin-malloc", compiler=compiler, language=language)
            self.assertEqual(self.run_it("./program", LD_PRELOAD="./other.so"), "well\n")

    def test_what_stands_in_it_is_hidden_from_nobody_else(self):
        """All names begin with hak_inline_, HAK_INLINE_ or lie in the namespace."""
        said = self.run_it("gcc", "-O0", "-dM", "-E", "-x", "c", f"-I{self.include}", BUILD / "include/hakmem/inline.h")
        plain = self.run_it("gcc", "-O0", "-dM", "-E", "-x", "c", "-include", "stdint.h", "-include", "string.h", "-include", "stdbool.h",
                            "-include", "stddef.h", "/dev/null")
        names = {line.split()[1].split("(")[0] for line in set(said.splitlines()) - set(plain.splitlines())}
        self.assertEqual({name for name in names if not name.startswith(("HAK_INLINE_", "HAKMEM_"))}, set())

    def counted(self, *flags, static=False, compiler="gcc"):
        """Instructions of each loop for one round."""
        found = {}
        for name, (allocate, free) in LOOPS.items():
            self.compile(COUNTED.replace("ALLOCATE", allocate).replace("FREE", free), "-O2", *flags, static=static, compiler=compiler)
            totals = []
            for rounds in (1000, 11000):
                said = self.run_it("valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", "--toggle-collect=timed_loop", "./program", rounds)
                totals.append(int(re.search(r"Collected : (\d+)", said)[1]))
            found[name] = (totals[1] - totals[0]) / 10000
        return {name: count - found["loop"] for name, count in found.items()}

    @unittest.skipUnless(KNOWN_CODE, "another compiler's or the user's flags")
    def test_instructions(self):
        for flags, static, compiler in (((), False, "gcc"), (("-fPIC",), False, "gcc"), ((), True, "gcc"), ((), False, "clang")):
            with self.subTest(f"{compiler} {' '.join(flags)} {'static' if static else 'shared'}"):
                counts = self.counted(*flags, static=static, compiler=compiler)
                print(f"{compiler} {' '.join(flags)} {'static' if static else 'shared'}: {counts}")
                self.assertLessEqual(counts["exact"], EXACT[compiler])
                self.assertLessEqual(counts["checked"], counts["called"] - 8)
                self.assertGreater(counts["exact"], 8)  # else there was no pair


@unittest.skipUnless("#error" in HEADER.splitlines()[1], "this composition has the header")
class Refused(Inline):
    def test_it_says_why(self):
        said = self.compile(C, status=1)
        self.assertIn("hakmem/inline.h: ", said)
        self.assertIn("use hakmem/hakmem.h", said)
