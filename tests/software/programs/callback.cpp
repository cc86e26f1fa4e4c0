/* An extension module whose own threads call back into Python. Each names itself by the kernel's
 * means, as C and C++ programs do. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <pthread.h>

#include <cstdio>
#include <thread>
#include <vector>

static void call_back(PyObject *function, int number, long turns) {
    char name[16];
    std::snprintf(name, sizeof name, "cpp-%d", number);
    pthread_setname_np(pthread_self(), name);
    for (long turn = 0; turn < turns; turn++) {
        PyGILState_STATE state = PyGILState_Ensure();
        PyObject *result = PyObject_CallFunction(function, "il", number, turn);
        if (!result)
            PyErr_Print();
        Py_XDECREF(result);
        PyGILState_Release(state);
    }
}

static PyObject *run(PyObject *, PyObject *arguments) {
    PyObject *function;
    int threads;
    long turns;
    if (!PyArg_ParseTuple(arguments, "Oil", &function, &threads, &turns))
        return nullptr;
    Py_BEGIN_ALLOW_THREADS
    std::vector<std::thread> all;
    for (int number = 0; number < threads; number++)
        all.emplace_back(call_back, function, number, turns);
    for (auto &thread : all)
        thread.join();
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"run", run, METH_VARARGS, "run(function, threads, turns): call it from threads of C++"},
    {nullptr, nullptr, 0, nullptr},
};

static PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "callback", nullptr, -1, methods, nullptr, nullptr, nullptr, nullptr,
};

PyMODINIT_FUNC PyInit_callback(void) {
    return PyModule_Create(&module);
}
