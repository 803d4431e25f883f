/* SPDX-License-Identifier: MIT */
/* A second preloaded library that bears witness, in the file that HAKMEM_TEST_WITNESS names, for
 * every process that a test starts: at the start, which file answers the names of the allocator;
 * at exit, how many bytes glibc's own malloc has asked of the system, which is 0 where every call
 * went to the library.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <link.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Found at the start: later, the environment and the process's title may be others, and the name may lead
 * elsewhere, as it does after a plug-in with RTLD_DEEPBIND. */
static char path[PATH_MAX], program[NAME_MAX + 1];
static struct mallinfo2 (*glibc_mallinfo2)(void);

static void say(const char *what, const char *answer)
{
    char line[2 * PATH_MAX + 128];
    int length, file;

    if (!*path)
        return;
    length = snprintf(line, sizeof line, "%s %d %s %s\n", what, getpid(), program, answer);
    file = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
    if (file < 0)
        return;
    if (write(file, line, (size_t)length) < 0)
        abort();
    close(file);
}

/* The file that answers a name, in `real`. dlsym alone would do, were it not for executables at fixed
 * addresses: where these take a function's address, it is that of a stub in themselves, whose symbol is
 * undefined there. Then the first library of the search order that defines the name answers it.
 */
static void find_who_answers(const char *name, char *real)
{
    struct link_map *object;
    const Elf64_Sym *symbol;
    void *address = dlsym(RTLD_DEFAULT, name), *executable = dlopen(NULL, RTLD_LAZY);
    Dl_info info;

    snprintf(real, PATH_MAX, "nothing:%s", name);
    if (!address || !executable || dlinfo(executable, RTLD_DI_LINKMAP, &object))
        return;
    if (!dladdr1(address, &info, (void **)&symbol, RTLD_DL_SYMENT))
        return;
    while (symbol && symbol->st_shndx == SHN_UNDEF && (object = object->l_next)) {
        void *library = dlopen(object->l_name, RTLD_LAZY | RTLD_NOLOAD);

        address = library ? dlsym(library, name) : NULL;
        if (library)
            dlclose(library);
        /* dlsym also looks at what the library depends on. */
        if (address && dladdr(address, &info) && info.dli_fbase == (void *)object->l_addr)
            break;
    }
    if (!realpath(info.dli_fname, real))
        snprintf(real, PATH_MAX, "lost:%s", name);
    dlclose(executable);
}

__attribute__((constructor)) static void say_who_answers(void)
{
    static const char *const name[] = {
        "malloc", "free", "calloc", "realloc", "memalign", "posix_memalign", "malloc_usable_size"};
    int before = errno;
    const char *named = getenv("HAKMEM_TEST_WITNESS");

    if (named && strlen(named) < sizeof path)
        strcpy(path, named);
    snprintf(program, sizeof program, "%s", program_invocation_short_name);
    *(void **)&glibc_mallinfo2 = dlsym(RTLD_NEXT, "mallinfo2");
    char answer[2 * PATH_MAX], real[PATH_MAX];

    find_who_answers(name[0], real);
    memcpy(answer, real, sizeof real);
    for (size_t i = 1; i < sizeof name / sizeof *name; i++) {
        find_who_answers(name[i], real);
        if (strcmp(answer, real)) {
            snprintf(answer, sizeof answer, "%s answers %s", real, name[i]);
            break;
        }
    }
    say("start", answer);
    errno = before;
}

__attribute__((destructor)) static void say_what_glibc_used(void)
{
    char answer[32];
    struct mallinfo2 info = glibc_mallinfo2();

    snprintf(answer, sizeof answer, "%zu", info.arena + info.hblkhd);
    say("exit", answer);
}
