/* The event ABI: what the probe writes and what every reader may rely on.
 *
 * This header is the specification. It has three parts: the table of events, the 16-byte record,
 * and the ring file that carries records from traced processes to the recorder. It includes no
 * Python.h and nothing that is not C11, so that the probe, the readers and the tests share it.
 *
 * The ring file (one a recording, usually on tmpfs, shared by all processes of the recording)
 *
 *   unit 0          units 1 to 15      unit 16         unit 17            unit 32
 *   +---------------+------------------+---------------+---------------- -+----------------- - -
 *   | file header   | offers           | process page  | thread page, …   | event chunk, …
 *   +---------------+------------------+---------------+---------------- -+----------------- - -
 *
 *  - A unit is 4096 bytes. There are two kinds of room: a page is one unit, a chunk is sixteen and
 *    begins on a multiple of sixteen. Each opens with a gs_chunk_header that tells what is in it
 *    and its length in units.
 *  - The recorder alone knows what is free. It offers rooms, backed by pages that are zero
 *    throughout, so a store to them can raise neither SIGBUS nor ENOSPC. A writer takes an offer by
 *    one compare-and-swap that leaves its name in it (struct gs_offers). Who finds none loses the
 *    record, and counts it.
 *  - One writer per room: only the thread that owns it stores records there. There is no lock.
 *  - A record is written payload first, then (release order) its stamp word. No event has kind 0,
 *    so "stamp word is zero" means "not written": a reader of the file of a killed process needs no
 *    commit counter.
 *  - A chunk header is published by its magic word, stored last. A unit whose magic is zero is
 *    free, or was taken by a writer that has not published it: it is zero throughout, and so is the
 *    rest of its room. Readers go on to the next unit.
 *  - The recorder takes back what is old (gilscope/recorder/rooms.c) and offers it again. There is
 *    one cut in time for the whole file, gs_file_header.kept_from: every record from there on is in
 *    the file; older ones may be, and readers leave them out. The cut is raised before anything
 *    that it gives up is touched. So whoever copies a record while the recorder is at work, and
 *    then finds that it is not older than the cut, has copied it whole.
 *  - Taken back are, when all their records are older than the cut: a chunk that its thread has
 *    left, the pages of a thread that is over, of a process that is dead and of stacks that are
 *    retired, each after all that refers to it. Records are zeroed from the last one back and the
 *    magic word at the end: what a killed recorder leaves of a chunk is its beginning.
 */
#ifndef GILSCOPE_EVENT_ABI_H
#define GILSCOPE_EVENT_ABI_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#define GS_ABI_VERSION 4

/* ---- Part 1: the table of events ------------------------------------------------------------
 *
 * X(number, SYMBOL, "name users see", scope, "what its argument is", "when it happens")
 *
 * Numbers are for ever: a new event takes a free one. Scope is `gil` for events that belong to one
 * GIL (they carry its index, its sequence number and the count of waiters, or what stands in its
 * place) and `thread` for the rest. docs/events.md is generated from this table;
 * gilscope/trace/schema.py is checked against it by a test.
 */
#define GS_EVENT_TABLE(X)                                                                          \
    X(1, GIL_WAIT, "gil.wait", gil, "waiters, this one included; kind io or cpu",                  \
      "a thread starts to wait for the GIL")                                                       \
    X(2, GIL_ACQUIRE, "gil.acquire", gil, "waiters that remain; waited or not",                    \
      "the thread has the GIL")                                                                    \
    X(3, GIL_RELEASE, "gil.release", gil, "waiters",                                               \
      "the thread gave the GIL up by itself: before it blocks, or at its end")                     \
    X(4, GIL_YIELD, "gil.yield", gil, "waiters",                                                   \
      "the thread gave the GIL up because a waiter asked")                                         \
    X(5, GIL_REQUEST, "gil.request", gil, "waiters", "a waiter asks the holder to yield")          \
    X(6, GIL_LOST, "gil.lost", gil, "how many of this GIL's records are missing; 0: not known",    \
      "a gap: records were dropped, so who holds the GIL is unknown until its next event")         \
    X(7, GIL_WAKEUP, "gil.wakeup", gil, "number of the woken thread, 0 where it is not known",     \
      "a thread that waits for the GIL is signalled")                                              \
    X(8, LOCK_WAIT, "lock.wait", thread, "kind, object",                                           \
      "the thread starts to wait for a lock that is taken; it does not hold the GIL")              \
    X(9, LOCK_ACQUIRE, "lock.acquire", thread, "kind, object; 1 when it gave up",                  \
      "that wait is over, before the thread asks for the GIL again")                               \
    X(10, LOCK_RELEASE, "lock.release", thread, "kind, object",                                    \
      "the thread releases a lock that somebody waits for")                                        \
    X(11, COND_WAIT, "cond.wait", thread, "kind, object",                                          \
      "the thread starts to wait for a condition; it does not hold the GIL")                       \
    X(12, COND_WAKE, "cond.wake", thread, "kind, object; 1 when it gave up",                       \
      "that wait is over, before the thread asks for the GIL again")                               \
    X(13, COND_NOTIFY, "cond.notify", thread, "kind, object; how many were woken",                 \
      "the thread notifies those that wait for a condition")                                       \
    X(14, THREAD_LOST, "thread.lost", thread, "records lost by this thread so far; 0: not known",  \
      "a gap: records of this thread were dropped; what else it waits for is unknown from here")   \
    X(16, THREAD_START, "thread.start", thread, "0", "first sight of a thread")                    \
    X(17, THREAD_END, "thread.end", thread, "0", "the thread is over; what it held is free")       \
    X(18, PROCESS_START, "process.start", thread, "0", "the probe starts in a process")            \
    X(19, PROCESS_END, "process.end", thread, "1 when it ended without saying so (killed)",        \
      "the process is over; everything that was open in it is closed")                             \
    X(20, ATOMIC_ENTER, "atomic.enter", thread, "depth, 1: the outermost",                         \
      "an atomic section begins: no involuntary GIL switch inside")                                \
    X(21, ATOMIC_EXIT, "atomic.exit", thread, "depth of the section that ends",                    \
      "an atomic section ends")                                                                    \
    X(22, ATOMIC_DEFERRED, "atomic.deferred", thread, "depth",                                     \
      "a yield that a waiter asked for is held back by the section")                               \
    X(23, STACK, "stack", thread,                                                                  \
      "stack; of a hold, a wait, a wait for a lock, a release; as seen by who asked, or not",      \
      "where its thread is in Python; the end of a long hold or wait, or the release that ends a " \
      "long wait, follows at once; of a long wait for a lock: when its thread has the GIL again")  \
    X(26, HOLD_GC, "hold.gc", thread, "how many collections ended in it",                          \
      "a hold had garbage collections; its end follows")                                           \
    X(27, HOLD_GC_LEAST, "hold.gc_least", thread, "ns that these collections took at the least",   \
      "behind hold.gc; exactly so many unless hold.gc_most follows")                               \
    X(28, PROCESSOR_ON, "processor.on", thread, "number of the processor",                         \
      "the kernel gave the thread a processor; with `record --sched`")                             \
    X(29, PROCESSOR_OFF, "processor.off", thread,                                                  \
      "number of the processor; preempted: it wants one; unknown from here on, or not",            \
      "the thread left its processor")                                                             \
    X(36, HOLD_CPU, "hold.cpu", thread, "ns of CPU time since it was asked for the GIL",           \
      "a holder kept the GIL for a millisecond after somebody asked; the end of its hold follows") \
    X(37, HOLD_ASLEEP, "hold.asleep", thread, "percent of the looks at which it slept",            \
      "who asked again looked whether the holder sleeps; behind hold.cpu")                         \
    X(38, HOLD_GC_MOST, "hold.gc_most", thread, "ns that these collections took at the most",      \
      "where their length is not known exactly; behind hold.gc_least")
/* Reserved: 24 mark.begin, 25 mark.end; docs/trace-format.md has the others. */

enum gs_event_kind {
    GS_NOT_WRITTEN = 0,
#define GS_X(number, symbol, name, scope, argument, when) GS_##symbol = number,
    GS_EVENT_TABLE(GS_X)
#undef GS_X
};

/* Flags of GIL events. */
enum {
    GS_FLAG_WAITED = 1, /* gil.acquire: the thread had to wait for it */
    GS_FLAG_CPU = 1, /* gil.wait: a `cpu` wait (its last release was forced), else an `io` wait */
};

/* What sort of lock or condition an event is about. */
enum gs_sync_kind {
    GS_SYNC_UNKNOWN = 0,
    GS_SYNC_PYTHON = 1,      /* written in Python, as threading.Condition is */
    GS_SYNC_NATIVE = 2,      /* gilscope's own, in C */
    GS_SYNC_ATOMIC = 3,      /* gilscope.locks: written in Python on atomic sections */
    GS_SYNC_GIL = 4,         /* of the GIL itself */
    GS_SYNC_PYMUTEX = 5,     /* CPython's one-byte mutex */
    GS_SYNC_THREAD_LOCK = 6, /* as GS_SYNC_SEM_LOCK, before that told them apart */
    GS_SYNC_INTERPRETER = 7, /* CPython's own waits: for a thread's end, in SimpleQueue.get */
    GS_SYNC_SEM_LOCK = 8, /* a PyThread lock that is a semaphore: its last release ended a wait */
    GS_SYNC_PARKED = 9,   /* what parks in CPython's parking lot, seen by the waiting thread's own
                             semaphore, which is the object: the lock is not known */
    GS_SYNC_KINDS,        /* how many */
};

/* ---- Part 2: the record ---------------------------------------------------------------------
 *
 *   word 0   63                                          6 5      0
 *            | time stamp in ticks, low 58 bits           | kind   |
 *   word 1, GIL events
 *            63                    24 23       14 13   12 11      0
 *            | sequence number, 40    | GIL, 10  | flags | waiters |
 *   word 1, events of locks and conditions
 *            63           48 47                            4 3     0
 *            | detail, 16   | the object's address, 4 to 47 | kind |
 *   word 1, stack
 *            63     35  34     33     32 31             8 7          0
 *            | 0      | sync | seen | wait | unit, 24   | offset / 16|  of the leaf's node
 *   word 1, other events: the argument, 64 bits
 *
 * `kind` there is an enum gs_sync_kind; an object's address is a multiple of 16 or counts as one.
 * `detail` is how many were woken (cond.notify; saturates), or 1 where a wait ended because it
 * timed out or was given up (lock.acquire, cond.wake), or 0.
 *
 * The sequence number counts the events of one GIL from 0 and is taken while that GIL's own mutex
 * is held, so it orders them exactly even where time stamps of two cores disagree by some cycles.
 * A gap in it is a lost record, and says how many. `GIL` is the index within the process.
 */
struct gs_record {
    uint64_t stamp_kind;
    uint64_t payload;
};
static_assert(sizeof(struct gs_record) == 16, "a record is 16 bytes");

#define GS_KIND_BITS      6
#define GS_KIND_MASK      ((UINT64_C(1) << GS_KIND_BITS) - 1)
#define GS_WAITERS_BITS   12
#define GS_WAITERS_MAX    ((UINT64_C(1) << GS_WAITERS_BITS) - 1) /* saturates */
#define GS_FLAGS_SHIFT    12
#define GS_FLAGS_MASK     UINT64_C(3)
#define GS_GIL_SHIFT      14
#define GS_GIL_MASK       UINT64_C(1023)
#define GS_SEQUENCE_SHIFT 24

#define GS_SYNC_KIND_MASK    UINT64_C(0xf)
#define GS_SYNC_OBJECT_MASK  UINT64_C(0x0000fffffffffff0)
#define GS_SYNC_DETAIL_SHIFT 48
#define GS_SYNC_DETAIL_MAX   UINT64_C(0xffff)
#define GS_DEPTH_MAX         UINT64_C(0xffff) /* of atomic sections */

/* Of the events of processors, which no probe writes: readers make them from what the kernel told
 * (gilscope/recorder/switches.h). The argument has the processor's number and, from GS_WHY_SHIFT
 * on, how the thread left it. */
#define GS_PROCESSOR_MASK UINT64_C(0xffff)
#define GS_WHY_SHIFT      16
enum gs_why_off {
    GS_WENT_OFF = 0,  /* it blocked, or sleeps */
    GS_PREEMPTED = 1, /* it wants a processor */
    GS_UNSEEN = 2,    /* records are missing, or the thread ended: nothing is known from here on */
    GS_WHYS,
};

/* Of a stack event. Without GS_STACK_OF_WAIT it is about the thread's hold, which its next GIL
 * event ends; with it about its wait. GS_STACK_SEEN: the leaf is where the thread that asked for
 * the GIL saw it; else where the hold ended, at or behind the place where its time went.
 * GS_STACK_OF_SYNC: with GS_STACK_OF_WAIT of the wait for a lock or a condition that the thread
 * ended last, and told before it has done anything else with the GIL; without it of the release or
 * notify that the thread tells next. */
#define GS_STACK_OF_WAIT        (UINT64_C(1) << 32)
#define GS_STACK_SEEN           (UINT64_C(1) << 33)
#define GS_STACK_OF_SYNC        (UINT64_C(1) << 34)
#define GS_STACK_REFERENCE_MASK UINT64_C(0xffffffff)

/* ---- Part 3: the ring file ------------------------------------------------------------------ */

#define GS_UNIT_BYTES   4096u
#define GS_FILE_MAGIC   UINT64_C(0x31474e4952534731) /* "1GSRING1" */
#define GS_MAX_CLOCKS   64
#define GS_CHUNK_UNITS  16u /* a chunk: 64 KiB, the span that one page fault maps */
#define GS_SMALL_CHUNKS 3u  /* a thread's first event chunks are pages: most threads are short */
#define GS_FIRST_UNIT   16u /* of the rooms */

enum gs_chunk_type {
    GS_PROCESS_PAGE = 0x50534731, /* "1GSP" */
    GS_THREAD_PAGE = 0x54534731,  /* "1GST" */
    GS_EVENT_CHUNK = 0x45534731,  /* "1GSE" */
    GS_STACK_PAGE = 0x53534731,   /* "1GSS", one unit; its owner is a process page */
    GS_STACK_TABLE = 0x48534731,  /* "1GSH": the probe's own, for readers to step over */
    GS_GIVEN_BACK = 0x58534731,   /* "1GSX": its taker does not need it; the same */
};

enum gs_clock_source {
    GS_CLOCK_MONOTONIC = 0, /* ticks are CLOCK_MONOTONIC nanoseconds */
    GS_CLOCK_TSC = 1,       /* x86-64 invariant time-stamp counter */
    GS_CLOCK_CNTVCT = 2,    /* aarch64 architectural counter */
};

/* One instant on all clocks. */
struct gs_clock_snapshot {
    uint64_t ticks;
    int64_t monotonic_ns;
    int64_t boottime_ns;
    int64_t realtime_ns;
};

/* How much of what happens is written. */
enum gs_stop {
    GS_GO_ON = 0,
    GS_COUNT_ALONE = 1, /* no records: not yet, no more for want of room, or none at all */
    GS_STOP_ALL = 2,    /* the recording is over */
};

/* A thread that asks to sleep for less polls: nobody waits for what it does next. */
#define GS_SHORT_SLEEP_NS 500000u

/* Counters of one thread, one writer each: `contended` and `made_wait` of the holder, and all
 * others of the thread itself. They never fall, and are read at any time without a record being
 * read.
 *
 * `held` and `waited` are *stretches*: sums of times, one of which may be open. A stretch is twice
 * the ticks of those that are over, less twice the stamp at which the open one began, plus 1 where
 * one is open. So one store opens or closes it, one load reads it whole, and at the time `now` its
 * sum is (word >> 1), or (word - 1 + 2 * now) >> 1 while it is open. */
struct gs_counters {
    uint64_t held;
    uint64_t waited[2]; /* for the GIL: IO waits; CPU waits */
    uint64_t made_wait; /* ticks of its holds, those that are over, in which another waited */
    uint64_t acquires;
    uint64_t contended;      /* acquires for which it had to wait */
    uint64_t hand_overs;     /* acquires where another thread had this GIL before */
    uint64_t longest;        /* ticks of its longest wait since the reading below began */
    uint64_t longest_before; /* the same of the reading before that one; 0: none */
    uint32_t reading;        /* as in the file's header when that wait ended */
    uint16_t gil;            /* index of the GIL that it had last */
    uint16_t pad;
    uint64_t short_sleeps; /* of less than GS_SHORT_SLEEP_NS, as it asked for them */
    uint64_t pad_2;
};
static_assert(sizeof(struct gs_counters) == 96, "six records");

/* What threads that are gone have counted: written by the recorder, in ticks. */
struct gs_gone_counters {
    uint64_t held;
    uint64_t waited[2];
    uint64_t made_wait;
    uint64_t acquires;
    uint64_t contended;
    uint64_t hand_overs;
    uint64_t dead_ticks; /* process page: when it was seen to be dead, or became another program,
                            as it says itself; 0: neither */
};
static_assert(sizeof(struct gs_gone_counters) == 64, "a cache line");

#define GS_ROOMS_GONE UINT32_MAX
struct gs_file_header {
    uint64_t magic;
    uint32_t abi_version;
    uint32_t clock_source;
    uint32_t recorder_pid;
    uint32_t root_pid; /* with follow == 0 only this process is traced; 0 until it is known */
    uint32_t follow;
    uint32_t stop;        /* enum gs_stop; set by the recorder or by a writer that met the limit */
    uint64_t created_ns;  /* CLOCK_REALTIME */
    uint64_t limit_units; /* the file's length; also the recording's maximum */
    uint64_t clock_hz;    /* ticks a second as the recorder measured them; 0: not known. (A process
                             in another time namespace has other times on all clocks but ticks.) */
    /* Written by the recorder. */
    _Alignas(64) uint64_t end_unit; /* rooms lie below it */
    uint64_t kept_from;     /* ticks (their low 58 bits): the cut; 0: nothing was taken back */
    uint64_t kept_until;    /* of a copy: its writers went on from there; 0: it is no copy */
    uint64_t gone_records;  /* that were taken back */
    uint64_t gone_lost;     /* records that threads lost whose pages were taken back */
    uint32_t final;         /* nothing more will be offered: who finds nothing sets `stop` */
    uint32_t held;          /* the `hold` under which nothing is taken back */
    uint64_t pid_namespace; /* inode of the recorder's /proc/self/ns/pid; 0: not known */
    /* Written by others. */
    _Alignas(64) uint32_t hold; /* pid of who copies the file and wants it held; 0: nobody */
    uint32_t n_processes;       /* that began: the serial of the newest */
    uint64_t lost_unattached;   /* events of threads that could not get a page at all */
    uint64_t lost_processes;    /* processes that could not get a page */
    uint64_t unfollowed;        /* programs started that cannot find or open the recording */
    uint64_t unwatched; /* GILs past those that a process's records can name and its probe watch */
    uint64_t
        safe_before; /* ticks: a reader has what is older, where it is safe; 0: there is none */
    _Alignas(64) uint32_t n_clocks; /* snapshots below, in order of time, written by recorder */
    _Alignas(64) struct gs_clock_snapshot clocks[GS_MAX_CLOCKS];
    _Alignas(64) struct gs_gone_counters gone; /* of processes whose pages were taken back */
    uint32_t moving; /* odd: rooms are being taken back, and counters move to who has them next;
                        GS_ROOMS_GONE: it is over, and its rooms are no more */
    _Alignas(64) uint32_t reading; /* how often somebody took the longest waits */
    uint32_t unfollowed_named;     /* 1: the name below is written, or is being written, by one */
    char unfollowed_name[56];      /* of the first program that is not followed; "": none */
};
static_assert(sizeof(struct gs_file_header) <= GS_UNIT_BYTES, "the header fits its unit");

/* Rooms of one kind that are offered: a queue in which the recorder alone puts, and any writer
 * takes. A slot is 0 (empty), the room's first unit (offered), or taker << 32 | unit (taken); only
 * the recorder fills one that is empty and empties one that is taken. Offer number n is in slot
 * n modulo their number, once `ready` is past n. `next` only says where to look: every offer before
 * it is taken. To take number n = next is to compare-and-swap the slot from offered to taken; who
 * finds it not offered was too late; either way `next` is then moved from n to n + 1, by whoever
 * comes first. A writer that was stopped in between may take a later offer from the same slot:
 * that is as good, the slot's value tells it all.
 *
 * `taker` is the process's pid, as the recorder sees it: a writer that dies before it published
 * leaves its pid in the slot, and its room comes back when that process is seen dead. */
#define GS_PAGE_OFFERS     4096u
#define GS_CHUNK_OFFERS    1024u
#define GS_TAKER_SHIFT     32
#define GS_TAKER_ELSEWHERE UINT32_MAX /* perhaps in another pid namespace: not presumed dead */

struct gs_offers {
    _Alignas(64) uint64_t ready; /* written by the recorder */
    _Alignas(64) uint64_t next;  /* by writers */
    _Alignas(64) uint64_t slots[];
};

/* Where the offers stand in the file, in bytes. */
#define GS_PAGES_AT  GS_UNIT_BYTES
#define GS_CHUNKS_AT (GS_PAGES_AT + 128u + GS_PAGE_OFFERS * 8u)
static_assert(GS_CHUNKS_AT + 128u + GS_CHUNK_OFFERS * 8u <= GS_FIRST_UNIT * GS_UNIT_BYTES,
              "the offers end before the rooms begin");

struct gs_chunk_header {
    uint32_t magic;   /* enum gs_chunk_type, stored last */
    uint32_t units;   /* length of this page or chunk */
    uint32_t owner;   /* thread page, stacks: unit of its process page; event chunk: of its thread
                         page; process page: its taker, as in an offer */
    uint32_t ordinal; /* event chunk: 1, 2, … in the order its thread took them; the first ones may
                         have been taken back. Process page: its serial, 1, 2, … in the recording.
                         Stack page: 1, 2, … in its process */
};

/* What the probe found out about the interpreter. */
enum gs_interpreter_state {
    GS_NO_PYTHON = 0,     /* no module with a _PyRuntime made a GIL */
    GS_GIL_FOUND = 1,     /* a GIL is being watched */
    GS_FREE_THREADED = 2, /* Python built without a GIL, and none is in use */

    /* Bits beside these. */
    GS_YIELDS_TOLD = 0x100,    /* the feed tells forced yields, it infers none */
    GS_STACKS_TOLD = 0x200,    /* Python frames can be read */
    GS_STACKS_UNKNOWN = 0x400, /* they cannot: the interpreter's memory is not laid out as known */
    GS_LOCKS_TOLD = 0x800,     /* waits for locks are told */
    GS_COLLECTIONS_COUNTED = 0x1000, /* so are collections in long holds: how many, bounds */
    GS_COLLECTIONS_TOLD = 0x2000,    /* all collections are told, exactly */
    GS_BEGUN_LATE = 0x4000,          /* it ran already: what was before its page is not known */
};

struct gs_process_page {
    struct gs_chunk_header header;
    uint32_t pid;
    uint32_t parent;      /* serial of the process that forked this one, 0: none */
    uint32_t interpreter; /* enum gs_interpreter_state */
    uint32_t n_gils;
    struct gs_clock_snapshot start;
    uint64_t end_ticks;          /* 0: did not say */
    char python[56];             /* "3.13.0" */
    uint64_t switch_interval_us; /* of its first interpreter, as last seen; 0: not known */
    char feed[16];               /* "interposed" or "built-in" */
    uint32_t lost_stacks;        /* that could not be kept for lack of room */
    uint32_t command_bytes;      /* arguments, each ended by a NUL, cut at the page's end */
    char command[GS_UNIT_BYTES - 160 - sizeof(struct gs_gone_counters)];
    struct gs_gone_counters gone; /* of its threads whose pages were taken back */
};
static_assert(sizeof(struct gs_process_page) == GS_UNIT_BYTES, "one unit");

/* Whether a thread's page is still in use by its process. */
enum gs_over {
    GS_LIVES = 0,
    GS_IS_OVER = 1,  /* the thread writes no more */
    GS_IS_ALONE = 2, /* and its page is out of the list that `previous` makes */
};

#define GS_NAME_BYTES 200
#define GS_NUMBER_MAX (GS_WAITERS_MAX - 1) /* what gil.wakeup can name */
struct gs_thread_page {
    struct gs_chunk_header header;
    uint32_t tid;
    uint16_t is_main;
    uint16_t number; /* 1, 2, … in its process, up to GS_NUMBER_MAX; 0: past them */
    uint64_t start_ticks;
    uint64_t end_ticks;       /* 0: did not say */
    uint64_t lost;            /* records that this thread could not write */
    char name[GS_NAME_BYTES]; /* UTF-8, NUL-terminated, cut at a character */
    uint32_t previous;    /* unit of a thread page of the same process, 0: none; the probe's own */
    uint16_t from_python; /* the name is Python's, not the kernel's */
    uint16_t over;        /* enum gs_over */
    struct gs_counters counters;
    struct gs_record records[(GS_UNIT_BYTES - 256 - sizeof(struct gs_counters)) / 16];
};
static_assert(sizeof(struct gs_thread_page) == GS_UNIT_BYTES, "one unit");
static_assert(offsetof(struct gs_thread_page, counters) % 64 == 0, "its hot ones in one line");

/* Records up to the chunk's end: it is a chunk or, where header.units is 1, a page. A thread moves
 * on when one is full. What it corrects afterwards (gs_on_yield) is the last record that it wrote
 * but for a wakeup: a chunk is settled when the next one has three records. */
struct gs_event_chunk {
    struct gs_chunk_header header;
    struct gs_record records[];
};

static inline uint32_t gs_chunk_records(uint32_t units) {
    return (units * GS_UNIT_BYTES - (uint32_t)sizeof(struct gs_event_chunk)) /
           (uint32_t)sizeof(struct gs_record);
}

/* A page of stacks: behind its head entries, each on a multiple of 16 bytes, up to one whose kind
 * is 0 or to the page's end. Pages of a process are written under the mutex of one of its GILs. An
 * entry's kind is stored last (release order). A *reference* is the entry's unit << 8 | its offset
 * in that unit / 16; 0 means none. A node refers to what was written before it. When a GIL's tree
 * has grown to its limit, a new one begins and the pages of the old one are retired: only records
 * that are older refer to them. */
struct gs_stack_page {
    struct gs_chunk_header header;
    uint64_t retired;  /* ticks; 0: in use */
    uint32_t previous; /* unit of the page before it in its tree, 0: none; the probe's own */
    uint32_t pad;
};
static_assert(sizeof(struct gs_stack_page) == 32, "entries begin at a multiple of 16");

#define GS_STACK_OFFSET_BITS 8
#define GS_STACK_UNIT_MAX    ((UINT32_C(1) << 24) - 1)
#define GS_STACK_DEPTH       64 /* frames of a stack that are kept, from the leaf on */

enum gs_stack_kind { GS_STACK_NODE = 1, GS_STACK_TEXT = 2 };

struct gs_stack_entry {
    uint16_t kind;     /* enum gs_stack_kind */
    uint16_t sixteens; /* its length / 16 */
};

/* A place in code, called from its parent's: the path to the root is the stack. */
struct gs_stack_node {
    struct gs_stack_entry entry;
    uint32_t parent;         /* 0: the root, or what is called from frames that were not kept */
    uint32_t file, function; /* texts; 0: not known */
    int32_t line;            /* 0: not known */
    uint32_t pad[3];
};
static_assert(sizeof(struct gs_stack_node) == 32, "32 bytes");

struct gs_stack_text {
    struct gs_stack_entry entry;
    uint32_t bytes;
    char text[]; /* UTF-8, no NUL */
};

#endif
