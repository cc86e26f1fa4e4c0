/* A kill at every instruction: what would be left of a recording if its process died right there.
 *
 *     kill_steps FILE
 *
 * A process makes its page, its thread's page, fills it and takes chunks, as the first process of a
 * recording and as the child of a fork. It is single-stepped; each time that the ring file has
 * changed, the real ring reader reads it as it is, which is what SIGKILL would leave. Checked: it
 * can be read, it has all events up to the one in flight, and no other; and the recorder, which
 * sees the process dead, gets every room back, and each is zero throughout. At the end the process
 * is killed indeed.
 *
 * Then a recorder is single-stepped while it takes rooms back. Checked: what it would leave can be
 * read, and has all that is not older than the cut. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../gilscope/probe/process.h"
#include "../../gilscope/probe/threads.h"
#include "../../gilscope/recorder/rooms.h"
#include "../../gilscope/trace/event.h"

struct gs_rooms *gs_rooms_create(struct gs_file_header *, int, uint64_t, uint32_t, uint32_t);
int gs_rooms_start(struct gs_rooms *);
int gs_rooms_tick(struct gs_rooms *);
void gs_rooms_forget(struct gs_rooms *, uint64_t);
void gs_rooms_close(struct gs_rooms *);
struct gs_order *gs_order_open(const void *, uint64_t);
const char *gs_order_error(const struct gs_order *);
void gs_order_counts(const struct gs_order *, uint64_t[5]);
int gs_order_begin(struct gs_order *, const int64_t *, const uint8_t *);
int64_t gs_order_next(struct gs_order *, struct gs_event *, int64_t, uint64_t *);
void gs_order_close(struct gs_order *);

/* A thread's page holds 234 records and a small chunk 255: the fourth chunk is a large one. */
enum { UNITS = 96, EVENTS = 1020 };

#define CHECK(condition, ...)                                                                      \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: %s: ", __FILE__, __LINE__, #condition);                        \
            fprintf(stderr, __VA_ARGS__);                                                          \
            fputc('\n', stderr);                                                                   \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

/* `begun` is counted before an event is emitted, `done` behind it; `stamps` are the events'. */
static struct {
    volatile uint64_t begun, done;
    uint64_t stamps[EVENTS];
} *shared;

static struct gs_gil gil;

static void use_gil(void) {
    gil = (struct gs_gil){.index = gs_next_gil_index(GS_NO_INDEX)};
    while (shared->done < EVENTS) {
        shared->begun++;
        if (shared->done % 2 == 0)
            gs_on_acquire(&gil);
        else
            gs_on_release(&gil);
        shared->stamps[shared->done] = gs_writer.cursor[-1].stamp_kind >> GS_KIND_BITS;
        shared->done++;
    }
}

/* The recorder's view, in place of takers.c. */
static bool everybody_is_dead;

uint64_t gs_taker_born(uint32_t taker) {
    return taker;
}

bool gs_taker_maps(uint32_t pid, int fd) {
    (void)pid, (void)fd;
    return false;
}

bool gs_taker_is_dead(uint32_t taker, uint64_t born) {
    (void)taker, (void)born;
    return everybody_is_dead;
}

/* Reads the ring file as it is now; returns how many events of a GIL it has. Where it is cut they
 * may begin anywhere. */
static uint64_t read_now(const void *map) {
    bool cut = ((const struct gs_file_header *)map)->kept_from;
    struct gs_order *order = gs_order_open(map, (uint64_t)UNITS * GS_UNIT_BYTES);
    CHECK(order, "out of memory");
    CHECK(!*gs_order_error(order), "%s", gs_order_error(order));
    uint64_t counts[5], read = 0, threads = 0, skipped = 0;
    gs_order_counts(order, counts);
    CHECK(counts[0] <= 2 && counts[1] <= 1, "%lu processes", (unsigned long)counts[0]);
    int64_t ends[2] = {0};
    uint8_t unclean[2] = {1, 1};
    CHECK(gs_order_begin(order, ends, unclean) == 0, "%s", gs_order_error(order));
    static struct gs_event events[EVENTS + 10];
    int64_t n = gs_order_next(order, events, EVENTS + 10, NULL);
    CHECK(n >= 0, "%s", gs_order_error(order));
    for (int64_t i = 0; i < n; i++) {
        threads += events[i].kind == GS_THREAD_START;
        CHECK(events[i].kind != GS_GIL_LOST || (cut && events[i].arg == 0), "a gap");
        if (events[i].gil == GS_NO_GIL || events[i].kind == GS_GIL_LOST)
            continue;
        if (cut && read == 0 && events[i].kind == GS_GIL_RELEASE)
            skipped = 1;
        CHECK(events[i].kind == ((read + skipped) % 2 ? GS_GIL_RELEASE : GS_GIL_ACQUIRE),
              "out of order");
        read++;
    }
    CHECK(threads <= counts[1] && (threads || read == 0), "an event before its thread");
    gs_order_close(order);
    return read;
}

/* In a process of its own, with a file of its own: all that ever wrote here is dead, and all that
 * it wrote is old. */
static void take_all_back(struct gs_rooms *rooms) {
    static unsigned char copy[UNITS * GS_UNIT_BYTES];
    pid_t pid = fork();
    CHECK(pid >= 0, "no child");
    if (pid == 0) {
        void *at = rooms->header;
        memcpy(copy, at, sizeof copy);
        CHECK(mmap(at, sizeof copy, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
                   -1, 0) == at,
              "cannot map");
        memcpy(at, copy, sizeof copy);
        everybody_is_dead = true;
        gs_rooms_forget(rooms, UINT64_MAX);
        for (unsigned i = 0; i < 40; i++)
            CHECK(gs_rooms_tick(rooms) == 0, "no room");
        for (uint64_t unit = GS_FIRST_UNIT; unit < UNITS; unit++)
            CHECK(rooms->rooms[unit].state <= GS_ROOM_OFFERED, "unit %lu is not free",
                  (unsigned long)unit);
        const unsigned char *byte = (const unsigned char *)at + GS_FIRST_UNIT * GS_UNIT_BYTES;
        for (; byte < (const unsigned char *)at + sizeof copy; byte++)
            CHECK(*byte == 0, "not zero: offset %ld", (long)(byte - (const unsigned char *)at));
        _exit(0);
    }
    int status;
    CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0,
          "not taken back: 0x%x", status);
}

static struct steps {
    uint64_t steps, states;
} run_steps(pid_t pid, const void *map, void (*look)(uint64_t step, void *), void *argument) {
    static unsigned char before[UNITS * GS_UNIT_BYTES];
    struct steps its = {0};
    int status;
    CHECK(waitpid(pid, &status, 0) == pid && WIFSTOPPED(status), "it did not begin: 0x%x", status);
    memset(before, 0, sizeof before);
    for (;;) {
        CHECK(ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL) == 0, "no step");
        CHECK(waitpid(pid, &status, 0) == pid && WIFSTOPPED(status), "it ended: 0x%x", status);
        if (WSTOPSIG(status) == SIGSTOP)
            break;
        CHECK(WSTOPSIG(status) == SIGTRAP, "signal %d", WSTOPSIG(status));
        its.steps++;
        if (memcmp(before, map, sizeof before) == 0)
            continue;
        memcpy(before, map, sizeof before);
        its.states++;
        look(its.steps, argument);
    }
    kill(pid, SIGKILL);
    CHECK(waitpid(pid, &status, 0) == pid && WIFSIGNALED(status), "it lives: 0x%x", status);
    return its;
}

static void look_at_writer(uint64_t step, void *rooms) {
    uint64_t read = read_now(((struct gs_rooms *)rooms)->header);
    CHECK(shared->done <= read && read <= shared->begun, "%lu <= %lu <= %lu at step %lu",
          (unsigned long)shared->done, (unsigned long)read, (unsigned long)shared->begun,
          (unsigned long)step);
    /* Of two stores that make a record the recorder cannot tell. */
    if (read != shared->begun || shared->begun < 4 || read % 100 == 0)
        take_all_back(rooms);
}

static struct gs_rooms *make(const char *path, uint32_t reuse) {
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    CHECK(fd >= 0 && ftruncate(fd, UNITS * GS_UNIT_BYTES) == 0, "no ring file");
    void *map = mmap(NULL, UNITS * GS_UNIT_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    CHECK(map != MAP_FAILED, "cannot map");
    struct gs_rooms *rooms = gs_rooms_create(map, fd, UNITS, 1, reuse);
    CHECK(rooms && gs_rooms_start(rooms) == 0, "cannot extend");
    shared->begun = shared->done = 0;
    return rooms;
}

static void step_writer(const char *path, bool forked) {
    struct gs_rooms *rooms = make(path, 0);
    if (forked)
        gs_process_start();
    pid_t pid = fork();
    CHECK(pid >= 0, "no child");
    if (pid == 0) {
        ptrace(PTRACE_TRACEME, 0, NULL, NULL);
        raise(SIGSTOP);
        if (forked)
            gs_process_revive(); /* as when CPython makes its GIL anew */
        else
            gs_process_start();
        use_gil();
        raise(SIGSTOP);
        _exit(1);
    }
    struct steps its = run_steps(pid, rooms->header, look_at_writer, rooms);
    uint64_t read = read_now(rooms->header);
    CHECK(read == EVENTS, "%lu events", (unsigned long)read);
    printf("%s: %lu steps, %lu states, %lu events\n", forked ? "forked" : "first",
           (unsigned long)its.steps, (unsigned long)its.states, (unsigned long)read);
    gs_rooms_close(rooms);
}

/* The events that a recorder must have left: those that are not older than its cut. */
static void look_at_recorder(uint64_t step, void *map) {
    const struct gs_file_header *header = map;
    uint64_t kept = 0, read = read_now(map);
    for (unsigned i = 0; i < EVENTS; i++)
        kept += !header->kept_from || shared->stamps[i] >= header->kept_from + (1 << 16);
    CHECK(read == kept, "%lu of %lu events at step %lu", (unsigned long)read, (unsigned long)kept,
          (unsigned long)step);
}

static void step_recorder(const char *path) {
    struct gs_rooms *rooms = make(path, 1);
    pid_t pid = fork();
    CHECK(pid >= 0, "no child");
    if (pid == 0) {
        gs_process_start();
        use_gil();
        everybody_is_dead = true;
        ptrace(PTRACE_TRACEME, 0, NULL, NULL);
        raise(SIGSTOP);
        for (unsigned part = 1; part <= 3; part++) { /* the page, small chunks, all */
            gs_rooms_forget(rooms, shared->stamps[EVENTS * part / 3 - 1] + 1);
            gs_rooms_tick(rooms);
        }
        raise(SIGSTOP);
        _exit(1);
    }
    struct steps its = run_steps(pid, rooms->header, look_at_recorder, rooms->header);
    CHECK(read_now(rooms->header) == 0, "something is left");
    printf("recorder: %lu steps, %lu states\n", (unsigned long)its.steps,
           (unsigned long)its.states);
    gs_rooms_close(rooms);
}

int main(int argc, char **argv) {
    CHECK(argc == 2, "kill_steps FILE");
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(shared != MAP_FAILED, "cannot map");
    setenv(GS_RINGS_VARIABLE, argv[1], 1);
    step_writer(argv[1], false);
    step_recorder(argv[1]);
    step_writer(argv[1], true);
    return 0;
}
