/* SPDX-License-Identifier: MIT */
/* Plug-ins that are opened with RTLD_DEEPBIND (glibc). Such a plug-in looks up each name in its own libraries first, and
 * libc is one of them: its malloc and free are libc's, not the program's. But strdup, getline and asprintf of the same
 * libc were bound when the program started, and return this library's blocks, which the plug-in passes to libc's free;
 * program and plug-in also free each other's blocks. No malloc that is preloaded or linked survives that by itself.
 *
 * So the library defines dlopen. Before the first plug-in with that flag, it changes each entry of the malloc family in
 * libc's symbol table in memory to the function that the rest of the program uses. Everything else is as the flag says:
 * only the look-up of these names finds another function. A process that never uses the flag is left alone. If the table
 * cannot be changed, the flag is dropped.
 *
 * dlopen must see its caller, for $ORIGIN, RUNPATH and the namespace, so it is tail-called. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <string.h>

#include "core/atomic.h"
#include "core/foreign.h"
#include "core/fork.h"
#include "core/lock.h"
#include "core/os.h"

typedef ElfW(Dyn) elf_dynamic;
typedef ElfW(Phdr) elf_segment;
typedef ElfW(Sym) elf_symbol;

/* From glibc's <dlfcn.h>; other libcs lack them. */
enum { GLIBC_DEEPBIND = 8, GLIBC_LM_ID_BASE = 0 };

void *dlmopen(long name_space, const char *file, int mode);

/* The functions of this library that libc defines too. */
static const char *const FAMILY[] = {
    "malloc",
    "calloc",
    "realloc",
    "reallocarray",
    "free",
    "aligned_alloc",
    "memalign",
    "posix_memalign",
    "valloc",
    "pvalloc",
    "free_sized",
    "free_aligned_sized",
    "__libc_malloc",
    "__libc_calloc",
    "__libc_realloc",
    "__libc_free",
    "__libc_memalign",
    "__libc_valloc",
    "__libc_pvalloc",
    "malloc_usable_size",
    "malloc_trim",
    "malloc_stats",
    "malloc_info",
    "mallinfo",
    "mallinfo2",
    "mallopt",
};
enum { FAMILY_SIZE = sizeof(FAMILY) / sizeof(*FAMILY), ENTRIES_MOST = 2 * FAMILY_SIZE };

/* ── libc's symbol table ─────────────────────────────────────────────────────────────────────── */

/* A loaded libc. symbols == NULL: not found. */
struct deepbind_libc {
    uintptr_t base;
    elf_symbol *symbols;
    const char *names;
    const uint32_t *hash;  /* DT_GNU_HASH */
    enum os_access access; /* of the memory that the symbols lie in */
};

static enum os_access deepbind_access_to(const struct dl_phdr_info *object, uintptr_t address)
{
    for (int i = 0; i < object->dlpi_phnum; i++) {
        const elf_segment *segment = &object->dlpi_phdr[i];
        if (segment->p_type == PT_LOAD &&
            address - object->dlpi_addr - segment->p_vaddr < segment->p_memsz)
            return segment->p_flags & PF_X ? OS_READ_EXECUTE : OS_READ;
    }
    return OS_READ;
}

static const elf_dynamic *deepbind_dynamic_of(const struct dl_phdr_info *object)
{
    for (int i = 0; i < object->dlpi_phnum; i++) {
        const elf_segment *segment = &object->dlpi_phdr[i];
        if (segment->p_type == PT_DYNAMIC)
            return (const elf_dynamic *)(object->dlpi_addr + segment->p_vaddr);
    }
    return NULL;
}

static int deepbind_find_libc(struct dl_phdr_info *object, size_t size, void *found)
{
    static const char NAME[] = "/libc.so.6";
    struct deepbind_libc *libc = found;
    size_t length = strlen(object->dlpi_name);

    (void)size;
    if (length < sizeof(NAME) - 1 ||
        strcmp(object->dlpi_name + length - (sizeof(NAME) - 1), NAME) != 0)
        return 0;
    libc->base = object->dlpi_addr;
    for (const elf_dynamic *entry = deepbind_dynamic_of(object); entry && entry->d_tag != DT_NULL;
         entry++) {
        /* Where it can write, the dynamic linker has replaced offsets by addresses. */
        uintptr_t address = entry->d_un.d_ptr;
        if (address < libc->base)
            address += libc->base;
        if (entry->d_tag == DT_SYMTAB)
            libc->symbols = (elf_symbol *)address;
        else if (entry->d_tag == DT_STRTAB)
            libc->names = (const char *)address;
        else if (entry->d_tag == DT_GNU_HASH)
            libc->hash = (const uint32_t *)address;
    }
    libc->access = deepbind_access_to(object, (uintptr_t)libc->symbols);
    return 1;
}

static uint32_t deepbind_hash_of(const char *name)
{
    uint32_t hash = 5381;

    for (; *name; name++)
        hash = hash * 33 + (unsigned char)*name;
    return hash;
}

/* The entries of a name, one for each version of it, into out[0 .. most-1]; returns how many. The hash table is a header
 * of four words, a filter, the first symbol of each bucket, and the hash of each symbol from `first` on, whose lowest bit
 * ends the bucket. */
static size_t deepbind_find_entries(const struct deepbind_libc *libc, const char *name,
                                    elf_symbol **out, size_t most)
{
    uint32_t buckets = libc->hash[0], first = libc->hash[1], filter = libc->hash[2];
    const uint32_t *bucket = libc->hash + 4 + filter * (sizeof(uintptr_t) / sizeof(uint32_t));
    const uint32_t *chain = bucket + buckets;
    uint32_t hash = deepbind_hash_of(name);
    size_t found = 0;

    for (uint32_t at = bucket[hash % buckets]; at >= first && found < most; at++) {
        uint32_t other = chain[at - first];
        elf_symbol *entry = &libc->symbols[at];
        if ((other | 1) == (hash | 1) && entry->st_shndx != SHN_UNDEF &&
            strcmp(libc->names + entry->st_name, name) == 0)
            out[found++] = entry;
        if (other & 1)
            break;
    }
    return found;
}

/* ── where its entries lead ──────────────────────────────────────────────────────────────────── */

struct deepbind_change {
    elf_symbol *entry;
    uintptr_t value;
};

/* Stores the changes to make in out[0 .. ENTRIES_MOST-1]; returns their number. */
static size_t deepbind_plan(const struct deepbind_libc *libc, struct deepbind_change *out)
{
    size_t planned = 0;

    for (size_t i = 0; i < FAMILY_SIZE; i++) {
        uintptr_t function = (uintptr_t)dlsym(RTLD_DEFAULT, FAMILY[i]);
        elf_symbol *entries[2];
        size_t found = function ? deepbind_find_entries(libc, FAMILY[i], entries, 2) : 0;
        for (size_t j = 0; j < found; j++)
            out[planned++] = (struct deepbind_change){entries[j], function - libc->base};
    }
    return planned;
}

/* Other threads may look up names meanwhile: the page stays readable, and a value changes atomically. */
static bool deepbind_change_one(const struct deepbind_change *change, enum os_access access)
{
    size_t page = os_page_size();
    uintptr_t from = (uintptr_t)&change->entry->st_value & ~(page - 1);

    if (!os_protect((void *)from, page, OS_READ_WRITE))
        return false;
    atomic_store_relaxed(&change->entry->st_value, change->value);
    os_protect((void *)from, page, access);
    return true;
}

/* false: the table has an unknown form, or cannot be written. */
static bool deepbind_share_malloc(void)
{
    struct deepbind_libc libc = {0};
    struct deepbind_change changes[ENTRIES_MOST];
    bool stops = !hak_lock_is_forking();
    size_t planned, done = 0;

    dl_iterate_phdr(deepbind_find_libc, &libc);
    if (libc.symbols == NULL || libc.names == NULL || libc.hash == NULL)
        return false;
    hak_foreign_prepare();
    planned = deepbind_plan(&libc, changes);
    /* Excludes other threads and fork; in a fork handler, this thread already holds all locks. */
    if (stops)
        hak_lock_all();
    while (done < planned && deepbind_change_one(&changes[done], libc.access))
        done++;
    if (stops)
        hak_unlock_all();
    return planned > 0 && done == planned;
}

/* The mode to open a plug-in with. */
static hak_cold int deepbind_shared_mode(int mode)
{
    static bool shared; /* atomic */

    if (!atomic_load_relaxed(&shared)) {
        if (!deepbind_share_malloc())
            return mode & ~GLIBC_DEEPBIND;
        atomic_store_relaxed(&shared, true);
    }
    return mode;
}

/* ── dlopen and dlmopen ──────────────────────────────────────────────────────────────────────── */

static void *deepbind_first_dlopen(const char *file, int mode);
static void *deepbind_first_dlmopen(long name_space, const char *file, int mode);

static void *(*next_dlopen)(const char *file, int mode) = deepbind_first_dlopen;
static void *(*next_dlmopen)(long name_space, const char *file, int mode) = deepbind_first_dlmopen;

static hak_cold void *deepbind_first_dlopen(const char *file, int mode)
{
    void *(*next)(const char *, int) = (void *(*)(const char *, int))dlsym(RTLD_NEXT, "dlopen");

    if (next == NULL)
        return NULL;
    next_dlopen = next;
    hak_tail_call return next(file, mode);
}

static hak_cold void *deepbind_first_dlmopen(long name_space, const char *file, int mode)
{
    void *(*next)(long, const char *, int) =
        (void *(*)(long, const char *, int))dlsym(RTLD_NEXT, "dlmopen");

    if (next == NULL)
        return NULL;
    next_dlmopen = next;
    hak_tail_call return next(name_space, file, mode);
}

hak_export void *dlopen(const char *file, int mode)
{
    if (unlikely(mode & GLIBC_DEEPBIND))
        mode = deepbind_shared_mode(mode);
    hak_tail_call return next_dlopen(file, mode);
}

/* Another namespace has a libc of its own, whose blocks stay in it. */
hak_export void *dlmopen(long name_space, const char *file, int mode)
{
    if (unlikely(mode & GLIBC_DEEPBIND) && name_space == GLIBC_LM_ID_BASE)
        mode = deepbind_shared_mode(mode);
    hak_tail_call return next_dlmopen(name_space, file, mode);
}
