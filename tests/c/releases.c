/* Who lets the GIL go by itself, told from the stack: functions that call each other as CPython's
 * do in a build, and probe/release.c beside them. Prints a line for each kind of release that was
 * asked for: how many of ROUNDS were told as forced.
 *
 *     releases BUILD
 *
 * Builds: `called` has one function that releases, which all call; `copied` has a copy of it in
 * PyEval_SaveThread and in another function, as Debian's 3.14. */
#include <stdio.h>
#include <string.h>

#include "../../gilscope/probe/python.h"
#include "../../gilscope/probe/release.h"

#define CODE         __attribute__((noinline, noclone))
#define IN(section_) __attribute__((section(section_)))
enum { ROUNDS = 20 };

struct gs_python gs_python;

static bool copied, asked;
static unsigned forced;

/* As the probe's pthread_cond_signal. */
CODE static void released(void) {
    const void *code = __builtin_return_address(0);
    const uintptr_t *stack = (const uintptr_t *)__builtin_frame_address(0) + 1;
    if (asked)
        forced += gs_release_can_tell() && gs_release_was_forced(stack);
    else if (gs_release_teaches(code))
        gs_release_learn(stack);
    __asm__ volatile("");
}

CODE static void drop(void) {
    released();
    __asm__ volatile("");
}

CODE IN("saves_code") static void save_thread(void) {
    if (copied)
        released();
    else
        drop();
    __asm__ volatile("");
}

CODE static void reads(void) { /* it has its own copy, or calls save_thread */
    if (copied)
        released();
    else
        save_thread();
    __asm__ volatile("");
}

CODE IN("loops_code") static void loop(void) {
    drop();
    __asm__ volatile("");
}

#define CALLER(name)                                                                               \
    CODE static void name(void) {                                                                  \
        drop();                                                                                    \
        __asm__ volatile("" ::"i"(__LINE__));                                                      \
    }
CALLER(waits_for_lock)
CALLER(ends)
CALLER(never_without)

CALLER(came_too_late)

#define FIVE(call) call, call, call, call, call
CODE static void calls_more_often_than_there_is_room(void) {
    FIVE(FIVE(FIVE(drop())));
    __asm__ volatile("");
}

static void times(void (*release)(void), bool is_asked) {
    asked = is_asked;
    for (unsigned i = 0; i < ROUNDS; i++)
        release();
}

static void told(const char *name, void (*release)(void)) {
    forced = 0;
    times(release, true);
    printf("%s %u\n", name, forced);
}

int main(int argc, char **argv) {
    extern char __start_saves_code, __stop_saves_code, __executable_start, etext;
    extern char __start_loops_code, __stop_loops_code;
    if (argc != 2)
        return 2;
    copied = strcmp(argv[1], "copied") == 0;
    gs_python.code = (uintptr_t)&__executable_start;
    gs_python.code_end = (uintptr_t)&etext;
    gs_python.save_thread = (uintptr_t)&__start_saves_code;
    gs_python.save_thread_end = (uintptr_t)&__stop_saves_code;
    if (!copied) { /* there its own code does not stand in its name's */
        gs_python.handle_pending = (uintptr_t)&__start_loops_code;
        gs_python.handle_pending_end = (uintptr_t)&__stop_loops_code;
    }
    times(ends, false);
    told("nothing-learned", loop);
    times(save_thread, false);
    times(ends, false);
    times(waits_for_lock, false);
    times(reads, false);
    told("reads-before-the-loop-was-seen", reads);
    told("loop", loop);
    told("saves", save_thread);
    told("waits", waits_for_lock);
    told("ends", ends);
    told("reads", reads);
    told("never-without", never_without);
    times(calls_more_often_than_there_is_room, false);
    times(came_too_late, false);
    told("came-too-late", came_too_late);
    told("loop-again", loop);
    told("waits-again", waits_for_lock);
    return 0;
}
