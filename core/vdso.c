/* SPDX-License-Identifier: MIT */
#include "core/vdso.h"

#include <elf.h>

struct vdso_tables {
    const Elf64_Sym *symbols;
    const char *names;
    const uint32_t *hash;     /* SysV's; absent in newer kernels */
    const uint32_t *gnu_hash; /* absent in older kernels */
};

static bool vdso_is_same(const char *a, const char *b)
{
    while (*a && *a == *b)
        a++, b++;
    return *a == *b;
}

/* The symbol table has no length field; both kinds of hash table give its length. */
static uint32_t vdso_symbols_count(const struct vdso_tables *tables)
{
    if (tables->hash)
        return tables->hash[1]; /* number of chains: one a symbol */

    /* Header: buckets, first symbol that is hashed, words of the Bloom filter (8 bytes each), its shift. */
    const uint32_t *gnu = tables->gnu_hash;
    uint32_t buckets = gnu[0], first = gnu[1], last = 0;
    const uint32_t *bucket = gnu + 4 + 2 * (size_t)gnu[2];
    const uint32_t *chain = bucket + buckets;

    for (uint32_t i = 0; i < buckets; i++)
        last = bucket[i] > last ? bucket[i] : last;
    if (last < first)
        return first;
    while ((chain[last - first] & 1) == 0) /* the last of a bucket's chain is odd */
        last++;
    return last + 1;
}

static struct vdso_tables vdso_tables_of(const Elf64_Dyn *entry, uintptr_t base)
{
    struct vdso_tables tables = {NULL, NULL, NULL, NULL};

    for (; entry->d_tag != DT_NULL; entry++) {
        const void *at = (const void *)(base + entry->d_un.d_ptr);
        if (entry->d_tag == DT_SYMTAB)
            tables.symbols = at;
        else if (entry->d_tag == DT_STRTAB)
            tables.names = at;
        else if (entry->d_tag == DT_HASH)
            tables.hash = at;
        else if (entry->d_tag == DT_GNU_HASH)
            tables.gnu_hash = at;
    }
    return tables;
}

void *vdso_function(const void *image, const char *name)
{
    const Elf64_Ehdr *head = image;
    const char *bytes = image;
    const Elf64_Phdr *segment = (const Elf64_Phdr *)(const void *)(bytes + head->e_phoff);
    const Elf64_Dyn *dynamic = NULL;
    uintptr_t base = 0; /* addresses within the image are relative to it */
    bool loaded = false;

    if (head->e_ident[EI_CLASS] != ELFCLASS64 || head->e_phentsize != sizeof(*segment))
        return NULL;
    for (int i = 0; i < head->e_phnum; i++, segment++)
        if (segment->p_type == PT_LOAD && !loaded) {
            base = (uintptr_t)bytes + segment->p_offset - segment->p_vaddr;
            loaded = true;
        } else if (segment->p_type == PT_DYNAMIC) {
            dynamic = (const Elf64_Dyn *)(const void *)(bytes + segment->p_offset);
        }
    if (dynamic == NULL || !loaded)
        return NULL;
    struct vdso_tables tables = vdso_tables_of(dynamic, base);
    if (!tables.symbols || !tables.names || (!tables.hash && !tables.gnu_hash))
        return NULL;
    for (uint32_t i = 0, count = vdso_symbols_count(&tables); i < count; i++) {
        const Elf64_Sym *symbol = &tables.symbols[i];
        unsigned kind = ELF64_ST_TYPE(symbol->st_info);
        if (symbol->st_shndx != SHN_UNDEF && (kind == STT_FUNC || kind == STT_NOTYPE) &&
            vdso_is_same(tables.names + symbol->st_name, name))
            return (void *)(base + symbol->st_value);
    }
    return NULL;
}
