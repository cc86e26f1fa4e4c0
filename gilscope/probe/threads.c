#define _GNU_SOURCE
#include "threads.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "emit.h"

/* Aligned: read at every event, and should not lie in two cache lines. But on other processors than
 * x86-64 the loader aligns less once the program runs, and would refuse the library. */
#ifdef __x86_64__
_Alignas(64)
#endif
    __thread struct gs_writer gs_writer;

static pthread_key_t end_key; /* its destructor stamps a thread's end */
static bool end_key_made;

static uint32_t thread_id(void) {
    return (uint32_t)syscall(SYS_gettid);
}

/* Copies a UTF-8 string and cuts it at a whole character. */
void gs_copy_name(char *out, size_t size, const char *name) {
    size_t n = strnlen(name, size);
    if (n == size) {
        n--;
        while (n > 0 && ((unsigned char)name[n] & 0xc0) == 0x80)
            n--;
    }
    memcpy(out, name, n);
    out[n] = 0;
}

/* ---- the pages by their threads' numbers -------------------------------------------------------
 */

enum { LISTS = 1024 };

/* Units of thread pages: each list's newest, which leads on by `previous`. */
static uint32_t lists[LISTS];

static uint32_t in_lists; /* 1: a thread is in the lists */
static uint32_t missed;   /* ends at which another one was */

static void put_into_list(struct gs_thread_page *page, uint32_t unit) {
    uint32_t *newest = &lists[page->tid % LISTS];
    page->previous = __atomic_load_n(newest, __ATOMIC_RELAXED);
    /* Release: whoever walks the list sees the page whole. */
    while (!__atomic_compare_exchange_n(newest, &page->previous, unit, false, __ATOMIC_RELEASE,
                                        __ATOMIC_RELAXED))
        ;
}

/* NULL: none, or it is not a page of this process's. */
static struct gs_thread_page *page_at(uint32_t unit) {
    if (unit == 0 || unit >= __atomic_load_n(&gs_process.ring.mapped_units, __ATOMIC_RELAXED))
        return NULL;
    struct gs_thread_page *page = gs_ring_at(&gs_process.ring, unit, 1);
    bool ours = __atomic_load_n(&page->header.magic, __ATOMIC_ACQUIRE) == GS_THREAD_PAGE &&
                page->header.owner == gs_process.unit;
    return ours ? page : NULL;
}

static bool is_over(const struct gs_thread_page *page) {
    return __atomic_load_n(&page->over, __ATOMIC_ACQUIRE) != GS_LIVES;
}

bool gs_enter_lists(void) {
    return !__atomic_exchange_n(&in_lists, 1, __ATOMIC_ACQUIRE);
}

void gs_leave_lists(void) {
    __atomic_store_n(&in_lists, 0, __ATOMIC_RELEASE);
}

/* Takes the threads that are over out of a list: the recorder may have their pages then. New ones
 * come before its newest meanwhile. Units that were given out twice could make a ring of the list:
 * the steps are counted. */
static void prune(uint32_t *newest) {
    uint32_t steps = __atomic_load_n(&gs_process.n_threads, __ATOMIC_RELAXED);
    uint32_t unit = __atomic_load_n(newest, __ATOMIC_ACQUIRE);
    struct gs_thread_page *before = NULL, *page;
    for (; (page = page_at(unit)) && steps; steps--) {
        uint32_t next = page->previous, head = unit;
        bool out = is_over(page);
        if (out && before)
            before->previous = next;
        else if (out)
            out = __atomic_compare_exchange_n(newest, &head, next, false, __ATOMIC_ACQUIRE,
                                              __ATOMIC_RELAXED);
        if (out)
            __atomic_store_n(&page->over, GS_IS_ALONE, __ATOMIC_RELEASE);
        else
            before = page;
        unit = next;
    }
}

/* A thread of this number is over. */
static void leave_list(uint32_t tid) {
    if (!gs_enter_lists()) {
        __atomic_fetch_add(&missed, 1, __ATOMIC_RELAXED);
        return;
    }
    prune(&lists[tid % LISTS]);
    if (__atomic_exchange_n(&missed, 0, __ATOMIC_RELAXED))
        for (uint32_t i = 0; i < LISTS; i++)
            prune(&lists[i]);
    gs_leave_lists();
}

struct gs_thread_page *gs_page_of_thread(uint32_t tid) {
    uint32_t steps = __atomic_load_n(&gs_process.n_threads, __ATOMIC_RELAXED);
    struct gs_thread_page *page = page_at(__atomic_load_n(&lists[tid % LISTS], __ATOMIC_ACQUIRE));
    while (page && (page->tid != tid || is_over(page)))
        page = steps-- ? page_at(page->previous) : NULL;
    return page;
}

void gs_threads_after_fork(void) {
    memset(lists, 0, sizeof lists);
    in_lists = missed = 0; /* a thread of the parent was in them, perhaps */
    gs_process.n_threads = 0;
}

void gs_threads_adopt(void) {
    uint64_t end = __atomic_load_n(&gs_process.ring.header->end_unit, __ATOMIC_ACQUIRE);
    uint64_t mapped = gs_process.ring.mapped_units;
    for (uint64_t unit = GS_FIRST_UNIT; unit < end && unit < mapped;) {
        const struct gs_chunk_header *header = gs_ring_at(&gs_process.ring, unit, 1);
        bool published = __atomic_load_n(&header->magic, __ATOMIC_ACQUIRE);
        struct gs_thread_page *page = page_at((uint32_t)unit);
        if (page && page->over != GS_IS_ALONE)
            put_into_list(page, (uint32_t)unit);
        unit += published && header->units ? header->units : 1;
    }
}

/* ---- a thread's life --------------------------------------------------------------------------
 */

/* It goes on inside the atomic section that it is in. */
__attribute__((cold)) void gs_writer_begin_anew(void) {
    gs_writer = (struct gs_writer){.epoch = __atomic_load_n(&gs_process.epoch, __ATOMIC_ACQUIRE),
                                   .atomic_depth = gs_writer.atomic_depth};
}

static void thread_ends(void *unused) {
    (void)unused;
    struct gs_writer *writer = &gs_writer;
    uint32_t stop = gs_stop(); /* first: what the thread remembers may be over */
    struct gs_thread_page *page = writer->page;
    if (!page || stop >= GS_STOP_ALL)
        return;
    uint32_t tid = page->tid;
    if (writer->waiting) /* left from inside its wait, as daemon threads do at shutdown */
        gs_on_leave(writer->waiting);
    if (!gs_recording() || gs_emit(GS_THREAD_END, 0))
        page->end_ticks = gs_clock_now(gs_process.clock);
    /* Another library's destructor may run after this one and take the GIL once more. Nothing may
     * follow a thread's end, so that attaches anew and reads as a thread of the same tid. */
    *writer = (struct gs_writer){.epoch = writer->epoch};
    gs_rooms_are_left(gs_process.ring.header);
    __atomic_store_n(&page->over, GS_IS_OVER, __ATOMIC_RELEASE);
    leave_list(tid);
}

static void count_loss(void) {
    gs_ring_is_full(&gs_process.ring);
    if (__atomic_load_n(&gs_process.ring.header->stop, __ATOMIC_RELAXED))
        return; /* past the limit events are not recorded; nothing is missing before it */
    if (gs_writer.page) {
        __atomic_store_n(&gs_writer.page->lost, gs_writer.page->lost + 1, __ATOMIC_RELAXED);
        gs_writer.lost = true;
    } else {
        __atomic_fetch_add(&gs_process.ring.header->lost_unattached, 1, __ATOMIC_RELAXED);
    }
}

bool gs_attach(const char *name) {
    struct gs_writer *writer = &gs_writer;
    gs_writer_follow();
    int saved_errno = errno;
    struct gs_thread_page *page = gs_ring_take_any(&gs_process.ring, 1);
    if (!page)
        return false;
    uint32_t tid = thread_id();
    page->header.owner = gs_process.unit;
    page->tid = tid;
    page->is_main = tid == (uint32_t)getpid();
    uint32_t number = __atomic_add_fetch(&gs_process.n_threads, 1, __ATOMIC_RELAXED);
    page->number = (uint16_t)(number <= GS_NUMBER_MAX ? number : 0);
    if (name) {
        gs_copy_name(page->name, sizeof page->name, name);
        page->from_python = 1;
    } else if (!page->is_main) {
        /* A thread that Python did not make: the kernel's name for it. */
        char comm[16] = "";
        prctl(PR_GET_NAME, comm);
        gs_copy_name(page->name, sizeof comm, comm);
    }
    page->start_ticks = gs_clock_now(gs_process.clock);
    gs_ring_publish(&page->header, GS_THREAD_PAGE);
    put_into_list(page, gs_unit_of(&gs_process.ring, page));
    writer->cursor = page->records;
    writer->end = page->records + sizeof page->records / sizeof *page->records;
    writer->page = page;
    if (end_key_made)
        pthread_setspecific(end_key, page);
    if (gs_recording())
        gs_emit(GS_THREAD_START, 0);
    errno = saved_errno;
    return true;
}

bool gs_refill(void) {
    struct gs_writer *writer = &gs_writer;
    if (!writer->page) {
        if (gs_attach(NULL))
            return true;
        count_loss();
        return false;
    }
    struct gs_event_chunk *chunk =
        gs_ring_take_any(&gs_process.ring, writer->ordinal < GS_SMALL_CHUNKS ? 1 : GS_CHUNK_UNITS);
    if (!chunk) {
        count_loss();
        return false;
    }
    chunk->header.owner = gs_unit_of(&gs_process.ring, writer->page);
    chunk->header.ordinal = ++writer->ordinal;
    gs_ring_publish(&chunk->header, GS_EVENT_CHUNK);
    /* An older one may be taken back; the last record may still be corrected. */
    if (writer->last_release && writer->last_release + 1 != writer->cursor)
        writer->last_release = NULL;
    writer->cursor = chunk->records;
    writer->end = chunk->records + gs_chunk_records(chunk->header.units);
    if (writer->lost) {
        writer->lost = false;
        gs_emit(GS_THREAD_LOST, writer->page->lost);
    }
    return true;
}

/* What is told of at the refill itself comes before. */
__attribute__((cold)) struct gs_record *gs_emit_refilled(enum gs_event_kind kind, uint64_t payload,
                                                         uint64_t ticks) {
    const bool tells = !gs_writer.page || gs_writer.lost;
    if (!gs_refill())
        return NULL;
    return tells ? gs_emit(kind, payload) : gs_emit_at(kind, payload, ticks);
}

struct thread_start {
    void *(*start)(void *);
    void *argument;
    char name[GS_NAME_BYTES];
};

static void *thread_begins(void *box) {
    struct thread_start begin = *(struct thread_start *)box;
    free(box);
    if (gs_counting())
        gs_attach(begin.name[0] ? begin.name : NULL);
    return begin.start(begin.argument);
}

int gs_thread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*start)(void *),
                     void *argument, const char *name,
                     int (*create)(pthread_t *, const pthread_attr_t *, void *(*)(void *),
                                   void *)) {
    struct thread_start *box = malloc(sizeof *box);
    if (!box)
        return create(thread, attributes, start, argument);
    box->start = start;
    box->argument = argument;
    gs_copy_name(box->name, sizeof box->name, name ? name : "");
    int error = create(thread, attributes, thread_begins, box);
    if (error)
        free(box);
    return error;
}

void gs_threads_start(void) {
    if (!end_key_made)
        end_key_made = pthread_key_create(&end_key, thread_ends) == 0;
}
