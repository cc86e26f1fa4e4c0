#define _GNU_SOURCE
#include <dlfcn.h>

#include "feed.h"

struct gs_feed gs_feed;

void gs_feed_find(void) {
    *(void **)&gs_feed.emit = dlsym(RTLD_DEFAULT, "gilscope_emit");
    *(void **)&gs_feed.atomic_exit = dlsym(RTLD_DEFAULT, "gilscope_atomic_exit");
    *(void **)&gs_feed.atomic_depth = dlsym(RTLD_DEFAULT, "gilscope_atomic_depth");
    *(void **)&gs_feed.atomic_gil = dlsym(RTLD_DEFAULT, "gilscope_atomic_gil");
    *(void **)&gs_feed.atomic_hand_over = dlsym(RTLD_DEFAULT, "gilscope_atomic_hand_over");
    *(void **)&gs_feed.atomic_enter = dlsym(RTLD_DEFAULT, "gilscope_atomic_enter");
    /* An interpreter that was built from an older version may lack one, and each counts on all. */
    if (!gs_feed.atomic_enter || !gs_feed.atomic_exit || !gs_feed.atomic_depth ||
        !gs_feed.atomic_gil || !gs_feed.atomic_hand_over)
        gs_feed = (struct gs_feed){.emit = gs_feed.emit};
}

void gs_feed_note(enum gs_event_kind event, enum gs_sync_kind kind, const void *object,
                  uint64_t detail) {
    if (detail > GS_SYNC_DETAIL_MAX)
        detail = GS_SYNC_DETAIL_MAX;
    gs_feed.emit(event, detail << GS_SYNC_DETAIL_SHIFT |
                            ((uint64_t)(uintptr_t)object & GS_SYNC_OBJECT_MASK) | (uint64_t)kind);
}
