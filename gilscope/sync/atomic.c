/* `gilscope.atomic` and what locks in Python are built from: sections in which no other thread can
 * make this one yield the GIL, and a sleep that the trace sees. The work is done by the probe in
 * the process (probe/api.h); where there is none, a section would promise what it cannot keep, so
 * it raises. */
#include "sync.h"

#define LIKELY(x)   __builtin_expect(!!(x), 1)
#define UNLIKELY(x) __builtin_expect(!!(x), 0)

/* gilscope.errors.GilscopeError; RuntimeError in a Python Plus without the package. */
__attribute__((cold)) static PyObject *refuse(const char *why) {
    PyObject *errors = PyImport_ImportModule("gilscope.errors");
    PyObject *error = errors ? PyObject_GetAttrString(errors, "GilscopeError") : NULL;
    if (!error)
        PyErr_Clear();
    PyErr_SetString(error ? error : PyExc_RuntimeError, why);
    Py_XDECREF(error);
    Py_XDECREF(errors);
    return NULL;
}

static const char unwatched[] =
    "atomic sections need a GIL that gilscope watches: start the program with "
    "`gilscope run --policy classic` or `gilscope record`, or use Python Plus";
static const char too_deep[] = "atomic sections nest 65535 deep at most";
static const char not_inside[] =
    "this thread is in no atomic section: it began in another one, which stays in it";

/* Whoever asked for the GIL has it now. */
static void give_way(void) {
    const void *gil = gs_feed.atomic_gil();
    PyThreadState *state = PyEval_SaveThread();
    if (gil)
        gs_feed.atomic_hand_over(gil);
    PyEval_RestoreThread(state);
}

/* What asked before the section began is let through first. */
__attribute__((noinline)) static int begin_after(int asked) {
    if (asked < 0) {
        refuse(gs_feed.atomic_depth && gs_feed.atomic_depth() ? too_deep : unwatched);
        return -1;
    }
    give_way();
    return 0;
}

static inline int begin(void) {
    int asked = gs_feed.atomic_enter ? gs_feed.atomic_enter() : -1;
    return LIKELY(asked == 0) ? 0 : begin_after(asked);
}

/* A yield that was held back happens now. */
__attribute__((noinline)) static int end_with(int owed) {
    if (owed < 0) {
        refuse(not_inside);
        return -1;
    }
    give_way();
    return 0;
}

static inline int end(void) {
    int owed = gs_feed.atomic_exit();
    return LIKELY(owed == 0) ? 0 : end_with(owed);
}

static PyObject *enter(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(nothing)) {
    if (UNLIKELY(begin() < 0))
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *leave(PyObject *Py_UNUSED(self), PyObject *const *Py_UNUSED(args),
                       Py_ssize_t Py_UNUSED(count)) {
    if (UNLIKELY(gs_feed.atomic_exit == NULL))
        return refuse(not_inside);
    if (UNLIKELY(end() < 0))
        return NULL;
    Py_RETURN_NONE;
}

/* Begins or ends sections until this thread is so deep in them. */
static int go_to(unsigned long depth) {
    while (gs_feed.atomic_depth() < depth)
        if (begin() < 0)
            return -1;
    while (gs_feed.atomic_depth() > depth)
        if (end() < 0)
            return -1;
    return 0;
}

PyObject *gs_set_atomic(PyObject *Py_UNUSED(module), PyObject *value) {
    long wanted = PyLong_AsLong(value);
    if (wanted == -1 && PyErr_Occurred())
        return NULL;
    if (wanted < 0 || wanted > UINT16_MAX) {
        PyErr_SetString(PyExc_ValueError, "set_atomic() takes how deep to nest: 0, 1, …");
        return NULL;
    }
    if (!gs_feed.atomic_depth)
        return refuse(unwatched);
    unsigned long before = gs_feed.atomic_depth();
    return go_to((unsigned long)wanted) < 0 ? NULL : PyLong_FromUnsignedLong(before);
}

static void plain_dealloc(PyObject *self) {
    PyTypeObject *type = Py_TYPE(self);
    freefunc release_memory = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release_memory(self);
    Py_DECREF(type);
}

#define METHOD(function) ((PyCFunction)(void (*)(void))(function))

static PyMethodDef atomic_methods[] = {
    {"__enter__", enter, METH_NOARGS,
     "__enter__($self, /)\n--\n\nBegin a section, or one inside another."},
    {"__exit__", METHOD(leave), METH_FASTCALL,
     "__exit__($self, type, value, traceback, /)\n--\n\nEnd it."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot atomic_slots[] = {
    {Py_tp_doc,
     "Atomic()\n--\n\n"
     "No other thread makes this one yield the GIL inside `with atomic:` or `@atomic`.\n\n"
     "What blocks inside (a lock, IO, sleep) lets others run as ever. Sections nest; each thread\n"
     "has its own; a yield that was held back happens at the end of the outermost. Signal\n"
     "handlers and finalizers still run inside.\n\n"
     "Raises GilscopeError where nothing watches the GIL: it works in programs that\n"
     "`gilscope run` or `gilscope record` started, and in Python Plus."},
    {Py_tp_methods, atomic_methods},
    {Py_tp_dealloc, plain_dealloc},
    {0, NULL},
};

/* What calls and shows it is written in Python, and set on the type: sync/__init__.py, threading.
 */
PyType_Spec gs_atomic_spec = {
    .name = GS_MODULE_NAME ".Atomic",
    .basicsize = sizeof(PyObject),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = atomic_slots,
};

/* ---- a sleeper -------------------------------------------------------------------------------
 */

/* Woken once, it goes to sleep once less. That its thread is `away` is so wherever it runs Python
 * code, in which a signal's handler may come: a lock may not count on its look then. */
typedef struct {
    PyObject_HEAD uint32_t word;
    bool away; /* this and the next two: as in a gs_waiter */
    uint32_t forks;
    uintptr_t thread;
} sleeper_object;

static PyObject *sleeper_new(PyTypeObject *type, PyObject *Py_UNUSED(args),
                             PyObject *Py_UNUSED(names)) {
    allocfunc allocate = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    sleeper_object *self = (sleeper_object *)allocate(type, 0);
    if (self) {
        self->away = true;
        self->forks = gs_forks.count;
        self->thread = gs_this_thread();
    }
    return (PyObject *)self;
}

static PyObject *was_woken(sleeper_object *self) {
    bool woken = self->word != 0;
    self->word = 0;
    return PyBool_FromLong(woken);
}

/* A sleep that is over at once: a yield that was held back happens. In C, so that no signal's
 * exception finds the thread outside the section that it is in. */
static PyObject *poll(sleeper_object *self) {
    unsigned long depth = gs_feed.atomic_depth ? gs_feed.atomic_depth() : 0;
    if (depth && (go_to(0) < 0 || go_to(depth) < 0))
        return NULL;
    return was_woken(self);
}

static PyObject *sleeper_sleep(sleeper_object *self, PyObject *args) {
    PyObject *owner, *timeout;
    int for_lock;
    int64_t deadline;
    if (!PyArg_ParseTuple(args, "OOp:sleep", &owner, &timeout, &for_lock) ||
        gs_deadline(timeout, &deadline) < 0)
        return NULL;
    if (!deadline)
        return poll(self);
    for (;;) {
        struct gs_outer outer;
        self->away = false;
        gs_outer_release(&outer);
        if (gs_feed.emit)
            gs_feed_note(for_lock ? GS_LOCK_WAIT : GS_COND_WAIT, GS_SYNC_ATOMIC, owner, 0);
        int result = gs_word_sleep(&self->word, deadline);
        if (gs_feed.emit)
            gs_feed_note(for_lock ? GS_LOCK_ACQUIRE : GS_COND_WAKE, GS_SYNC_ATOMIC, owner,
                         result != 0);
        gs_outer_acquire(&outer);
        self->away = true;
        if (self->word || result == ETIMEDOUT)
            return was_woken(self);
        if (gs_outer_interrupted())
            return NULL;
    }
}

static bool lives(sleeper_object *self) {
    return gs_forks_survived(self->thread, self->forks) &&
           (self->thread == gs_this_thread() || !gs_python_ends());
}

static PyObject *sleeper_lives(sleeper_object *self, PyObject *Py_UNUSED(nothing)) {
    return PyBool_FromLong(lives(self));
}

static bool sleeps(sleeper_object *self) {
    return !self->away && gs_forks_survived(self->thread, self->forks);
}

static PyObject *sleeper_wake(sleeper_object *self, PyObject *Py_UNUSED(nothing)) {
    if (!self->word) {
        gs_word_set(&self->word);
        gs_outer_wake(&self->word);
    }
    return PyBool_FromLong(sleeps(self));
}

static PyObject *sleeper_sleeps(sleeper_object *self, void *Py_UNUSED(nothing)) {
    return PyBool_FromLong(sleeps(self));
}

static PyObject *sleeper_woken(sleeper_object *self, void *Py_UNUSED(nothing)) {
    return PyBool_FromLong(sleeps(self) && self->word);
}

static PyObject *sleeper_thread(sleeper_object *self, void *Py_UNUSED(nothing)) {
    return PyLong_FromSize_t(self->thread);
}

static PyMethodDef sleeper_methods[] = {
    {"sleep", METHOD(sleeper_sleep), METH_VARARGS,
     "sleep($self, owner, timeout, for_lock, /)\n--\n\n"
     "Sleep until woken; not at all if it was since the last sleep. Returns whether it was woken.\n"
     "`owner` is named in the trace."},
    {"wake", METHOD(sleeper_wake), METH_NOARGS,
     "wake($self, /)\n--\n\n"
     "End the sleep, this one or the next. Returns whether it sleeps: see `sleeps`."},
    {"lives", METHOD(sleeper_lives), METH_NOARGS,
     "lives($self, /)\n--\n\n"
     "Whether its thread was not left behind by a fork, and does not end with Python."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef sleeper_attributes[] = {
    {"sleeps", (getter)sleeper_sleeps, NULL,
     "Whether the next that its thread does is to come back from sleep.", NULL},
    {"woken", (getter)sleeper_woken, NULL, "Whether it is on its way back.", NULL},
    {"thread", (getter)sleeper_thread, NULL, "Its thread's identity.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot sleeper_slots[] = {
    {Py_tp_doc, "Sleeper()\n--\n\nWhere the thread that makes it sleeps without the GIL."},
    {Py_tp_new, sleeper_new},
    {Py_tp_methods, sleeper_methods},
    {Py_tp_getset, sleeper_attributes},
    {Py_tp_dealloc, plain_dealloc},
    {0, NULL},
};

PyType_Spec gs_sleeper_spec = {
    .name = GS_MODULE_NAME ".Sleeper",
    .basicsize = sizeof(sleeper_object),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = sleeper_slots,
};

PyObject *gs_tell(PyObject *Py_UNUSED(module), PyObject *args) {
    PyObject *owner;
    int notified;
    if (!PyArg_ParseTuple(args, "Oi:tell", &owner, &notified))
        return NULL;
    if (gs_feed.emit)
        gs_feed_note(notified < 0 ? GS_LOCK_RELEASE : GS_COND_NOTIFY, GS_SYNC_ATOMIC, owner,
                     notified < 0 ? 0 : (uint64_t)notified);
    Py_RETURN_NONE;
}
