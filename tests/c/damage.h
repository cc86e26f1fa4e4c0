/* Damage to ring files, mostly where something depends on it; for the fuzzers of both readers. */
#ifndef GILSCOPE_TESTS_DAMAGE_H
#define GILSCOPE_TESTS_DAMAGE_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "../../gilscope/trace/event.h"

static uint64_t dice;

static inline uint64_t roll(uint64_t sides) {
    dice ^= dice << 13;
    dice ^= dice >> 7;
    dice ^= dice << 17;
    return dice % sides;
}

/* A number that is likely to break something. */
static inline uint64_t odd_number(uint64_t was) {
    switch (roll(6)) {
    case 0:
        return 0;
    case 1:
        return UINT64_MAX;
    case 2:
        return was + 1 - roll(3);
    case 3:
        return was ^ UINT64_C(1) << roll(64);
    case 4:
        return roll(1000);
    default:
        return dice;
    }
}

static inline void break_word(unsigned char *at, size_t size) {
    uint64_t value = 0;
    memcpy(&value, at, size);
    value = odd_number(value);
    memcpy(at, &value, size);
}

static inline void damage(unsigned char *map, uint64_t units) {
    uint64_t unit = GS_FIRST_UNIT + roll(units - GS_FIRST_UNIT);
    unsigned char *at = map + unit * GS_UNIT_BYTES;
    switch (roll(6)) {
    case 0: /* the file's header; magic and version would end the round at once */
        break_word(map + 12 + 4 * roll(70), 4);
        break;
    case 1: /* what may be a chunk's header */
        break_word(at + 4 * roll(4), 4);
        break;
    case 2: /* a process's or thread's page */
        break_word(at + 16 + 8 * roll(16), 8);
        break;
    case 3: /* a record, or half of one */
        break_word(at + 256 + 8 * roll(480), 8);
        break;
    case 4: /* a record twice */
        memcpy(at + 352 + 16 * roll(234), at + 352 + 16 * roll(234), 16);
        break;
    default: /* a unit twice */
        memcpy(at, map + (GS_FIRST_UNIT + roll(units - GS_FIRST_UNIT)) * GS_UNIT_BYTES,
               GS_UNIT_BYTES);
    }
}

#endif
