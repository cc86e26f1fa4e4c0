/* Opens a library whose constructor waits for a thread that makes a condition variable; or, with
 * `linked`, is linked with it. Starts Python then, so that there is something to record. */
#include <Python.h>
#include <dlfcn.h>
#include <stdio.h>

int main(int count, char **words) {
    void *library = count > 1 ? dlopen(words[1], RTLD_NOW) : NULL;
    printf("loaded %d\n", library != NULL);
    Py_Initialize();
    PyRun_SimpleString("print('python')");
    if (count > 1)
        printf("again %d\n", dlopen(words[2], RTLD_NOW) != NULL);
    return Py_FinalizeEx() != 0;
}
