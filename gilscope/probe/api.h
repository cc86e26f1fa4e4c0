/* What a probe exports to its process: extension modules and ctypes find it by
 * dlsym(RTLD_DEFAULT, "gilscope_…"), whether the probe was preloaded or is part of the interpreter.
 * Where there is no such symbol, nothing here watches. */
#ifndef GILSCOPE_API_H
#define GILSCOPE_API_H

#include <stdbool.h>
#include <stdint.h>

#define GS_API __attribute__((visibility("default")))

/* Writes an event of the calling thread: `kind` is one of lock.* and cond.* (8–13) or atomic.*
 * (20–22), `argument` as event_abi.h has it, with the order of events that emit_sync.h asks for.
 * Anything else is ignored. Does nothing where nothing records; never blocks, allocates, or changes
 * errno. With or without the GIL. */
GS_API void gilscope_emit(uint32_t kind, uint64_t argument);

/* Atomic sections of the calling thread, which holds the GIL: no other thread makes it yield inside
 * one. They nest; what blocks inside lets others run as ever.
 *
 * enter: 0; 1 where a waiter had asked already: then the caller has to let the GIL go and take it
 * back once, before the section begins; -1 where the GIL is not watched, so there is no section.
 * exit: 1 where a yield was held back and is due now: let the GIL go, call hand_over with what
 * atomic_gil gave before, take it back. -1 outside any section. Else 0.
 * depth: how many sections the thread is in. */
GS_API int gilscope_atomic_enter(void);
GS_API int gilscope_atomic_exit(void);
GS_API unsigned gilscope_atomic_depth(void);
GS_API const void *gilscope_atomic_gil(void);

/* Without the GIL: returns when a waiter has taken it, or after 5 ms. */
GS_API void gilscope_atomic_hand_over(const void *gil);

/* Gives the GIL to a waiter now, if one waits; the caller holds it before and after. Under the
 * policy io-priority the call ends when another thread has had it; under classic it is let go and
 * taken again, with the processor offered in between. Returns 0, or -1 where there is no
 * interpreter. */
GS_API int gilscope_yield(void);

/* ---- between the two probes of one process ----------------------------------------------------
 *
 * A preloaded probe gives way to one that is part of the interpreter (which exports the version of
 * the event ABI that it writes, `const int gilscope_built_in`). Both export the calls above, and
 * the preloaded one's may be found first, so it hands each call on. */
struct gs_process;
struct gs_gil_memory;

struct gs_api {
    struct gs_process *process; /* as the interpreter's probe knows it */
    void (*emit)(uint32_t kind, uint64_t argument);
    void (*process_end)(void);
    int (*atomic_enter)(void);
    int (*atomic_exit)(void);
    unsigned (*atomic_depth)(void);
    const void *(*atomic_gil)(void);
    void (*atomic_hand_over)(const void *gil);
    int (*yield)(void);
    void (*thread_names_itself)(const char *name, bool by_python);

    /* For a probe that came late (late.h), whose caller has this GIL: records from now on, into
     * these rings. `in_child` is called in a fork's child when it has become a process of the
     * recording, or not. Returns 0 or an errno value; EEXIST where it records already. */
    int (*begin_late)(const char *rings, const char *stacks, struct gs_gil_memory *memory,
                      void (*in_child)(void));
    void (*end_late)(void);
    void (*read_names)(void); /* as gilscope_late_names */
};

/* Exported by an interpreter's probe that can begin late. */
GS_API extern const struct gs_api gilscope_built_in_api;

/* Where the calls go; NULL: this is the probe that they reach. */
extern const struct gs_api *gs_gave_way_to;

/* This process, as the probe that records here knows it. */
struct gs_process *gs_process_here(void);

/* Exported by the preloaded probe alone; the interpreter's calls it when it is loaded. Returns this
 * process as the preloaded probe knows it, or NULL where the versions differ and it stays. */
GS_API struct gs_process *gilscope_give_way(int abi_version, const struct gs_api *to);

#endif
