/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "core/os.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include "core/atomic.h"
#include "core/kernel.h"
#include "core/words.h"

/* Newer than some headers this is compiled with; the kernel refuses or ignores what it lacks. */
enum {
    OS_FIXED_NOREPLACE = 0x100000,
    OS_DONTUNMAP = 4,
    OS_COLD = 20,
    OS_POPULATE = 23,
    OS_COLLAPSE = 25
};

static const uintptr_t PLACES_APART = (uintptr_t)2 << 20;

static const int ANONYMOUS = MAP_PRIVATE | MAP_ANONYMOUS;

/* mprotect takes no address within a page, not even of an empty range; where it succeeds it does nothing. */
size_t os_page_size(void)
{
    static size_t size;
    size_t known = atomic_load_relaxed(&size);

    if (known == 0) {
        known = 4096;
        while (known < (size_t)1 << 20 &&
               kernel_mprotect((void *)(uintptr_t)known, 0, PROT_NONE) == -EINVAL)
            known *= 2;
        atomic_store_relaxed(&size, known);
    }
    return known;
}

/* NULL for failure */
static void *os_map_with(void *at, size_t size, int flags)
{
    long base = kernel_mmap(at, size, PROT_READ | PROT_WRITE, flags);

    return kernel_is_error(base) ? NULL : (void *)base;
}

void *os_map(size_t size)
{
    return os_map_with(NULL, size, ANONYMOUS);
}

/* More is mapped than wanted, and what lies before and behind goes back. Nobody else can have got into
 * the range meanwhile. */
static void *os_map_and_cut(size_t size, size_t align)
{
    if (size + align < size)
        return NULL;
    char *base = os_map(size + align);
    if (base == NULL)
        return NULL;
    size_t before = -(uintptr_t)base & (align - 1);
    if (before > 0)
        os_unmap(base, before); /* what is refused stays mapped, unused: addresses, no memory */
    os_unmap(base + before + size, align - before);
    return base + before;
}

void *os_map_aligned(size_t size, size_t align)
{
    char *base = os_map(size);

    if (base == NULL || ((uintptr_t)base & (align - 1)) == 0)
        return base;
    os_unmap(base, size);
    return os_map_and_cut(size, align);
}

enum os_placed os_map_at(void *base, size_t size)
{
    long got = kernel_mmap(base, size, PROT_READ | PROT_WRITE, ANONYMOUS | OS_FIXED_NOREPLACE);

    if (kernel_is_error(got))
        return got == -EEXIST ? OS_TAKEN : OS_NO_MEMORY;
    if ((void *)got == base)
        return OS_PLACED;
    os_unmap((void *)got, size); /* a kernel before 4.17 takes the address for a hint */
    return OS_TAKEN;
}

/* The address of a stack variable carries the kernel's randomness. */
static uintptr_t os_place_far(unsigned attempt)
{
    static const unsigned char HEIGHTS[] = {45, 43, 41, 38, 36, 34, 32};
    uintptr_t random = (uintptr_t)&random >> 4;
    uintptr_t height;

    if (attempt >= sizeof(HEIGHTS))
        return 0;
    height = (uintptr_t)1 << HEIGHTS[attempt];
    return height + (random * PLACES_APART & (height / 4 - 1));
}

static uintptr_t os_place_near(void)
{
    const uintptr_t below = (uintptr_t)1 << 36;
    void *mapping = os_map(os_page_size());
    uintptr_t top = (uintptr_t)mapping & ~(PLACES_APART - 1);

    if (mapping)
        os_unmap(mapping, os_page_size());
    return top > below ? top - below : 0;
}

uintptr_t os_place(unsigned attempt)
{
    if (OS_PLACES_FAR)
        return os_place_far(attempt);
    return attempt == 0 ? os_place_near() : 0;
}

bool os_can_map(size_t size)
{
    void *mapping = os_map(size);

    return mapping != NULL && os_unmap(mapping, size);
}

bool os_protect(void *base, size_t size, enum os_access access)
{
    static const int protection[] = {
        [OS_READ] = PROT_READ,
        [OS_READ_WRITE] = PROT_READ | PROT_WRITE,
        [OS_READ_EXECUTE] = PROT_READ | PROT_EXEC,
    };

    return kernel_mprotect(base, size, protection[access]) == 0;
}

bool os_map_over(void *base, size_t size)
{
    return os_map_with(base, size, ANONYMOUS | MAP_FIXED) != NULL;
}

bool os_unmap(void *base, size_t size)
{
    return kernel_munmap(base, size) == 0;
}

static bool os_advise(void *base, size_t size, int advice)
{
    return kernel_madvise(base, size, advice) == 0;
}

bool os_purge(void *base, size_t size)
{
    return os_advise(base, size, MADV_DONTNEED);
}

/* -1 until probed */
static int purge_zeroes = -1;

bool os_purge_zeroes(void)
{
    int known = atomic_load_relaxed(&purge_zeroes);

    if (known < 0) {
        volatile char *page = os_map(os_page_size());
        if (page == NULL)
            return false;
        *page = 1;
        bool purged = os_purge((void *)(uintptr_t)page, os_page_size());
        known = purged && *page == 0;
        if (purged) /* else the next one may be, and then it counts */
            atomic_store_relaxed(&purge_zeroes, known);
        os_unmap((void *)(uintptr_t)page, os_page_size());
    }
    return known;
}

/* Advice that a kernel short of memory refuses for the moment is given again: without it, where the system makes huge
 * pages for all, one would hold memory that no block has ever used. */
static void os_advise_until_taken(void *base, size_t size, int advice)
{
    enum { TRIES = 3 };

    for (int i = 0; i < TRIES && kernel_madvise(base, size, advice) == -EAGAIN; i++)
        continue;
}

void os_no_huge_pages(void *base, size_t size)
{
    os_advise_until_taken(base, size, MADV_NOHUGEPAGE);
}

void os_advise_huge_pages(void *base, size_t size)
{
    os_advise_until_taken(base, size,
                          enabled(CONFIG_HUGE_PAGES_ALWAYS) ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
}

void os_populate(void *base, size_t size)
{
    static bool refused; /* atomic */

    if (atomic_load_relaxed(&refused))
        return;
    long error = kernel_madvise(base, size, OS_POPULATE);
    /* Linux before 5.14, larger pages than expected, or a filter of system calls. */
    if (error == -EINVAL || error == -EPERM || error == -ENOSYS)
        atomic_store_relaxed(&refused, true);
}

void os_leave_out_of_dumps(void *base, size_t size)
{
    os_advise(base, size, MADV_DONTDUMP);
}

void os_take_into_dumps(void *base, size_t size)
{
    os_advise(base, size, MADV_DODUMP);
}

bool os_collapse(void *base, size_t size)
{
    bool done = os_advise(base, size, MADV_HUGEPAGE) && os_advise(base, size, OS_COLLAPSE);

    os_no_huge_pages(base, size);
    return done;
}

/* The kernel splits a huge page of which only a part is said to be cold. */
void os_split_huge_page(void *page)
{
    os_advise(page, os_page_size(), OS_COLD);
}

size_t os_resident_pages(void *base, size_t size)
{
    unsigned char pages[512];
    size_t count = size / os_page_size();
    size_t resident = 0;

    if (count > sizeof(pages) || kernel_mincore(base, size, pages) != 0)
        count = 0;
    for (size_t i = 0; i < count; i++)
        resident += pages[i] & 1;
    return resident;
}

/* Kernels before 6.17 cannot move a range of several mappings, and say so only when they have unmapped
 * the target. Growing such a range to more than fits fails with EFAULT before anything is done. */
static bool os_is_one_mapping(void *base, size_t size)
{
    const size_t impossible = (size_t)1 << 46;

    long grown = kernel_mremap(base, size, impossible, 0, NULL);
    if (kernel_is_error(grown))
        return grown != -EFAULT;
    kernel_munmap((char *)base + size,
                  impossible - size); /* with nothing mapped behind it, growing succeeds */
    return true;
}

/* The length of the longest part of the range, from its start on, that is one mapping. */
static size_t os_first_mapping(void *base, size_t size)
{
    size_t page = os_page_size();
    size_t least = page, beyond = size + page; /* known length; known-too-long length */

    if (os_is_one_mapping(base, size))
        return size;
    while (beyond - least > page) {
        size_t middle = least + (beyond - least) / 2 / page * page;

        if (os_is_one_mapping(base, middle))
            least = middle;
        else
            beyond = middle;
    }
    return least;
}

/* Whether the range consists of at most `most` mappings. */
static bool os_are_few_mappings(void *base, size_t size, unsigned most)
{
    size_t done = 0;

    for (unsigned i = 0; i < most && done < size; i++)
        done += os_first_mapping((char *)base + done, size - done);
    return done == size;
}

unsigned os_move(void *from, void *to, size_t size, unsigned most)
{
    bool few = os_are_few_mappings(from, size, most);
    unsigned count = 0;
    size_t done = 0;

    while (few && done < size) {
        char *source = (char *)from + done, *target = (char *)to + done;
        size_t part = os_first_mapping(source, size - done);

        if (kernel_is_error(kernel_mremap(source, part, part,
                                          MREMAP_MAYMOVE | MREMAP_FIXED | OS_DONTUNMAP, target))) {
            hak_words_copy(from, to,
                           done / sizeof(uint64_t)); /* which cannot fail, as moving back can */
            count = 0;
            break;
        }
        done += part;
        count++;
    }
    return count;
}

bool os_grow(void *base, size_t size, size_t new_size)
{
    return !kernel_is_error(kernel_mremap(base, size, new_size, 0, NULL));
}

enum os_moved os_move_away(void *from, size_t size, void *to, size_t new_size)
{
    if (!os_is_one_mapping(from, size))
        return OS_REFUSED;
    long moved = kernel_mremap(from, size, new_size, MREMAP_MAYMOVE | MREMAP_FIXED, to);
    if (!kernel_is_error(moved))
        return OS_MOVED;
    return moved == -EINVAL || moved == -ENOSYS ? OS_REFUSED : OS_LOST;
}

/* The number that a file holds; `otherwise` where it cannot be read. */
static size_t os_number_in(const char *path, size_t otherwise)
{
    long file = kernel_open(path);
    char text[24];
    long length = file < 0 ? 0 : kernel_read(file, text, sizeof(text));
    size_t number = 0;

    for (long i = 0; i < length && text[i] >= '0' && text[i] <= '9'; i++)
        number = number * 10 + (size_t)(text[i] - '0');
    if (file >= 0)
        kernel_close(file);
    return number > 0 ? number : otherwise;
}

size_t os_mappings_limit(void)
{
    return os_number_in("/proc/sys/vm/max_map_count", 65530);
}

bool os_charges_committed(void)
{
    static uint8_t answer; /* relaxed atomic; 0: not asked yet, 1: no, 2: yes */
    uint8_t known = atomic_load_relaxed(&answer);

    if (known == 0) {
        known = os_number_in("/proc/sys/vm/overcommit_memory", 0) == 2 ? 2 : 1;
        atomic_store_relaxed(&answer, known);
    }
    return known == 2;
}

/* A number in the base given; *at is left behind it. */
static uintptr_t os_number_at(const char **at, unsigned base)
{
    uintptr_t number = 0;

    for (;; ++*at) {
        unsigned digit = (unsigned char)**at;
        if (digit >= '0' && digit <= '9')
            digit -= '0';
        else if (digit >= 'a' && digit <= 'f')
            digit -= 'a' - 10;
        else
            return number;
        if (digit >= base)
            return number;
        number = number * base + digit;
    }
}

struct os_mapping {
    uintptr_t from, to;
};

/* Takes one line of smaps: of a mapping's first line the addresses, of AnonHugePages the kilobytes. */
static size_t os_huge_of_line(const char *line, bool (*ours)(uintptr_t, uintptr_t),
                              struct os_mapping *mapping)
{
    static const char NAME[] = "AnonHugePages:";
    const char *at = line;

    size_t same = 0;
    while (same < sizeof(NAME) - 1 && line[same] == NAME[same])
        same++;
    if (same == sizeof(NAME) - 1) {
        for (at += same; *at == ' ';)
            at++;
        size_t bytes = os_number_at(&at, 10) << 10;
        return bytes > 0 && ours(mapping->from, mapping->to) ? bytes : 0;
    }
    uintptr_t from = os_number_at(&at, 16);
    if (at > line && *at == '-') {
        at++;
        *mapping = (struct os_mapping){from, os_number_at(&at, 16)};
    }
    return 0;
}

size_t os_huge_bytes(bool (*ours)(uintptr_t from, uintptr_t to))
{
    long file = kernel_open("/proc/self/smaps");
    char text[2048];
    char line[64]; /* the beginning of one, which is what matters */
    size_t length = 0;
    size_t bytes = 0;
    struct os_mapping mapping = {0, 0};
    long got;

    while (file >= 0 && (got = kernel_read(file, text, sizeof(text))) > 0)
        for (long i = 0; i < got; i++) {
            if (text[i] != '\n') {
                line[length] = text[i];
                length += length < sizeof(line) - 1;
                continue;
            }
            line[length] = '\0';
            bytes += os_huge_of_line(line, ours, &mapping);
            length = 0;
        }
    if (file >= 0)
        kernel_close(file);
    return bytes;
}
