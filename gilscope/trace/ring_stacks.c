/* The stacks of a ring file: the nodes of its pages, and which node a stack event means. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "order.h"

static const struct gs_chunk_header *stack_page(const struct gs_order *order, uint64_t unit,
                                                uint32_t process) {
    const struct gs_chunk_header *header = (const void *)(order->map + unit * GS_UNIT_BYTES);
    bool ours = unit < order->bytes / GS_UNIT_BYTES && header->magic == GS_STACK_PAGE &&
                header->owner == order->processes[process].unit;
    return ours ? header : NULL;
}

/* A text by its reference; false where there is none. */
static bool find_text(const struct gs_order *order, uint32_t process, uint32_t reference,
                      uint64_t *offset, uint32_t *bytes) {
    uint32_t at = (reference & ((1u << GS_STACK_OFFSET_BITS) - 1)) * 16;
    const struct gs_chunk_header *page =
        stack_page(order, reference >> GS_STACK_OFFSET_BITS, process);
    if (!page || at < sizeof *page)
        return false;
    const struct gs_stack_text *text = (const void *)((const char *)page + at);
    uint32_t room = GS_UNIT_BYTES - at - (uint32_t)sizeof *text;
    if (text->entry.kind != GS_STACK_TEXT || text->bytes > room)
        return false;
    *offset = gs_offset_of(order, text->text);
    *bytes = text->bytes;
    return true;
}

/* Index of the node of this reference, or -1: nodes are found in the order of their references. */
static int64_t find_node(const struct gs_order *order, uint32_t reference) {
    uint64_t low = 0, high = order->n_stacks;
    while (low < high) {
        uint64_t middle = (low + high) / 2;
        if (order->stacks[middle].reference < reference)
            low = middle + 1;
        else
            high = middle;
    }
    return low < order->n_stacks && order->stacks[low].reference == reference ? (int64_t)low : -1;
}

static bool read_node(const struct gs_order *order, const struct gs_stack_node *node,
                      struct gs_stack_row *row) {
    if (node->parent) {
        int64_t parent = find_node(order, node->parent);
        if (parent < 0 || order->stacks[parent].process != row->process)
            return false;
        row->parent = (uint32_t)parent + 1;
    }
    row->line = node->line;
    return node->line >= 0 &&
           (!node->file ||
            find_text(order, row->process, node->file, &row->file, &row->file_bytes)) &&
           (!node->function ||
            find_text(order, row->process, node->function, &row->function, &row->function_bytes));
}

int gs_index_stacks(struct gs_order *order, uint64_t unit, uint32_t process) {
    const char *page = (const char *)order->map + unit * GS_UNIT_BYTES;
    uint32_t at = sizeof(struct gs_chunk_header);
    while (at < GS_UNIT_BYTES) {
        const struct gs_stack_entry *entry = (const void *)(page + at);
        uint32_t bytes = entry->sixteens * 16u;
        if (entry->kind == 0)
            break;
        uint64_t offset = unit * GS_UNIT_BYTES + at;
        if (entry->kind > GS_STACK_TEXT || bytes == 0 || bytes > GS_UNIT_BYTES - at)
            return gs_order_fail(order, "offset 0x%" PRIx64 ": not an entry of a page of stacks",
                                 offset);
        if (entry->kind == GS_STACK_NODE) {
            if (gs_reserve((void **)&order->stacks, order->n_stacks, &order->stack_capacity,
                           sizeof *order->stacks))
                return gs_order_fail(order, "out of memory");
            struct gs_stack_row row = {
                .process = process,
                .reference = (uint32_t)(unit << GS_STACK_OFFSET_BITS | at / 16),
            };
            if (bytes != sizeof(struct gs_stack_node) ||
                !read_node(order, (const void *)entry, &row))
                return gs_order_fail(order, "offset 0x%" PRIx64 ": a broken node of a stack",
                                     offset);
            order->stacks[order->n_stacks++] = row;
        }
        at += bytes;
    }
    return 0;
}

bool gs_order_stack(const struct gs_order *order, uint64_t payload, uint32_t process, uint64_t *arg,
                    uint8_t *flags) {
    int64_t node = find_node(order, (uint32_t)(payload & GS_STACK_REFERENCE_MASK));
    if (node < 0 || order->stacks[node].process != process ||
        payload & ~(GS_STACK_REFERENCE_MASK | GS_STACK_OF_WAIT | GS_STACK_SEEN | GS_STACK_OF_SYNC))
        return false;
    *arg = order->stack_ids ? order->stack_ids[node] : (uint64_t)node;
    *flags = (payload & GS_STACK_OF_WAIT ? GS_FLAG_OF_WAIT : 0) |
             (payload & GS_STACK_SEEN ? GS_FLAG_SEEN : 0) |
             (payload & GS_STACK_OF_SYNC ? GS_FLAG_OF_SYNC : 0);
    return true;
}

/* The nodes; a row a node, callers before those that they call. */
GS_EXPORT uint64_t gs_order_stacks(const struct gs_order *order, const struct gs_stack_row **rows) {
    *rows = order->stacks;
    return order->n_stacks;
}

/* What stack events are to call each node: many processes have the same. 0, or -1 out of memory. */
GS_EXPORT int gs_order_name_stacks(struct gs_order *order, const uint32_t *ids) {
    uint32_t *copy = malloc((order->n_stacks + 1) * sizeof *copy);
    if (!copy)
        return -1;
    memcpy(copy, ids, order->n_stacks * sizeof *copy);
    free(order->stack_ids);
    order->stack_ids = copy;
    return 0;
}
