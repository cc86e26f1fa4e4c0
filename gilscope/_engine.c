/* The face of the reader's library: order.c, story.c, encode.c, decode.c and blame.c export their
 * calls themselves; this file says which events they were built for. Runs in gilscope only, never
 * in a traced program. */
#include <stddef.h>

#include "trace/event.h"

struct table_row {
    uint32_t number;
    const char *name, *scope, *argument, *when;
};

static const struct table_row table[] = {
#define GS_X(number, symbol, name, scope, argument, when) {number, name, #scope, argument, when},
    GS_EVENT_TABLE(GS_X)
#undef GS_X
};

/* Row `index` of the table of events; returns its number, or 0 past the end. */
GS_EXPORT uint32_t gs_event_table(uint32_t index, const char **name, const char **scope,
                                  const char **argument, const char **when) {
    if (index >= sizeof table / sizeof *table)
        return 0;
    *name = table[index].name;
    *scope = table[index].scope;
    *argument = table[index].argument;
    *when = table[index].when;
    return table[index].number;
}
