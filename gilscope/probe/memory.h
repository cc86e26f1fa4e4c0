/* Reads of memory that may not be there, or not be what it seems: the kernel copies, or says no,
 * where a plain read would fault.
 *
 * Who reads foreign memory is known: find_gil.c, names.c, frames.c and collections.c what may be
 * CPython's, modules.c the loader's tables, release.c the stack of the calls above it. A test holds
 * that. */
#ifndef GILSCOPE_MEMORY_H
#define GILSCOPE_MEMORY_H

#include <stdbool.h>
#include <stddef.h>

/* False where not all of it can be read. For memory that another thread may free or unmap at this
 * moment. By a call that few programs make, so a seccomp filter may kill for it: it is made for
 * stacks alone, which can be switched off. Any thread, any lock held; keeps errno. */
bool gs_copy_racing(const void *at, void *out, size_t size);

/* Whether a plain read would do at this moment; for memory that nobody unmaps meanwhile. By a call
 * that every program makes, so that a seccomp filter lets it pass. Keeps errno. */
bool gs_readable(const void *at, size_t size);

/* The same, and copies it. False where not all of it can be read. */
bool gs_copy_safely(const void *at, void *out, size_t size);

#endif
