/* A kill at every instruction: what would be left of a recording if its process died right there.
 *
 *     kill_steps FILE
 *
 * A process makes its page, its thread's page, fills it and takes the first chunk, as the first
 * process of a recording and as the child of a fork. It is single-stepped; each time that the ring
 * file has changed, the real ring reader reads it as it is, which is what SIGKILL would leave.
 * Checked: it can be read, it has all events up to the one in flight, and no other. At the end the
 * process is killed indeed. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../gilscope/probe/process.h"
#include "../../gilscope/probe/threads.h"
#include "../../gilscope/trace/event.h"

struct gs_order *gs_order_open(const void *, uint64_t);
const char *gs_order_error(const struct gs_order *);
void gs_order_counts(const struct gs_order *, uint64_t[5]);
int gs_order_begin(struct gs_order *, const int64_t *, const uint8_t *);
int64_t gs_order_next(struct gs_order *, struct gs_event *, int64_t, uint64_t *);
void gs_order_close(struct gs_order *);

enum { UNITS = 64, EVENTS = 260 }; /* a thread's page holds 240 records, so a chunk is needed */

#define CHECK(condition, ...)                                                                      \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: %s: ", __FILE__, __LINE__, #condition);                        \
            fprintf(stderr, __VA_ARGS__);                                                          \
            fputc('\n', stderr);                                                                   \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

/* `begun` is counted before an event is emitted, `done` behind it. */
static struct {
    volatile uint64_t begun, done;
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
        shared->done++;
    }
}

/* Reads the ring file as it is now; returns how many events of a GIL it has. */
static uint64_t read_now(const void *map) {
    struct gs_order *order = gs_order_open(map, (uint64_t)UNITS * GS_UNIT_BYTES);
    CHECK(order, "out of memory");
    CHECK(!*gs_order_error(order), "%s", gs_order_error(order));
    uint64_t counts[5], read = 0, threads = 0;
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
        CHECK(events[i].kind != GS_GIL_LOST, "a gap");
        if (events[i].gil == GS_NO_GIL)
            continue;
        CHECK(events[i].kind == (read % 2 ? GS_GIL_RELEASE : GS_GIL_ACQUIRE), "out of order");
        read++;
    }
    CHECK(threads <= counts[1] && (threads || read == 0), "an event before its thread");
    gs_order_close(order);
    return read;
}

/* Steps through a process that has stopped, until it stops itself again. */
static void step_through(pid_t pid, const void *map, const char *what) {
    static unsigned char before[UNITS * GS_UNIT_BYTES];
    uint64_t steps = 0, states = 0;
    int status;
    CHECK(waitpid(pid, &status, 0) == pid && WIFSTOPPED(status), "it did not begin: 0x%x", status);
    memset(before, 0, sizeof before);
    for (;;) {
        CHECK(ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL) == 0, "no step");
        CHECK(waitpid(pid, &status, 0) == pid && WIFSTOPPED(status), "it ended: 0x%x", status);
        if (WSTOPSIG(status) == SIGSTOP)
            break;
        CHECK(WSTOPSIG(status) == SIGTRAP, "signal %d", WSTOPSIG(status));
        steps++;
        if (memcmp(before, map, sizeof before) == 0)
            continue;
        memcpy(before, map, sizeof before);
        states++;
        uint64_t read = read_now(map);
        CHECK(shared->done <= read && read <= shared->begun, "%lu <= %lu <= %lu at step %lu",
              (unsigned long)shared->done, (unsigned long)read, (unsigned long)shared->begun,
              (unsigned long)steps);
    }
    kill(pid, SIGKILL);
    CHECK(waitpid(pid, &status, 0) == pid && WIFSIGNALED(status), "it lives: 0x%x", status);
    uint64_t read = read_now(map);
    CHECK(read == EVENTS, "%lu events", (unsigned long)read);
    printf("%s: %lu steps, %lu states, %lu events\n", what, (unsigned long)steps,
           (unsigned long)states, (unsigned long)read);
}

int main(int argc, char **argv) {
    CHECK(argc == 2, "kill_steps FILE");
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    setenv(GS_RINGS_VARIABLE, argv[1], 1);
    for (int forked = 0; forked < 2; forked++) {
        int fd = open(argv[1], O_RDWR | O_CREAT | O_TRUNC, 0600);
        CHECK(fd >= 0 && ftruncate(fd, UNITS * GS_UNIT_BYTES) == 0, "no ring file");
        struct gs_file_header *header =
            mmap(NULL, UNITS * GS_UNIT_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        CHECK(header != MAP_FAILED && shared != MAP_FAILED, "cannot map");
        shared->begun = shared->done = 0;
        gs_ring_create(header, UNITS, 1);
        CHECK(gs_ring_extend(header, fd, UNITS) == 0, "cannot extend");
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
        step_through(pid, header, forked ? "forked" : "first");
        close(fd);
    }
    return 0;
}
