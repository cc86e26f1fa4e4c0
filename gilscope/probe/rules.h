/* The rules of io-priority by name, so that each can be left out: `gilscope bench echo --without
 * RULE` measures what it wins. Only a build with -DGILSCOPE_TEST_RULES looks; in any other a rule
 * is the constant true. gil_condvar.h says what the rules are. */
#ifndef GILSCOPE_RULES_H
#define GILSCOPE_RULES_H

#include <stdbool.h>

/* X(NAME, "name", its number in gil_condvar.h, what happens without it) */
#define GS_RULES(X)                                                                                \
    X(CLASSES, "classes", 1, "waiters are served in the order of arrival, whatever their class")   \
    X(EARLY, "early", 2, "an io thread asks a holder after a switch interval, as in CPython")      \
    X(GRACE, "grace", 2, "an io thread asks a cpu thread at once")                                 \
    X(POLLS, "polls", 2, "a thread that polls by short sleeps is served as one that did IO")       \
    X(DEBT, "debt", 3, "cpu threads are owed nothing")                                             \
    X(QUANTUM, "quantum", 4, "cpu threads change places every switch interval")                    \
    X(PLACE, "place", 4, "a cpu thread that yields goes to the end of its queue")                  \
    X(LAZY, "lazy", 5, "a release wakes a cpu thread though the releaser will be back at once")    \
    X(PREDICT, "predict", 5, "a release is taken to be as long as the one before")                 \
    X(SPIN, "spin", 5, "who waits sleeps at once")                                                 \
    X(ONCE, "once", 6, "a thread that yields sleeps until another has the GIL, then queues")       \
    X(TURNS, "turns", 7, "who is passed over is not counted")                                      \
    X(CALM, "calm", 8, "waiters queue here also where no thread computes")                         \
    X(KEPT, "kept", 9, "a cpu thread is kept from the GIL until it was passed over too often")     \
    X(SLICE, "slice", 9, "cpu threads have the ordinary slice of the processor")                   \
    X(SLACK, "slack", 9, "the end of a sleep is rounded up as Linux does")

enum gs_rule_name {
#define X(NAME, name, number, without) GS_RULE_##NAME,
    GS_RULES(X)
#undef X
};

#ifdef GILSCOPE_TEST_RULES

extern unsigned gs_rules_left_out; /* a bit each */

/* From GILSCOPE_WITHOUT, names with commas between; as the policy is chosen. Returns whether it is
 * understood. */
bool gs_rules_leave_out(const char *names);

static inline bool gs_rule(enum gs_rule_name rule) {
    return !(gs_rules_left_out >> rule & 1u);
}

#else

#define gs_rule(rule) true

#endif
#endif
