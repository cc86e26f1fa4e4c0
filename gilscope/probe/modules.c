#define _GNU_SOURCE
#include "modules.h"

#include <dlfcn.h>
#include <link.h>
#include <string.h>
#include <sys/auxv.h>
#include <unistd.h>

#include "memory.h"

enum { MOST_MODULES = 16384, MOST_ENTRIES = 1024, MOST_STEPS = 65536, NAME_BYTES = 64 };

/* What debuggers read: the loader's struct r_debug. */
static const struct r_debug *loader;

void gs_modules_start(void) {
    loader = dlsym(RTLD_DEFAULT, "_r_debug");
}

/* A table's address in the dynamic section; most loaders have relocated it. */
static uintptr_t table_at(const struct gs_module *module, uintptr_t value) {
    return value < module->start ? value + module->bias : value;
}

static bool read_tables(struct gs_module *module, const ElfW(Dyn) * dynamic) {
    ElfW(Dyn) entry;
    for (unsigned i = 0; i < MOST_ENTRIES; i++) {
        if (!gs_copy_safely(dynamic + i, &entry, sizeof entry))
            return false;
        switch (entry.d_tag) {
        case DT_NULL:
            return module->symbols && module->strings;
        case DT_SYMTAB:
            module->symbols = table_at(module, entry.d_un.d_ptr);
            break;
        case DT_STRTAB:
            module->strings = table_at(module, entry.d_un.d_ptr);
            break;
        case DT_GNU_HASH:
            module->gnu_hash = table_at(module, entry.d_un.d_ptr);
            break;
        case DT_HASH:
            module->hash = table_at(module, entry.d_un.d_ptr);
            break;
        case DT_JMPREL:
            module->imports[0].at = table_at(module, entry.d_un.d_ptr);
            break;
        case DT_PLTRELSZ:
            module->imports[0].bytes = entry.d_un.d_val;
            break;
        case DT_RELA:
            module->imports[1].at = table_at(module, entry.d_un.d_ptr);
            break;
        case DT_RELASZ:
            module->imports[1].bytes = entry.d_un.d_val;
            break;
        }
    }
    return false;
}

/* The stretch of addresses of its segments, and of its code; false where nothing of it is loaded.
 */
static bool read_segments(struct gs_module *module, const ElfW(Phdr) * segments, unsigned n) {
    module->start = UINTPTR_MAX;
    for (unsigned i = 0; i < n; i++) {
        ElfW(Phdr) segment;
        if (!gs_copy_safely(segments + i, &segment, sizeof segment))
            return false;
        uintptr_t at = module->bias + segment.p_vaddr;
        if (segment.p_type == PT_GNU_RELRO) { /* whole pages, as the loader has it */
            uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
            module->relro = at & ~(page - 1);
            module->relro_end = (at + segment.p_memsz) & ~(page - 1);
        }
        if (segment.p_type != PT_LOAD)
            continue;
        module->start = at < module->start ? at : module->start;
        module->end = at + segment.p_memsz > module->end ? at + segment.p_memsz : module->end;
        if (!module->code && segment.p_flags & PF_R && segment.p_flags & PF_X) {
            module->code = at;
            module->code_end = at + segment.p_filesz;
        }
    }
    return module->start < module->end;
}

/* The program's own headers the kernel has told; a library's stand where it begins. */
static bool read_extent(struct gs_module *module, const struct link_map *map, bool is_program) {
    *module = (struct gs_module){.bias = map->l_addr};
    if (is_program)
        return read_segments(module, (const void *)getauxval(AT_PHDR),
                             (unsigned)getauxval(AT_PHNUM));
    ElfW(Ehdr) header;
    if (!gs_copy_safely((const void *)map->l_addr, &header, sizeof header) ||
        memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 || header.e_phentsize != sizeof(ElfW(Phdr)))
        return false;
    return read_segments(module, (const void *)(map->l_addr + header.e_phoff), header.e_phnum);
}

bool gs_module_of(const void *code, struct gs_module *module) {
    struct r_debug debug;
    if (!loader || !gs_copy_safely(loader, &debug, sizeof debug))
        return false;
    struct link_map map;
    const struct link_map *at = debug.r_map;
    for (unsigned i = 0; at && i < MOST_MODULES && gs_copy_safely(at, &map, sizeof map); i++) {
        if (read_extent(module, &map, i == 0) && (uintptr_t)code >= module->start &&
            (uintptr_t)code < module->end)
            return read_tables(module, map.l_ld);
        at = map.l_next;
    }
    return false;
}

void gs_modules_each(bool (*each)(const struct gs_module *module, void *box), void *box) {
    struct r_debug debug;
    if (!loader || !gs_copy_safely(loader, &debug, sizeof debug))
        return;
    struct link_map map;
    const struct link_map *at = debug.r_map;
    for (unsigned i = 0; at && i < MOST_MODULES && gs_copy_safely(at, &map, sizeof map); i++) {
        struct gs_module module;
        if (read_extent(&module, &map, i == 0) && read_tables(&module, map.l_ld)) {
            module.path = map.l_name ? map.l_name : "";
            if (!each(&module, box))
                return;
        }
        at = map.l_next;
    }
}

#if defined(__x86_64__)
enum { CALL_SLOT = R_X86_64_JUMP_SLOT, DATA_SLOT = R_X86_64_GLOB_DAT };
#elif defined(__aarch64__)
enum { CALL_SLOT = R_AARCH64_JUMP_SLOT, DATA_SLOT = R_AARCH64_GLOB_DAT };
#endif

void gs_module_imports(const struct gs_module *module,
                       void (*each)(const struct gs_module *module, const char *name, void **slot,
                                    void *box),
                       void *box) {
    for (unsigned t = 0; t < 2; t++) {
        const ElfW(Rela) *table = (const void *)module->imports[t].at;
        size_t n = module->imports[t].bytes / sizeof *table;
        if (!table || !n || !gs_readable(table, n * sizeof *table))
            continue;
        for (size_t i = 0; i < n; i++) {
            uint32_t type = (uint32_t)ELF64_R_TYPE(table[i].r_info);
            if (type != CALL_SLOT && type != DATA_SLOT)
                continue;
            const ElfW(Sym) *symbols = (const void *)module->symbols;
            const char *strings = (const char *)module->strings;
            each(module, strings + symbols[ELF64_R_SYM(table[i].r_info)].st_name,
                 (void **)(module->bias + table[i].r_offset), box);
        }
    }
}

/* ---- symbols ----------------------------------------------------------------------------------
 */

static bool read_word(uintptr_t table, uint64_t index, uint32_t *word) {
    return gs_copy_safely((const void *)(table + index * sizeof *word), word, sizeof *word);
}

/* Whether the symbol at this place of the table is the one that is looked for. */
static bool is_symbol(const struct gs_module *module, uint32_t index, const char *name,
                      ElfW(Sym) * symbol) {
    char text[NAME_BYTES];
    size_t bytes = strlen(name) + 1;
    return gs_copy_safely((const void *)(module->symbols + index * sizeof *symbol), symbol,
                          sizeof *symbol) &&
           symbol->st_shndx != SHN_UNDEF && bytes <= sizeof text &&
           gs_copy_safely((const void *)(module->strings + symbol->st_name), text, bytes) &&
           memcmp(text, name, bytes) == 0;
}

static uint32_t gnu_hash(const char *name) {
    uint32_t hash = 5381;
    for (; *name; name++)
        hash = hash * 33 + (uint8_t)*name;
    return hash;
}

/* Buckets, from 4 + the words of a filter on, have a chain's first symbol; a chain has the hashes,
 * the lowest bit of its last one set. */
static bool find_by_gnu_hash(const struct gs_module *module, const char *name, ElfW(Sym) * symbol) {
    uint32_t head[4], index, hash = gnu_hash(name);
    if (!gs_copy_safely((const void *)module->gnu_hash, head, sizeof head) || head[0] == 0)
        return false;
    uint64_t buckets = 4 + head[2] * (sizeof(ElfW(Addr)) / sizeof(uint32_t));
    uint64_t chains = buckets + head[0];
    if (!read_word(module->gnu_hash, buckets + hash % head[0], &index) || index < head[1])
        return false;
    for (unsigned i = 0; i < MOST_STEPS; i++, index++) {
        uint32_t its;
        if (!read_word(module->gnu_hash, chains + index - head[1], &its))
            return false;
        if ((its | 1) == (hash | 1) && is_symbol(module, index, name, symbol))
            return true;
        if (its & 1)
            return false;
    }
    return false;
}

static uint32_t elf_hash(const char *name) {
    uint32_t hash = 0;
    for (; *name; name++) {
        hash = (hash << 4) + (uint8_t)*name;
        hash = (hash ^ (hash >> 28 << 4)) & 0x0fffffff;
    }
    return hash;
}

static bool find_by_hash(const struct gs_module *module, const char *name, ElfW(Sym) * symbol) {
    uint32_t buckets, index;
    if (!read_word(module->hash, 0, &buckets) || buckets == 0 ||
        !read_word(module->hash, 2 + elf_hash(name) % buckets, &index))
        return false;
    for (unsigned i = 0; index && i < MOST_STEPS; i++) {
        if (is_symbol(module, index, name, symbol))
            return true;
        if (!read_word(module->hash, 2 + (uint64_t)buckets + index, &index))
            return false;
    }
    return false;
}

void *gs_module_symbol(const struct gs_module *module, const char *name, size_t *size) {
    ElfW(Sym) symbol;
    bool found = module->gnu_hash ? find_by_gnu_hash(module, name, &symbol)
                                  : module->hash && find_by_hash(module, name, &symbol);
    if (!found)
        return NULL;
    if (size)
        *size = symbol.st_size;
    return (void *)(module->bias + symbol.st_value);
}
