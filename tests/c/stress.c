/* Fake GIL users on the real ring.c, process.c and emit.h, read back by the real ring reader; to be
 * compiled with -fsanitize=thread or address,undefined.
 *
 *     stress FILE MODE SEED [TURNS]
 *
 * FILE becomes the ring file. Modes:
 *   threads   one process: this thread is the recorder, the others use one GIL
 *   starved   the same, but the recorder lags: records are lost, and counted
 *   shortened the same as threads, but the mapping becomes short under its writers: they lose some
 *   resized   the same, made longer again and again before that: who met a short end looks at later
 *             offers too, and may take one far behind, with room enough for all below it
 *   limit     the file is too small: recording stops, nothing before the stop is missing
 *   forks     two children, each with threads and a GIL of its own
 *   killed    the same, but they are killed somewhere in the middle
 *   reused    as threads, in a small file that is used again and again, and copied meanwhile
 *   churned   the same of children that come one after another, every second of which is killed
 * Compiled with -DBUILT_IN the fake GIL calls the hooks of Python Plus, and built_in.c is behind
 * it. Checked: written = read + lost; sequence numbers have gaps only where records were lost; one
 * holder at a time; a killed process's events are there up to the one in flight. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../gilscope/probe/hooks.h"
#include "../../gilscope/probe/process.h"
#include "../../gilscope/probe/threads.h"
#include "../../gilscope/recorder/rooms.h"
#include "../../gilscope/trace/event.h"

/* In the place of processor.c. */
void gs_processor_look(struct gs_gil *gil) {
    (void)gil;
}
void gs_processor_tell(struct gs_gil *gil) {
    (void)gil;
}

struct gs_rooms *gs_rooms_create(struct gs_file_header *, int, uint64_t, uint32_t, uint32_t);
int gs_rooms_start(struct gs_rooms *);
int gs_rooms_tick(struct gs_rooms *);
void gs_rooms_forget(struct gs_rooms *, uint64_t);
void gs_rooms_clock(struct gs_file_header *);
void gs_rooms_close(struct gs_rooms *);
void gs_rooms_copy(const struct gs_file_header *, void *, uint64_t);
struct gs_order *gs_order_open(const void *, uint64_t);
const char *gs_order_error(const struct gs_order *);
void gs_order_counts(const struct gs_order *, uint64_t[5]);
void gs_order_thread(struct gs_order *, uint64_t, uint64_t *, uint64_t *, int64_t *);
int gs_order_survey(struct gs_order *);
int gs_order_begin(struct gs_order *, const int64_t *, const uint8_t *);
int64_t gs_order_next(struct gs_order *, struct gs_event *, int64_t, uint64_t *);
void gs_order_close(struct gs_order *);

enum {
    THREADS = 4,
    CHILDREN = 2,
    LIMIT_UNITS = 8192,
    SMALL_UNITS = 160,
    GENERATIONS = 3,
    CHURNED = 12
};

#define CHECK(condition, ...)                                                                      \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: %s: ", __FILE__, __LINE__, #condition);                        \
            fprintf(stderr, __VA_ARGS__);                                                          \
            fputc('\n', stderr);                                                                   \
            _exit(1);                                                                              \
        }                                                                                          \
    } while (0)

/* Outlives the children. `begun` is counted before an event is emitted, `done` behind it. */
static struct {
    _Atomic uint64_t begun, done, yields;
} *shared;

static unsigned turns = 1500;
static struct gs_file_header *header; /* in the recorder's own mapping */
static struct gs_rooms *rooms;
static const void *outside; /* a mapping of its own, as another process has it */
static uint64_t file_units;
static unsigned copies;
static _Atomic uint64_t short_end; /* unit; 0: the ring is not short for good yet */
static const char *mode;

static bool is(const char *name) {
    return strcmp(mode, name) == 0;
}

static bool becomes_short(void) {
    return is("shortened") || is("resized");
}

/* ---- a GIL as CPython makes it ----------------------------------------------------------------
 */

static struct {
    pthread_mutex_t mutex;
    pthread_cond_t cond;
    bool locked, request;
    uint64_t switches;
    _Alignas(struct gs_gil) uint64_t storage[GS_GIL_WORDS]; /* a gs_gil stands at its beginning */
} fake = {.mutex = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER};

/* What the two feeds call at the same places. */
#ifdef BUILT_IN
#define ON(event, hook)  gs_hook_##hook(fake.storage)
#define FORCED_IS_COMING gs_hook_yields()
#define WAS_FORCED       (void)0
#else
#define ON(event, hook)  gs_on_##event((struct gs_gil *)(void *)fake.storage)
#define FORCED_IS_COMING (void)0
#define WAS_FORCED       gs_on_yield()
#endif

static void make_gil(void) {
#ifdef BUILT_IN
    gs_built_in_configure();
    gs_hook_gil_created(fake.storage, NULL, &fake.switches, NULL);
#else
    *(struct gs_gil *)(void *)fake.storage =
        (struct gs_gil){.index = gs_next_gil_index(GS_NO_INDEX)};
#endif
}

#define COUNTED(call)                                                                              \
    do {                                                                                           \
        shared->begun++;                                                                           \
        call;                                                                                      \
        shared->done++;                                                                            \
    } while (0)

static void take(void) {
    pthread_mutex_lock(&fake.mutex);
    while (fake.locked) {
        if (gs_writer.waiting)
            ON(wait, waits); /* the same wait, entered again: no event */
        else
            COUNTED(ON(wait, waits));
        uint64_t switches = fake.switches;
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += 20000;
        if (until.tv_nsec >= 1000000000)
            until = (struct timespec){until.tv_sec + 1, 0};
        int result = pthread_cond_timedwait(&fake.cond, &fake.mutex, &until);
        if (result == ETIMEDOUT && fake.locked && fake.switches == switches) {
            fake.request = true;
            COUNTED(ON(request, requests));
        }
    }
    fake.locked = true;
    fake.switches++;
    fake.request = false;
    COUNTED(ON(acquire, acquired));
    pthread_mutex_unlock(&fake.mutex);
}

static void drop(void) {
    pthread_mutex_lock(&fake.mutex);
    bool forced = fake.request;
    fake.locked = false;
    if (forced)
        FORCED_IS_COMING;
    COUNTED(ON(release, released));
    pthread_cond_signal(&fake.cond);
    pthread_mutex_unlock(&fake.mutex);
    if (forced) {
        shared->yields++;
        WAS_FORCED;
    }
}

static void *use_gil(void *argument) {
    uint64_t dice = (uint64_t)(uintptr_t)argument * 0x9e3779b97f4a7c15u + 1;
    for (unsigned i = 0; i < turns; i++) {
        take();
        dice ^= dice << 13, dice ^= dice >> 7, dice ^= dice << 17;
        if (dice % 4 == 0) /* let the others come while the GIL is taken */
            sched_yield();
        for (volatile unsigned spin = dice % 64 ? dice % 50 : 100000; spin > 0; spin--)
            ;
        drop();
    }
    return NULL;
}

/* Threads that come and go; they carry names, one of them longer than fits. */
static void run_threads(unsigned seed) {
    char name[GS_NAME_BYTES + 50];
    memset(name, 'n', sizeof name - 1);
    name[sizeof name - 1] = 0;
    for (unsigned generation = 0; generation < GENERATIONS; generation++) {
        pthread_t threads[THREADS];
        while (becomes_short() && generation == GENERATIONS - 1 && !short_end)
            sched_yield();
        for (unsigned i = 0; i < THREADS; i++)
            CHECK(gs_thread_create(&threads[i], NULL, use_gil,
                                   (void *)(uintptr_t)(seed * 100 + generation * 10 + i + 1),
                                   i ? "worker" : name, pthread_create) == 0,
                  "no thread");
        for (unsigned i = 0; i < THREADS; i++)
            pthread_join(threads[i], NULL);
    }
}

static void *run_in_background(void *finished) {
    run_threads(1);
    __atomic_store_n((int *)finished, 1, __ATOMIC_RELEASE);
    return NULL;
}

/* ---- the recorder -----------------------------------------------------------------------------
 */

static void keep_ahead(void) {
    CHECK(gs_rooms_tick(rooms) == 0, "cannot extend");
}

static void run_children(unsigned seed) {
    pid_t pids[CHILDREN];
    for (unsigned i = 0; i < CHILDREN; i++) {
        pids[i] = fork();
        if (pids[i] == 0) {
            gs_process_revive(); /* as when CPython makes its GIL anew */
            make_gil();
            run_threads(seed + i);
            gs_process_end();
            _exit(0);
        }
        CHECK(pids[i] > 0, "no child");
    }
    uint64_t kill_at = is("killed") ? 500 + seed * 7919 % 20000 : UINT64_MAX;
    for (unsigned left = CHILDREN; left > 0;) {
        keep_ahead();
        if (shared->done >= kill_at) {
            for (unsigned i = 0; i < CHILDREN; i++)
                kill(pids[i], SIGKILL);
            kill_at = UINT64_MAX;
        }
        int status;
        pid_t pid = waitpid(-1, &status, WNOHANG);
        if (pid == 0) {
            sched_yield();
            continue;
        }
        CHECK(is("killed") || (WIFEXITED(status) && WEXITSTATUS(status) == 0), "child: 0x%x",
              status);
        left--;
    }
}

static uint64_t events_done(void) {
    pthread_mutex_lock(&fake.mutex);
    uint64_t done = shared->done;
    pthread_mutex_unlock(&fake.mutex);
    return done;
}

/* As where the program sets a limit, and where it locks its memory and it is made longer `again`.
 */
static void shorten(bool again) {
    uint64_t units = gs_process.ring.mapped_units, end = gs_ring_shorten(&gs_process.ring, 1);
    sched_yield();
    if (again)
        gs_ring_lengthen(&gs_process.ring, end, units);
    else
        short_end = end;
}

static void read_copy(void);

static void run_here(void) {
    int finished = 0;
    pthread_t runner;
    make_gil();
    CHECK(pthread_create(&runner, NULL, run_in_background, &finished) == 0, "no thread");
    uint64_t fed = 0; /* events for which a starving recorder has made room */
    for (unsigned tick = 0; !__atomic_load_n(&finished, __ATOMIC_ACQUIRE); tick++) {
        if (!is("starved")) {
            keep_ahead();
            if (becomes_short() && (is("resized") || events_done() >= 5000))
                shorten(events_done() < 5000);
            if (is("reused") && tick % 50 == 25)
                read_copy();
        } else if (events_done() >= fed + 10000) { /* a block holds 4,095 records at the most */
            fed += 10000;
            rooms->limit_units += GS_CHUNK_UNITS;
            keep_ahead();
        }
        sched_yield();
    }
    pthread_join(runner, NULL);
}

/* ---- the reader -------------------------------------------------------------------------------
 */

struct seen {
    uint64_t read, yields, starts, ends, gaps, told, lost, threads;
};

/* Reads a ring file that is mapped, and checks that its story is possible. */
static struct seen read_map(const unsigned char *map, uint64_t bytes) {
    struct seen seen = {0};
    struct gs_order *order = gs_order_open(map, (uint64_t)bytes);
    CHECK(order, "out of memory");
    CHECK(!*gs_order_error(order), "%s", gs_order_error(order));
    uint64_t counts[5];
    gs_order_counts(order, counts);
    int64_t ends[CHILDREN + 1] = {0};
    uint8_t unclean[CHILDREN + 1] = {0};
    CHECK(counts[0] <= CHILDREN + 1, "%lu processes", (unsigned long)counts[0]);
    const struct gs_file_header *its = (const void *)map;
    seen.lost = its->lost_unattached + its->gone_lost;
    seen.threads = counts[1];
    for (uint64_t i = 0; i < counts[1]; i++) {
        uint64_t at, process;
        int64_t last;
        gs_order_thread(order, i, &at, &process, &last);
        const struct gs_thread_page *page = (const void *)(map + at);
        CHECK(strlen(page->name) < GS_NAME_BYTES, "a name without an end");
        seen.lost += page->lost;
    }
    CHECK(gs_order_survey(order) == 0, "out of memory");
    CHECK(gs_order_begin(order, ends, unclean) == 0, "%s", gs_order_error(order));
    int64_t holder[CHILDREN + 1];
    int64_t last_of_gil[CHILDREN + 1] = {0};
    memset(holder, -1, sizeof holder);
    static struct gs_event events[1000];
    int64_t n;
    while ((n = gs_order_next(order, events, 1000, NULL)) > 0)
        for (int64_t i = 0; i < n; i++) {
            const struct gs_event *e = &events[i];
            seen.starts += e->kind == GS_THREAD_START;
            seen.ends += e->kind == GS_THREAD_END;
            seen.told += e->kind == GS_THREAD_LOST;
            if (e->gil == GS_NO_GIL)
                continue;
            int64_t before = last_of_gil[e->gil];
            CHECK(e->gil <= CHILDREN && e->time_ns >= before, "time runs back");
            CHECK(e->kind != GS_GIL_LOST || !before || e->time_ns == before,
                  "a gap begins late: %ld after %ld, of %lu", (long)e->time_ns, (long)before,
                  (unsigned long)e->arg);
            last_of_gil[e->gil] = e->time_ns;
            int64_t *holds = &holder[e->gil];
            if (e->kind == GS_GIL_LOST) {
                seen.gaps += e->arg;
                *holds = -1;
                continue;
            }
            seen.read++;
            seen.yields += e->kind == GS_GIL_YIELD;
            if (e->kind == GS_GIL_ACQUIRE) {
                CHECK(*holds == -1, "two holders");
                *holds = e->thread;
            } else if (e->kind == GS_GIL_RELEASE || e->kind == GS_GIL_YIELD) {
                CHECK(*holds == -1 || *holds == e->thread, "another's release");
                *holds = -1;
            } else if (e->kind == GS_GIL_WAIT) {
                CHECK(*holds != e->thread, "the holder waits");
            }
        }
    CHECK(n == 0, "%s", gs_order_error(order));
    gs_order_close(order);
    return seen;
}

/* As `gilscope snapshot` does it, with the recorder in between. */
static void read_copy(void) {
    header->hold = (uint32_t)getpid();
    keep_ahead();
    CHECK(header->held == header->hold, "not held");
    uint64_t bytes = file_units * GS_UNIT_BYTES, until = gs_clock_now(header->clock_source);
    void *copy = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(copy != MAP_FAILED, "out of memory");
    gs_rooms_copy(outside, copy, until);
    header->hold = 0;
    read_map(copy, bytes);
    munmap(copy, bytes);
    copies++;
}

/* All records that are in the file, whether or not a reader would give them. Adds what was lost. */
static uint64_t records_in_file(uint64_t *lost) {
    uint64_t n = 0;
    for (uint64_t unit = GS_FIRST_UNIT; unit < header->end_unit; unit++) {
        const struct gs_chunk_header *room =
            (const void *)((const char *)header + unit * GS_UNIT_BYTES);
        const struct gs_record *at = NULL;
        if (room->magic == GS_THREAD_PAGE) {
            at = ((const struct gs_thread_page *)room)->records;
            *lost += ((const struct gs_thread_page *)room)->lost;
        } else if (room->magic == GS_EVENT_CHUNK)
            at = ((const struct gs_event_chunk *)room)->records;
        const void *end = (const char *)room + (at ? room->units : 1) * GS_UNIT_BYTES;
        for (; at && (const void *)at < end && at->stamp_kind; at++)
            n++;
        if (room->magic)
            unit += room->units - 1;
    }
    return n;
}

static void read_back(void) {
    struct seen seen = read_map((const unsigned char *)header, file_units * GS_UNIT_BYTES);
    /* The ends of threads can be lost too, and the rings count them with the rest. */
    uint64_t lost_ends = is("killed") ? 0 : seen.threads - seen.ends, lost = seen.lost;
    uint64_t begun = shared->begun, done = shared->done;
    uint64_t accounted = seen.read + lost - (header->stop ? 0 : lost_ends);
    CHECK(seen.starts == seen.threads || is("reused"), "%lu of %lu starts",
          (unsigned long)seen.starts, (unsigned long)seen.threads);
    CHECK(seen.gaps <= lost, "%lu missing, %lu lost", (unsigned long)seen.gaps,
          (unsigned long)lost);
    if (is("limit")) {
        CHECK(header->stop && lost == 0 && seen.gaps == 0 && accounted < done, "stopped badly");
    } else if (is("killed")) {
        CHECK(done <= accounted && accounted <= begun, "%lu <= %lu <= %lu", (unsigned long)done,
              (unsigned long)accounted, (unsigned long)begun);
    } else if (is("reused")) {
        /* Each thread has a start and an end; each that lost a record may tell so. */
        uint64_t all = done + 2 * gs_process.n_threads;
        lost = header->lost_unattached + header->gone_lost;
        uint64_t there = records_in_file(&lost), known = there + header->gone_records + lost;
        CHECK(all <= known && known <= all + all / 20 + lost,
              "%lu written, %lu in the file, %lu gone, %lu lost, %u threads", (unsigned long)all,
              (unsigned long)there, (unsigned long)header->gone_records, (unsigned long)lost,
              gs_process.n_threads);
        CHECK(header->gone_records > done / 8 && copies > 3, "%lu gone, %u copies",
              (unsigned long)header->gone_records, copies);
    } else {
        CHECK(begun == done && done == accounted, "%lu written, %lu read, %lu lost",
              (unsigned long)done, (unsigned long)seen.read, (unsigned long)lost);
    }
    if (is("starved") || is("shortened"))
        CHECK(lost > 0 && seen.read > 0 && (seen.told > 0 || is("shortened")),
              "nothing lost: %lu read", (unsigned long)seen.read);
    else if (is("resized"))
        CHECK(short_end > 0 && seen.read > 0, "short at %lu, %lu read", (unsigned long)short_end,
              (unsigned long)seen.read);
    else if (!is("reused"))
        CHECK(lost == 0 && seen.told == 0, "%lu lost", (unsigned long)lost);
    if (is("threads") || is("forks"))
        CHECK(seen.yields == shared->yields && seen.yields > 0, "%lu yields",
              (unsigned long)seen.yields);
    printf("%s: %lu written, %lu read, %lu lost, %lu yields, %lu threads, %lu gone\n", mode,
           (unsigned long)done, (unsigned long)seen.read, (unsigned long)lost,
           (unsigned long)seen.yields, (unsigned long)seen.threads,
           (unsigned long)header->gone_records);
}

/* Children that use much more than the file has, one after another. When they are dead, and all is
 * old, nothing of them is left. */
static void churn(unsigned seed) {
    uint64_t killed = 0, before = 0;
    for (unsigned i = 0; i < CHURNED; i++) {
        before = shared->done;
        pid_t pid = fork();
        CHECK(pid >= 0, "no child");
        if (pid == 0) {
            gs_process_revive();
            make_gil();
            run_threads(seed + i);
            gs_process_end();
            _exit(0);
        }
        uint64_t kill_at = i % 2 ? before + (seed + i) * 7919 % 8000 : UINT64_MAX;
        int status;
        while (waitpid(pid, &status, WNOHANG) == 0) {
            keep_ahead();
            if (shared->done >= kill_at && kill(pid, SIGKILL) == 0)
                kill_at = UINT64_MAX;
            sched_yield();
        }
        CHECK(i % 2 || (WIFEXITED(status) && WEXITSTATUS(status) == 0), "child: 0x%x", status);
        killed += WIFSIGNALED(status);
    }
    gs_rooms_forget(rooms, UINT64_MAX);
    for (unsigned i = 0; i < 40; i++)
        keep_ahead();
    uint64_t left = 0;
    for (uint64_t unit = GS_FIRST_UNIT; unit < header->end_unit; unit++)
        left += rooms->rooms[unit].state > GS_ROOM_OFFERED;
    CHECK(left == 1, "%lu rooms are left", (unsigned long)left); /* this process's page */
    CHECK(rooms->header->gone_records + header->gone_lost + header->lost_unattached >= shared->done,
          "%lu gone of %lu", (unsigned long)header->gone_records, (unsigned long)shared->done);
    printf("%s: %lu written, %lu gone, %u processes, %lu killed\n", mode,
           (unsigned long)shared->done, (unsigned long)header->gone_records, CHURNED,
           (unsigned long)killed);
}

int main(int argc, char **argv) {
    CHECK(argc >= 4, "stress FILE MODE SEED [TURNS]");
    const char *path = argv[1];
    mode = argv[2];
    unsigned seed = (unsigned)atoi(argv[3]);
    if (is("reused"))
        turns *= 3;
    if (argc > 4)
        turns = (unsigned)atoi(argv[4]);
    bool again = is("reused") || is("churned"), starved = is("starved");
    file_units = is("limit") ? 96 : again ? SMALL_UNITS : LIMIT_UNITS;
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    CHECK(fd >= 0 && ftruncate(fd, (off_t)(file_units * GS_UNIT_BYTES)) == 0, "no ring file");
    header = mmap(NULL, file_units * GS_UNIT_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(header != MAP_FAILED && shared != MAP_FAILED, "cannot map");
    rooms = gs_rooms_create(header, fd, file_units, 1, again || starved);
    CHECK(rooms, "out of memory");
    if (starved) { /* it takes nothing back, and has little */
        header->hold = (uint32_t)getpid();
        rooms->limit_units = 6 * GS_CHUNK_UNITS;
    }
    CHECK(gs_rooms_start(rooms) == 0, "cannot extend");
    setenv(GS_RINGS_VARIABLE, path, 1);
    gs_process_start();
    CHECK(gs_process.page, "not recording");
    outside = header;
    if (is("reused")) /* one mapping: the thread sanitizer goes by addresses */
        header = rooms->header = gs_process.ring.header;
    if (is("churned"))
        churn(seed);
    else if (is("forks") || is("killed"))
        run_children(seed);
    else
        run_here();
    gs_rooms_clock(header);
    gs_process_end();
    if (!is("churned"))
        read_back();
    gs_rooms_close(rooms);
    return 0;
}
