#include "request.h"

#include "fence.h"
#include "windows.h"

bool gs_interpreter_keeps_requests;

bool gs_request_ask(struct gs_gil *gil) {
    gs_window("before a request");
    __atomic_store_n(&gil->asked, true, __ATOMIC_RELAXED);
    gs_window("request stored");
    const struct gs_writer *holder = gil->holder;
    if (gs_interpreter_keeps_requests || !holder)
        return true;
    bool fenced = gs_fence_of_waiter();
    gs_window("request fenced");
    return fenced && !__atomic_load_n(&holder->atomic_depth, __ATOMIC_RELAXED);
}
