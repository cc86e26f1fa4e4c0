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

static int compare_units(const void *left, const void *right) {
    const struct stack_page *a = left, *b = right;
    return a->unit < b->unit ? -1 : a->unit > b->unit;
}

/* A process's pages in the order in which it took them. */
static int compare_ordinals(const void *left, const void *right) {
    const struct stack_page *a = left, *b = right;
    if (a->process != b->process)
        return a->process < b->process ? -1 : 1;
    if (a->ordinal != b->ordinal)
        return a->ordinal < b->ordinal ? -1 : 1;
    return compare_units(left, right);
}

/* Index of the node of this reference, or -1: those of a page stand together, in order. */
static int64_t find_node(const struct gs_order *order, uint32_t reference) {
    const struct stack_page key = {.unit = reference >> GS_STACK_OFFSET_BITS}, *page = NULL;
    if (order->n_stack_pages)
        page = bsearch(&key, order->stack_pages, order->n_stack_pages, sizeof key, compare_units);
    if (!page)
        return -1;
    uint64_t low = page->first_row, end = low + page->n_rows, high = end;
    while (low < high) {
        uint64_t middle = (low + high) / 2;
        if (order->stacks[middle].reference < reference)
            low = middle + 1;
        else
            high = middle;
    }
    return low < end && order->stacks[low].reference == reference ? (int64_t)low : -1;
}

static bool read_node(const struct gs_order *order, const struct gs_stack_node *node,
                      struct gs_stack_row *row) {
    if (node->parent) {
        int64_t parent = find_node(order, node->parent);
        if (parent < 0 || parent >= (int64_t)order->n_stacks ||
            order->stacks[parent].process != row->process)
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

static int read_page(struct gs_order *order, struct stack_page *its) {
    const struct gs_stack_page *page =
        (const void *)(order->map + (uint64_t)its->unit * GS_UNIT_BYTES);
    uint32_t at = sizeof *page;
    its->first_row = (uint32_t)order->n_stacks;
    while (at < GS_UNIT_BYTES) {
        const struct gs_stack_entry *entry = (const void *)((const char *)page + at);
        uint32_t bytes = entry->sixteens * 16u;
        if (entry->kind == 0)
            break;
        uint64_t offset = gs_offset_of(order, entry);
        if (entry->kind > GS_STACK_TEXT || bytes == 0 || bytes > GS_UNIT_BYTES - at)
            return gs_order_fail(order, "offset 0x%" PRIx64 ": not an entry of a page of stacks",
                                 offset);
        if (entry->kind == GS_STACK_NODE) {
            if (gs_reserve((void **)&order->stacks, order->n_stacks, &order->stack_capacity,
                           sizeof *order->stacks))
                return gs_order_fail(order, "out of memory");
            struct gs_stack_row row = {
                .process = its->process,
                .reference = its->unit << GS_STACK_OFFSET_BITS | at / 16,
            };
            if (bytes == sizeof(struct gs_stack_node) &&
                read_node(order, (const void *)entry, &row)) {
                order->stacks[order->n_stacks++] = row;
                its->n_rows++;
            } else if (!page->retired) { /* what it refers to may have been taken back already */
                return gs_order_fail(order, "offset 0x%" PRIx64 ": a broken node of a stack",
                                     offset);
            }
        }
        at += bytes;
    }
    return 0;
}

/* A node's parent is in its own page or in one that its process took before. */
int gs_index_stacks(struct gs_order *order) {
    uint64_t n = order->n_stack_pages;
    uint32_t *turn = malloc((n + 1) * sizeof *turn);
    if (!turn)
        return gs_order_fail(order, "out of memory");
    if (n)
        qsort(order->stack_pages, n, sizeof *order->stack_pages, compare_ordinals);
    for (uint64_t i = 0; i < n; i++) {
        turn[i] = order->stack_pages[i].unit;
        order->stack_pages[i].first_row = order->stack_pages[i].n_rows = 0;
    }
    if (n)
        qsort(order->stack_pages, n, sizeof *order->stack_pages, compare_units);
    int failed = 0;
    for (uint64_t i = 0; !failed && i < n; i++) {
        const struct stack_page key = {.unit = turn[i]};
        failed = read_page(order, bsearch(&key, order->stack_pages, n, sizeof key, compare_units));
    }
    free(turn);
    return failed;
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
