/* The way from here to the probe that is in this process, if one is: preloaded, or Python Plus
 * itself. It is looked up by name, because the extension is built without it. */
#ifndef GILSCOPE_FEED_H
#define GILSCOPE_FEED_H

#include <stdint.h>

#include "../probe/event_abi.h"

struct gs_feed {
    void (*emit)(uint32_t kind, uint64_t argument);
    int (*atomic_enter)(void);
    int (*atomic_exit)(void);
    unsigned (*atomic_depth)(void);
    const void *(*atomic_gil)(void);
    void (*atomic_hand_over)(const void *gil);
};

/* All NULL where there is no probe. Filled once, when the module is imported. */
extern struct gs_feed gs_feed;

void gs_feed_find(void);

/* Where gs_feed.emit is there: an event about the lock or condition at `object`. */
void gs_feed_note(enum gs_event_kind event, enum gs_sync_kind kind, const void *object,
                  uint64_t detail);

#endif
