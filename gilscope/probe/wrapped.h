/* The wrapped calls by name, for a probe that comes into a process late (late.h): there they are
 * not found by their names, but written into the slots through which Python calls them.
 *
 * Each file with wrappers has a table of its own. A wrapper is named, and called by another
 * wrapper, by a hidden alias: by its own name a library that was opened late would find the C
 * library's. */
#ifndef GILSCOPE_WRAPPED_H
#define GILSCOPE_WRAPPED_H

struct gs_wrapped {
    const char *name;
    void *wrapper;
    void **real; /* where the wrapper has what it calls; NULL: it calls another wrapper */
};

#if __has_attribute(copy) /* gcc: an alias without it has fewer attributes, and is warned of */
#define GS_COPIED(name) copy(name)
#else
#define GS_COPIED(name)
#endif
#define GS_WRAPPER(name)                                                                           \
    extern __typeof(name) gs_wrapper_##name                                                        \
        __attribute__((alias(#name), visibility("hidden"), GS_COPIED(name)))
#define GS_WRAPPED(name, its_real) {#name, (void *)gs_wrapper_##name, (void **)(its_real)}

/* Ended by an entry without a name. */
extern const struct gs_wrapped gs_wrapped_locks[] __attribute__((visibility("hidden")));
extern const struct gs_wrapped gs_wrapped_sleeps[] __attribute__((visibility("hidden")));
extern const struct gs_wrapped gs_wrapped_exec[] __attribute__((visibility("hidden")));
extern const struct gs_wrapped gs_wrapped_limits[] __attribute__((visibility("hidden")));
extern const struct gs_wrapped gs_wrapped_exit[] __attribute__((visibility("hidden")));
extern const struct gs_wrapped gs_wrapped_loading[] __attribute__((visibility("hidden")));

/* These are written last, and the last of them last: they go on with what the others begin. */
extern const struct gs_wrapped gs_wrapped_threads[] __attribute__((visibility("hidden")));

#endif
