#define _GNU_SOURCE
#include "collections.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "emit.h"
#include "memory.h"
#include "python.h"

/* In CPython's struct _gc_runtime_state, from `collecting` on or back from it; the same from 3.9 to
 * 3.14. */
enum {
    GENERATIONS = 176,  /* back: three of 24 bytes; the first begins with its list */
    GENERATION_0 = 104, /* back: a pointer to the first generation, up to 3.13 */
    PERMANENT = 96,     /* back: the head of a list, next and previous */
    STATS = 72,         /* back: three of 24 bytes, each begins with its count of collections */
    GARBAGE = 8,        /* a list */
    CALLBACKS = 16,     /* a list */
    REACH = CALLBACKS + sizeof(void *),
    STEP = 24, /* of generations and of their stats */
};
/* And from 3.15 on, where the stats lie elsewhere: of each generation a ring of the last
 * collections, and which of them is the last. */
enum {
    RINGS_PERMANENT = 32, /* back */
    RINGS_STATS = 8,      /* back: a pointer */
    RINGS_GARBAGE = 16,
    RINGS_CALLBACKS = 24,
    RINGS_REACH = RINGS_CALLBACKS + sizeof(void *),
    RINGS_BYTES = 1120,
    ENTRY = 64,       /* of a ring: begins with the time of its begin, CLOCK_MONOTONIC ns */
    ENTRY_OVER = 8,   /* in it: the time of its end */
    ENTRY_COUNT = 16, /* collections of its generation so far */
};
static const struct ring {
    uint16_t entries; /* bytes from the stats on, as the next one */
    uint16_t last;    /* a byte: the number of the last entry, below … */
    uint16_t most;
} rings[3] = {{0, 704, 11}, {712, 904, 3}, {912, 1104, 3}};
static bool has_rings; /* this Python */
enum {
    INTERPRETER_OF_STATE = 16, /* in a PyThreadState */
    COLLECTING_OF_GC = 200,    /* up to 3.13 */
    TYPE_OF_OBJECT = 8,
    PREVIOUS = 8,    /* in the head of a list */
    TRIES_APART = 4, /* each so many times as many acquisitions behind the one before */
    LAST_TRY = 1 << 16,
};
#define COUNT_MAX (INT64_C(1) << 40) /* more is no count of collections */

static const struct {
    int minor;
    uint16_t gc; /* in a PyInterpreterState */
} tables[] = {{9, 616}, {10, 616}, {11, 648}, {12, 112}};

/* From 3.13 on: which word of _Py_DebugOffsets has what. */
static const struct {
    int minor;
    uint8_t interpreter, gc, collecting;
} published[] = {{13, 22, 10, 72}, {14, 25, 11, 82}, {15, 25, 11, 95}};

static const char *pointer_at(const char *at) {
    const char *value;
    memcpy(&value, at, sizeof value);
    return value;
}

static int minor_version(void) {
    const char *version = gs_python.get_version ? gs_python.get_version() : "";
    return strncmp(version, "3.", 2) == 0 ? atoi(version + 2) : 0;
}

/* Where `collecting` lies in an interpreter; 0: not known. */
static size_t offset_of_collecting(int minor) {
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++)
        if (tables[i].minor == minor)
            return tables[i].gc + (size_t)COLLECTING_OF_GC;
    uint64_t words[100]; /* _PyRuntime has always been larger */
    memcpy(words, (const void *)gs_python.runtime, sizeof words);
    for (size_t i = 0; i < sizeof published / sizeof *published; i++)
        if (published[i].minor == minor && memcmp(words, "xdebugpy", 8) == 0 &&
            words[published[i].interpreter] == INTERPRETER_OF_STATE &&
            words[published[i].gc] < UINT16_MAX && words[published[i].collecting] < UINT16_MAX)
            return words[published[i].gc] + words[published[i].collecting];
    return 0;
}

static bool is_list(const char *object) {
    char head[TYPE_OF_OBJECT + sizeof(void *)];
    return object && (uintptr_t)object % sizeof(void *) == 0 &&
           gs_copy_safely(object, head, sizeof head) &&
           pointer_at(head + TYPE_OF_OBJECT) == gs_python.list_type;
}

/* Whether the list goes back to its head, whose address is `head`. */
static bool is_ring(const char *head, const char *next) {
    const char *back;
    return next && (uintptr_t)next % sizeof(void *) == 0 &&
           gs_copy_safely(next + PREVIOUS, &back, sizeof back) &&
           ((uintptr_t)back & ~(uintptr_t)3) == (uintptr_t)head;
}

static bool is_count(int64_t count) {
    return count >= 0 && count <= COUNT_MAX;
}

/* Whether `at` looks like the flag of a collector, by every sign that there is. */
static bool looks_like_a_collector(const char *at, int minor) {
    char copy[GENERATIONS + REACH];
    if (!gs_copy_safely(at - GENERATIONS, copy, sizeof copy))
        return false;
    const char *there = copy + GENERATIONS;
    int collecting;
    memcpy(&collecting, there, sizeof collecting);
    if (collecting < 0 || collecting > 1)
        return false;
    for (int i = 0; i < 3; i++) {
        int64_t count;
        memcpy(&count, there - STATS + (ptrdiff_t)i * STEP, sizeof count);
        if (!is_count(count))
            return false;
    }
    const char *garbage = pointer_at(there + GARBAGE), *callbacks = pointer_at(there + CALLBACKS);
    if (!is_ring(at - PERMANENT, pointer_at(there - PERMANENT)))
        return false;
    if (minor > 13)
        return is_list(garbage) && is_list(callbacks);
    /* Up to 3.9 the lists come with the module gc. */
    return pointer_at(there - GENERATION_0) == at - GENERATIONS && (!garbage || is_list(garbage)) &&
           (!callbacks || is_list(callbacks));
}

/* The same from 3.15 on. */
static bool looks_like_one_with_rings(const char *at) {
    char copy[RINGS_PERMANENT + RINGS_REACH], stats[RINGS_BYTES];
    if (!gs_copy_safely(at - RINGS_PERMANENT, copy, sizeof copy))
        return false;
    const char *there = copy + RINGS_PERMANENT, *place = pointer_at(there - RINGS_STATS);
    int collecting;
    memcpy(&collecting, there, sizeof collecting);
    if (collecting < 0 || collecting > 1 || (uintptr_t)place % sizeof(int64_t) != 0 ||
        !gs_copy_safely(place, stats, sizeof stats) ||
        !is_ring(at - RINGS_PERMANENT, pointer_at(there - RINGS_PERMANENT)))
        return false;
    for (int i = 0; i < 3; i++) {
        const uint8_t last = (uint8_t)stats[rings[i].last];
        int64_t count;
        memcpy(&count,
               stats + rings[i].entries + (size_t)last % rings[i].most * ENTRY + ENTRY_COUNT,
               sizeof count);
        if (last >= rings[i].most || !is_count(count))
            return false;
    }
    return is_list(pointer_at(there + RINGS_GARBAGE)) &&
           is_list(pointer_at(there + RINGS_CALLBACKS));
}

/* The last one found. Its address holds in a fork's child, which may not be allowed to ask. */
static struct {
    const void *interpreter;
    const char *collector;
} found;

void gs_collections_find(struct gs_gil *gil) {
    struct gs_collections *its = &gil->collections;
    its->try_at = gil->switches >= LAST_TRY ? UINT64_MAX : gil->switches * TRIES_APART;
    if (!gil->state || !*gil->state || !gs_python.list_type || !gs_process.page)
        return;
    int saved_errno = errno;
    const char *at = *gil->state + INTERPRETER_OF_STATE, *interpreter = NULL;
    if (found.interpreter && pointer_at(at) == found.interpreter) {
        its->interpreter = found.interpreter;
        its->collector = found.collector;
    } else {
        const int minor = minor_version();
        const size_t offset = offset_of_collecting(minor);
        has_rings = minor >= 15;
        if (offset && gs_copy_safely(at, &interpreter, sizeof interpreter) && interpreter &&
            (has_rings ? looks_like_one_with_rings(interpreter + offset)
                       : looks_like_a_collector(interpreter + offset, minor))) {
            found.interpreter = its->interpreter = interpreter;
            found.collector = its->collector = interpreter + offset;
        }
    }
    if (its->collector) {
        its->try_at = UINT64_MAX;
        gs_process.page->interpreter |= GS_COLLECTIONS_COUNTED;
    }
    errno = saved_errno;
}

/* ---- looking ----------------------------------------------------------------------------------
 */

static bool is_collecting(const char *collector) {
    return __atomic_load_n((const int *)(const void *)collector, __ATOMIC_RELAXED) != 0;
}

static uint64_t load(const char *at) {
    return (uint64_t)__atomic_load_n((const int64_t *)(const void *)at, __ATOMIC_RELAXED);
}

/* Of the ring whose stats these are: the number of its last entry. */
static size_t last_of(const struct ring *ring, const char *stats) {
    const size_t last = __atomic_load_n((const uint8_t *)(stats + ring->last), __ATOMIC_RELAXED);
    return last < ring->most ? last : 0;
}

static const char *entry_of(const struct ring *ring, const char *stats, size_t number) {
    return stats + ring->entries + number * ENTRY;
}

/* Collections of a generation so far; 0 where the interpreter has ended. */
static uint64_t count_of(const char *collector, int generation) {
    if (!has_rings)
        return load(collector - STATS + (ptrdiff_t)generation * STEP);
    /* The last one may be about to be written: then the one before counts. */
    const struct ring *ring = &rings[generation];
    const char *stats = pointer_at(collector - RINGS_STATS);
    if (!stats)
        return 0;
    const size_t last = last_of(ring, stats), before = (last ? last : ring->most) - 1;
    const uint64_t count = load(entry_of(ring, stats, last) + ENTRY_COUNT);
    const uint64_t other = load(entry_of(ring, stats, before) + ENTRY_COUNT);
    return count > other ? count : other;
}

static uint64_t count_of_all(const char *collector) {
    return count_of(collector, 0) + count_of(collector, 1) + count_of(collector, 2);
}

/* A hold that begins within a collection is one of another thread, or goes on with its own: how
 * much of it is the collection is not known. */
void gs_collections_begin(struct gs_collections *its, const char *state, uint64_t now) {
    its->known = state && pointer_at(state + INTERPRETER_OF_STATE) == its->interpreter &&
                 !is_collecting(its->collector);
    its->collecting = false;
    its->least = its->most = 0;
    its->looked_at = now;
    if (!its->known)
        return;
    its->count = 0;
    for (int i = 0; i < 3; i++) {
        const uint64_t count = count_of(its->collector, i);
        its->begun_with[i] = (uint32_t)count;
        its->count += count;
    }
}

static void look(struct gs_collections *its, uint64_t now) {
    if (!its->known)
        return;
    /* The flag first: the count grows before it is cleared. */
    const bool collecting = is_collecting(its->collector);
    const uint64_t count = count_of_all(its->collector);
    const uint64_t since = now > its->looked_at ? now - its->looked_at : 0;
    if (count < its->count) { /* the interpreter has ended, and another one begun in its place */
        its->known = false;
        return;
    }
    const bool same = count == its->count;
    if (its->collecting && collecting && same)
        its->least += since;
    if (its->collecting || collecting || !same)
        its->most += since;
    its->collecting = collecting;
    its->count = count;
    its->looked_at = now;
}

/* Whoever has the GIL may end the interpreter, which frees its rings: only the holder reads them.
 */
void gs_collections_look(struct gs_collections *its, uint64_t now) {
    if (!has_rings)
        look(its, now);
}

static uint64_t ns_of(uint64_t ticks) {
    const uint64_t hz = gs_process.ring.header->clock_hz;
    return hz ? (uint64_t)((double)ticks * (1e9 / (double)hz)) : ticks;
}

/* How long the collections of this hold took, all of which are over, where the interpreter has kept
 * when each began and ended. False: it has not, or not of so many. By the holder alone. */
static bool took(const struct gs_collections *its, uint64_t *ns) {
    *ns = 0;
    if (!has_rings || its->collecting)
        return false;
    const char *stats = pointer_at(its->collector - RINGS_STATS);
    for (int i = 0; i < 3 && stats; i++) {
        const struct ring *ring = &rings[i];
        const uint64_t count = count_of(its->collector, i);
        const uint32_t n = (uint32_t)count - its->begun_with[i];
        if (n > ring->most)
            return false;
        size_t at = last_of(ring, stats);
        for (uint32_t k = 0; k < n; k++) {
            const char *entry = entry_of(ring, stats, at);
            const uint64_t begun = load(entry), over = load(entry + ENTRY_OVER);
            if (load(entry + ENTRY_COUNT) != count - k || over < begun)
                return false;
            *ns += over - begun;
            at = (at ? at : ring->most) - 1;
        }
    }
    return stats;
}

void gs_collections_tell(struct gs_gil *gil, uint64_t now) {
    struct gs_collections *its = &gil->collections;
    look(its, now);
    if (!its->known || !its->most)
        return;
    uint64_t least = ns_of(its->least), most = ns_of(its->most), exactly;
    if (took(its, &exactly) && exactly >= least && exactly <= most)
        least = most = exactly;
    const uint32_t before = its->begun_with[0] + its->begun_with[1] + its->begun_with[2];
    gs_emit(GS_HOLD_GC, (uint32_t)its->count - before);
    gs_emit(GS_HOLD_GC_LEAST, least);
    gs_emit(GS_HOLD_GC_MOST, most);
}

/* ---- Python Plus ------------------------------------------------------------------------------
 */

void gs_collections_started(struct gs_collections *its, uint64_t now) {
    its->running = &gs_writer;
    its->looked_at = now;
}

void gs_collections_ended(struct gs_collections *its, uint64_t now) {
    if (its->running != &gs_writer)
        return;
    its->running = NULL;
    its->count++;
    its->least += now - its->looked_at;
}

void gs_collections_tell_exactly(struct gs_gil *gil, uint64_t now) {
    struct gs_collections *its = &gil->collections;
    if (its->running == &gs_writer)
        its->least += now - its->looked_at;
    if (its->count || its->least) {
        gs_emit(GS_HOLD_GC, its->count);
        gs_emit(GS_HOLD_GC_LEAST, ns_of(its->least));
    }
    its->count = its->least = 0;
}

void gs_collections_go_on(struct gs_collections *its, uint64_t now) {
    if (its->running == &gs_writer)
        its->looked_at = now;
}
