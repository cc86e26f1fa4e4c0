#define _GNU_SOURCE
#include "frames.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "memory.h"
#include "python.h"

/* How a code object tells lines. */
enum line_table { LNOTAB, RANGES, LOCATIONS };

/* Offsets in bytes; those that a version does not have are NONE. */
struct layout {
    uint16_t thread_id, frame;          /* of a PyThreadState; frame: the innermost one … */
    uint16_t frame_in_cframe;           /* … or, where not NONE, a pointer to what holds it here */
    uint16_t previous, code, at, owner; /* of a frame */
    uint16_t file, function, first_line, lines, instructions; /* of a code object */
    uint8_t text;        /* where the characters of a compact ASCII string begin */
    uint8_t owner_c;     /* from this owner on a frame stands for C code */
    uint8_t line_table;  /* enum line_table */
    uint8_t at_unit;     /* `at` counts so many bytes; 0: it is a pointer to the instruction */
    bool code_is_object; /* instructions: a bytes object; else they lie in the code object */
};
#define NONE UINT16_MAX

static const struct {
    int minor;
    struct layout layout;
} tables[] = {
    {9, {176, 24, NONE, 24, 32, 104, NONE, 104, 112, 40, 120, 48, 48, 0, LNOTAB, 1, true}},
    {10, {176, 24, NONE, 24, 32, 96, NONE, 104, 112, 40, 120, 48, 48, 0, RANGES, 2, true}},
    {11, {152, 56, 8, 48, 32, 56, 69, 112, 128, 72, 136, 184, 48, 3, LOCATIONS, 0, false}},
    {12, {136, 56, 0, 8, 0, 56, 70, 112, 128, 68, 136, 192, 40, 3, LOCATIONS, 0, false}},
};

/* From 3.13 on: which word of _Py_DebugOffsets has what. */
static const struct {
    int minor;
    uint8_t frame, thread_id, previous, code, at, owner;
    uint8_t file, function, lines, first_line, instructions;
} published[] = {
    {13, 23, 24, 29, 30, 31, 33, 35, 37, 38, 39, 43},
    {14, 26, 27, 32, 33, 34, 36, 40, 42, 43, 44, 48},
    {15, 26, 30, 40, 41, 42, 44, 48, 50, 51, 52, 56},
};

enum { TYPE = 8, SIZE = 16, BYTES = 32, STATE = 32, NOT_ASCII = 16 }; /* in objects of every kind */

static struct layout layout;
static size_t frame_bytes, code_bytes; /* how much of a frame and of a code object is of use */
static enum gs_frames_state state_of_check;

/* ---- reading ----------------------------------------------------------------------------------
 */

static inline __attribute__((always_inline)) bool load(bool safely, const void *at, void *out,
                                                       size_t size) {
    if (safely)
        return gs_copy_racing(at, out, size);
    memcpy(out, at, size);
    return true;
}

static const char *pointer_at(const char *object, size_t offset) {
    const char *value;
    memcpy(&value, object + offset, sizeof value);
    return value;
}

static int64_t size_of(const char *object) {
    int64_t size;
    memcpy(&size, object + SIZE, sizeof size);
    return size;
}

static const char *untagged(const char *reference) { /* 3.14: a tag in the lowest bits */
    return (const char *)((uintptr_t)reference & ~(uintptr_t)7);
}

static inline __attribute__((always_inline)) const char *innermost(bool safely, const char *state) {
    const char *frame = NULL;
    if (!load(safely, state + layout.frame, &frame, sizeof frame))
        return NULL;
    if (layout.frame_in_cframe != NONE &&
        (!frame || !load(safely, frame + layout.frame_in_cframe, &frame, sizeof frame)))
        return NULL;
    return frame;
}

enum { ROOM = 160 }; /* for either */

static inline int32_t instruction(const char *frame, const char *code) {
    int64_t at;
    if (layout.at_unit) {
        int32_t index;
        memcpy(&index, frame + layout.at, sizeof index);
        at = (int64_t)index * layout.at_unit;
    } else {
        at = pointer_at(frame, layout.at) - (code + layout.instructions);
    }
    return (int32_t)(at < 0 || at > INT32_MAX ? 0 : at);
}

static bool is_of_type(const char *object, const void *type) {
    uint32_t references; /* 0 in an object that is being freed */
    memcpy(&references, object, sizeof references);
    return references && pointer_at(object, TYPE) == type;
}

static bool belongs_to_me(const char *state) {
    unsigned long owner;
    memcpy(&owner, state + layout.thread_id, sizeof owner);
    return owner == (unsigned long)pthread_self();
}

/* Between the call of a class and its __init__ lies a frame of the interpreter's own (3.13 on). Its
 * code has no lines, and one text for file and name. */
static bool is_own(const char *code) {
    int32_t first_line;
    memcpy(&first_line, code + layout.first_line, sizeof first_line);
    return first_line == 0 && pointer_at(code, layout.file) == pointer_at(code, layout.function);
}

unsigned gs_frames_walk(const char *state, struct gs_frame *out, unsigned most) {
    if (!belongs_to_me(state))
        return 0;
    unsigned n = 0;
    for (const char *frame = innermost(false, state); frame && n < most;
         frame = pointer_at(frame, layout.previous)) {
        if (layout.owner != NONE && (uint8_t)frame[layout.owner] >= layout.owner_c)
            continue;
        const char *code = untagged(pointer_at(frame, layout.code));
        if (code && is_of_type(code, gs_python.code_type) && !is_own(code))
            out[n++] = (struct gs_frame){frame, code, instruction(frame, code)};
    }
    return n;
}

bool gs_frames_peek(const char *state, struct gs_frame *out) {
    const char *frame = innermost(true, state);
    char copy[ROOM];
    if (!frame || !gs_copy_racing(frame, copy, frame_bytes) ||
        (layout.owner != NONE && (uint8_t)copy[layout.owner] >= layout.owner_c))
        return false;
    const char *code = untagged(pointer_at(copy, layout.code));
    *out = (struct gs_frame){frame, code, instruction(copy, code)};
    return true;
}

/* ---- is the layout right? ---------------------------------------------------------------------
 */

static bool find_layout(void) {
    int minor = 0;
    const char *version = gs_python.get_version ? gs_python.get_version() : "";
    if (strncmp(version, "3.", 2) == 0)
        minor = atoi(version + 2);
    for (size_t i = 0; i < sizeof tables / sizeof *tables; i++)
        if (tables[i].minor == minor) {
            layout = tables[i].layout;
            return true;
        }
    uint64_t words[64]; /* _PyRuntime has always been larger */
    memcpy(words, (const void *)gs_python.runtime, sizeof words);
    for (size_t i = 0; i < sizeof published / sizeof *published; i++) {
        if (published[i].minor != minor || memcmp(words, "xdebugpy", 8) != 0 ||
            words[1] >> 16 != (uint64_t)(0x300 | minor))
            continue;
#define WORD(field) (uint16_t)words[published[i].field]
        layout = (struct layout){
            .thread_id = WORD(thread_id),
            .frame = WORD(frame),
            .frame_in_cframe = NONE,
            .previous = WORD(previous),
            .code = WORD(code),
            .at = WORD(at),
            .owner = WORD(owner),
            .file = WORD(file),
            .function = WORD(function),
            .first_line = WORD(first_line),
            .lines = WORD(lines),
            .instructions = WORD(instructions),
            .text = 40,
            .owner_c = 3,
            .line_table = LOCATIONS,
        };
#undef WORD
        return true;
    }
    return false;
}

static size_t last_of(const uint16_t *offsets, size_t n) {
    size_t last = 0;
    for (size_t i = 0; i < n; i++)
        if (offsets[i] != NONE && offsets[i] > last)
            last = offsets[i];
    return last + sizeof(void *);
}

static bool choose(void) {
    if (!find_layout())
        return false;
    frame_bytes = last_of((uint16_t[]){layout.previous, layout.code, layout.at, layout.owner}, 4);
    code_bytes = last_of((uint16_t[]){layout.file, layout.function, layout.first_line, layout.lines,
                                      layout.code_is_object ? layout.instructions : 0},
                         5);
    return frame_bytes <= ROOM && code_bytes <= ROOM;
}

static bool safely_of_type(const char *object, const void *type) {
    char head[TYPE + sizeof(void *)];
    return object && gs_copy_racing(object, head, sizeof head) && is_of_type(head, type);
}

static bool looks_like_code(const char *code, int32_t at) {
    char bytes[ROOM];
    if (!safely_of_type(code, gs_python.code_type) || !gs_copy_racing(code, bytes, code_bytes))
        return false;
    int32_t first_line;
    memcpy(&first_line, bytes + layout.first_line, sizeof first_line);
    const char *lines = pointer_at(bytes, layout.lines);
    char table[SIZE + 8];
    if (first_line < 0 || !safely_of_type(pointer_at(bytes, layout.file), gs_python.string_type) ||
        !safely_of_type(pointer_at(bytes, layout.function), gs_python.string_type) ||
        !safely_of_type(lines, gs_python.bytes_type) ||
        !gs_copy_racing(lines, table, sizeof table) || size_of(table) < 0)
        return false;
    if (!layout.code_is_object) /* the instructions end the object, whose size counts them by two */
        return at <= 2 * size_of(bytes);
    const char *instructions = pointer_at(bytes, layout.instructions);
    return safely_of_type(instructions, gs_python.bytes_type) &&
           gs_copy_racing(instructions, table, sizeof table) && at < size_of(table);
}

/* One stack, every read of it safe. */
static enum gs_frames_state try_layout(const char *state) {
    char owner[sizeof(unsigned long)];
    unsigned long mine = (unsigned long)pthread_self();
    if (!gs_copy_racing(state + layout.thread_id, owner, sizeof owner) ||
        memcmp(owner, &mine, sizeof owner) != 0)
        return GS_FRAMES_UNKNOWN;
    unsigned n = 0;
    char copy[ROOM];
    for (const char *frame = innermost(true, state); frame;
         frame = pointer_at(copy, layout.previous)) {
        if (!gs_copy_racing(frame, copy, frame_bytes))
            return GS_FRAMES_UNKNOWN;
        if (layout.owner != NONE && (uint8_t)copy[layout.owner] >= layout.owner_c)
            continue;
        const char *code = untagged(pointer_at(copy, layout.code));
        if (!looks_like_code(code, instruction(copy, code)) || ++n > 1000)
            return GS_FRAMES_UNKNOWN;
    }
    return n ? GS_FRAMES_GOOD : GS_FRAMES_UNTRIED;
}

enum gs_frames_state gs_frames_check(const char *state) {
    if (state_of_check != GS_FRAMES_UNTRIED || !state)
        return state_of_check;
    if (!gs_python.code_type || !gs_python.string_type || !gs_python.bytes_type ||
        gs_python.free_threaded || !choose())
        return state_of_check = GS_FRAMES_UNKNOWN;
    return state_of_check = try_layout(state);
}

/* ---- what a frame says ------------------------------------------------------------------------
 */

static inline uint64_t mix(uint64_t hash, uint64_t word) {
    hash = (hash ^ word) * UINT64_C(0x9e3779b97f4a7c15);
    return hash ^ hash >> 29;
}

uint64_t gs_frames_place(const struct gs_frame *frame) {
    const char *code = frame->code, *lines = pointer_at(code, layout.lines);
    uint32_t first_line;
    memcpy(&first_line, code + layout.first_line, sizeof first_line);
    uint64_t hash = mix((uintptr_t)code, (uint64_t)first_line << 32 | (uint32_t)frame->at);
    hash = mix(hash, (uintptr_t)pointer_at(code, layout.file));
    hash = mix(hash, (uintptr_t)pointer_at(code, layout.function));
    hash = mix(hash, (uintptr_t)lines);
    if (!is_of_type(lines, gs_python.bytes_type))
        return hash;
    /* Eight words of the line table, spread over it. */
    int64_t size = size_of(lines);
    hash = mix(hash, (uint64_t)size);
    for (int64_t i = 0, step = size / 8 > 8 ? size / 8 : 8; i + 8 <= size; i += step) {
        uint64_t word;
        memcpy(&word, lines + BYTES + i, sizeof word);
        hash = mix(hash, word);
    }
    return hash;
}

/* 3.9: pairs (bytes of code, lines, signed) of what comes behind. */
static int32_t line_by_lnotab(const uint8_t *p, int64_t n, int32_t line, int32_t at) {
    int32_t end = 0;
    for (int64_t i = 0; i + 1 < n; i += 2) {
        end += p[i];
        if (end > at)
            break;
        line += (int8_t)p[i + 1];
    }
    return line;
}

/* 3.10: pairs (bytes of code, lines, signed; -128: none) of the range itself. */
static int32_t line_by_ranges(const uint8_t *p, int64_t n, int32_t line, int32_t at) {
    int32_t end = 0;
    for (int64_t i = 0; i + 1 < n; i += 2) {
        int8_t lines = (int8_t)p[i + 1];
        line += lines == -128 ? 0 : lines;
        end += p[i];
        if (at < end)
            return line;
    }
    return line;
}

static uint32_t varint(const uint8_t *p, int64_t n, int64_t i) {
    uint32_t value = 0;
    for (unsigned shift = 0; i < n && shift < 32; i++, shift += 6) {
        value |= (uint32_t)(p[i] & 63) << shift;
        if (!(p[i] & 64))
            break;
    }
    return value;
}

/* 3.11 on: entries that begin with a byte from 128 on: its kind (4 bits) and how many code units it
 * is for; a kind of 13 or 14 is followed by the lines, a signed varint. */
static int32_t line_by_locations(const uint8_t *p, int64_t n, int32_t line, int32_t at) {
    int32_t end = 0;
    for (int64_t i = 0; i < n;) {
        unsigned kind = p[i] >> 3 & 15;
        end += ((p[i] & 7) + 1) * 2;
        i++;
        if (kind == 13 || kind == 14) {
            uint32_t lines = varint(p, n, i);
            line += (int32_t)(lines & 1 ? -(lines >> 1) : lines >> 1);
        } else if (kind >= 10 && kind <= 12) {
            line += (int32_t)kind - 10;
        }
        if (at < end)
            return line;
        while (i < n && p[i] < 128)
            i++;
    }
    return line;
}

int32_t gs_frames_line(const struct gs_frame *frame) {
    const char *lines = pointer_at(frame->code, layout.lines);
    int32_t first, line;
    memcpy(&first, frame->code + layout.first_line, sizeof first);
    if (!is_of_type(lines, gs_python.bytes_type))
        return first > 0 ? first : 0;
    const uint8_t *p = (const uint8_t *)lines + BYTES;
    int64_t n = size_of(lines);
    switch (layout.line_table) {
    case LNOTAB:
        line = line_by_lnotab(p, n, first, frame->at);
        break;
    case RANGES:
        line = line_by_ranges(p, n, first, frame->at);
        break;
    default:
        line = line_by_locations(p, n, first, frame->at);
    }
    return line > 0 ? line : 0;
}

static size_t put_utf8(char *out, size_t room, uint32_t c) {
    if (c >= 0xd800 && c < 0xe000)
        c = 0xfffd; /* a lone surrogate is no Unicode */
    size_t n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    if (n > room)
        return 0;
    static const uint8_t leads[] = {0, 0, 0xc0, 0xe0, 0xf0};
    for (size_t i = n; i-- > 1; c >>= 6)
        out[i] = (char)(0x80 | (c & 63));
    out[0] = (char)(leads[n] | c);
    return n;
}

static size_t text_of(const char *string, char *out, size_t size) {
    if (!string || !is_of_type(string, gs_python.string_type))
        return 0;
    uint32_t state;
    memcpy(&state, string + STATE, sizeof state);
    int64_t length = size_of(string);
    unsigned kind = state >> 2 & 7;
    bool compact = state >> 5 & 1, ascii = state >> 6 & 1;
    if (!compact || length < 0)
        return 0;
    const char *p = string + layout.text + (ascii ? 0 : NOT_ASCII + (layout.text == 48 ? 8 : 0));
    size_t n = 0;
    for (int64_t i = 0; i < length; i++) {
        uint32_t c = 0;
        memcpy(&c, p + i * kind, kind <= sizeof c ? kind : 0);
        size_t bytes = put_utf8(out + n, size - n, c);
        if (!bytes)
            break;
        n += bytes;
    }
    return n;
}

size_t gs_frames_file(const struct gs_frame *frame, char *out, size_t size) {
    return text_of(pointer_at(frame->code, layout.file), out, size);
}

size_t gs_frames_function(const struct gs_frame *frame, char *out, size_t size) {
    return text_of(pointer_at(frame->code, layout.function), out, size);
}
