#define _GNU_SOURCE
#include "api.h"

#include "emit_sync.h"

static bool is_sync(uint32_t kind) {
    return kind >= GS_LOCK_WAIT && kind <= GS_COND_NOTIFY;
}

static bool is_possible(uint32_t kind, uint64_t argument) {
    uint64_t detail = argument >> GS_SYNC_DETAIL_SHIFT;
    switch (kind) {
    case GS_LOCK_WAIT:
    case GS_LOCK_RELEASE:
    case GS_COND_WAIT:
        return detail == 0;
    case GS_LOCK_ACQUIRE:
    case GS_COND_WAKE:
        return detail <= 1;
    case GS_COND_NOTIFY:
        return true;
    case GS_ATOMIC_ENTER:
    case GS_ATOMIC_EXIT:
    case GS_ATOMIC_DEFERRED:
        return argument >= 1 && argument <= GS_DEPTH_MAX;
    default:
        return false;
    }
}

const struct gs_api *gs_gave_way_to;

struct gs_process *gs_process_here(void) {
    return gs_gave_way_to ? gs_gave_way_to->process : &gs_process;
}

void gilscope_emit(uint32_t kind, uint64_t argument) {
    if (gs_gave_way_to) {
        gs_gave_way_to->emit(kind, argument);
        return;
    }
    if (!gs_recording() || !is_possible(kind, argument) ||
        (is_sync(kind) && (argument & GS_SYNC_KIND_MASK) >= GS_SYNC_KINDS))
        return;
    switch (kind) {
    case GS_LOCK_WAIT:
    case GS_COND_WAIT:
        gs_emit_sync_wait((enum gs_event_kind)kind, argument);
        break;
    case GS_LOCK_ACQUIRE:
    case GS_COND_WAKE:
        gs_emit_sync_end((enum gs_event_kind)kind, argument);
        break;
    case GS_LOCK_RELEASE:
    case GS_COND_NOTIFY:
        gs_emit_waker((enum gs_event_kind)kind, argument);
        break;
    default:
        gs_emit((enum gs_event_kind)kind, argument);
    }
}
