/* The recorder's side of a ring file: which rooms are free, which are offered, and which are old
 * enough to be taken back. event_abi.h is the protocol.
 *
 * Actors: one recorder, in one thread; writers only see what it stores in the file. All that it
 * knows beside the file is its own, so a recorder may be killed at any instruction. */
#ifndef GILSCOPE_RECORDER_ROOMS_H
#define GILSCOPE_RECORDER_ROOMS_H

#include <stdbool.h>
#include <stdint.h>

#include "../probe/event_abi.h"
#include "../probe/ring.h"

/* What is known of the room that begins at a unit. */
enum gs_room_state {
    GS_ROOM_FREE = 0, /* or no room begins there */
    GS_ROOM_OFFERED,
    GS_ROOM_TAKEN, /* and not published */
    GS_ROOM_PROCESS,
    GS_ROOM_THREAD,
    GS_ROOM_EVENTS,
    GS_ROOM_STACKS,
    GS_ROOM_TABLE,
};

struct gs_room {
    uint64_t ticks;         /* of the last record in it, or in what it owned; 0: not known */
    uint64_t born;          /* process: when it started, in the kernel's units; 0: not known */
    uint32_t taker;         /* the process's name in offers */
    uint32_t owner;         /* unit */
    uint32_t next;          /* events: unit of the thread's next chunk, 0: none */
    uint32_t first, newest; /* thread: of its chunks, 0: none */
    uint32_t owned;         /* how many rooms it owns */
    uint8_t state;          /* enum gs_room_state */
    uint8_t units;
    bool dead;   /* process */
    bool old;    /* it is in the heap of what can be taken back */
    bool looked; /* thread: it is among the restless */
};

/* Units, in no order. */
struct gs_units {
    uint32_t *units;
    uint64_t n, capacity;
};

struct gs_old {
    uint64_t ticks;
    uint32_t unit;
};

/* Sixteen units from a multiple of sixteen on. */
struct gs_block {
    uint16_t free; /* a bit for each free page of one that is cut into pages */
    bool cut;
    bool listed; /* among those with free pages */
};

struct gs_rooms {
    struct gs_file_header *header;
    int fd;
    bool reuse;           /* what is old may be taken back to make room */
    bool streamed;        /* a reader says what is safe elsewhere: that may be */
    uint64_t limit_units; /* of the file; less where its file system is full */
    uint64_t end_unit;    /* as in the header; programs can damage what is there */
    uint64_t ready[2];    /* as in the offers of pages, of chunks */
    uint64_t keep_ticks;  /* what is older than that is taken back; 0: only to make room */
    uint64_t forget_before;
    uint64_t tick;
    /* Of the file's space; indexed by block, and stacks of blocks. */
    struct gs_block *blocks;
    struct gs_units free_blocks, cut_blocks;
    uint64_t n_free_pages;
    /* Of what is in it; indexed by unit. */
    struct gs_room *rooms;
    struct gs_units taken, processes, threads, stacks, restless;
    uint64_t collected[2]; /* of the offers of pages, of chunks */
    struct gs_old *old;    /* a heap, the oldest first */
    uint64_t n_old, old_capacity;
};

/* ---- rooms_space.c: space ----------------------------------------------------------------------
 */

/* Makes free blocks of the file's next part. Returns 0 or an errno value. */
int gs_rooms_back(struct gs_rooms *rooms);

/* A free room of 1 or GS_CHUNK_UNITS units; 0: none. */
uint32_t gs_rooms_alloc(struct gs_rooms *rooms, uint32_t units);

/* Zeroes a room and makes it free. Nobody stores there any more. */
void gs_rooms_free(struct gs_rooms *rooms, uint32_t unit);

/* Puts what is free into the offers: some 2 MiB, which take a millisecond, or (`all`) as much as
 * writers may need until the recorder comes again. Returns 0 or an errno value. */
int gs_rooms_offer(struct gs_rooms *rooms, bool all);

/* Units that are free, or offered as chunks, or that the file can still grow by. */
uint64_t gs_rooms_spare(const struct gs_rooms *rooms);

/* How many of them a recorder that takes back keeps. */
uint64_t gs_rooms_reserve(const struct gs_rooms *rooms);

/* Appends a unit. Returns false where there is no memory. */
bool gs_units_add(struct gs_units *list, uint32_t unit);

/* ---- rooms_old.c: what is in the rooms ---------------------------------------------------------
 */

/* Empties the slots of offers that were taken. */
void gs_rooms_collect(struct gs_rooms *rooms);

/* Looks at what writers took and published, and at who is over or dead (`thoroughly`). */
void gs_rooms_look(struct gs_rooms *rooms, bool thoroughly);

/* Takes back what is older than `before`, and to have `spare` units. */
void gs_rooms_take_back(struct gs_rooms *rooms, uint64_t before, uint64_t spare);

/* ---- gone.c -----------------------------------------------------------------------------------
 */

/* While rooms are zeroed, and counters move, readers of counters see an odd number and wait. */
void gs_moving_begins(struct gs_rooms *rooms);
void gs_moving_ends(struct gs_rooms *rooms);

/* The counters of a thread or process that is taken back go to who stays. */
void gs_rooms_move_counters(struct gs_rooms *rooms, uint32_t unit);

/* A process was seen to be dead: what it had open ends now. */
void gs_rooms_note_death(struct gs_rooms *rooms, uint32_t unit);

/* ---- takers.c ----------------------------------------------------------------------------------
 */

/* When a process began, in the kernel's units; 0: not known. */
uint64_t gs_taker_born(uint32_t taker);

/* Whether nobody of this name, who began at that time (0: any), can store anything any more. What
 * is not known is not dead. A zombie may have threads that live on. */
bool gs_taker_is_dead(uint32_t taker, uint64_t born);

/* Whether the process of this pid has a mapping of the file. */
bool gs_taker_maps(uint32_t pid, int fd);

static inline struct gs_chunk_header *gs_room_at(const struct gs_rooms *rooms, uint32_t unit) {
    return (void *)((char *)rooms->header + (uint64_t)unit * GS_UNIT_BYTES);
}

#endif
