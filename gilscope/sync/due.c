/* Wakeups that wait for the GIL's release: see due.h. */
#include <Python.h>
#include "pycore_ceval.h" // _Py_set_eval_breaker_bit()

#include "due.h"
#include "../probe/word.h"

__thread uint32_t *gs_due;
static __thread int64_t since;

void gs_due_set(uint32_t *word) {
    gs_due_wake();
    gs_due = word;
    since = gs_now();
    _Py_set_eval_breaker_bit(PyThreadState_Get(), _PY_WAKE_DUE_BIT);
}

void gs_due_wake(void) {
    uint32_t *word = gs_due;
    gs_due = NULL;
    if (word)
        gs_word_wake(word);
}

bool gs_due_is_late(void) {
    return !gs_due || gs_now() - since >= GS_DUE_NS;
}
