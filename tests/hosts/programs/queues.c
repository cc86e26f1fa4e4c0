/* An application with Python inside and bounded queues of its own.
 * WHERE (heap, static, stack, page) KIND (of mutex: 0, 1, 2) HEAD (byte; "gil": a GIL's values)
 * NUMBER (of queues) CODE (here, library) */
#include <Python.h>
#include <stdio.h>

#include "bounded_queue.h"

void make_queue_elsewhere(struct queue *its, int kind, unsigned char head);
void *consume_elsewhere(void *queue);
void *produce_elsewhere(void *queue);

enum { MOST = 4 };
static struct queue in_bss[MOST];

/* Behind a page that nobody may touch: `not_empty` opens the page. */
static struct queue *in_page(void) {
    char *pages = mmap(NULL, 3 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED || mprotect(pages + PAGE, PAGE, PROT_READ | PROT_WRITE) != 0)
        exit(3);
    return (struct queue *)(pages + PAGE - offsetof(struct queue, not_empty));
}

int main(int count, char **words) {
    if (count != 6)
        return 2;
    const char *where = words[1];
    int number = atoi(words[4]), elsewhere = strcmp(words[5], "library") == 0;
    int like_gil = strcmp(words[3], "gil") == 0, paged = strcmp(where, "page") == 0;
    unsigned char head = paged ? 0xff : (unsigned char)strtoul(words[3], NULL, 0);
    struct queue on_stack[MOST], *queues[MOST];
    pthread_t threads[MOST][2];
    Py_Initialize();
    PyRun_SimpleString("import threading, time\n"
                       "t = threading.Thread(target=time.sleep, args=(0.01,))\n"
                       "t.start(); t.join()");
    for (int i = 0; i < number; i++) {
        queues[i] = paged                          ? in_page()
                    : strcmp(where, "static") == 0 ? &in_bss[i]
                    : strcmp(where, "stack") == 0  ? &on_stack[i]
                                                   : calloc(1, sizeof(struct queue));
        (elsewhere ? make_queue_elsewhere : make_queue)(queues[i], atoi(words[2]), head);
        if (like_gil && !paged) {
            queues[i]->interval = 5000;
            queues[i]->holder = queues;
            queues[i]->locked = 1;
            queues[i]->switches = 1;
        }
    }
    PyThreadState *state = PyEval_SaveThread();
    for (int i = 0; i < number; i++) {
        pthread_create(&threads[i][0], NULL, elsewhere ? consume_elsewhere : consume, queues[i]);
        pthread_create(&threads[i][1], NULL, elsewhere ? produce_elsewhere : produce, queues[i]);
    }
    for (int i = 0; i < number; i++)
        for (int k = 0; k < 2; k++)
            pthread_join(threads[i][k], NULL);
    PyEval_RestoreThread(state);
    for (int i = 0; i < number; i++)
        printf("consumed %d, too early %d\n", queues[i]->got, queues[i]->early);
    return Py_FinalizeEx() != 0;
}
