/* The queue's code in a library of its own. */
#include <stddef.h>

#include "bounded_queue.h"

void make_queue_elsewhere(struct queue *its, int kind, unsigned char head) {
    make_queue(its, kind, head);
}
void *consume_elsewhere(void *queue) {
    return consume(queue);
}
void *produce_elsewhere(void *queue) {
    return produce(queue);
}
