/* What a probe exports to its process: extension modules and ctypes find it by
 * dlsym(RTLD_DEFAULT, "gilscope_…"), whether the probe was preloaded or is part of the interpreter.
 * Where there is no such symbol, nothing here watches. */
#ifndef GILSCOPE_API_H
#define GILSCOPE_API_H

#include <stdint.h>

#define GS_API __attribute__((visibility("default")))

/* Writes an event of the calling thread: `kind` is one of lock.* and cond.* (8–13) or atomic.*
 * (20–22), `argument` as event_abi.h has it, with the order of events that emit_sync.h asks for.
 * Anything else is ignored. Does nothing where nothing records; never blocks, allocates, or changes
 * errno. With or without the GIL. */
GS_API void gilscope_emit(uint32_t kind, uint64_t argument);

#endif
