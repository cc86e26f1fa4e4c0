/* What the patched interpreter needs of gilscope beside the hooks of its hot paths. */
#ifndef GILSCOPE_RUNTIME_H
#define GILSCOPE_RUNTIME_H

#include "Python.h"

/* Takes in the options -X gilscope.NAME=VALUE; an error where one, or what the environment says in
 * its place, is none. Before the first GIL is made. */
PyStatus _PyGilscope_Configure(const PyConfig *config);

/* A new reference to what sys._gilscope is, or NULL with an exception:
 *   version              int, the event ABI that the probe writes
 *   performance_testing  int, GILSCOPE_PERFORMANCE_TESTING of the build
 *   probe, locks, condition, atomic, policies
 *                        bool, whether the build has the feed, the events of locks, the native
 *                        Condition, atomic sections, the policies and condition variables
 *   policy, gil_condvar  str, what the GIL is scheduled by, and what its waiters sleep on
 *   recording            bool, whether events were wanted when the interpreter started
 *   rename               function (native_id, name): the thread has a new name; threading calls it
 */
PyObject *_PyGilscope_Namespace(void);

#endif
