/* A class with the methods of a Condition, of which none does anything: what calls alone cost. The
 * floor that `gilscope bench condition` measures against. */
#include "sync.h"

typedef struct {
    PyObject_HEAD
} empty_object;

static PyObject *nothing(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(none)) {
    Py_RETURN_NONE;
}

static PyObject *nothing_of(PyObject *Py_UNUSED(self), PyObject *const *Py_UNUSED(args),
                            Py_ssize_t Py_UNUSED(count), PyObject *Py_UNUSED(names)) {
    Py_RETURN_NONE;
}

static PyObject *leave(PyObject *Py_UNUSED(self), PyObject *const *Py_UNUSED(args),
                       Py_ssize_t Py_UNUSED(count)) {
    Py_RETURN_NONE;
}

static void dealloc(PyObject *self) {
    PyTypeObject *type = Py_TYPE(self);
    freefunc release_memory = (freefunc)PyType_GetSlot(type, Py_tp_free);
    release_memory(self);
    Py_DECREF(type);
}

#define METHOD(function) ((PyCFunction)(void (*)(void))(function))

static PyMethodDef methods[] = {
    {"__enter__", nothing, METH_NOARGS, NULL},
    {"__exit__", METHOD(leave), METH_FASTCALL, NULL},
    {"wait", METHOD(nothing_of), METH_FASTCALL | METH_KEYWORDS, NULL},
    {"notify", METHOD(nothing_of), METH_FASTCALL | METH_KEYWORDS, NULL},
    {"notify_all", nothing, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, "Empty()\n--\n\nThe methods of a Condition; none does anything."},
    {Py_tp_methods, methods},
    {Py_tp_dealloc, dealloc},
    {0, NULL},
};

PyType_Spec gs_empty_spec = {
    .name = "gilscope._sync.Empty",
    .basicsize = sizeof(empty_object),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = slots,
};
