/* An application whose threads have stacks that it made itself, with nothing behind them: it lets
 * the GIL go from the first frame of one, while another thread asks for it. */
#define _GNU_SOURCE
#include <Python.h>
#include <stdio.h>
#include <sys/mman.h>
#include <ucontext.h>

enum { PAGE = 4096, STACK = 256 * 1024, TIMES = 60 };
static ucontext_t outside, inside;

static void let_go_and_come_back(void) {
    for (int i = 0; i < TIMES; i++)
        PyEval_RestoreThread(PyEval_SaveThread());
    PyRun_SimpleString("import time\n"
                       "for i in range(20): time.sleep(0.0001)\n"
                       "end = time.monotonic() + 0.05\n"
                       "while time.monotonic() < end: pass");
}

int main(void) {
    char *stack = mmap(NULL, STACK + 2 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (stack == MAP_FAILED || mprotect(stack + PAGE, STACK, PROT_READ | PROT_WRITE) != 0)
        return 3;
    Py_Initialize();
    PyRun_SimpleString("import threading, time\n"
                       "def spin():\n"
                       "    end = time.monotonic() + 0.15\n"
                       "    while time.monotonic() < end: pass\n"
                       "other = threading.Thread(target=spin); other.start()");
    for (int i = 0; i < 3; i++) {
        getcontext(&inside);
        inside.uc_stack.ss_sp = stack + PAGE;
        inside.uc_stack.ss_size = STACK;
        inside.uc_link = &outside;
        makecontext(&inside, let_go_and_come_back, 0);
        swapcontext(&outside, &inside);
    }
    PyRun_SimpleString("other.join()");
    puts("back");
    return Py_FinalizeEx() != 0;
}
