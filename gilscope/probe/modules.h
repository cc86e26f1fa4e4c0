/* What is loaded in this process, without the loader: its list is read as a debugger reads it.
 *
 * The loader's own calls wait for its lock, and whoever loads a library has that lock for as long
 * as the library's constructors take; these may wait for a thread that has called us. So nothing
 * here asks the loader, but for the one look at the library's start where its list begins. The list
 * may change meanwhile: every read of it is safe, and what a caller asks for is the module that it
 * is running in, which stays. */
#ifndef GILSCOPE_MODULES_H
#define GILSCOPE_MODULES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct gs_module {
    uintptr_t start, end;     /* of all its segments; the loader has the stretch for itself */
    uintptr_t code, code_end; /* of the first one that may be executed */
    uintptr_t bias;
    uintptr_t symbols, strings, gnu_hash, hash; /* its dynamic tables; 0: it has none */
    struct {
        uintptr_t at;
        size_t bytes;
    } imports[2];               /* and its relocations: of calls, of the rest */
    uintptr_t relro, relro_end; /* what the loader made read-only */
    const char *path;           /* as the loader has it; "" for the program */
};

/* From a constructor, where the loader may be asked. */
void gs_modules_start(void);

/* The module that has `code`; false where none is found. Some hundred system calls at worst. */
bool gs_module_of(const void *code, struct gs_module *module);

/* Calls `each` for every module until it returns false. For who holds the GIL, so that no module of
 * Python's goes away meanwhile. */
void gs_modules_each(bool (*each)(const struct gs_module *module, void *box), void *box);

/* Calls `each` with every function or object that the module imports, and the slot in which the
 * loader puts its address. The module stays meanwhile. */
void gs_module_imports(const struct gs_module *module,
                       void (*each)(const struct gs_module *module, const char *name, void **slot,
                                    void *box),
                       void *box);

/* Where the module has the symbol that it exports, and its size (0: not told); NULL: nowhere. */
void *gs_module_symbol(const struct gs_module *module, const char *name, size_t *size);

#endif
