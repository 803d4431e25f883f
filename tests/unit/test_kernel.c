/* SPDX-License-Identifier: MIT */
/* System calls reach the kernel as they are; functions of its image are found by name without the dynamic linker,
 * whichever hash table the image has. */
#define _GNU_SOURCE
#include <criterion/criterion.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "core/kernel.h"
#include "core/syscall.h"
#include "core/vdso.h"

/* An image as a linker makes it, with symbols 0 to 5: none, an undefined one, an object, and three functions. */
struct image {
    Elf64_Ehdr head;
    Elf64_Phdr segments[2];
    Elf64_Dyn dynamic[5];
    Elf64_Sym symbols[6];
    char names[64];
    uint32_t hash[2 + 1 + 6];
    uint32_t gnu_hash[4 + 2 + 2 + 3];
};

enum {
    BASE = 0x10000
}; /* where the image wants to lie: addresses in it are relative to its place minus this */

static void fill(struct image *image, bool gnu, bool sysv)
{
    static const char names[] = "\0missing\0object\0first\0second\0third";
    static const uint32_t name_at[] = {0, 1, 9, 16, 22, 29};
    uint64_t dynamic_at = offsetof(struct image, dynamic);
    size_t entry = 0;

    memset(image, 0, sizeof(*image));
    memcpy(image->head.e_ident, ELFMAG, SELFMAG);
    image->head.e_ident[EI_CLASS] = ELFCLASS64;
    image->head.e_phoff = offsetof(struct image, segments);
    image->head.e_phentsize = sizeof(Elf64_Phdr);
    image->head.e_phnum = 2;
    image->segments[0] = (Elf64_Phdr){.p_type = PT_LOAD, .p_offset = 0, .p_vaddr = BASE};
    image->segments[1] =
        (Elf64_Phdr){.p_type = PT_DYNAMIC, .p_offset = dynamic_at, .p_vaddr = BASE + dynamic_at};
    memcpy(image->names, names, sizeof(names));
    for (int i = 1; i < 6; i++)
        image->symbols[i] = (Elf64_Sym){
            .st_name = name_at[i],
            .st_info = ELF64_ST_INFO(STB_GLOBAL, i == 2 ? STT_OBJECT : STT_FUNC),
            .st_shndx = i == 1 ? SHN_UNDEF : 1,
            .st_value = BASE + 8 * (uint64_t)i,
        };
    image->hash[1] = 6;
    /* Two buckets, symbols hashed from 3 on, one word of Bloom filter; the bucket of 3 and 4, the bucket of 5. */
    memcpy(image->gnu_hash, (uint32_t[]){2, 3, 1, 0, 0, 0, 3, 5, 10, 11, 13}, 11 * 4);
    image->dynamic[entry++] = (Elf64_Dyn){DT_SYMTAB, {BASE + offsetof(struct image, symbols)}};
    image->dynamic[entry++] = (Elf64_Dyn){DT_STRTAB, {BASE + offsetof(struct image, names)}};
    if (gnu)
        image->dynamic[entry++] =
            (Elf64_Dyn){DT_GNU_HASH, {BASE + offsetof(struct image, gnu_hash)}};
    if (sysv)
        image->dynamic[entry++] = (Elf64_Dyn){DT_HASH, {BASE + offsetof(struct image, hash)}};
}

static void finds_functions_only(const struct image *image)
{
    const char *bytes = (const char *)image;

    cr_assert_eq(vdso_function(image, "first"), (void *)(uintptr_t)(bytes + 24));
    cr_assert_eq(vdso_function(image, "second"), (void *)(uintptr_t)(bytes + 32));
    cr_assert_eq(vdso_function(image, "third"), (void *)(uintptr_t)(bytes + 40));
    for (int i = 0; i < 6; i++) {
        static const char *const none[] = {"missing", "object", "fourth", "thir", "thirds", ""};
        cr_assert_null(vdso_function(image, none[i]), "%s", none[i]);
    }
}

Test(vdso, functions_are_found_by_either_hash_table)
{
    struct image image;

    for (int tables = 1; tables <= 3; tables++) {
        fill(&image, (tables & 1) != 0, (tables & 2) != 0);
        finds_functions_only(&image);
    }
}

Test(vdso, an_image_without_what_is_needed_has_none)
{
    struct image image;

    fill(&image, false, false);
    cr_assert_null(vdso_function(&image, "first"));
    fill(&image, true, true);
    image.head.e_ident[EI_CLASS] = ELFCLASS32;
    cr_assert_null(vdso_function(&image, "first"));
    fill(&image, true, true);
    image.segments[1].p_type = PT_NOTE;
    cr_assert_null(vdso_function(&image, "first"));
    fill(&image, true, true);
    image.segments[0].p_type = PT_NOTE;
    cr_assert_null(vdso_function(&image, "first"));
}

Test(vdso, the_kernels_own_has_a_clock)
{
    const void *image = (const void *)getauxval(AT_SYSINFO_EHDR);

    if (image == NULL)
        cr_skip("the kernel offers none here");
    cr_assert_not_null(vdso_function(image, HAK_VDSO_CLOCK));
    cr_assert_null(vdso_function(image, "no_such_function"));
}

static int64_t nanoseconds(struct timespec time)
{
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

Test(kernel, the_clock_is_libcs_before_and_after_it_began)
{
    for (int i = 0; i < 3; i++) {
        struct timespec before, after;
        clock_gettime(CLOCK_MONOTONIC, &before);
        int64_t now = nanoseconds(kernel_clock(CLOCK_MONOTONIC));
        clock_gettime(CLOCK_MONOTONIC, &after);
        cr_assert(nanoseconds(before) <= now && now <= nanoseconds(after));
        kernel_begin();
    }
}

Test(kernel, failures_are_negative_error_numbers)
{
    errno = 1234;
    cr_assert_eq(kernel_open("/nonexistent"), -ENOENT);
    cr_assert_eq(kernel_read(-1, NULL, 0), -EBADF);
    cr_assert_eq(kernel_mprotect((void *)1, 1, 0), -EINVAL);
    cr_assert(kernel_is_error(kernel_mmap(NULL, 0, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS)));
    cr_assert(!kernel_is_error(kernel_mmap(NULL, 1, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS)));
    cr_assert_eq(errno, 1234);
}

Test(kernel, all_six_arguments_arrive)
{
    static char bytes[] = "0123456789";
    int file = fileno(tmpfile());
    long page = sysconf(_SC_PAGESIZE);

    cr_assert_eq(pwrite(file, bytes, sizeof(bytes), page), (ssize_t)sizeof(bytes));
    long mapped = hak_syscall(SYS_mmap, 0, page, PROT_READ, MAP_PRIVATE, file, page);
    cr_assert(!kernel_is_error(mapped));
    cr_assert_str_eq((const char *)mapped, bytes);
}

static void *tell_thread_pointer(void *told)
{
    *(uintptr_t *)told = hak_thread_pointer();
    return NULL;
}

Test(kernel, the_thread_pointer_is_each_threads_own)
{
    uintptr_t other = 0;
    pthread_t thread;

    cr_assert_eq(pthread_create(&thread, NULL, tell_thread_pointer, &other), 0);
    pthread_join(thread, NULL);
    cr_assert_neq(other, 0);
    cr_assert_neq(other, hak_thread_pointer());
}
