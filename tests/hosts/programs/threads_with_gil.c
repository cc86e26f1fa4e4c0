/* An application with Python inside that starts threads of its own while it holds the GIL, with
 * arguments that are no addresses, lead nowhere, or look like CPython's. */
#include <Python.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/mman.h>

enum { PAGE = 4096 };

static void *work(void *argument) {
    return argument;
}
static void function(void *argument) {
    (void)argument;
}

int main(void) {
    char *pages = mmap(NULL, 2 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED || mprotect(pages, PAGE, PROT_READ | PROT_WRITE) != 0)
        return 3;
    Py_Initialize();
    void *to_nowhere[] = {(void *)function, (void *)0x10};
    void *boot[] = {NULL, (void *)0x18};
    void *boot_of_no_object[] = {NULL, boot};
    void *half[] = {(void *)function, boot}, *whole[] = {(void *)function, boot_of_no_object};
    void *last_word = pages + PAGE - sizeof(void *);
    *(void **)last_word = (void *)function;
    void *arguments[] = {NULL,      (void *)7,  (void *)8, (void *)-8, pages + PAGE,
                         last_word, to_nowhere, half,      whole,      Py_None};
    for (int round = 0; round < 2; round++) {
        for (unsigned i = 0; i < sizeof arguments / sizeof *arguments; i++) {
            pthread_t thread;
            void *back;
            if (pthread_create(&thread, NULL, work, arguments[i]) != 0)
                return 4;
            pthread_join(thread, &back);
            printf("%d ", back == arguments[i]);
        }
        puts("");
        PyRun_SimpleString("import threading\n" /* from now on CPython's start function is known */
                           "t = threading.Thread(target=int, name='known'); t.start(); t.join()");
    }
    return Py_FinalizeEx() != 0;
}
