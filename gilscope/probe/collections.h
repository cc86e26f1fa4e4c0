/* Garbage collections: which holds had some, how many, and how long they took.
 *
 * A collection is made with the GIL in hand and shows no frame. Python Plus tells its begin and end
 * (hooks.h). On a stock interpreter nobody does, but it keeps a flag (it is collecting now) and
 * counts, and both can be read: when a hold begins, whenever another thread starts to wait or asks,
 * and when a long hold ends. Between two such looks that both found the flag set and the same count
 * all was one collection; between two that found it clear and the same count there was none; of any
 * other stretch it is not known how much was. So the number is exact, and the length has bounds.
 * From 3.15 on the interpreter keeps when its last collections began and ended: then that is exact,
 * too, and nobody but the holder looks: the end of an interpreter frees what is kept.
 *
 * Where the flag and the counts lie CPython publishes from 3.13 on (_Py_DebugOffsets), and a table
 * has it for 3.9 to 3.12; 3.15 has a ring of counts a generation. It is believed once all of what
 * lies there looks as it must, by reads that cannot fault; after that plain reads do: CPython
 * itself reads the same structure wherever we do. Of several interpreters that share one GIL the
 * first alone is known.
 *
 * Actors: the holder, when it gets the GIL and lets it go, and who waits for it; each with the
 * GIL's own mutex. Cost: three loads a hold, twelve in 3.15; an event or two at the end of a hold
 * of a millisecond that had a collection (in Python Plus: of any hold that had one). */
#ifndef GILSCOPE_COLLECTIONS_H
#define GILSCOPE_COLLECTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { GS_COLLECTIONS_US = 1000 }; /* holds from this length on are told of, on stock */

/* Of one GIL, about its present hold. All zero: the collector was not found yet. */
struct gs_collections {
    const char *collector; /* the stock interpreter's flag; NULL: not known */
    const void *interpreter;
    const void *running;    /* Python Plus: the writer whose collection is under way, or NULL */
    uint64_t try_at;        /* acquisitions, at which to look for it again */
    uint64_t count;         /* stock: at the last look; Python Plus: in this hold */
    uint64_t looked_at;     /* ticks, of the last look; Python Plus: the begin of what is running */
    uint64_t least, most;   /* ticks that the collections of this hold took */
    uint32_t begun_with[3]; /* stock: at the hold's begin, of each generation; cut short */
    bool collecting;        /* at the last look */
    bool known;             /* of this hold */
};

struct gs_gil;

/* Looks for the collector of the calling thread, which has just got the GIL. */
void gs_collections_find(struct gs_gil *gil);

/* The calling thread, whose state it is, has got the GIL. */
void gs_collections_begin(struct gs_collections *its, const char *state, uint64_t now);

/* A look at the present hold, by whoever has the GIL's mutex. */
void gs_collections_look(struct gs_collections *its, uint64_t now);

/* The calling thread is about to let the GIL go. Emits what is known of the hold, if it had a
 * collection. */
void gs_collections_tell(struct gs_gil *gil, uint64_t now);

/* Python Plus: the same, and a collection that goes on without the GIL (a finalizer gave it up)
 * stops here. The others: it goes on; one begins; one is over. */
void gs_collections_tell_exactly(struct gs_gil *gil, uint64_t now);
void gs_collections_go_on(struct gs_collections *its, uint64_t now);
void gs_collections_started(struct gs_collections *its, uint64_t now);
void gs_collections_ended(struct gs_collections *its, uint64_t now);

#endif
