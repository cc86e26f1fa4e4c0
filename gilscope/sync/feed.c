#define _GNU_SOURCE
#include <dlfcn.h>

#include "feed.h"

struct gs_feed gs_feed;

void gs_feed_find(void) {
    *(void **)&gs_feed.emit = dlsym(RTLD_DEFAULT, "gilscope_emit");
}

void gs_feed_note(enum gs_event_kind kind, const void *object, uint64_t detail) {
    if (detail > GS_SYNC_DETAIL_MAX)
        detail = GS_SYNC_DETAIL_MAX;
    gs_feed.emit(kind, detail << GS_SYNC_DETAIL_SHIFT |
                           ((uint64_t)(uintptr_t)object & GS_SYNC_OBJECT_MASK) | GS_SYNC_NATIVE);
}
